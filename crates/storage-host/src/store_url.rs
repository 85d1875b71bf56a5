//! The store that an operator chose, as a URL.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::store_path::{self, Escaped};

/// Which store to open: `file:PATH[?SETTING=VALUE[&...]]`, `redb:PATH`,
/// `rocksdb:PATH` or `memory:`.
///
/// | URL | store | settings |
/// |---|---|---|
/// | `file:PATH` | a folder with a file a key | `durability=sync` (default; survives a power cut) or `os` (survives a killed process); `index_budget_bytes=N`, what the indexes of listings may take in memory |
/// | `redb:PATH` | one file, an engine in pure Rust | `durability=sync` (default) or `relaxed` (durable every 100 ms, a kill loses up to that); `cache_bytes=N`, the engine's page cache |
/// | `rocksdb:PATH` | a folder, an engine in C++ | `durability=sync` (default) or `os`; `block_cache_bytes=N`, the engine's cache of blocks; `write_buffer_bytes=N`, what it gathers in memory before it writes a table |
/// | `memory:` | this process's memory, gone when it ends | none |
///
/// A path is relative to the process's working directory. `file:///srv/data` and
/// `file://localhost/srv/data` name the absolute path `/srv/data`. Inner spaces are
/// part of the path. `%` and `?` are written as `%25` and `%3F`, and any other byte
/// may be written that way; on Unix the bytes need not be UTF-8. If the first
/// component with an escape exists as it is written, the path is taken as it is
/// written: `file:a%20b` is `a%20b` where that exists, else `a b`. So a URL with an
/// escape is parsed by a look at the file system.
///
/// What a shell should have replaced (`~` at the start, `$NAME`), control characters,
/// and white space at either end are errors, and can be written as escapes.
///
/// `Display` gives a URL that parses to the same.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUrl {
    pub(crate) scheme: &'static Scheme,
    /// Empty where the scheme has no place.
    pub(crate) path: PathBuf,
    pub(crate) settings: Settings,
}

/// Which kind of store a scheme stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Memory,
    Redb,
    RocksDb,
}

/// A scheme, known in every build, so that one without its store can say which
/// feature has it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scheme {
    pub(crate) kind: Kind,
    /// Also the name of the feature that brings it.
    pub(crate) name: &'static str,
    compiled_in: bool,
    /// What `durability` may be, the default first.
    durabilities: &'static [&'static str],
    /// Settings that are a number of bytes.
    sizes: &'static [&'static str],
}

const FILE: &Scheme = &Scheme {
    kind: Kind::File,
    name: "file",
    compiled_in: cfg!(feature = "file"),
    durabilities: &["sync", "os"],
    sizes: &["index_budget_bytes"],
};

const SCHEMES: [&Scheme; 4] = [
    FILE,
    &Scheme {
        kind: Kind::Redb,
        name: "redb",
        compiled_in: cfg!(feature = "redb"),
        durabilities: &["sync", "relaxed"],
        sizes: &["cache_bytes"],
    },
    &Scheme {
        kind: Kind::RocksDb,
        name: "rocksdb",
        compiled_in: cfg!(feature = "rocksdb"),
        durabilities: &["sync", "os"],
        sizes: &["block_cache_bytes", "write_buffer_bytes"],
    },
    &Scheme {
        kind: Kind::Memory,
        name: "memory",
        compiled_in: cfg!(feature = "memory"),
        durabilities: &[],
        sizes: &[],
    },
];

/// What stands behind the question mark; what does not is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Another durability than the scheme's first.
    durability: Option<&'static str>,
    /// By name, in the scheme's order.
    sizes: Vec<(&'static str, usize)>,
}

#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
impl Settings {
    /// Whether the weaker of the two durabilities was asked for.
    pub(crate) fn is_relaxed(&self) -> bool {
        self.durability.is_some()
    }

    pub(crate) fn size(&self, name: &str) -> Option<usize> {
        self.sizes.iter().find(|(set, _)| *set == name).map(|(_, bytes)| *bytes)
    }
}

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To read and write; what is missing is created.
    ReadWrite,
    /// To read and write a store that is there; a missing one is an error.
    ReadWriteExisting,
    /// To read a store that is there. Changes nothing in it, and works beside a
    /// process that writes.
    ReadOnly,
}

/// Why a text is no [`StoreUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreUrlError {
    /// There is no scheme in front.
    #[error("{text:?} does not say what kind of store it is: write file:PATH for a folder")]
    NoScheme {
        /// The text.
        text: String,
    },
    /// Nothing in this version has this scheme.
    #[error("unknown store \"{scheme}:\"; this build has {}", known_schemes())]
    UnknownScheme {
        /// The scheme, without its colon.
        scheme: String,
    },
    /// This version has the scheme, but this build left it out.
    #[error(
        "this build has no \"{scheme}:\" store: build storage-host with the feature {feature:?}"
    )]
    NotCompiledIn {
        /// The scheme, without its colon.
        scheme: &'static str,
        /// The feature of this crate that brings it.
        feature: &'static str,
    },
    /// The path is missing or cannot be one.
    #[error("{url:?} {problem}")]
    Path {
        /// The URL.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting that this kind of store does not have, or not with this value.
    #[error("\"{scheme}:\" {problem}")]
    Setting {
        /// The scheme, without its colon.
        scheme: &'static str,
        /// The setting, and what would be right.
        problem: String,
    },
}

