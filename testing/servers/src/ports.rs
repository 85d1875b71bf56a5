//! Free ports on loopback.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};

/// Below the ports that Linux gives to outgoing connections. Otherwise a client could get
/// the port of a server that is stopped, even by connecting to it.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

const TRIES: usize = 200;

/// Listens on a free port.
pub(crate) fn listen() -> Result<TcpListener> {
    for _ in 0..TRIES {
        let port = fastrand::u16(RANGE);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener);
        }
    }
    bail!("found no free port on loopback")
}

/// A free port. Another program may take it before the caller does.
pub(crate) fn free() -> Result<u16> {
    Ok(listen()?.local_addr()?.port())
}
