//! What a server of components needs to know: routes, outgoing hosts, limits and timeouts.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// The limits and timeouts of a server of `wasi:http` components.
///
/// They bound the memory of all requests: instances with
/// [`total_memory_bytes`](Self::total_memory_bytes) together, up to 64 MiB for the requests and
/// responses that each of them prepares, and [`connections`](Self::connections) with buffers of
/// a few times [`header_bytes`](Self::header_bytes). A server moves a setting that is out of
/// bounds to the nearest within them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpSettings {
    /// The address to listen on. Default 127.0.0.1:8080.
    pub listen: SocketAddr,
    /// How long a client may take to send the headers of a request, and how long a connection
    /// may be idle. Default 10 seconds, after which the connection is closed.
    pub header_timeout: Duration,
    /// How long a request may take in all, from its headers to the last byte of the response.
    /// Default 60 seconds, after which the connection is closed.
    pub request_timeout: Duration,
    /// How long a component without a timeout of its own may run for a request, waiting
    /// included. Default 30 seconds, after which the answer is 504.
    pub guest_timeout: Duration,
    /// How long a request waits for another one to end if there are as many as allowed.
    /// Default 1 second, after which the answer is 503. The next server in front can retry.
    pub queue_timeout: Duration,
    /// How long a shutdown waits for accepted requests. Default 30 seconds.
    pub drain_timeout: Duration,
    /// The maximum number of connections. Default 2,000. Further ones wait to be accepted.
    pub connections: usize,
    /// The maximum number of requests that components handle at a time. Default 128, at most
    /// 1,000.
    pub requests: usize,
    /// The same for one component, so that one cannot use up those of all. Default 32.
    pub component_requests: usize,
    /// The maximum size of the body of a request. Default 1 MiB; above it the answer is 413.
    pub body_bytes: u64,
    /// The maximum size of the request line and the headers. Default 16 KiB, at least 8 KiB;
    /// above it the answer is 431. There may be 100 headers.
    pub header_bytes: usize,
    /// The maximum size of a linear memory of an instance. Default 128 MiB.
    pub memory_bytes: usize,
    /// The maximum size of the linear memories and tables of all instances. If the server has
    /// several components, one of them gets at most half of it. Default `None`: half of the
    /// memory of this machine, or of the control group (version 2) of this process if that has
    /// less; 2 GiB on systems that are not Linux. Growing above it fails in the component; a
    /// component that then fails, or that does not start, is answered with 503.
    pub total_memory_bytes: Option<usize>,
}

impl HttpSettings {
    /// The most requests at a time that the pool of instances can hold with certainty.
    pub const MAX_REQUESTS: usize = 1_000;
    /// The most connections.
    pub const MAX_CONNECTIONS: usize = 1_000_000;
    /// The smallest maximum size of headers.
    pub const MIN_HEADER_BYTES: usize = 8_192;
    /// The longest timeout: a year of 365 days.
    pub const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3_600);

    /// The nearest settings within the bounds.
    #[cfg(feature = "serve")]
    pub(crate) fn bounded(self) -> Self {
        Self {
            listen: self.listen,
            header_timeout: self.header_timeout.min(Self::MAX_TIME),
            request_timeout: self.request_timeout.min(Self::MAX_TIME),
            guest_timeout: self.guest_timeout.min(Self::MAX_TIME),
            queue_timeout: self.queue_timeout.min(Self::MAX_TIME),
            drain_timeout: self.drain_timeout.min(Self::MAX_TIME),
            connections: self.connections.clamp(1, Self::MAX_CONNECTIONS),
            requests: self.requests.clamp(1, Self::MAX_REQUESTS),
            component_requests: self.component_requests.clamp(1, Self::MAX_REQUESTS),
            body_bytes: self.body_bytes,
            header_bytes: self.header_bytes.max(Self::MIN_HEADER_BYTES),
            memory_bytes: self.memory_bytes,
            total_memory_bytes: self.total_memory_bytes,
        }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8_080)),
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            guest_timeout: Duration::from_secs(30),
            queue_timeout: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(30),
            connections: 2_000,
            requests: 128,
            component_requests: 32,
            body_bytes: 1 << 20,
            header_bytes: 16 << 10,
            memory_bytes: 128 << 20,
            total_memory_bytes: None,
        }
    }
}

/// Which requests a component gets: those to a host, or to any, whose path begins with a
/// prefix.
///
/// A prefix matches whole segments: `/api` matches `/api` and `/api/notes`, but not `/apis`.
/// Paths are compared as they were sent, without decoding. A route of the request's host
/// precedes one of any host; of several the one with the longest prefix gets the request. The
/// component sees the whole path, including the prefix.
///
/// ```
/// use storage_host::Route;
///
/// let route = Route::new(Some("Notes.example"), "/api/")?;
/// assert_eq!(route.to_string(), "notes.example/api");
/// assert_eq!(Route::new(None, "/")?.to_string(), "/");
/// assert!(Route::new(None, "api").is_err());
/// # Ok::<(), storage_host::InvalidRoute>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    host: Option<String>,
    /// Without a slash at its end, so empty for all paths.
    path: String,
}

/// Why a text is not a [`Route`] or an [`OutgoingHost`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRoute(String);

impl Route {
    /// The route of all requests.
    #[must_use]
    pub fn all() -> Self {
        Self { host: None, path: String::new() }
    }

