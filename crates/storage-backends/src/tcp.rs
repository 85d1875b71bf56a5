//! TCP connections within a time limit.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The host has no address, or its addresses do not accept connections.
    Refused(io::Error),
    /// The deadline passed.
    Late,
}

/// Connects to the first address of the host that accepts.
pub(crate) fn connect(host: &str, port: u16, deadline: Instant) -> Result<TcpStream, ConnectError> {
    let mut refused = None;
    for address in resolve(host, port, deadline)? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ConnectError::Late);
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(socket) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(ConnectError::Late);
            }
            Err(error) => refused = Some(error),
        }
    }
    let none = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    Err(ConnectError::Refused(refused.unwrap_or_else(none)))
}

fn resolve(host: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, ConnectError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    // Name resolution has no time limit of its own.
    let (send, receive) = mpsc::channel();
    let host = (host.to_owned(), port);
    let resolve = move || {
        let _ = send.send(host.to_socket_addrs().map(Iterator::collect));
    };
    let name = "storage-dns".to_owned();
    thread::Builder::new().name(name).spawn(resolve).map_err(ConnectError::Refused)?;
    let left = deadline.saturating_duration_since(Instant::now());
    match receive.recv_timeout(left) {
        Ok(resolved) => resolved.map_err(ConnectError::Refused),
        Err(_) => Err(ConnectError::Late),
    }
}
