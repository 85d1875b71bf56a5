//! The store that an operator chose, as a URL.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use storage_core::{ComponentStorage, StorageError};

/// Which store to open: `file:PATH[?SETTING=VALUE[&...]]` or `memory:`.
///
/// | URL | store | settings |
/// |---|---|---|
/// | `file:PATH` | a folder with a file a key | `durability=sync` (default; survives a power cut) or `os` (survives a killed process); `index_budget_bytes=N`, what the indexes of listings may take in memory |
/// | `memory:` | this process's memory, gone when it ends | none |
///
/// A path is taken as it stands, spaces included, and is relative to the
/// process's working folder. Only `%` and `?` are written as `%25` and `%3F`;
/// any byte of UTF-8 may be written that way. `file:///srv/data` and
/// `file://localhost/srv/data` name the absolute path `/srv/data`.
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
    kind: Kind,
}

/// Known in every build, so that one without a store can say which feature has
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    File { path: PathBuf, settings: FileSettings },
    Memory,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct FileSettings {
    /// `durability=os` instead of `sync`.
    os: bool,
    index_budget_bytes: Option<usize>,
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
        problem: &'static str,
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

/// Every scheme, the feature that brings it, and whether this build has it.
const SCHEMES: [(&str, &str, bool); 2] =
    [("file", "file", cfg!(feature = "file")), ("memory", "memory", cfg!(feature = "memory"))];

fn known_schemes() -> String {
    let known: Vec<String> =
        SCHEMES.iter().filter(|(.., here)| *here).map(|(name, ..)| format!("{name}:")).collect();
    if known.is_empty() { "no store at all".to_owned() } else { known.join(" and ") }
}

impl StoreUrl {
    /// The store in this folder, with the default settings.
    pub fn from_path(path: impl Into<PathBuf>) -> Self {
        Self { kind: Kind::File { path: path.into(), settings: FileSettings::default() } }
    }

    /// The folder that the store lies in, if it lies in one.
    pub fn path(&self) -> Option<&Path> {
        match &self.kind {
            Kind::File { path, .. } => Some(path),
            Kind::Memory => None,
        }
    }

    /// Opens the store.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if another process has it open for writing,
    /// [`StorageError::Unsupported`] for one of another format or, with
    /// [`Mode::ReadOnly`] or [`Mode::ReadWriteExisting`], for `memory:`, in which
    /// nothing can be before it is opened; [`StorageError::IoError`] if it is
    /// missing and not to be created, or cannot be read or created.
    pub fn open(&self, mode: Mode) -> Result<Arc<dyn ComponentStorage>, StorageError> {
        match &self.kind {
            Kind::File { path, settings } => open_file(path, settings, mode),
            Kind::Memory => open_memory(mode),
        }
    }
}

#[cfg(feature = "file")]
fn open_file(
    path: &Path,
    settings: &FileSettings,
    mode: Mode,
) -> Result<Arc<dyn ComponentStorage>, StorageError> {
    use storage_backends::{Durability, FileOptions, FileStorage};

    let durability = if settings.os { Durability::Os } else { Durability::Sync };
    let mut options = FileOptions::default().with_durability(durability);
    if let Some(bytes) = settings.index_budget_bytes {
        options = options.with_index_budget_bytes(bytes);
    }
    if mode == Mode::ReadOnly {
        return Ok(Arc::new(FileStorage::open_read_only(path, options)?));
    }
    if mode == Mode::ReadWriteExisting {
        // Creates nothing, and fails if there is nothing.
        FileStorage::open_read_only(path, options.clone())?;
    }
    Ok(Arc::new(FileStorage::open(path, options)?))
}

#[cfg(not(feature = "file"))]
fn open_file(
    _path: &Path,
    _settings: &FileSettings,
    _mode: Mode,
) -> Result<Arc<dyn ComponentStorage>, StorageError> {
    Err(StorageError::Unsupported("file: stores need the feature \"file\"".into()))
}

#[cfg(feature = "memory")]
fn open_memory(mode: Mode) -> Result<Arc<dyn ComponentStorage>, StorageError> {
    match mode {
        Mode::ReadWrite => Ok(Arc::new(storage_backends::MemoryStorage::new())),
        Mode::ReadWriteExisting | Mode::ReadOnly => Err(StorageError::Unsupported(
            "a memory: store begins empty in each process and ends with it, so there is nothing \
             to open; name a store that lasts, such as file:PATH"
                .into(),
        )),
    }
}

#[cfg(not(feature = "memory"))]
fn open_memory(_mode: Mode) -> Result<Arc<dyn ComponentStorage>, StorageError> {
    Err(StorageError::Unsupported("memory: stores need the feature \"memory\"".into()))
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, _)| is_scheme(scheme))
        else {
            return Err(StoreUrlError::NoScheme { text: text.to_owned() });
        };
        let lower = scheme.to_ascii_lowercase();
        match SCHEMES.iter().find(|(name, ..)| *name == lower) {
            None => Err(StoreUrlError::UnknownScheme { scheme: scheme.to_owned() }),
            Some((scheme, feature, false)) => Err(StoreUrlError::NotCompiledIn { scheme, feature }),
            Some(("file", ..)) => parse_file(text, rest),
            Some(_) => parse_memory(text, rest),
        }
    }
}

