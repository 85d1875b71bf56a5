//! The host and port of a server in a store's URL.

use std::fmt;
use std::net::Ipv6Addr;

use crate::url_text::{Encoded, decoded};

/// The host and port of a server: `HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    host: String,
    port: Option<u16>,
}

impl ServerAddress {
    /// The name or address of the host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, unless it is the default.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Parses a host and a port.
    ///
    /// # Errors
    /// What is wrong, as a message that follows the URL. It has no part of the text, which may
    /// be a password at the wrong place.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let is_ipv6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
        let has_no_brackets =
            is_ipv6(text) || text.rsplit_once(':').is_some_and(|(host, _)| is_ipv6(host));
        if has_no_brackets || text.starts_with('[') && !text.contains(']') {
            return Err("has an IPv6 address that is not in brackets: write [::1]:PORT".to_owned());
        }
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or(port))),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port.map(|port| {
            let parsed = port.parse::<u16>().ok().filter(|port| *port > 0);
            parsed.ok_or_else(|| "has a port that is not a number from 1 to 65535".to_owned())
        });
        let address = Self { host: decoded(host, "host")?, port: port.transpose()? };
        if address.host.is_empty() {
            return Err("names no host".to_owned());
        }
        if address.host.contains(['/', '?', '#', '@', '[', ']', '%', ' ', ',']) {
            return Err("has a host that is no name and no address".to_owned());
        }
        Ok(address)
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => write!(f, "{}", Encoded(&self.host))?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}
