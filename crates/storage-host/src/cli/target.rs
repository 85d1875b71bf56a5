//! Which store a command uses, from `--store`, `--config`, the environment or the default.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_host::{
    ComponentId, Limits, Manifest, ManifestError, Mode, StorageError, StorageHost, Store, StoreUrl,
};

use super::beside::{self, Client};
use super::environment;
use super::failure::Failure;
use super::output::{note, printable};
use super::serving::Serving;
use super::wait::Wait;

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        Self::new("manifest", error.to_string())
    }
}

/// Parses a manifest that was read from `path`. Errors name the file.
pub(super) fn parse_manifest(path: &Path, bytes: io::Result<Vec<u8>>) -> Result<Manifest, Failure> {
    let not_utf8 = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not valid UTF-8");
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(not_utf8));
    let text = text.map_err(|error| ManifestError::Read {
        path: path.to_owned(),
        problem: error.to_string(),
    })?;
    let parsed = text.parse().map(|manifest: Manifest| manifest.relative_to(path));
    parsed.map_err(|error| Failure::new("manifest", format!("{}: {error}", path.display())))
}

/// What named the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChosenBy {
    Option,
    Manifest,
    Environment,
    Default,
}

/// The store if nothing names one: of the stores in this build, the best for most uses.
pub(super) const DEFAULT_STORE: &str = if cfg!(feature = "redb") {
    "redb:./storage-data.redb"
} else if cfg!(feature = "file") {
    EARLIER_DEFAULT
} else if cfg!(feature = "rocksdb") {
    "rocksdb:./storage-data.rocksdb"
} else {
    "memory:"
};

/// The default store of earlier versions. Its data must not seem to be lost.
pub(super) const EARLIER_DEFAULT: &str = "file:./storage-data";

/// The variable that names a store.
pub(super) const VARIABLE: &str = "STORAGE_HOST_STORE";

/// The value of [`VARIABLE`]; an empty one counts as unset.
pub(super) fn in_environment() -> Option<OsString> {
    std::env::var_os(VARIABLE).filter(|text| !text.is_empty())
}

fn parse(text: &OsStr, given_by: ChosenBy) -> Result<StoreUrl, Failure> {
    match given_by {
        ChosenBy::Environment => parse_value(text, VARIABLE),
        _ => parse_value(text, "--store"),
    }
}

/// Parses the URL of an option or a variable.
pub(super) fn parse_value(text: &OsStr, of: &str) -> Result<StoreUrl, Failure> {
    StoreUrl::from_os_str(text)
        .map_err(|error| Failure::new("usage", format!("invalid value of {of}: {error}")))
}

/// Opens a store, and writes a note if this creates it.
pub(super) fn open(url: &StoreUrl, mode: Mode) -> Result<Arc<dyn Store>, StorageError> {
    if url.is_on_server() && mode == Mode::ReadWrite {
        return match url.open(Mode::ReadWriteExisting) {
            // The server has no such store yet, or the second error says what is wrong.
            Err(StorageError::IoError(_)) => {
                let store = url.open(mode)?;
                let loss = store.properties().failover_loss().map(|loss| format!("; {loss}"));
                let shown = printable(&url.to_string());
                note(format_args!("created the store {shown}{}", loss.unwrap_or_default()));
                Ok(store)
            }
            opened => opened,
        };
    }
    let missing = url.path().filter(|path| mode == Mode::ReadWrite && is_missing(path));
    let store = url.open(mode)?;
    if let Some(path) = missing {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let shown = printable(&path.display().to_string());
        note(format_args!("created the store {shown} ({})", url.scheme()));
    }
    Ok(store)
}

/// Whether a path has no store yet: it is missing, an empty directory or an empty file.
fn is_missing(path: &Path) -> bool {
    match fs::metadata(path) {
        Err(_) => true,
        Ok(found) if found.is_dir() => {
            fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
        }
        Ok(found) => found.len() == 0,
    }
}

/// The store of a command, with the manifest whose settings apply.
pub(super) struct Target {
    url: StoreUrl,
    chosen_by: ChosenBy,
    config: Option<(PathBuf, Manifest)>,
    wait: Wait,
}