fn is_scheme(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn parse_memory(url: &str, rest: &str) -> Result<StoreUrl, StoreUrlError> {
    if let Some(settings) = rest.strip_prefix('?').filter(|settings| !settings.is_empty()) {
        let name = settings.split(['=', '&']).next().unwrap_or_default();
        let problem = format!("has no setting {name:?}; it has none at all");
        return Err(StoreUrlError::Setting { scheme: "memory", problem });
    }
    if !matches!(rest, "" | "?") {
        let problem = "names a place, but a memory: store has none: write memory: alone";
        return Err(StoreUrlError::Path { url: url.to_owned(), problem });
    }
    Ok(StoreUrl { kind: Kind::Memory })
}

fn parse_file(url: &str, rest: &str) -> Result<StoreUrl, StoreUrlError> {
    let wrong = |problem| StoreUrlError::Path { url: url.to_owned(), problem };
    let (path, settings) = rest.split_once('?').unwrap_or((rest, ""));
    let path = match path.strip_prefix("//") {
        None => path,
        Some(after) => match after.strip_prefix("localhost").unwrap_or(after) {
            absolute if absolute.starts_with('/') => absolute,
            _ => {
                return Err(wrong(
                    "names a host after file://: write file:PATH, or file:///PATH for an absolute \
                     path",
                ));
            }
        },
    };
    if path.is_empty() {
        return Err(wrong("has no path: write file:PATH"));
    }
    let path = decode_percent(path)
        .ok_or_else(|| wrong("has a % that begins no UTF-8 escape: write %25 for the % itself"))?;
    if path.contains('\0') {
        return Err(wrong("has a NUL in its path"));
    }
    Ok(StoreUrl {
        kind: Kind::File { path: path.into(), settings: parse_file_settings(settings)? },
    })
}

fn parse_file_settings(text: &str) -> Result<FileSettings, StoreUrlError> {
    let wrong = |problem| StoreUrlError::Setting { scheme: "file", problem };
    let mut settings = FileSettings::default();
    let mut seen: Vec<&str> = Vec::new();
    for setting in text.split('&').filter(|setting| !setting.is_empty()) {
        let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
        if seen.contains(&name) {
            return Err(wrong(format!("has the setting {name:?} twice")));
        }
        seen.push(name);
        match (name, value) {
            ("durability", "sync") => settings.os = false,
            ("durability", "os") => settings.os = true,
            ("durability", _) => {
                return Err(wrong(format!("cannot have durability={value}: it is sync or os")));
            }
            ("index_budget_bytes", _) => match value.parse() {
                Ok(bytes) => settings.index_budget_bytes = Some(bytes),
                Err(_) => {
                    return Err(wrong(format!(
                        "cannot have index_budget_bytes={value}: it is a number of bytes"
                    )));
                }
            },
            _ => {
                return Err(wrong(format!(
                    "has no setting {name:?}; it has durability=sync|os and index_budget_bytes=N"
                )));
            }
        }
    }
    Ok(settings)
}

fn decode_percent(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kind::File { path, settings } = &self.kind else { return f.write_str("memory:") };
        let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3F");
        // A path that begins with two slashes would read as a host.
        write!(f, "file:{}{path}", if path.starts_with("//") { "//" } else { "" })?;
        let mut separator = '?';
        if settings.os {
            write!(f, "{separator}durability=os")?;
            separator = '&';
        }
        if let Some(bytes) = settings.index_budget_bytes {
            write!(f, "{separator}index_budget_bytes={bytes}")?;
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
        for path in ["//srv//data", "a%b?c", "%25", "?", "/", " ", "//", "//localhost/x"] {
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

    #[cfg(all(feature = "file", feature = "memory"))]
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
            "file:%ff",
            "file:%00",
            "file:d?durabilty=os",
            "file:d?durability=none",
            "file:d?durability",
            "file:d?durability=os&durability=os",
            "file:d?index_budget_bytes=64M",
            "memory:x",
            "memory://",
            "memory:?durability=os",
        ];
        let messages: Vec<String> =
            cases.iter().map(|url| format!("{url:40} {}", message(url))).collect();
        insta::assert_snapshot!(messages.join("\n"));
    }

    #[cfg(not(feature = "file"))]
    #[test]
    fn what_is_not_compiled_in_names_its_feature() {
        let message = "file:data".parse::<StoreUrl>().unwrap_err().to_string();
        assert!(message.contains("the feature \"file\""), "{message}");
    }

    #[cfg(feature = "memory")]
    #[test]
    fn memory_has_nothing_to_read_before_it_is_written() {
        let url: StoreUrl = "memory:".parse().unwrap();
        assert_eq!(url.to_string(), "memory:");
        assert!(url.open(Mode::ReadWrite).is_ok());
        assert!(matches!(url.open(Mode::ReadOnly), Err(StorageError::Unsupported(_))));
        assert!(matches!(url.open(Mode::ReadWriteExisting), Err(StorageError::Unsupported(_))));
    }
}
