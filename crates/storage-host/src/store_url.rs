//! The URL of a store.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use storage_core::{Problem, StorageError, Store, Verified};

use crate::password::hide_in_url;
use crate::scheme::{Inspection, Location, Mode, Needs, Scheme, Setting, Values};
use crate::server::Server;
use crate::servers::Servers;
use crate::store_path::{self, Escaped};

/// Names a store: `SCHEME:PATH[?SETTING=VALUE[&...]]`, or `SCHEME://[USER@]HOST/NAME` for a
/// store on a server.
///
/// | URL | store | settings |
/// |---|---|---|
/// | `redb:PATH` | one file, an engine in pure Rust | `durability=sync` (default; writes survive a power cut) or `relaxed` (durable every 100 ms; a kill loses the writes since then); `cache_bytes=N`, the engine's page cache |
/// | `file:PATH` | a directory with a file for each key | `durability=sync` (default) or `os` (writes survive a killed process); `index_budget_bytes=N`, the memory for the indexes of listings |
/// | `rocksdb:PATH` | a directory, an engine in C++ | `durability=sync` (default) or `os`; `block_cache_bytes=N`, the engine's block cache; `write_buffer_bytes=N`, the memory for writes that are not in files yet |
/// | `postgres://USER@HOST/DATABASE` | a schema of a PostgreSQL database, which several hosts can use | `schema=NAME` (default `storage`); `durability=sync` (default) or `os` (a crash of the server loses the last writes); `pool_size=N`, the connections; `connect_timeout_ms=N`, `statement_timeout_ms=N` and `total_timeout_ms=N`; `sslmode=prefer` (default), `disable`, `require` or `verify-full`, as in libpq; `sslrootcert=FILE` |
/// | `redis://[USER@]HOST[:PORT][/DATABASE]` | keys of a Redis or Valkey server, which several hosts can use; its settings decide what survives, and a failover can lose acknowledged writes | `prefix=TEXT` (default `storage`), with which all keys begin; `wait=N`, the replicas that must confirm each write, within `wait_timeout_ms=N`; `pool_size=N`, the connections to each server; `connect_timeout_ms=N`, `reply_timeout_ms=N` and `total_timeout_ms=N`; `sslmode=disable` (default), `require` or `verify-full`; `sslrootcert=FILE` |
/// | `rediss://..` | the same, encrypted | the same; `sslmode=verify-full` (default) or `require` |
/// | `redis+cluster://[USER@]HOST[:PORT],HOST[:PORT]..` | the same on a cluster, of which any servers are named | as `redis:` |
/// | `redis+sentinel://[USER@]HOST[:PORT],HOST[:PORT]../MASTER` | the same on the master of this name, which sentinels at these addresses know | as `redis:` |
/// | `memory:` | the memory of this process, gone when it ends | none |
///
/// A [`StoreRegistry`](crate::StoreRegistry) can have more schemes.
///
/// A path is relative to the working directory of the process. `file:///srv/data`
/// and `file://localhost/srv/data` name the absolute path `/srv/data`. Spaces inside
/// are part of the path. Write `%` and `?` as `%25` and `%3F`; any other byte may be
/// written as an escape too, and on Unix the bytes need not be UTF-8. If the first
/// component with an escape exists literally, the whole path is literal: `file:a%20b`
/// is `a%20b` if that exists, and `a b` otherwise. Parsing such a URL therefore looks
/// at the file system.
///
/// Text that a shell should have expanded (`~` at the start, `$NAME`), control
/// characters, and white space at either end are errors. Write them as escapes if
/// they are part of the path.
///
/// A server's user, password and database may have escapes; a password with `@` needs none.
/// The password is better given in an environment variable: `PGPASSWORD`, or `REDIS_PASSWORD`
/// with `REDIS_USERNAME`, and `REDIS_SENTINEL_PASSWORD` for the sentinels. `redis://:PASSWORD@HOST`
/// has a password alone.
///
/// `Display` writes a URL that parses to the same value, but without a password, which is
/// shown nowhere.
///
/// ```
/// use storage_host::StoreUrl;
///
/// # #[cfg(feature = "file")] {
/// let url: StoreUrl = "file:./my data?durability=os".parse()?;
/// assert_eq!(url.to_string(), "file:./my data?durability=os");
/// # }
/// let error = "sqlite:data.db".parse::<StoreUrl>().unwrap_err();
/// assert!(error.to_string().starts_with("unknown store \"sqlite:\""));
/// # Ok::<(), storage_host::StoreUrlError>(())
/// ```
#[derive(Clone)]
pub struct StoreUrl {
    scheme: Arc<dyn Scheme>,
    location: Location,
}

