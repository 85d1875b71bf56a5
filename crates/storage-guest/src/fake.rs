//! A store in memory for tests.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Atomic, Error, Page, Store, Transactional, Write, number};

const MAX_KEY_BYTES: usize = 1_024;
const MAX_VALUE_BYTES: usize = 1 << 20;
/// Checks and writes of a commit, or keys of a read.
const MAX_BATCH: usize = 1_000;
/// Keys and values of a commit, or keys of a read and what it finds.
const MAX_BATCH_BYTES: usize = 16 << 20;
const PAGE_KEYS: usize = 1_000;

/// A store in memory for tests, with the rules of [`Extended`](crate::Extended) and the limits
/// that a host has by default: keys of 1,024 bytes, values of 1 MiB, and 1,000 operations and
/// 16 MiB in a call with several keys. It has no quota.
///
/// Clones share the data, as instances of a component do.
///
/// ```
/// use storage_guest::{Atomic, Error, Fake, Store};
///
/// fn greet(store: &impl Atomic) -> Result<String, Error> {
///     Ok(format!("You are visitor {}.", store.increment("visitors", 1)?))
/// }
///
/// let store = Fake::new();
/// assert_eq!(greet(&store)?, "You are visitor 1.");
/// assert_eq!(greet(&store)?, "You are visitor 2.");
///
/// store.fail_next(Error::QuotaExceeded);
/// assert_eq!(greet(&store), Err(Error::QuotaExceeded));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Fake {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    last_revision: u64,
    page_keys: Option<usize>,
    failures: VecDeque<Error>,
    interruptions: VecDeque<Interruption>,
}

struct Entry {
    value: Vec<u8>,
    revision: u64,
}

type Interruption = Box<dyn FnOnce(&Fake) + Send>;

/// What a swap or a commit of a [`Fake`] compares: a key and its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    key: String,
    /// `None` if the key was absent.
    revision: Option<u64>,
}

impl Fake {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the next call that no earlier failure ends return `error`.
    pub fn fail_next(&self, error: Error) {
        self.state().failures.push_back(error);
    }

    /// Calls `interrupt` before the next swap or commit that has no interruption yet, as
    /// if another instance ran at that time. If it writes a key that the swap or the
    /// commit compares, that is a conflict.
    ///
    /// [`Atomic::increment`] of a `Fake` is one step and has no conflicts.
    ///
    /// ```
    /// use storage_guest::{Atomic, Fake, Store};
    ///
    /// let store = Fake::new();
    /// store.interrupt(|other| other.set("apples", b"7").unwrap());
    /// let mut seen = Vec::new();
    /// store.update("apples", |apples| {
    ///     seen.push(apples);
    ///     Some(b"8".to_vec())
    /// })?;
    /// assert_eq!(seen, [None, Some(b"7".to_vec())]);
    /// # Ok::<(), storage_guest::Error>(())
    /// ```
    pub fn interrupt(&self, interrupt: impl FnOnce(&Self) + Send + 'static) {
        self.state().interruptions.push_back(Box::new(interrupt));
    }

    /// Sets the number of keys of a page, at least 1. By default it is 1,000.
    pub fn set_page_keys(&self, keys: usize) {
        self.state().page_keys = Some(keys.max(1));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state for a call, unless it is to fail.
    fn call(&self) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.state();
        match state.failures.pop_front() {
            Some(error) => Err(error),
            None => Ok(state),
        }
    }

    fn call_on(&self, key: &str) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.call()?;
        check_key(key)?;
        Ok(state)
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").field("keys", &self.state().entries.len()).finish_non_exhaustive()
    }
}

impl State {
    fn value(&self, key: &str) -> Option<&[u8]> {
        self.entries.get(key).map(|entry| entry.value.as_slice())
    }

    fn set(&mut self, key: &str, value: &[u8]) {
        self.last_revision += 1;
        let entry = Entry { value: value.to_vec(), revision: self.last_revision };
        self.entries.insert(key.to_owned(), entry);
    }

    fn has(&self, version: &Version) -> bool {
        self.entries.get(&version.key).map(|entry| entry.revision) == version.revision
    }
}

