use std::collections::VecDeque;

use crate::{Error, number};

/// Reads and writes of single keys, as every interface has them.
///
/// A function that takes `&impl Store` runs in a component and, with a
/// [`Fake`](crate::Fake), in a test.
///
/// Keys are 1 to 1,024 bytes without control characters; other keys are errors.
/// Each call is atomic, several are not.
pub trait Store {
    /// Reads the value of `key`; `None` if the key is absent.
    ///
    /// ```
    /// use storage_guest::{Fake, Store};
    ///
    /// let store = Fake::new();
    /// assert_eq!(store.get("name")?, None);
    /// store.set("name", b"ada")?;
    /// assert_eq!(store.get("name")?.as_deref(), Some(&b"ada"[..]));
    /// # Ok::<(), storage_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the host refuses the key, or its store fails.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Stores `value` under `key` and replaces an existing value.
    ///
    /// # Errors
    /// If the host refuses the key or the value, or its store fails.
    fn set(&self, key: &str, value: &[u8]) -> Result<(), Error>;

    /// Deletes `key`. An absent key is not an error.
    ///
    /// # Errors
    /// If the host refuses the key, or its store fails.
    fn delete(&self, key: &str) -> Result<(), Error>;

    /// Returns whether `key` exists.
    ///
    /// # Errors
    /// If the host refuses the key, or its store fails.
    fn exists(&self, key: &str) -> Result<bool, Error>;

    /// Lists some of the keys that begin with `prefix`: the first page, or the one
    /// that follows the page with the cursor `after`. Keys that are created or deleted
    /// in between do not shift it.
    ///
    /// A page may be empty although another one follows. [`keys`](Self::keys) reads
    /// all pages.
    ///
    /// # Errors
    /// If the host does not know the cursor, or its store fails.
    fn page(&self, prefix: &str, after: Option<&str>) -> Result<Page, Error>;

    /// Reads several keys: a value or `None` for each, in the order of `keys`. The
    /// reads are not one snapshot.
    ///
    /// ```
    /// use storage_guest::{Fake, Store};
    ///
    /// let store = Fake::new();
    /// store.set("a", b"1")?;
    /// let values = store.get_many(&["b".to_owned(), "a".to_owned()])?;
    /// assert_eq!(values, [None, Some(b"1".to_vec())]);
    /// # Ok::<(), storage_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// If one of the reads fails. [`Extended`](crate::Extended) reads in one call, which
    /// has a limit: 1,000 keys and 16 MiB unless the host sets another.
    fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Iterates over the keys that begin with `prefix`; all keys if it is empty. Reads
    /// one page at a time.
    ///
    /// This host lists keys in byte order, `wasi:keyvalue` promises none. A key that
    /// exists throughout is listed once.
    ///
    /// ```
    /// use storage_guest::{Fake, Store};
    ///
    /// let store = Fake::new();
    /// for key in ["user/1", "user/2", "version"] {
    ///     store.set(key, b"")?;
    /// }
    /// let users = store.keys("user/").collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(users, ["user/1", "user/2"]);
    /// # Ok::<(), storage_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// An item is an error if its page cannot be read. It is the last item.
    fn keys<'a>(&'a self, prefix: &'a str) -> Keys<'a, Self> {
        Keys { store: self, prefix, page: VecDeque::new(), next: Next::First }
    }

    /// Reads a number, as [`increment`](crate::Atomic::increment) stores it; `None` if
    /// the key is absent.
    ///
    /// ```
    /// use storage_guest::{Fake, Store};
    ///
    /// let store = Fake::new();
    /// store.set("visits", b"41")?;
    /// assert_eq!(store.get_number("visits")?, Some(41));
    /// # Ok::<(), storage_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`Error::Value`] if the value is not a number.
    fn get_number(&self, key: &str) -> Result<Option<i64>, Error> {
        self.get(key)?.map(|value| number::parse(key, &value)).transpose()
    }

    /// Reads a value that [`set_json`](Self::set_json) stored; `None` if the key is
    /// absent.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`Error::Value`] if the value is not JSON of this type.
    #[cfg(feature = "json")]
    fn get_json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        self.get(key)?.map(|value| crate::json::parse(key, &value)).transpose()
    }

    /// Stores a value as JSON.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use storage_guest::{Fake, Store};
    ///
    /// #[derive(Debug, PartialEq, Serialize, Deserialize)]
    /// struct User {
    ///     name: String,
    /// }
    ///
    /// let store = Fake::new();
    /// let ada = User { name: "ada".to_owned() };
    /// store.set_json("user/1", &ada)?;
    /// assert_eq!(store.get_json("user/1")?, Some(ada));
    /// # Ok::<(), storage_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`set`](Self::set), and [`Error::Value`] if JSON cannot represent the value.
    #[cfg(feature = "json")]
    fn set_json<T: serde::Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), Error> {
        self.set(key, &crate::json::write(key, value)?)
    }
}

/// A part of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub keys: Vec<String>,
    /// The cursor of the next page; `None` on the last page.
    pub next: Option<String>,
}

/// The iterator that [`Store::keys`] returns.
#[derive(Debug)]
pub struct Keys<'a, S: ?Sized> {
    store: &'a S,
    prefix: &'a str,
    page: VecDeque<String>,
    next: Next,
}

#[derive(Debug)]
enum Next {
    First,
    After(String),
    Nothing,
}

impl<S: Store + ?Sized> Iterator for Keys<'_, S> {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(key) = self.page.pop_front() {
                return Some(Ok(key));
            }
            let page = match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::First => self.store.page(self.prefix, None),
                Next::After(cursor) => self.store.page(self.prefix, Some(&cursor)),
                Next::Nothing => return None,
            };
            match page {
                Ok(page) => {
                    self.page = page.keys.into();
                    self.next = page.next.map_or(Next::Nothing, Next::After);
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<S: Store + ?Sized> std::iter::FusedIterator for Keys<'_, S> {}

/// The usage and the quota of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The bytes of all its keys and values.
    pub used_bytes: u64,
    /// The most bytes that it may use; `None` if there is no quota.
    pub quota_bytes: Option<u64>,
    /// The number of its keys.
    pub key_count: u64,
}

pub(crate) fn usage(usage: crate::bindings::airssys::core::storage::StorageUsage) -> Usage {
    Usage {
        used_bytes: usage.used_bytes,
        quota_bytes: (usage.quota_bytes != u64::MAX).then_some(usage.quota_bytes),
        key_count: usage.key_count,
    }
}
