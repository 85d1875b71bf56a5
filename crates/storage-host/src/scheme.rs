//! A kind of store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::{Problem, StorageError, Store, StoreProperties, Verified};

use crate::server::Server;
use crate::servers::Servers;

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

    /// Returns whether its URLs name a server and a database instead of a path:
    /// `//USER[:PASSWORD]@HOST[:PORT]/DATABASE`. Default: no.
    fn has_server(&self) -> bool {
        false
    }

    /// Returns whether its URLs name one or several servers instead of a path:
    /// `//[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]..][/NAME]`. Default: no.
    fn has_servers(&self) -> bool {
        false
    }

    /// Returns whether its data outlives the process. Default: yes.
    fn is_persistent(&self) -> bool {
        true
    }

    /// Returns the environment variable of a password that is not in the URL. The command
    /// passes the password of a URL to its child processes in it. Default: none.
    fn password_variable(&self) -> Option<&'static str> {
        None
    }

    /// Returns the settings that its URLs may have, in the order of display. Default:
    /// none. URLs with other settings or values are not parsed.
    fn settings(&self) -> &'static [Setting] {
        &[]
    }

    /// Refuses a URL whose parts are valid one by one, but not together. Opens nothing.
    /// Default: accepts all.
    ///
    /// # Errors
    /// What is wrong, as a text that follows the URL: `names two servers: remove one`. It must
    /// not contain the password.
    fn check(&self, _location: &Location) -> Result<(), String> {
        Ok(())
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

    /// Whether a store on a server exists, for `storage-host doctor`. If it does not, opening it
    /// for writing would create it. Changes nothing. Default: it does.
    ///
    /// # Errors
    /// As [`open`](Self::open) with [`Mode::ReadWrite`].
    fn exists(&self, _location: &Location) -> Result<bool, StorageError> {
        Ok(true)
    }

    /// Returns what `storage-host doctor` shows of an existing store on a server. Changes
    /// nothing. Default: nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open) with [`Mode::ReadOnly`].
    fn inspect(&self, _location: &Location) -> Result<Inspection, StorageError> {
        Ok(Inspection::default())
    }

    /// Returns what `storage-host doctor` shows of a server whose store does not
    /// [exist](Self::exists) yet. Changes nothing. Default: nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open) with [`Mode::ReadOnly`].
    fn inspect_server(&self, _location: &Location) -> Result<Inspection, StorageError> {
        Ok(Inspection::default())
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
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub(crate) name: &'static str,
    pub(crate) values: Values,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Values {
    OneOf(&'static [&'static str]),
    /// A number of these.
    Number(&'static str),
    /// A text that satisfies a rule, which is described.
    Text(fn(&str) -> bool, &'static str),
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
        Self::number(name, "bytes")
    }

    /// A setting that is a number, such as one of `milliseconds`.
    pub const fn number(name: &'static str, unit: &'static str) -> Self {
        Self { name, values: Values::Number(unit) }
    }

    /// A setting that is a text. `rule` describes the texts for which `is_valid` returns
    /// true, such as `a name without spaces`.
    pub const fn text(name: &'static str, is_valid: fn(&str) -> bool, rule: &'static str) -> Self {
        Self { name, values: Values::Text(is_valid, rule) }
    }
}

/// The path or the servers, and the settings of a URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Location {
    pub(crate) path: PathBuf,
    // In boxes, because most locations have none.
    pub(crate) server: Option<Box<Server>>,
    pub(crate) servers: Option<Box<Servers>>,
    /// Settings that are not the default, in the order of the scheme.
    pub(crate) settings: Vec<(&'static str, String)>,
}

impl Location {
    /// The path; empty if the scheme has none.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The server, if the scheme has one.
    pub fn server(&self) -> Option<&Server> {
        self.server.as_deref()
    }

    /// The servers, if URLs of the scheme can name several.
    pub fn servers(&self) -> Option<&Servers> {
        self.servers.as_deref()
    }

    /// The value of a setting, unless it is the default.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(set, _)| *set == name).map(|(_, value)| &**value)
    }

    /// The value of a setting that is a number of bytes, if the URL has it.
    pub fn bytes(&self, name: &str) -> Option<usize> {
        self.setting(name)?.parse().ok()
    }

    /// The value of a setting that is a number, if the URL has it.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.setting(name)?.parse().ok()
    }
}

/// What `storage-host doctor` shows of a store on a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// Facts in the order of display: a name such as `server`, and a text.
    pub facts: Vec<(&'static str, String)>,
    /// Problems that do not make the store unusable: a code for programs, such as
    /// `fsync_off`, and a text.
    pub warnings: Vec<(&'static str, String)>,
    /// Problems because of which a missing store cannot be created, as the warnings.
    pub problems: Vec<(&'static str, String)>,
    /// What the properties of a missing store would be.
    pub properties: Option<StoreProperties>,
    /// What an acknowledged write survives, in words, if the server's settings decide.
    pub durability: Option<String>,
    /// The bytes of the store on the server.
    pub bytes: Option<u64>,
    /// Whether the server accepts writes.
    pub writable: Option<bool>,
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
