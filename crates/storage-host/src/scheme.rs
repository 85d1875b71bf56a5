//! A kind of store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::{Problem, StorageError, Store, Verified};

/// A kind of store, which a URL selects by its scheme: `file:PATH`.
///
/// The built-in ones are registered in every
/// [`StoreRegistry`](crate::StoreRegistry), which has an example; an embedder can
/// register others. The `storage-host` command has only the built-in ones: call
/// [`StoreUrl::verify`](crate::StoreUrl::verify) and
/// [`copy_store`](crate::copy_store) for others.
pub trait Scheme: Send + Sync {
    /// Returns the name before the colon, in lower case. URLs may have it in any case.
    fn name(&self) -> &'static str;

    /// Returns whether its URLs have a path. Default: yes.
    fn has_path(&self) -> bool {
        true
    }

    /// Returns the settings that its URLs may have, in the order of display. Default:
    /// none. URLs with other settings or values are not parsed.
    fn settings(&self) -> &'static [Setting] {
        &[]
    }

    /// Opens the store.
    ///
    /// With [`Mode::ReadOnly`] every write must fail with
    /// [`StorageError::ReadOnly`].
    ///
    /// # Errors
    /// [`StorageError::Locked`] if another process has the store open in a way that
    /// prevents this mode; [`StorageError::Unsupported`] for another format, or if
    /// there is nothing that this mode could open; [`StorageError::IoError`] if the
    /// store is missing and must not be created, or cannot be read or created.
    fn open(&self, location: &Location, mode: Mode) -> Result<Arc<dyn Store>, StorageError>;

    /// Reads the whole store, which need not be open, and calls `report` with each
    /// problem. Changes nothing.
    ///
    /// The default opens the store with [`Mode::ReadOnly`] and calls
    /// [`Store::verify`]. Override it if a damaged store cannot be opened.
    ///
    /// # Errors
    /// As [`open`](Self::open) with [`Mode::ReadOnly`]; damage is a [`Problem`].
    fn verify(
        &self,
        location: &Location,
        report: &mut dyn FnMut(Problem),
    ) -> Result<Verified, StorageError> {
        self.open(location, Mode::ReadOnly)?.verify(report)
    }

    /// Returns what it needs from the machine, for `storage-host doctor`. Default:
    /// nothing special.
    fn needs(&self) -> Needs {
        Needs::default()
    }
}

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Read and write. A missing store is created.
    ReadWrite,
    /// Read and write. A missing store is an error.
    ReadWriteExisting,
    /// Read. A missing store is an error. Changes nothing.
    ReadOnly,
}

/// A setting of a URL: `?NAME=VALUE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    pub(crate) name: &'static str,
    pub(crate) values: Values,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Values {
    OneOf(&'static [&'static str]),
    Bytes,
}

impl Setting {
    /// A setting with one of these values, the first of which is the default.
    pub const fn one_of(name: &'static str, values: &'static [&'static str]) -> Self {
        Self { name, values: Values::OneOf(values) }
    }

    /// `durability`: what an acknowledged write survives, from the safest value to the
    /// weakest.
    pub const fn durability(values: &'static [&'static str]) -> Self {
        Self::one_of("durability", values)
    }

    /// A setting that is a number of bytes.
    pub const fn bytes(name: &'static str) -> Self {
        Self { name, values: Values::Bytes }
    }
}

/// The path and settings of a URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Location {
    pub(crate) path: PathBuf,
    /// Settings that are not the default, in the order of the scheme.
    pub(crate) settings: Vec<(&'static str, String)>,
}

impl Location {
    /// The path; empty if the scheme has none.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a setting, unless it is the default.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(set, _)| *set == name).map(|(_, value)| &**value)
    }

    /// The value of a setting that is a number of bytes, if the URL has it.
    pub fn bytes(&self, name: &str) -> Option<usize> {
        self.setting(name)?.parse().ok()
    }
}

/// What a kind of store needs from the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// Whether each key takes a file.
    pub file_per_key: bool,
    /// The longest file name that it uses, in bytes; 0 if short names suffice.
    pub file_name_bytes: u64,
    /// How many files it should be allowed to keep open; 0 if a few suffice.
    pub open_files: u64,
}
