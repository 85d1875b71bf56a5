//! A store through `wasi:keyvalue@0.2.0-draft2`.

use crate::keyvalue_bindings::wasi::keyvalue::{atomics, store};
use crate::{Atomic, Error, Page, Store};

/// A store through `wasi:keyvalue@0.2.0-draft2`, on this host and on others.
///
/// ```no_run
/// use storage_guest::{Atomic, Keyvalue};
///
/// let store = Keyvalue::open("default")?;
/// store.increment("visits", 1)?;
/// # Ok::<(), storage_guest::Error>(())
/// ```
#[derive(Debug)]
pub struct Keyvalue {
    bucket: store::Bucket,
}

/// What a swap through `wasi:keyvalue@0.2.0-draft2` compares. It counts as an open
/// handle until it is dropped.
#[derive(Debug)]
pub struct Version(atomics::Cas);

impl Keyvalue {
    /// Opens a store. On this host and many others, `"default"` is the component's
    /// own; here `"namespace/name/instance"` is what another component shares.
    ///
    /// Open a store once and keep it: a host limits the number of open stores.
    ///
    /// # Errors
    /// [`Error::NoSuchStore`] and [`Error::AccessDenied`].
    pub fn open(name: &str) -> Result<Self, Error> {
        Ok(Self { bucket: store::open(name)? })
    }
}

impl Store for Keyvalue {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.bucket.get(key)?)
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        Ok(self.bucket.set(key, value)?)
    }

    fn delete(&self, key: &str) -> Result<(), Error> {
        Ok(self.bucket.delete(key)?)
    }

    fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.bucket.exists(key)?)
    }

    /// The interface lists all keys; those without the prefix are dropped here.
    fn page(&self, prefix: &str, after: Option<&str>) -> Result<Page, Error> {
        let mut page = self.bucket.list_keys(after)?;
        page.keys.retain(|key| key.starts_with(prefix));
        Ok(Page { keys: page.keys, next: page.cursor })
    }
}

impl Atomic for Keyvalue {
    type Version = Version;

    fn read(&self, key: &str) -> Result<(Option<Vec<u8>>, Version), Error> {
        let cas = atomics::Cas::new(&self.bucket, key)?;
        // Not by the bucket: the key may have changed since the handle was created.
        Ok((cas.current()?, Version(cas)))
    }

    fn swap(&self, version: Version, value: &[u8]) -> Result<bool, Error> {
        match atomics::swap(version.0, value) {
            Ok(()) => Ok(true),
            Err(atomics::CasError::CasFailed(_)) => Ok(false),
            Err(atomics::CasError::StoreError(error)) => Err(error.into()),
        }
    }

    fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        Ok(atomics::increment(&self.bucket, key, delta)?)
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoSuchStore => Self::NoSuchStore,
            store::Error::AccessDenied => Self::AccessDenied,
            store::Error::Other(text) => Self::Host(text),
        }
    }
}
