//! A store through `airssys:storage/extended@0.1.0`.

use crate::bindings::airssys::core::errors::StorageError;
use crate::bindings::airssys::storage::extended as host;
use crate::store::usage;
use crate::{Atomic, Error, Page, Store, Transactional, Usage, Write, number};

/// The keys of a page.
const PAGE_KEYS: u32 = 1_000;

/// A store through `airssys:storage/extended@0.1.0`.
///
/// ```no_run
/// use storage_guest::{Atomic, Extended};
///
/// let store = Extended::open("")?;
/// store.increment("visits", 1)?;
/// # Ok::<(), storage_guest::Error>(())
/// ```
#[derive(Debug)]
pub struct Extended {
    store: host::Store,
}

/// What a swap or a commit through `airssys:storage/extended@0.1.0` compares: a key and
/// its revision.
#[derive(Debug)]
pub struct Version(host::Check);

impl Extended {
    /// Opens the component's own store (`""`), or the granted keys of another
    /// component (`"namespace/name/instance"`).
    ///
    /// Open a store once and keep it: a host limits the number of open stores.
    ///
    /// # Errors
    /// [`Error::NoSuchStore`] and [`Error::AccessDenied`].
    pub fn open(name: &str) -> Result<Self, Error> {
        Ok(Self { store: host::Store::open(name)? })
    }

    /// Returns the usage and the quota of the component. For another component it
    /// counts the granted keys, and there is no quota.
    ///
    /// # Errors
    /// If the host's store fails.
    pub fn usage(&self) -> Result<Usage, Error> {
        Ok(usage(self.store.usage()?))
    }

    fn write(&self, write: host::Write) -> Result<(), Error> {
        self.store.commit(&[], &[write])?;
        Ok(())
    }
}

impl Store for Extended {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.store.get_versioned(key)?.map(|found| found.value))
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.write(host::Write::Set((key.to_owned(), value.to_vec())))
    }

    fn delete(&self, key: &str) -> Result<(), Error> {
        self.write(host::Write::Delete(key.to_owned()))
    }

    /// Reads the whole value: the interface has no other way.
    fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.store.get_versioned(key)?.is_some())
    }

    fn page(&self, prefix: &str, after: Option<&str>) -> Result<Page, Error> {
        let page = self.store.list_page(prefix, after, PAGE_KEYS)?;
        let next = match (page.more, page.keys.last()) {
            (false, _) => None,
            (true, Some(last)) => Some(last.clone()),
            (true, None) => return Err(Error::Host("the listing does not advance".to_owned())),
        };
        Ok(Page { keys: page.keys, next })
    }

    fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        Ok(self.store.get_many(keys)?)
    }
}

impl Atomic for Extended {
    type Version = Version;

    fn read(&self, key: &str) -> Result<(Option<Vec<u8>>, Version), Error> {
        let (value, expected) = match self.store.get_versioned(key)? {
            Some(found) => (Some(found.value), host::Expected::Revision(found.revision)),
            None => (None, host::Expected::Absent),
        };
        Ok((value, Version(host::Check { key: key.to_owned(), expected })))
    }

    fn swap(&self, version: Version, value: &[u8]) -> Result<bool, Error> {
        let write = host::Write::Set((version.0.key.clone(), value.to_vec()));
        applied(self.store.commit(&[version.0], &[write]))
    }

    fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        loop {
            let (value, version) = self.read(key)?;
            let sum = number::add(key, value.as_deref(), delta)?;
            if self.swap(version, sum.to_string().as_bytes())? {
                return Ok(sum);
            }
        }
    }

    fn create(&self, key: &str, value: &[u8]) -> Result<bool, Error> {
        applied(self.store.create(key, value))
    }
}

impl Transactional for Extended {
    fn commit(&self, unchanged: Vec<Version>, writes: &[Write]) -> Result<bool, Error> {
        let checks: Vec<host::Check> = unchanged.into_iter().map(|version| version.0).collect();
        let write = |write: &Write| match write {
            Write::Set(key, value) => host::Write::Set((key.clone(), value.clone())),
            Write::Delete(key) => host::Write::Delete(key.clone()),
        };
        let writes: Vec<host::Write> = writes.iter().map(write).collect();
        applied(self.store.commit(&checks, &writes))
    }
}

/// Whether a conditional write was applied.
fn applied(result: Result<u64, host::Error>) -> Result<bool, Error> {
    match result {
        Ok(_) => Ok(true),
        Err(host::Error::Conflict(_) | host::Error::Storage(StorageError::AlreadyExists(_))) => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

impl From<host::Error> for Error {
    fn from(error: host::Error) -> Self {
        match error {
            host::Error::NoSuchStore => Self::NoSuchStore,
            host::Error::AccessDenied => Self::AccessDenied,
            host::Error::Storage(error) => error.into(),
            // A call that can fail like this has its own result for it.
            host::Error::Conflict(key) => Self::Host(format!("the key {key:?} has changed")),
        }
    }
}