impl Target {
    /// Chooses the store: that of `--store`, else of the manifest, else of the
    /// environment, else the default. A manifest has no default store.
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
        let manifest = parse_manifest(path, fs::read(path))?;
        Self::of_manifest(given, given_by, (path.to_owned(), manifest), wait)
    }

    /// The same for a manifest, which was read from this path.
    pub(super) fn of_manifest(
        given: &OsStr,
        given_by: ChosenBy,
        (path, manifest): (PathBuf, Manifest),
        wait: Wait,
    ) -> Result<Self, Failure> {
        let (url, chosen_by) = match (given_by, &manifest.store) {
            (ChosenBy::Option, _) | (ChosenBy::Environment, None) => {
                (parse(given, given_by)?, given_by)
            }
            (_, Some(store)) => (store.clone(), ChosenBy::Manifest),
            (ChosenBy::Default | ChosenBy::Manifest, None) => {
                return Err(Failure::new(
                    "manifest",
                    format!(
                        "{} names no store: add store = \"redb:PATH\", or set --store or \
                         {VARIABLE}",
                        path.display()
                    ),
                ));
            }
        };
        Ok(Self { url, chosen_by, config: Some((path, manifest)), wait })
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

    /// The manifest and its path, if one was given.
    pub(super) fn config(&self) -> Option<(&Path, &Manifest)> {
        self.config.as_ref().map(|(path, manifest)| (&**path, manifest))
    }

    /// Whether the default store is used although there is an earlier default store.
    pub(super) fn overlooks_earlier_default(&self) -> bool {
        self.chosen_by == ChosenBy::Default
            && DEFAULT_STORE != EARLIER_DEFAULT
            && Path::new(EARLIER_DEFAULT.trim_start_matches("file:")).join("FORMAT").exists()
    }

    /// Keeps a user from overlooking the data of the earlier default store, by a note.
    ///
    /// # Errors
    /// If the default store does not exist yet: a command would find nothing there, or
    /// create an empty store.
    pub(super) fn check_earlier_default(&self) -> Result<(), Failure> {
        if !self.overlooks_earlier_default() {
            return Ok(());
        }
        if self.url.path().is_some_and(is_missing) {
            return Err(Failure::new(
                "no_store",
                format!(
                    "the default store {DEFAULT_STORE} does not exist, but the earlier default \
                     {EARLIER_DEFAULT} does: to use it, add --store {EARLIER_DEFAULT}; to copy it, \
                     run storage-host copy --from {EARLIER_DEFAULT} --to {DEFAULT_STORE}; to create \
                     an empty store, add --store {DEFAULT_STORE}"
                ),
            ));
        }
        note(format_args!(
            "using the default store {DEFAULT_STORE}, not {EARLIER_DEFAULT}, which was the default \
             before; to use that one or to silence this note, add --store"
        ));
        Ok(())
    }

    /// Opens the store, with the quotas, limits, caches and grants of the manifest.
    pub(super) fn open(&self, mode: Mode) -> Result<StorageHost, Failure> {
        self.wait.until_unlocked(|| self.open_now(mode))
    }

    fn open_now(&self, mode: Mode) -> Result<StorageHost, Failure> {
        let store =
            open(&self.url, mode).map_err(|error| Failure::of_opening(&self.url, &error))?;
        Ok(self.host(store))
    }

    /// Opens the store for a transfer, which ends with a flush: single writes need not be
    /// durable. The manifest does not apply.
    pub(super) fn open_relaxed(&self, mode: Mode) -> Result<StorageHost, Failure> {
        let url = self.url.relaxed();
        let store = self.wait.until_unlocked(|| {
            open(&url, mode).map_err(|error| Failure::of_opening(&self.url, &error))
        })?;
        Ok(StorageHost::new(store))
    }

    /// The same, and `None` if the store does not exist yet.
    pub(super) fn open_existing_relaxed(&self) -> Result<Option<StorageHost>, Failure> {
        if self.url.path().is_some_and(is_missing) {
            return Ok(None);
        }
        match self.open_relaxed(Mode::ReadWriteExisting) {
            // The server has no such store, or the process that created this one was killed.
            // Otherwise creating it fails for the same reason.
            Err(failure) if failure.is_of_kind("io") => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Opens the store and uses it `here`, or asks the process that has it locked, `there`,
    /// whose settings then apply.
    pub(super) fn here_or_there<T>(
        &self,
        mode: Mode,
        mut here: impl FnMut(StorageHost) -> Result<T, Failure>,
        there: impl FnMut(Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let here = || here(self.open_now(mode)?);
        beside::here_or_there(&self.url, self.wait, here, there)
    }

    /// The host that has the store open, if one answers.
    pub(super) fn host_if_any(&self) -> Option<Client> {
        beside::host_if_any(&self.url)
    }

    fn host(&self, store: Arc<dyn Store>) -> StorageHost {
        match &self.config {
            Some((_, manifest)) => manifest.host(store),
            None => StorageHost::new(store),
        }
    }

    /// Opens the store for a component, and its admin socket. A store that is not writable is
    /// opened for reading: the component may not need to write.
    pub(super) fn open_to_run(&self) -> Result<(StorageHost, Serving), Failure> {
        let failure = match self.open(Mode::ReadWrite) {
            Ok(host) => {
                let serving = Serving::start(&host, &self.url, self.config(), true);
                return Ok((host, serving));
            }
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
        let Ok(store) = self.url.open(Mode::ReadOnly) else { return Err(failure) };
        let host = self.host(store);
        if let Failure::Error { message, .. } = &failure {
            let opening = format!("cannot open the store \"{}\": ", self.url);
            let message = message.strip_prefix(&opening).unwrap_or(message);
            note(format_args!("the store \"{}\" is opened for reading only: {message}", self.url));
        }
        let serving = Serving::start(&host, &self.url, self.config(), false);
        Ok((host, serving))
    }

    /// The limits of a component.
    pub(super) fn limits(&self, id: &ComponentId) -> Limits {
        let manifest = self.config().map(|(_, manifest)| manifest);
        manifest.map_or_else(Limits::default, |manifest| manifest.settings(id).limits)
    }
}