/// Why a text is not a [`StoreUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreUrlError {
    /// It does not begin with a scheme.
    #[error("{text:?} does not name a kind of store; write redb:PATH or file:PATH")]
    NoScheme {
        /// The text.
        text: String,
    },
    /// No registered kind of store has this scheme.
    #[error("unknown store \"{scheme}:\"; this build has {}{}", listed(known), hint(scheme))]
    UnknownScheme {
        /// The scheme, without its colon.
        scheme: String,
        /// The registered schemes.
        known: Vec<&'static str>,
    },
    /// The kind of store is not compiled in.
    #[error(
        "this build has no \"{scheme}:\" store; build storage-host with the feature {feature:?}"
    )]
    NotCompiledIn {
        /// The scheme, without its colon.
        scheme: &'static str,
        /// The feature of this crate that adds it.
        feature: &'static str,
    },
    /// The path is missing or invalid.
    #[error("{url:?} {problem}")]
    Path {
        /// The URL.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// This kind of store does not have the setting, or not with this value.
    #[error("\"{scheme}:\" {problem}")]
    Setting {
        /// The scheme, without its colon.
        scheme: &'static str,
        /// What is wrong, and the valid settings or values.
        problem: String,
    },
}

fn listed(schemes: &[&str]) -> String {
    let schemes: Vec<String> = schemes.iter().map(|scheme| format!("{scheme}:")).collect();
    match schemes.split_last() {
        None => "none".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

impl StoreUrl {
    /// The store in this directory with a file for each key, with the default
    /// settings.
    #[cfg(feature = "file")]
    pub fn from_path(path: impl Into<std::path::PathBuf>) -> Self {
        let location = Location { path: path.into(), ..Location::default() };
        Self { scheme: Arc::new(crate::built_in::file::File), location }
    }

    /// The scheme, without its colon.
    pub fn scheme(&self) -> &'static str {
        self.scheme.name()
    }

    /// The path of the store's file or directory, if it has one.
    pub fn path(&self) -> Option<&Path> {
        self.scheme.has_path().then_some(self.location.path())
    }

    /// The server and database of the store, if it is on one.
    pub fn server(&self) -> Option<&Server> {
        self.location.server()
    }

    /// The servers of the store, if URLs of its scheme can name several.
    pub fn servers(&self) -> Option<&Servers> {
        self.location.servers()
    }

    /// Whether the store is on a server.
    pub fn is_on_server(&self) -> bool {
        self.server().is_some() || self.servers().is_some()
    }

    /// The password in the URL, and the environment variable in which another process can be
    /// given it, because the text of a URL has none.
    pub fn password(&self) -> Option<(&'static str, &str)> {
        let of_servers = || self.servers().and_then(Servers::password);
        let password = self.server().and_then(Server::password).or_else(of_servers)?;
        Some((self.scheme.password_variable()?, password))
    }

    /// Whether the data of the store outlives the process.
    pub fn is_persistent(&self) -> bool {
        self.scheme.is_persistent()
    }

    /// What an acknowledged write survives, as URLs name it: `sync`, `os` or `relaxed`;
    /// `None` if URLs of the scheme have no such setting, because the store is not persistent or
    /// its servers decide.
    pub fn durability(&self) -> Option<&'static str> {
        let values = self.durabilities();
        let set = self.location.setting("durability");
        values.iter().find(|value| Some(**value) == set).or(values.first()).copied()
    }

    fn durabilities(&self) -> &'static [&'static str] {
        let setting = self.scheme.settings().iter().find(|setting| setting.name == "durability");
        match setting.map(|setting| setting.values) {
            Some(Values::OneOf(values)) => values,
            _ => &[],
        }
    }

    /// Returns the same store with the weakest durability that its URLs can choose. Use it for work
    /// that can be repeated after an interruption, and end with
    /// [`flush`](storage_core::Store::flush).
    ///
    /// ```
    /// use storage_host::StoreUrl;
    ///
    /// # #[cfg(feature = "file")] {
    /// let url: StoreUrl = "file:data".parse()?;
    /// assert_eq!(url.relaxed().to_string(), "file:data?durability=os");
    /// # }
    /// # Ok::<(), storage_host::StoreUrlError>(())
    /// ```
    #[must_use]
    pub fn relaxed(&self) -> Self {
        let mut relaxed = self.clone();
        if let Some(weakest) = self.durabilities().last() {
            relaxed.location.set(self.scheme.settings(), "durability", (*weakest).to_owned());
        }
        relaxed
    }

    /// Whether a store on a server exists, for `storage-host doctor`.
    ///
    /// # Errors
    /// As [`Scheme::exists`].
    pub fn exists(&self) -> Result<bool, StorageError> {
        self.scheme.exists(&self.location)
    }

    /// What `storage-host doctor` shows of a store on a server.
    ///
    /// # Errors
    /// As [`Scheme::inspect`].
    pub fn inspect(&self) -> Result<Inspection, StorageError> {
        self.scheme.inspect(&self.location)
    }

    /// What `storage-host doctor` shows of a server whose store does not exist yet.
    ///
    /// # Errors
    /// As [`Scheme::inspect_server`].
    pub fn inspect_server(&self) -> Result<Inspection, StorageError> {
        self.scheme.inspect_server(&self.location)
    }

    /// What this kind of store needs from the machine.
    pub fn needs(&self) -> Needs {
        self.scheme.needs()
    }

    /// Opens the store.
    ///
    /// # Errors
    /// As [`Scheme::open`].
    pub fn open(&self, mode: Mode) -> Result<Arc<dyn Store>, StorageError> {
        self.scheme.open(&self.location, mode)
    }

    /// Reads the whole store and calls `report` with each problem. Changes nothing.
    ///
    /// # Errors
    /// As [`Scheme::verify`].
    pub fn verify(&self, report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        self.scheme.verify(&self.location, report)
    }
}

