//! What a [`Manifest`](crate::Manifest) says about HTTP: its table `http`, and the routes and
//! outgoing hosts of a component.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use storage_core::ComponentId;

use crate::http_settings::{HttpSettings, OutgoingHost, Route};
use crate::manifest::{ManifestComponent, ManifestError};

/// The table `http`. Missing fields have the defaults of [`HttpSettings`].
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpTable {
    #[serde(default, deserialize_with = "listen")]
    listen: Option<SocketAddr>,
    header_timeout: Option<Timeout>,
    request_timeout: Option<Timeout>,
    guest_timeout: Option<Timeout>,
    queue_timeout: Option<Wait>,
    drain_timeout: Option<Wait>,
    connections: Option<Count>,
    requests: Option<Count>,
    component_requests: Option<Count>,
    body_bytes: Option<u64>,
    header_bytes: Option<usize>,
    memory_bytes: Option<usize>,
    total_memory_bytes: Option<usize>,
}

impl HttpTable {
    pub(crate) fn resolve(self) -> Result<HttpSettings, ManifestError> {
        let base = HttpSettings::default();
        let time = |own: Option<Timeout>, base| own.map_or(base, |Timeout(time)| time);
        let wait = |own: Option<Wait>, base| own.map_or(base, |Wait(time)| time);
        let count = |own: Option<Count>, base| own.map_or(base, |Count(count)| count);
        let requests = count(self.requests, base.requests);
        let settings = HttpSettings {
            listen: self.listen.unwrap_or(base.listen),
            header_timeout: time(self.header_timeout, base.header_timeout),
            request_timeout: time(self.request_timeout, base.request_timeout),
            guest_timeout: time(self.guest_timeout, base.guest_timeout),
            queue_timeout: wait(self.queue_timeout, base.queue_timeout),
            drain_timeout: wait(self.drain_timeout, base.drain_timeout),
            connections: count(self.connections, base.connections),
            requests,
            component_requests: count(
                self.component_requests,
                base.component_requests.min(requests),
            ),
            body_bytes: self.body_bytes.unwrap_or(base.body_bytes),
            header_bytes: self.header_bytes.unwrap_or(base.header_bytes),
            memory_bytes: self.memory_bytes.unwrap_or(base.memory_bytes),
            total_memory_bytes: self.total_memory_bytes.or(base.total_memory_bytes),
        };
        let wrong = |what: String| Err(ManifestError::Contradiction(what));
        if settings.requests > HttpSettings::MAX_REQUESTS {
            let most = HttpSettings::MAX_REQUESTS;
            return wrong(format!("requests in http is {requests}: it can be at most {most}"));
        }
        if settings.header_bytes < HttpSettings::MIN_HEADER_BYTES {
            return wrong(format!(
                "header_bytes in http is {}: it must be at least {}",
                settings.header_bytes,
                HttpSettings::MIN_HEADER_BYTES
            ));
        }
        if let Some(total) = settings.total_memory_bytes
            && total < settings.memory_bytes
        {
            return wrong(format!(
                "total_memory_bytes in http is {total}: it must be at least memory_bytes, which is {}",
                settings.memory_bytes
            ));
        }
        Ok(settings)
    }
}

/// Reads an address to listen on.
fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let address = text.parse().map_err(|_| {
        wrong(format_args!("listen is {text:?}: it must be an address and a port (127.0.0.1:8080)"))
    });
    address.map(Some)
}

/// A number of seconds above 0, which may have decimals.
struct Timeout(Duration);

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wait(time) = Wait::deserialize(deserializer)?;
        match time.is_zero() {
            false => Ok(Self(time)),
            true => Err(serde::de::Error::custom("expected a number of seconds above 0")),
        }
    }
}

/// A number of seconds, which may have decimals; 0 for no wait.
struct Wait(Duration);

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) if time <= HttpSettings::MAX_TIME => Ok(Self(time)),
            _ => Err(serde::de::Error::custom("expected a number of seconds, at most a year")),
        }
    }
}