fn known_schemes() -> String {
    let known: Vec<String> = SCHEMES
        .iter()
        .filter(|scheme| scheme.compiled_in)
        .map(|scheme| format!("{}:", scheme.name))
        .collect();
    match known.split_last() {
        None => "no store at all".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

impl StoreUrl {
    /// The store in this folder, a file a key, with the default settings.
    pub fn from_path(path: impl Into<PathBuf>) -> Self {
        Self { scheme: FILE, path: path.into(), settings: Settings::default() }
    }

    /// The scheme, without its colon: `file`, `redb`, `rocksdb` or `memory`.
    pub fn scheme(&self) -> &'static str {
        self.scheme.name
    }

    /// The folder or file that the store lies in, if it lies in one.
    pub fn path(&self) -> Option<&Path> {
        (self.scheme.kind != Kind::Memory).then_some(&self.path)
    }

    /// How much an acknowledged write survives, as the URL says it: `sync`,
    /// `os` or `relaxed`; `None` for a store that never lasts.
    pub fn durability(&self) -> Option<&'static str> {
        self.settings.durability.or(self.scheme.durabilities.first().copied())
    }

    /// The same store with the weakest durability that its kind has, for work
    /// that is done again if it is interrupted and ends with
    /// [`flush`](storage_core::Store::flush), which makes all of it
    /// durable.
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
        let weakest = self.scheme.durabilities.last().copied();
        let settings = Settings { durability: weakest, ..self.settings.clone() };
        Self { settings, ..self.clone() }
    }
}