    /// A route of a host, or of any, and a prefix. The host has no port. A slash at the end of
    /// the prefix makes no difference.
    ///
    /// # Errors
    /// If the host is not a name or an address, or the prefix is not a path.
    pub fn new(host: Option<&str>, path: &str) -> Result<Self, InvalidRoute> {
        let host = match host {
            Some(host) => Some(host_name(host)?),
            None => None,
        };
        let wrong = |reason: &str| Err(InvalidRoute(format!("the path {path:?} {reason}")));
        if !path.starts_with('/') {
            return wrong("does not begin with a slash");
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte)) {
            return wrong(
                "has a character that no path contains: encode it as the client does (%20)",
            );
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
            return wrong("has an empty segment, or one that clients resolve (. or ..)");
        }
        Ok(Self { host, path: path.to_owned() })
    }

    /// The host in lower case; `None` for any.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The prefix: `/` for all paths, otherwise without a slash at its end.
    pub fn path(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    /// The prefix without a slash at its end.
    #[cfg(feature = "serve")]
    pub(crate) fn prefix(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host.as_deref().unwrap_or_default(), self.path())
    }
}

/// A host that a component may send requests to: a name or an address, with or without a
/// port. Without one, the default ports of HTTP and HTTPS are allowed.
///
/// The name is compared, not what it resolves to.
///
/// ```
/// use storage_host::OutgoingHost;
///
/// let api: OutgoingHost = "api.example.com".parse()?;
/// assert!(api.allows("https", "API.example.com", None));
/// assert!(!api.allows("https", "api.example.com", Some(9_000)));
/// let local: OutgoingHost = "localhost:9000".parse()?;
/// assert!(local.allows("http", "localhost", Some(9_000)));
/// # Ok::<(), storage_host::InvalidRoute>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutgoingHost {
    host: String,
    port: Option<u16>,
}

impl OutgoingHost {
    /// Whether it allows requests with this scheme to this host and port; `None` is the default
    /// port of the scheme.
    pub fn allows(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        let default = if scheme.eq_ignore_ascii_case("http") { 80 } else { 443 };
        self.port.unwrap_or(default) == port.unwrap_or(default)
            && self.host.eq_ignore_ascii_case(host)
    }
}

impl FromStr for OutgoingHost {
    type Err = InvalidRoute;

    fn from_str(text: &str) -> Result<Self, InvalidRoute> {
        // The colons of an IPv6 address are in brackets.
        let split = text.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        let Some((host, port)) = split else {
            return Ok(Self { host: host_name(text)?, port: None });
        };
        match port.parse() {
            Ok(port) if port > 0 => Ok(Self { host: host_name(host)?, port: Some(port) }),
            _ => Err(InvalidRoute(format!(
                "{text:?} is not a host and a port: write \"api.example.com\" or \
                 \"localhost:9000\", without a scheme and a path"
            ))),
        }
    }
}

impl fmt::Display for OutgoingHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A name or an address in lower case; one of IPv6 is in brackets.
fn host_name(host: &str) -> Result<String, InvalidRoute> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_valid = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        }
    };
    match is_valid {
        true => Ok(host.to_ascii_lowercase()),
        false => Err(InvalidRoute(format!(
            "{host:?} is not the name or address of a host: write it without scheme, port and \
             path, in the form that browsers send (xn-- for other letters)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_a_host_and_a_prefix_of_whole_segments() {
        for (host, path, shown) in [
            (None, "/", "/"),
            (None, "/api", "/api"),
            (None, "/api/", "/api"),
            (Some("A.example"), "/a%20b", "a.example/a%20b"),
            (Some("[::1]"), "/", "[::1]/"),
        ] {
            assert_eq!(Route::new(host, path).unwrap().to_string(), shown);
        }
        for (host, path) in [
            (None, ""),
            (None, "api"),
            (None, "//"),
            (None, "/a//b"),
            (None, "/a/../b"),
            (None, "/a/."),
            (None, "/a?b"),
            (None, "/a#b"),
            (None, "/a b"),
            (None, "/\u{e9}"),
            (Some(""), "/"),
            (Some("a:80"), "/"),
            (Some("http://a"), "/"),
            (Some("[::x]"), "/"),
            (Some("\u{e9}.example"), "/"),
        ] {
            assert!(Route::new(host, path).is_err(), "{host:?} {path:?}");
        }
    }

    #[test]
    fn an_outgoing_host_allows_its_port_alone() {
        let host = |text: &str| text.parse::<OutgoingHost>();
        let v6 = host("[::1]:9000").unwrap();
        let port = |port| v6.allows("http", "[::1]", port);
        assert!(port(Some(9_000)) && !port(Some(9_001)) && !port(None));
        let https = host("a:443").unwrap();
        assert!(https.allows("https", "a", None) && !https.allows("http", "a", None));
        let any = host("a").unwrap();
        assert!(any.allows("http", "a", Some(80)) && any.allows("https", "a", Some(443)));
        assert!(!any.allows("http", "a", Some(443)) && !any.allows("http", "b", None));
        assert_eq!(host("[::1]").unwrap().to_string(), "[::1]");
        assert_eq!(host("A.example:1").unwrap().to_string(), "a.example:1");
        for text in ["", ":80", "a:", "a:0", "a:65536", "http://a", "a/b", "a:b", "*", "*.a"] {
            assert!(host(text).is_err(), "{text}");
        }
    }
}