/// What to write for a name that other programs have for a store.
fn hint(scheme: &str) -> &'static str {
    match scheme.to_ascii_lowercase().as_str() {
        "valkey" => "; write redis: for it",
        "valkeys" => "; write rediss: for it",
        "redis-cluster" => "; write redis+cluster: for it",
        "redis-sentinel" => "; write redis+sentinel: for it",
        "rediss+cluster" | "rediss+sentinel" => {
            "; add ?sslmode=verify-full to redis+cluster: or redis+sentinel:"
        }
        _ => "",
    }
}

impl Location {
    /// Sets a setting, in the order of the scheme; a default value is left out.
    fn set(&mut self, known: &'static [Setting], name: &'static str, value: String) {
        self.settings.retain(|(set, _)| *set != name);
        let position = |name: &str| known.iter().position(|setting| setting.name == name);
        let is_default = position(name).and_then(|at| known.get(at)).is_some_and(
            |setting| matches!(setting.values, Values::OneOf([first, ..]) if *first == value),
        );
        if !is_default {
            self.settings.push((name, value));
            self.settings.sort_by_key(|(name, _)| position(name));
        }
    }
}

/// Parses a URL with one of these schemes. `features` are the schemes that another
/// build may have, and the feature of each.
pub(crate) fn parse(
    text: &OsStr,
    schemes: &[Arc<dyn Scheme>],
    features: &[(&'static str, &'static str)],
) -> Result<StoreUrl, StoreUrlError> {
    let bytes = text.as_encoded_bytes();
    let text = text.to_string_lossy();
    let shown = hide_in_url(&text);
    if shown.starts_with(char::is_whitespace) {
        check_blank(&shown, &shown)?;
    }
    let colon = bytes.iter().position(|byte| *byte == b':');
    let scheme = colon.and_then(|colon| std::str::from_utf8(bytes.get(..colon)?).ok());
    let rest = colon.and_then(|colon| bytes.get(colon + 1..));
    let (Some(scheme), Some(rest)) = (scheme.filter(|scheme| is_scheme(scheme)), rest) else {
        return Err(StoreUrlError::NoScheme { text: shown });
    };
    let mut lower = scheme.to_ascii_lowercase();
    // PostgreSQL's own programs take both names.
    if lower == "postgresql" {
        lower.truncate("postgres".len());
    }
    if let Some(known) = schemes.iter().find(|known| known.name() == lower) {
        let location = if known.has_server() || known.has_servers() {
            parse_with_server(&**known, &shown, &String::from_utf8_lossy(rest))?
        } else if known.has_path() {
            parse_with_path(&**known, &shown, rest)?
        } else {
            parse_without_path(&**known, &shown, &String::from_utf8_lossy(rest))?
        };
        known.check(&location).map_err(|problem| StoreUrlError::Path { url: shown, problem })?;
        return Ok(StoreUrl { scheme: Arc::clone(known), location });
    }
    Err(match features.iter().find(|(name, _)| *name == lower) {
        Some((scheme, feature)) => StoreUrlError::NotCompiledIn { scheme, feature },
        None => StoreUrlError::UnknownScheme {
            scheme: scheme.to_owned(),
            known: schemes.iter().map(|scheme| scheme.name()).collect(),
        },
    })
}

