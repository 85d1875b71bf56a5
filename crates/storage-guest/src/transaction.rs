use std::collections::BTreeMap;

use crate::{Atomic, Error};

/// Changes of several keys, all or nothing. `wasi:keyvalue` has none.
pub trait Transactional: Atomic {
    /// Applies all writes if no key has changed since its version was read, otherwise
    /// none. Returns whether it did. The last of several writes to a key counts.
    ///
    /// ```
    /// use storage_guest::{Atomic, Fake, Store, Transactional, Write};
    ///
    /// let store = Fake::new();
    /// let (_, version) = store.read("a")?;
    /// let writes = [Write::Set("a".to_owned(), b"1".to_vec()), Write::Delete("b".to_owned())];
    /// assert!(store.commit(vec![version], &writes)?);
    /// assert_eq!(store.get("a")?.unwrap(), b"1");
    /// # Ok::<(), storage_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the host refuses a key or a value, or its store fails. At most 1,000 versions
    /// and writes together and 16 MiB, unless the host sets other limits.
    fn commit(&self, unchanged: Vec<Self::Version>, writes: &[Write]) -> Result<bool, Error>;

    /// Runs `body` and applies its writes if no key that it read has changed meanwhile;
    /// otherwise runs it again.
    ///
    /// `body` should have no effects other than on the transaction. If it returns an
    /// error, nothing is written.
    ///
    /// ```
    /// use storage_guest::{Fake, Store, Transactional};
    ///
    /// let store = Fake::new();
    /// store.set("draft", b"hello")?;
    /// store.transaction(|keys| {
    ///     if let Some(text) = keys.get("draft")? {
    ///         keys.set("published", &text);
    ///         keys.delete("draft");
    ///     }
    ///     Ok(())
    /// })?;
    /// assert_eq!(store.get("published")?.unwrap(), b"hello");
    /// assert_eq!(store.get("draft")?, None);
    /// # Ok::<(), storage_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// The error of `body`, or as [`commit`](Self::commit).
    fn transaction<R>(
        &self,
        mut body: impl FnMut(&mut Transaction<'_, Self>) -> Result<R, Error>,
    ) -> Result<R, Error>
    where
        Self: Sized,
    {
        loop {
            let mut transaction =
                Transaction { store: self, reads: BTreeMap::new(), writes: BTreeMap::new() };
            let result = body(&mut transaction)?;
            if transaction.commit()? {
                return Ok(result);
            }
        }
    }
}

/// A change to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Stores a value under a key.
    Set(String, Vec<u8>),
    /// Deletes a key. An absent key is not an error.
    Delete(String),
}

/// The keys that the body of a [`Transactional::transaction`] reads and writes.
#[derive(Debug)]
pub struct Transaction<'a, S: Atomic> {
    store: &'a S,
    reads: BTreeMap<String, (Option<Vec<u8>>, S::Version)>,
    writes: BTreeMap<String, Option<Vec<u8>>>,
}

impl<S: Transactional> Transaction<'_, S> {
    /// Reads the value of `key`; `None` if the key is absent. Sees the writes of this
    /// transaction. Repeated reads return the same value.
    ///
    /// Keys are read one after the other, so values of two keys may not match. The
    /// transaction then does not commit and runs again.
    ///
    /// # Errors
    /// As [`Atomic::read`].
    pub fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        if let Some(written) = self.writes.get(key) {
            return Ok(written.clone());
        }
        if let Some((value, _)) = self.reads.get(key) {
            return Ok(value.clone());
        }
        let (value, version) = self.store.read(key)?;
        self.reads.insert(key.to_owned(), (value.clone(), version));
        Ok(value)
    }

    /// Stores `value` under `key` when the transaction commits.
    pub fn set(&mut self, key: &str, value: &[u8]) {
        self.writes.insert(key.to_owned(), Some(value.to_vec()));
    }

    /// Deletes `key` when the transaction commits.
    pub fn delete(&mut self, key: &str) {
        self.writes.insert(key.to_owned(), None);
    }

    /// [`get`](Self::get) for a value stored as JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`Error::Value`] if the value is not JSON of this type.
    #[cfg(feature = "json")]
    pub fn get_json<T: serde::de::DeserializeOwned>(
        &mut self,
        key: &str,
    ) -> Result<Option<T>, Error> {
        self.get(key)?.map(|value| crate::json::parse(key, &value)).transpose()
    }

    /// [`set`](Self::set) for a value stored as JSON.
    ///
    /// # Errors
    /// [`Error::Value`] if JSON cannot represent the value.
    #[cfg(feature = "json")]
    pub fn set_json<T: serde::Serialize + ?Sized>(
        &mut self,
        key: &str,
        value: &T,
    ) -> Result<(), Error> {
        self.set(key, &crate::json::write(key, value)?);
        Ok(())
    }

    fn commit(self) -> Result<bool, Error> {
        // One read is consistent on its own.
        if self.writes.is_empty() && self.reads.len() <= 1 {
            return Ok(true);
        }
        let versions = self.reads.into_values().map(|(_, version)| version).collect();
        let write = |(key, value)| match value {
            Some(value) => Write::Set(key, value),
            None => Write::Delete(key),
        };
        let writes: Vec<Write> = self.writes.into_iter().map(write).collect();
        self.store.commit(versions, &writes)
    }
}
