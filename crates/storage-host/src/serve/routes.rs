//! Which component gets a request.

use std::collections::HashMap;

use crate::http_settings::Route;

/// Two components have this route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two components have the route {0}")]
pub struct DuplicateRoute(pub Route);

/// A value for each route.
#[derive(Debug)]
pub(super) struct Routes<T> {
    hosts: HashMap<String, Paths<T>>,
    any: Paths<T>,
}

/// The values by prefix.
#[derive(Debug)]
struct Paths<T> {
    values: HashMap<String, T>,
    /// The length of the longest prefix.
    longest: usize,
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { values: HashMap::new(), longest: 0 }
    }
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { hosts: HashMap::new(), any: Paths::default() }
    }
}

impl<T> Routes<T> {
    pub(super) fn add(&mut self, route: &Route, value: T) -> Result<(), DuplicateRoute> {
        let paths = match route.host() {
            Some(host) => self.hosts.entry(host.to_owned()).or_default(),
            None => &mut self.any,
        };
        let prefix = route.prefix();
        paths.longest = paths.longest.max(prefix.len());
        match paths.values.insert(prefix.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(DuplicateRoute(route.clone())),
        }
    }

    /// The value for a request to this host, without a port, and path.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<&T> {
        // The target of `OPTIONS *` is no path.
        if !path.starts_with('/') {
            return None;
        }
        let own = self.hosts.get(&host.to_ascii_lowercase());
        own.and_then(|paths| paths.find(path)).or_else(|| self.any.find(path))
    }
}

impl<T> Paths<T> {
    fn find(&self, path: &str) -> Option<&T> {
        let mut prefix = path;
        loop {
            // A path has more segments than any prefix if it is longer.
            if prefix.len() <= self.longest
                && let Some(value) = self.values.get(prefix)
            {
                return Some(value);
            }
            (prefix, _) = prefix.rsplit_once('/')?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(routes: &[(Option<&str>, &str)]) -> Routes<String> {
        let mut table = Routes::default();
        for (host, path) in routes {
            let route = Route::new(*host, path).unwrap();
            table.add(&route, route.to_string()).unwrap();
        }
        table
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let routes = routes(&[(None, "/"), (None, "/api"), (None, "/api/v2/")]);
        for (path, route) in [
            ("/", "/"),
            ("/apis", "/"),
            ("/ap", "/"),
            ("/api", "/api"),
            ("/api/", "/api"),
            ("/api/v2", "/api/v2"),
            ("/api/v2/x/y", "/api/v2"),
            ("/api/v22", "/api"),
            ("//api", "/"),
            ("/%61pi", "/"),
            ("/x/../api", "/"),
        ] {
            assert_eq!(routes.find("a", path).unwrap(), route, "{path}");
        }
        assert_eq!(routes.find("a", "*"), None);
        assert_eq!(routes.find("a", ""), None);
    }

    #[test]
    fn a_route_of_the_host_precedes_one_of_any_host() {
        let routes = routes(&[(Some("a.example"), "/x"), (None, "/x/y"), (None, "/z")]);
        assert_eq!(routes.find("A.EXAMPLE", "/x/y").unwrap(), "a.example/x");
        assert_eq!(routes.find("a.example", "/z").unwrap(), "/z");
        assert_eq!(routes.find("b.example", "/x/y").unwrap(), "/x/y");
        assert_eq!(routes.find("b.example", "/x"), None);
    }

    #[test]
    fn equal_routes_are_refused() {
        let mut routes = Routes::default();
        routes.add(&Route::all(), 1).unwrap();
        assert_eq!(routes.add(&Route::all(), 2), Err(DuplicateRoute(Route::all())));
    }
}
