//! The store that a command works on, and the settings that apply in it: the one
//! place that turns `--store`, `--config`, the environment and `--wait` into a host.

use std::path::{Path, PathBuf};

use storage_host::{ComponentId, Limits, Manifest, Mode, StorageHost, StoreUrl};

use super::config;
use super::failure::Failure;
use super::wait::Wait;

/// Where a store's URL was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChosenBy {
    Option,
    Manifest,
    Environment,
    Default,
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
    /// If the manifest cannot be read, or neither it nor anything else names a
    /// store.
    pub(super) fn choose(
        given: &StoreUrl,
        given_by: ChosenBy,
        config: Option<&Path>,
        wait: Wait,
    ) -> Result<Self, Failure> {
        let Some(path) = config else {
            return Ok(Self { url: given.clone(), chosen_by: given_by, config: None, wait });
        };
        let manifest = config::read(path)?;
        let (url, chosen_by) = match (given_by, &manifest.store) {
            (ChosenBy::Option, _) | (ChosenBy::Environment, None) => (given.clone(), given_by),
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
            self.url.open(mode).map_err(|error| Failure::of_opening(&self.url, &error))
        })?;
        Ok(match &self.config {
            Some((_, manifest)) => manifest.host(backend),
            None => StorageHost::new(backend),
        })
    }

    /// The limits of a component, which are known before the store is open.
    pub(super) fn limits(&self, id: &ComponentId) -> Limits {
        let manifest = self.config().map(|(_, manifest)| manifest);
        manifest.map_or_else(Limits::default, |manifest| manifest.settings(id).limits)
    }
}