/// A number of at least 1.
struct Count(usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match usize::deserialize(deserializer)? {
            count @ 1..=HttpSettings::MAX_CONNECTIONS => Ok(Self(count)),
            _ => Err(serde::de::Error::custom(
                "expected a number of at least 1 and at most a million",
            )),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteTable {
    host: Option<String>,
    path: String,
}

/// Reads the routes of a component.
pub(crate) fn routes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Route>, D::Error> {
    let tables = Vec::<RouteTable>::deserialize(deserializer)?;
    let route = |table: RouteTable| Route::new(table.host.as_deref(), &table.path).map_err(wrong);
    tables.into_iter().map(route).collect()
}

/// Reads the hosts that a component may send requests to.
pub(crate) fn outgoing<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<OutgoingHost>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(wrong)).collect()
}

fn wrong<E: serde::de::Error>(error: impl fmt::Display) -> E {
    E::custom(error)
}

/// Checks that no route is given twice.
pub(crate) fn check_routes(components: &[ManifestComponent]) -> Result<(), ManifestError> {
    let mut owners: BTreeMap<&Route, &ComponentId> = BTreeMap::new();
    for component in components {
        for route in &component.routes {
            if let Some(first) = owners.insert(route, &component.id) {
                let id = &component.id;
                let whom = match first == id {
                    true => format!("component {id} has it twice"),
                    false => format!("components {first} and {id} both have it"),
                };
                return Err(ManifestError::Contradiction(format!(
                    "route {route}: {whom}; remove one of them"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::Manifest;

    fn error(text: &str) -> String {
        text.parse::<Manifest>().unwrap_err().to_string()
    }

    #[test]
    fn missing_fields_have_defaults_and_seconds_have_decimals() {
        let manifest: Manifest = "[http]\nheader_timeout = 0.5\nqueue_timeout = 0".parse().unwrap();
        assert_eq!(manifest.http.header_timeout.as_millis(), 500);
        assert!(manifest.http.queue_timeout.is_zero());
        assert_eq!((manifest.http.requests, manifest.http.component_requests), (128, 32));
        let manifest: Manifest = "http.requests = 3".parse().unwrap();
        assert_eq!(manifest.http.component_requests, 3);
    }

    #[test]
    fn invalid_fields_say_what_is_possible() {
        for (text, needle) in [
            ("http.header_timeout = 0", "a number of seconds above 0"),
            ("http.request_timeout = -1", "a number of seconds"),
            ("http.guest_timeout = inf", "a number of seconds"),
            ("http.guest_timeout = nan", "a number of seconds"),
            ("http.drain_timeout = 1e30", "at most a year"),
            ("http.connections = 0", "at least 1"),
            ("http.requests = 1001", "at most 1000"),
            ("http.header_bytes = 100", "at least 8192"),
            ("http.total_memory_bytes = 1_000", "at least memory_bytes, which is 134217728"),
            ("http.listen = 'localhost'", "an address and a port (127.0.0.1:8080)"),
            ("http.lisen = '127.0.0.1:1'", "unknown field `lisen`"),
        ] {
            assert!(error(text).contains(needle), "{text}: {}", error(text));
        }
    }

    #[test]
    fn equal_routes_are_an_error_that_names_the_components() {
        let component =
            |id: &str, routes: &str| format!("[[component]]\nid = '{id}'\nroutes = [{routes}]\n");
        let both = |one: &str, other: &str| component("a/b/c", one) + &component("a/b/d", other);
        let api = "{ host = 'n.example', path = '/api' }";
        assert_eq!(
            error(&both(api, "{ host = 'N.example', path = '/api/' }")),
            "route n.example/api: components a/b/c and a/b/d both have it; remove one of them"
        );
        assert!(error(&component("a/b/c", &format!("{api}, {api}"))).contains("has it twice"));
        assert!(both(api, "{ path = '/api' }").parse::<Manifest>().is_ok());
        assert!(error(&component("a/b/c", "{ path = 'api' }")).contains("begin with a slash"));
        assert!(error(&component("a/b/c", "{ pat = '/' }")).contains("unknown field `pat`"));
    }
}