impl Store for Fake {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.call_on(key)?.value(key).map(<[u8]>::to_vec))
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        let mut state = self.call_on(key)?;
        check_value(value)?;
        state.set(key, value);
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<(), Error> {
        self.call_on(key)?.entries.remove(key);
        Ok(())
    }

    fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.call_on(key)?.entries.contains_key(key))
    }

    fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let state = self.call()?;
        check_batch(keys.len())?;
        let mut bytes = keys.iter().map(String::len).sum();
        check_batch_bytes(bytes)?;
        keys.iter().try_for_each(|key| check_key(key))?;
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let value = state.value(key);
            bytes += value.map_or(0, <[u8]>::len);
            check_batch_bytes(bytes)?;
            values.push(value.map(<[u8]>::to_vec));
        }
        Ok(values)
    }

    fn page(&self, prefix: &str, after: Option<&str>) -> Result<Page, Error> {
        let state = self.call()?;
        let page_keys = state.page_keys.unwrap_or(PAGE_KEYS);
        let mut keys = state.entries.keys().filter(|key| {
            key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)
        });
        let page: Vec<String> = keys.by_ref().take(page_keys).cloned().collect();
        let next = keys.next().and_then(|_| page.last().cloned());
        Ok(Page { keys: page, next })
    }
}

impl Atomic for Fake {
    type Version = Version;

    fn read(&self, key: &str) -> Result<(Option<Vec<u8>>, Version), Error> {
        let state = self.call_on(key)?;
        let entry = state.entries.get(key);
        let version = Version { key: key.to_owned(), revision: entry.map(|entry| entry.revision) };
        Ok((entry.map(|entry| entry.value.clone()), version))
    }

    fn swap(&self, version: Version, value: &[u8]) -> Result<bool, Error> {
        let write = Write::Set(version.key.clone(), value.to_vec());
        self.commit(vec![version], &[write])
    }

    fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        let mut state = self.call_on(key)?;
        let sum = number::add(key, state.value(key), delta)?;
        state.set(key, sum.to_string().as_bytes());
        Ok(sum)
    }
}

impl Transactional for Fake {
    fn commit(&self, unchanged: Vec<Version>, writes: &[Write]) -> Result<bool, Error> {
        let interruption = self.state().interruptions.pop_front();
        if let Some(interrupt) = interruption {
            interrupt(self);
        }
        let mut state = self.call()?;
        check_batch(unchanged.len() + writes.len())?;
        let mut bytes = unchanged.iter().map(|version| version.key.len()).sum::<usize>();
        for write in writes {
            match write {
                Write::Set(key, value) => {
                    check_value(value)?;
                    bytes += key.len() + value.len();
                }
                Write::Delete(key) => bytes += key.len(),
            }
            check_batch_bytes(bytes)?;
        }
        for write in writes {
            match write {
                Write::Set(key, _) | Write::Delete(key) => check_key(key)?,
            }
        }
        if !unchanged.iter().all(|version| state.has(version)) {
            return Ok(false);
        }
        for write in writes {
            match write {
                Write::Set(key, value) => state.set(key, value),
                Write::Delete(key) => drop(state.entries.remove(key)),
            }
        }
        Ok(true)
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    let rule = if key.is_empty() {
        "a key has at least 1 byte"
    } else if key.len() > MAX_KEY_BYTES {
        "a key has at most 1024 bytes"
    } else if key.contains(char::is_control) {
        "a key has no control characters"
    } else {
        return Ok(());
    };
    Err(Error::InvalidKey(rule.to_owned()))
}

fn check_value(value: &[u8]) -> Result<(), Error> {
    at_most(MAX_VALUE_BYTES, value.len(), "bytes of a value")
}

fn check_batch(operations: usize) -> Result<(), Error> {
    at_most(MAX_BATCH, operations, "operations of a batch")
}

fn check_batch_bytes(bytes: usize) -> Result<(), Error> {
    at_most(MAX_BATCH_BYTES, bytes, "bytes of a batch")
}

/// The error has the text of the host.
fn at_most(max: usize, actual: usize, what: &str) -> Result<(), Error> {
    if actual <= max {
        return Ok(());
    }
    Err(Error::Host(format!("{actual} {what} are over the limit of {max}")))
}
