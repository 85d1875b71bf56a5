use crate::bindings::airssys::core::errors::StorageError;
use crate::bindings::airssys::core::storage;
use crate::store::usage;
use crate::{Error, Page, Store, Usage};

/// The component's own store through `airssys:core/storage@1.0.0`, which has no atomic
/// changes.
///
/// Its listings are one page: the keys of a component or of a prefix must fit into one.
///
/// ```no_run
/// use storage_guest::{Core, Store};
///
/// Core.set("name", b"ada")?;
/// # Ok::<(), storage_guest::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Core;

impl Core {
    /// Returns the usage and the quota of the component.
    ///
    /// # Errors
    /// If the host's store fails.
    pub fn usage(&self) -> Result<Usage, Error> {
        storage::usage().map(usage).map_err(Error::from)
    }
}

impl Store for Core {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        storage::get(key).map_err(Error::from)
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        storage::set(key, value).map_err(Error::from)
    }

    fn delete(&self, key: &str) -> Result<(), Error> {
        storage::delete(key).map_err(Error::from)
    }

    fn exists(&self, key: &str) -> Result<bool, Error> {
        storage::exists(key).map_err(Error::from)
    }

    fn page(&self, prefix: &str, after: Option<&str>) -> Result<Page, Error> {
        let keys = match after {
            None => storage::list_keys(Some(prefix))?,
            Some(_) => Vec::new(),
        };
        Ok(Page { keys, next: None })
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::InvalidKey(rule) => Self::InvalidKey(rule),
            StorageError::QuotaExceeded => Self::QuotaExceeded,
            StorageError::IoError(reason) => Self::Host(reason),
            // A call that can fail like this has its own result for it.
            StorageError::NotFound(key) => Self::Host(format!("the key {key:?} is absent")),
            StorageError::AlreadyExists(key) => Self::Host(format!("the key {key:?} exists")),
        }
    }
}