/// Refuses white space at either end of a part of a URL, and control characters in it.
fn check_blank(url: &str, part: &str) -> Result<(), StoreUrlError> {
    match store_path::find_blank(part) {
        None => Ok(()),
        Some((found, _)) => {
            Err(StoreUrlError::Path { url: url.to_owned(), problem: format!("{found}: remove it") })
        }
    }
}

fn is_scheme(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn parse_without_path(
    scheme: &dyn Scheme,
    url: &str,
    rest: &str,
) -> Result<Location, StoreUrlError> {
    check_blank(url, rest)?;
    let (path, settings) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.is_empty() {
        let name = scheme.name();
        let problem = format!("has a path, but a {name}: store has none; write {name}:");
        return Err(StoreUrlError::Path { url: url.to_owned(), problem });
    }
    parse_settings(scheme, Location::default(), settings)
}

fn parse_with_server(
    scheme: &dyn Scheme,
    url: &str,
    rest: &str,
) -> Result<Location, StoreUrlError> {
    check_blank(url, rest)?;
    // A question mark may be in the password.
    let at = rest.rfind('@').unwrap_or_default();
    let question = rest.get(at..).and_then(|rest| rest.find('?')).map(|found| at + found);
    let (server, settings) = match question {
        Some(question) => (rest.get(..question), rest.get(question + 1..)),
        None => (Some(rest), None),
    };
    let (name, text) = (scheme.name(), server.unwrap_or_default());
    let invalid = |problem| StoreUrlError::Path { url: url.to_owned(), problem };
    let mut location = Location::default();
    match scheme.has_servers() {
        true => location.servers = Some(Box::new(Servers::parse(name, text).map_err(invalid)?)),
        false => location.server = Some(Box::new(Server::parse(name, text).map_err(invalid)?)),
    }
    parse_settings(scheme, location, settings.unwrap_or_default())
}

fn parse_with_path(scheme: &dyn Scheme, url: &str, rest: &[u8]) -> Result<Location, StoreUrlError> {
    let mut parts = rest.splitn(2, |byte| *byte == b'?');
    let path = store_path::read(scheme.name(), parts.next().unwrap_or_default())
        .map_err(|problem| StoreUrlError::Path { url: url.to_owned(), problem })?;
    let settings = String::from_utf8_lossy(parts.next().unwrap_or_default());
    check_blank(url, &settings)?;
    parse_settings(scheme, Location { path, ..Location::default() }, &settings)
}

fn parse_settings(
    scheme: &dyn Scheme,
    mut location: Location,
    text: &str,
) -> Result<Location, StoreUrlError> {
    let invalid = |problem| StoreUrlError::Setting { scheme: scheme.name(), problem };
    let known = scheme.settings();
    let mut seen: Vec<&str> = Vec::new();
    for setting in text.split('&').filter(|setting| !setting.is_empty()) {
        let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
        if seen.contains(&name) {
            return Err(invalid(format!("has the setting {name:?} twice")));
        }
        seen.push(name);
        let Some(setting) = known.iter().find(|setting| setting.name == name) else {
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(invalid(format!("has no setting {name:?}; it has {known}")));
        };
        let value = match setting.values {
            Values::OneOf(values) if values.contains(&value) => value.to_owned(),
            Values::OneOf(values) => {
                let values = values.join(" or ");
                return Err(invalid(format!("cannot have {name}={value}; it is {values}")));
            }
            Values::Number(unit) => match value.parse::<usize>() {
                Ok(number) => number.to_string(),
                Err(_) => {
                    let problem = format!("cannot have {name}={value}; it is a number of {unit}");
                    return Err(invalid(problem));
                }
            },
            Values::Text(is_valid, _) if is_valid(value) => value.to_owned(),
            Values::Text(_, rule) => {
                return Err(invalid(format!("cannot have {name}={value}; it is {rule}")));
            }
        };
        location.set(known, setting.name, value);
    }
    Ok(location)
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.values {
            Values::OneOf(values) => write!(f, "{}={}", self.name, values.join("|")),
            Values::Number(_) => write!(f, "{}=N", self.name),
            Values::Text(..) => write!(f, "{}=TEXT", self.name),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme())?;
        if let Some(path) = self.path() {
            Escaped(path).fmt(f)?;
        }
        if let Some(server) = self.server() {
            server.fmt(f)?;
        }
        if let Some(servers) = self.servers() {
            servers.fmt(f)?;
        }
        let mut separator = '?';
        for (name, value) in &self.location.settings {
            write!(f, "{separator}{name}={value}")?;
            separator = '&';
        }
        Ok(())
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

impl PartialEq for StoreUrl {
    fn eq(&self, other: &Self) -> bool {
        self.scheme() == other.scheme() && self.location == other.location
    }
}

impl Eq for StoreUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "file")]
    #[test]
    fn paths_are_parsed() {
        for (url, path) in [
            ("file:data", "data"),
            ("file:./storage-data", "./storage-data"),
            ("file:my data/#1+ä", "my data/#1+ä"),
            ("file:/srv/data", "/srv/data"),
            ("file:///srv/data", "/srv/data"),
            ("file://localhost/srv/data", "/srv/data"),
            ("file:100%25", "100%"),
            ("file:what%3f?durability=os", "what?"),
            ("file:%C3%A4", "ä"),
            ("file:C:/x", "C:/x"),
            ("FILE:x", "x"),
        ] {
            let parsed: StoreUrl = url.parse().unwrap();
            assert_eq!(parsed.path(), Some(Path::new(path)), "{url}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed), "{url}");
        }
    }

    #[cfg(feature = "file")]
    #[test]
    fn display_and_parse_are_inverse() {
        #[rustfmt::skip]
        let paths = [
            "//srv//data", "a%b?c", "%25", "?", "/", " ", "//", "//localhost/x", "~", "~/data",
            "./~", "$HOME/x", "a$(b)", "$", "\t a\u{a0}", "a\nb", "a b",
        ];
        for path in paths {
            let url = StoreUrl::from_path(path);
            assert_eq!(url.to_string().parse(), Ok(url.clone()), "{url}");
        }
        let url: StoreUrl = "file:d?index_budget_bytes=5&durability=os".parse().unwrap();
        assert_eq!(url.to_string(), "file:d?durability=os&index_budget_bytes=5");
        assert_eq!(url.to_string().parse(), Ok(url));
        // Defaults are left out.
        let url: StoreUrl = "file:d?durability=sync&".parse().unwrap();
        assert_eq!(url.to_string(), "file:d");
    }

    #[cfg(all(unix, feature = "file"))]
    #[test]
    fn a_path_may_be_any_bytes() {
        use std::os::unix::ffi::OsStrExt;

        let raw = OsStr::from_bytes(b"file:caf\xe9/?durability=os");
        let url = StoreUrl::from_os_str(raw).unwrap();
        assert_eq!(url.path(), Some(Path::new(OsStr::from_bytes(b"caf\xe9/"))));
        assert_eq!(url.to_string(), "file:caf%E9/?durability=os");
        assert_eq!(url.to_string().parse(), Ok(url));
        assert_eq!("file:%ff".parse(), StoreUrl::from_os_str(OsStr::from_bytes(b"file:\xff")));
    }

    #[cfg(feature = "file")]
    #[test]
    fn a_literal_name_that_exists_takes_precedence() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let read = |name: &str| format!("file:{}/{name}", dir.path().display()).parse();
        let path_of = |name: &str| read(name).map(|url: StoreUrl| url.path().unwrap().to_owned());
        assert_eq!(path_of("a%20b/c%3Fd"), Ok(at("a b/c?d")));
        std::fs::create_dir(at("a%20b")).unwrap();
        assert_eq!(path_of("a%20b"), Ok(at("a%20b")));
        assert_eq!(path_of("a%20b/c%3Fd"), Ok(at("a%20b/c%3Fd")));
        assert_eq!(path_of("a%2520b"), Ok(at("a%20b")));
        let url = read("a%20b").unwrap();
        assert_eq!(url.to_string().parse(), Ok(url));
        std::fs::create_dir(at("100%")).unwrap();
        assert_eq!(path_of("100%"), Ok(at("100%")));

        std::fs::create_dir(at("a b")).unwrap();
        let refused = path_of("a%20b").unwrap_err().to_string();
        assert!(refused.contains("and both exist: write %25 for each %"), "{refused}");
        assert_eq!(path_of("a%2520b"), Ok(at("a%20b")));
        assert_eq!(path_of("a b"), Ok(at("a b")));
    }

    #[cfg(feature = "redb")]
    #[test]
    fn settings_are_shown_in_one_order() {
        let url: StoreUrl = "redb:d.redb?cache_bytes=5&durability=relaxed".parse().unwrap();
        assert_eq!(url.to_string(), "redb:d.redb?durability=relaxed&cache_bytes=5");
        assert_eq!((url.scheme(), url.durability()), ("redb", Some("relaxed")));
        assert_eq!(url.to_string().parse(), Ok(url));
        let url: StoreUrl = "redb:d.redb".parse().unwrap();
        assert_eq!(url.durability(), Some("sync"));
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn servers_are_parsed_and_passwords_are_not_shown() {
        let url: StoreUrl = "postgres://ada:p%40w?d@[::1]:5433/my%20db?schema=notes&sslmode=prefer"
            .parse()
            .unwrap();
        let server = url.server().unwrap();
        assert_eq!((server.user(), server.password()), ("ada", Some("p@w?d")));
        assert_eq!((server.host(), server.port()), ("::1", Some(5433)));
        assert_eq!((server.database(), url.path()), ("my db", None));
        assert_eq!(url.to_string(), "postgres://ada@[::1]:5433/my%20db?schema=notes");
        assert_eq!(format!("{url:?}"), format!("StoreUrl({url})"));
        assert_eq!(url.relaxed().durability(), Some("os"));
        let without: StoreUrl = url.to_string().parse().unwrap();
        assert_eq!(without.to_string(), url.to_string());
        for (url, problem) in [
            ("postgres:", "names no server"),
            ("postgres:u:secret@h/d", "names no server"),
            ("postgres://h/d", "names no user"),
            ("postgres://u:secret@h", "names no database"),
            ("postgres://u:secret@h/d\n", "ends with a line break"),
            ("postgres://u:secret@h/d?schema=A", "cannot have schema=A"),
            ("postgres://u:secret@h/d?pool_size=x", "it is a number of connections"),
            ("postgres://u:secret@h/d?sslmode=off", "cannot have sslmode=off"),
            ("postgres://u:secret@h/d?durability=relaxed", "it is sync or os"),
        ] {
            let message = url.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(message.contains(problem), "{url}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    // The errors list the stores of a default build.
    #[cfg(all(
        feature = "file",
        feature = "memory",
        feature = "redb",
        not(any(feature = "postgres", feature = "redis", feature = "rocksdb"))
    ))]
    #[test]
    fn errors_name_the_problem() {
        let message = |url: &str| url.parse::<StoreUrl>().unwrap_err().to_string();
        #[rustfmt::skip]
        let cases = [
            "./data", "", ":data", "sqlite:x", "redis://h", "file:", "file:?durability=os",
            "file://data", "file://", "file://localhost", "file:100%", "file:%zz", "file:%00",
            "file:~/data", "redb:~", "file:~ada/data?durability=os", "file:$HOME/x",
            "redb:/srv/${USER}.redb", "file:data-$(date)", " file:data", "file:data ",
            "file:data\n", "redb:data\r", "file: data", "file:data ?durability=os",
            "file:da\tta", "memory:\n", "file:data\u{a0}", "file:data?durability=os\n",
            "file:d?durabilty=os", "file:d?durability=none", "file:d?durability",
            "file:d?durability=os&durability=os", "file:d?index_budget_bytes=64M", "redb:",
            "redb:d?durability=os", "redb:d?durability=off", "redb:d?block_cache_bytes=1",
            "rocksdb:d", "memory:x", "memory://", "memory:?durability=os",
        ];
        let messages: Vec<String> = cases
            .iter()
            .map(|url| {
                let shown = format!("{url:?}");
                format!("{shown:40} {}", message(url))
            })
            .collect();
        insta::assert_snapshot!(messages.join("\n"));
    }

    #[cfg(not(feature = "file"))]
    #[test]
    fn a_missing_scheme_names_its_feature() {
        let message = "file:data".parse::<StoreUrl>().unwrap_err().to_string();
        assert!(message.contains("the feature \"file\""), "{message}");
    }

    #[cfg(feature = "memory")]
    #[test]
    fn a_memory_store_cannot_exist_before_it_is_opened() {
        let url: StoreUrl = "memory:".parse().unwrap();
        assert_eq!(url.to_string(), "memory:");
        assert!(url.open(Mode::ReadWrite).is_ok());
        assert!(matches!(url.open(Mode::ReadOnly), Err(StorageError::Unsupported(_))));
        assert!(matches!(url.open(Mode::ReadWriteExisting), Err(StorageError::Unsupported(_))));
    }
}