impl StoreUrl {
    /// Parses a URL as a process gets it, in an argument or a variable. On Unix its
    /// path may hold bytes that are not UTF-8.
    ///
    /// # Errors
    /// As [`StoreUrlError`] says.
    pub fn from_os_str(text: &OsStr) -> Result<Self, StoreUrlError> {
        let bytes = text.as_encoded_bytes();
        let shown = text.to_string_lossy();
        if shown.starts_with(char::is_whitespace) {
            return Err(blank(&shown, &shown));
        }
        let colon = bytes.iter().position(|byte| *byte == b':');
        let scheme = colon.and_then(|colon| std::str::from_utf8(bytes.get(..colon)?).ok());
        let rest = colon.and_then(|colon| bytes.get(colon + 1..));
        let (Some(scheme), Some(rest)) = (scheme.filter(|scheme| is_scheme(scheme)), rest) else {
            return Err(StoreUrlError::NoScheme { text: shown.into_owned() });
        };
        let lower = scheme.to_ascii_lowercase();
        match SCHEMES.into_iter().find(|known| known.name == lower) {
            None => Err(StoreUrlError::UnknownScheme { scheme: scheme.to_owned() }),
            Some(known) if !known.compiled_in => {
                Err(StoreUrlError::NotCompiledIn { scheme: known.name, feature: known.name })
            }
            Some(known) if known.kind == Kind::Memory => {
                parse_memory(known, &shown, &String::from_utf8_lossy(rest))
            }
            Some(known) => parse_with_path(known, &shown, rest),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_os_str(OsStr::new(text))
    }
}

/// White space or a control character in this part of a URL.
fn blank(url: &str, part: &str) -> StoreUrlError {
    let found = store_path::find_blank(part).map(|(blank, _)| blank).unwrap_or_default();
    StoreUrlError::Path { url: url.to_owned(), problem: format!("{found}: remove it") }
}

fn is_scheme(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn parse_memory(scheme: &'static Scheme, url: &str, rest: &str) -> Result<StoreUrl, StoreUrlError> {
    if store_path::find_blank(rest).is_some() {
        return Err(blank(url, rest));
    }
    if let Some(settings) = rest.strip_prefix('?').filter(|settings| !settings.is_empty()) {
        let name = settings.split(['=', '&']).next().unwrap_or_default();
        let problem = format!("has no setting {name:?}; it has none at all");
        return Err(StoreUrlError::Setting { scheme: scheme.name, problem });
    }
    if !matches!(rest, "" | "?") {
        let problem = "names a place, but a memory: store has none: write memory: alone".to_owned();
        return Err(StoreUrlError::Path { url: url.to_owned(), problem });
    }
    Ok(StoreUrl { scheme, path: PathBuf::new(), settings: Settings::default() })
}

fn parse_with_path(
    scheme: &'static Scheme,
    url: &str,
    rest: &[u8],
) -> Result<StoreUrl, StoreUrlError> {
    let mut parts = rest.splitn(2, |byte| *byte == b'?');
    let path = store_path::read(scheme.name, parts.next().unwrap_or_default())
        .map_err(|problem| StoreUrlError::Path { url: url.to_owned(), problem })?;
    let settings = String::from_utf8_lossy(parts.next().unwrap_or_default());
    if store_path::find_blank(&settings).is_some() {
        return Err(blank(url, &settings));
    }
    Ok(StoreUrl { scheme, path, settings: parse_settings(scheme, &settings)? })
}

fn parse_settings(scheme: &'static Scheme, text: &str) -> Result<Settings, StoreUrlError> {
    let wrong = |problem| StoreUrlError::Setting { scheme: scheme.name, problem };
    let mut durability = None;
    let mut sizes = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for setting in text.split('&').filter(|setting| !setting.is_empty()) {
        let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
        if seen.contains(&name) {
            return Err(wrong(format!("has the setting {name:?} twice")));
        }
        seen.push(name);
        if name == "durability" {
            let position = scheme.durabilities.iter().position(|known| *known == value);
            let Some(position) = position else {
                return Err(wrong(refused_durability(scheme, value)));
            };
            durability = scheme.durabilities.get(position).copied().filter(|_| position > 0);
        } else if let Some(name) = scheme.sizes.iter().find(|known| **known == name) {
            let Ok(bytes) = value.parse() else {
                return Err(wrong(format!("cannot have {name}={value}: it is a number of bytes")));
            };
            sizes.push((*name, bytes));
        } else {
            let mut known = vec![format!("durability={}", scheme.durabilities.join("|"))];
            known.extend(scheme.sizes.iter().map(|name| format!("{name}=N")));
            return Err(wrong(format!("has no setting {name:?}; it has {}", known.join(", "))));
        }
    }
    sizes.sort_by_key(|(name, _)| scheme.sizes.iter().position(|known| known == name));
    Ok(Settings { durability, sizes })
}

fn refused_durability(scheme: &Scheme, value: &str) -> String {
    let known = scheme.durabilities.join(" or ");
    match (scheme.kind, value) {
        // It would promise what the engine cannot keep.
        (Kind::Redb, "os") => format!(
            "cannot have durability=os: what this engine has not made durable lies in the \
             process's memory alone, so a killed process would lose it; it is {known}"
        ),
        _ => format!("cannot have durability={value}: it is {known}"),
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.scheme.name;
        if self.scheme.kind == Kind::Memory {
            return write!(f, "{name}:");
        }
        write!(f, "{name}:{}", Escaped(&self.path))?;
        let mut separator = '?';
        if let Some(durability) = self.settings.durability {
            write!(f, "{separator}durability={durability}")?;
            separator = '&';
        }
        for (name, bytes) in &self.settings.sizes {
            write!(f, "{separator}{name}={bytes}")?;
            separator = '&';
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "file")]
    #[test]
    fn a_path_is_taken_as_it_stands() {
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
    fn what_is_shown_parses_to_the_same() {
        for path in [
            "//srv//data",
            "a%b?c",
            "%25",
            "?",
            "/",
            " ",
            "//",
            "//localhost/x",
            "~",
            "~/data",
            "./~",
            "$HOME/x",
            "a$(b)",
            "$",
            "\t a\u{a0}",
            "a\nb",
            "a b",
        ] {
            let url = StoreUrl::from_path(path);
            assert_eq!(url.to_string().parse(), Ok(url.clone()), "{url}");
        }
        let url: StoreUrl = "file:d?index_budget_bytes=5&durability=os".parse().unwrap();
        assert_eq!(url.to_string(), "file:d?durability=os&index_budget_bytes=5");
        assert_eq!(url.to_string().parse(), Ok(url));
        // The defaults are left out.
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
    fn a_name_that_exists_as_written_comes_before_its_escapes() {
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

    #[cfg(all(feature = "file", feature = "memory", feature = "redb", not(feature = "rocksdb")))]
    #[test]
    fn what_is_wrong_is_named() {
        let message = |url: &str| url.parse::<StoreUrl>().unwrap_err().to_string();
        let cases = [
            "./data",
            "",
            ":data",
            "sqlite:x",
            "redis://h",
            "file:",
            "file:?durability=os",
            "file://data",
            "file://",
            "file://localhost",
            "file:100%",
            "file:%zz",
            "file:%00",
            "file:~/data",
            "redb:~",
            "file:~ada/data?durability=os",
            "file:$HOME/x",
            "redb:/srv/${USER}.redb",
            "file:data-$(date)",
            " file:data",
            "file:data ",
            "file:data\n",
            "redb:data\r",
            "file: data",
            "file:data ?durability=os",
            "file:da\tta",
            "memory:\n",
            "file:data\u{a0}",
            "file:data?durability=os\n",
            "file:d?durabilty=os",
            "file:d?durability=none",
            "file:d?durability",
            "file:d?durability=os&durability=os",
            "file:d?index_budget_bytes=64M",
            "redb:",
            "redb:d?durability=os",
            "redb:d?durability=off",
            "redb:d?block_cache_bytes=1",
            "rocksdb:d",
            "memory:x",
            "memory://",
            "memory:?durability=os",
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
    fn what_is_not_compiled_in_names_its_feature() {
        let message = "file:data".parse::<StoreUrl>().unwrap_err().to_string();
        assert!(message.contains("the feature \"file\""), "{message}");
    }
}
