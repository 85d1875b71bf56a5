//! The store that a command works on, and the settings that apply in it: the one
//! place that turns `--store`, `--config`, the environment and `--wait` into a host.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_host::{
    ComponentId, Limits, Manifest, Mode, StorageError, StorageHost, Store, StoreUrl,
};

use super::config;
use super::environment;
use super::failure::Failure;
use super::output::{note, printable};
use super::wait::Wait;

/// Where a store's URL was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChosenBy {
    Option,
    Manifest,
    Environment,
    Default,
}

/// The store where nothing names one.
pub(super) const DEFAULT_STORE: &str = "file:./storage-data";

/// The variable that names a store.
pub(super) const VARIABLE: &str = "STORAGE_HOST_STORE";

/// The variable's value; an empty one counts as unset.
pub(super) fn in_environment() -> Option<OsString> {
    std::env::var_os(VARIABLE).filter(|text| !text.is_empty())
}

/// Parses the URL that is used.
fn parse(text: &OsStr, given_by: ChosenBy) -> Result<StoreUrl, Failure> {
    StoreUrl::from_os_str(text).map_err(|error| {
        let message = match given_by {
            ChosenBy::Environment => format!("cannot use the store of {VARIABLE}: {error}"),
            _ => {
                let text = text.to_string_lossy();
                format!("invalid value '{text}' for '--store <URL>': {error}")
            }
        };
        Failure::new("usage", message)
    })
}

/// Opens a store. If that creates it, notes its path.
pub(super) fn open(url: &StoreUrl, mode: Mode) -> Result<Arc<dyn Store>, StorageError> {
    let missing = url.path().filter(|path| mode == Mode::ReadWrite && is_missing(path));
    let store = url.open(mode)?;
    if let Some(path) = missing {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let shown = printable(&path.display().to_string());
        note(format_args!("created the store {shown} ({})", url.scheme()));
    }
    Ok(store)
}

/// Whether nothing is at a path that could be a store.
fn is_missing(path: &Path) -> bool {
    match fs::metadata(path) {
        Err(_) => true,
        Ok(found) if found.is_dir() => {
            fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
        }
        Ok(found) => found.len() == 0,
    }
}

/// A store, with the manifest whose settings apply.
pub(super) struct Target {
    url: StoreUrl,
    chosen_by: ChosenBy,
    config: Option<(PathBuf, Manifest)>,
    wait: Wait,
}

impl Target {
    /// The store of `--store`; else the manifest's; else that of the environment;
    /// else, without a manifest, the default.
    ///
    /// # Errors
    /// If the manifest cannot be read, neither it nor anything else names a store, or
    /// what names it is wrong.
    pub(super) fn choose(
        given: &OsStr,
        given_by: ChosenBy,
        config: Option<&Path>,
        wait: Wait,
    ) -> Result<Self, Failure> {
        let Some(path) = config else {
            return Ok(Self {
                url: parse(given, given_by)?,
                chosen_by: given_by,
                config: None,
                wait,
            });
        };
        let manifest = config::read(path)?;
        let (url, chosen_by) = match (given_by, &manifest.store) {
            (ChosenBy::Option, _) | (ChosenBy::Environment, None) => {
                (parse(given, given_by)?, given_by)
            }
            (_, Some(store)) => (store.clone(), ChosenBy::Manifest),
            (ChosenBy::Default | ChosenBy::Manifest, None) => {
                return Err(Failure::new(
                    "manifest",
                    format!(
                        "{} names no store: add store = \"file:PATH\", or give one with --store \
                         or STORAGE_HOST_STORE",
                        path.display()
                    ),
                ));
            }
        };
        Ok(Self { url, chosen_by, config: Some((path.to_owned(), manifest)), wait })
    }

    pub(super) fn url(&self) -> &StoreUrl {
        &self.url
    }

    pub(super) fn chosen_by(&self) -> ChosenBy {
        self.chosen_by
    }

    pub(super) fn wait(&self) -> Wait {
        self.wait
    }

    /// The manifest and its file, if one was given.
    pub(super) fn config(&self) -> Option<(&Path, &Manifest)> {
        self.config.as_ref().map(|(path, manifest)| (&**path, manifest))
    }

    /// Opens the store, with the quotas, limits, caches and grants of the manifest.
    pub(super) fn open(&self, mode: Mode) -> Result<StorageHost, Failure> {
        let backend = self.wait.until_unlocked(|| {
            open(&self.url, mode).map_err(|error| Failure::of_opening(&self.url, &error))
        })?;
        Ok(self.host(backend))
    }

    fn host(&self, backend: Arc<dyn Store>) -> StorageHost {
        match &self.config {
            Some((_, manifest)) => manifest.host(backend),
            None => StorageHost::new(backend),
        }
    }

    /// Opens the store for a component to run on. Where the store may not be written,
    /// it is opened for reading: the component may do without writing.
    pub(super) fn open_to_run(&self) -> Result<StorageHost, Failure> {
        let failure = match self.open(Mode::ReadWrite) {
            Ok(host) => return Ok(host),
            Err(failure) => failure,
        };
        let is_protected = self.url.path().is_some_and(|path| {
            [path, &path.join("LOCK")]
                .into_iter()
                .any(|path| path.exists() && environment::may_write(path) == Some(false))
        });
        if !is_protected {
            return Err(failure);
        }
        let Ok(backend) = self.url.open(Mode::ReadOnly) else { return Err(failure) };
        let host = self.host(backend);
        if let Failure::Error { message, .. } = &failure {
            let opening = format!("cannot open the store \"{}\": ", self.url);
            let message = message.strip_prefix(&opening).unwrap_or(message);
            note(format_args!("the store \"{}\" is open for reading only: {message}", self.url));
        }
        Ok(host)
    }

    /// The limits of a component, which are known before the store is open.
    pub(super) fn limits(&self, id: &ComponentId) -> Limits {
        let manifest = self.config().map(|(_, manifest)| manifest);
        manifest.map_or_else(Limits::default, |manifest| manifest.settings(id).limits)
    }
}
