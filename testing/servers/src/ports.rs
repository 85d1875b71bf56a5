//! Free ports on loopback.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};

/// Below the ports that Linux gives to outgoing connections. Otherwise a client could get
/// the port of a server that is stopped, even by connecting to it.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

/// How much higher the second port of a node of a Redis cluster is.
const BUS: u16 = 10_000;

const TRIES: usize = 200;

/// How many ports a server tries.
const LAUNCHES: u32 = 5;

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

/// A free port for a node of a Redis cluster, whose nodes talk at a port that is higher by
/// [`BUS`].
pub(crate) fn free_for_node() -> Result<u16> {
    for _ in 0..TRIES {
        let port = fastrand::u16(RANGE.start..RANGE.end - BUS);
        let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if is_free(port) && is_free(port + BUS) {
            return Ok(port);
        }
    }
    bail!("found no two free ports on loopback")
}

/// A free port. Another program may take it before the caller does.
pub(crate) fn free() -> Result<u16> {
    Ok(listen()?.local_addr()?.port())
}

/// Starts a server on a free port, and on another one if `launch` says that the port is
/// `in_use`, because another program took it first.
pub(crate) fn on_free_port(
    find: impl Fn() -> Result<u16>,
    in_use: &str,
    mut launch: impl FnMut(u16) -> Result<()>,
) -> Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match launch(find()?) {
            Err(error) if tries < LAUNCHES && error.to_string().contains(in_use) => {}
            result => return result,
        }
    }
}
