use crate::{Error, Store};

/// Changes that depend on the stored value and that no other instance can disturb.
pub trait Atomic: Store {
    /// A key, and what [`swap`](Self::swap) compares to see whether it has changed.
    type Version;

    /// Reads a value and its version. An absent key has a version too.
    ///
    /// # Errors
    /// If the host refuses the key, or its store fails.
    fn read(&self, key: &str) -> Result<(Option<Vec<u8>>, Self::Version), Error>;

    /// Stores a value if the key has not changed since its version was read. Returns
    /// whether it did; if not, read again and retry.
    ///
    /// Writing the same value again is a change. A key that was absent, created and
    /// deleted has not changed.
    ///
    /// ```
    /// use storage_guest::{Atomic, Fake, Store};
    ///
    /// let store = Fake::new();
    /// let (_, version) = store.read("leader")?;
    /// store.set("leader", b"another instance")?;
    /// assert!(!store.swap(version, b"this instance")?);
    /// # Ok::<(), storage_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the host refuses the value, or its store fails.
    fn swap(&self, version: Self::Version, value: &[u8]) -> Result<bool, Error>;

    /// Adds `delta` to a number and returns the sum. An absent key counts as 0.
    ///
    /// The value is the number in decimal digits.
    ///
    /// ```
    /// use storage_guest::{Atomic, Fake};
    ///
    /// let store = Fake::new();
    /// assert_eq!(store.increment("visits", 1)?, 1);
    /// assert_eq!(store.increment("visits", 10)?, 11);
    /// # Ok::<(), storage_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the value is not a number or the sum is out of range: [`Error::Value`], and
    /// from `wasi:keyvalue` [`Error::Host`]. If the host refuses the key, or its store
    /// fails.
    fn increment(&self, key: &str, delta: i64) -> Result<i64, Error>;

    /// Stores a value under an absent key. Returns whether it did. If several
    /// instances create a key at the same time, one succeeds.
    ///
    /// ```
    /// use storage_guest::{Atomic, Fake};
    ///
    /// let store = Fake::new();
    /// assert!(store.create("user/ada", b"1")?);
    /// assert!(!store.create("user/ada", b"2")?);
    /// # Ok::<(), storage_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the host refuses the key or the value, or its store fails.
    fn create(&self, key: &str, value: &[u8]) -> Result<bool, Error> {
        match self.read(key)? {
            (None, version) => self.swap(version, value),
            (Some(_), _) => Ok(false),
        }
    }

    /// Replaces a value with what `change` makes of it, and returns the new value. If
    /// `change` returns `None`, nothing is written and the result is `None`.
    ///
    /// `change` is called again with the new value if another instance was first. It
    /// should have no effects of its own.
    ///
    /// ```
    /// use storage_guest::{Atomic, Fake, Store};
    ///
    /// let store = Fake::new();
    /// store.set("log", b"started;")?;
    /// store.update("log", |log| {
    ///     let mut log = log.unwrap_or_default();
    ///     log.extend(b"stopped;");
    ///     Some(log)
    /// })?;
    /// assert_eq!(store.get("log")?.unwrap(), b"started;stopped;");
    /// # Ok::<(), storage_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`swap`](Self::swap).
    fn update(
        &self,
        key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let (value, version) = self.read(key)?;
            let Some(new) = change(value) else { return Ok(None) };
            if self.swap(version, &new)? {
                return Ok(Some(new));
            }
        }
    }

    /// [`update`](Self::update) for values stored as JSON.
    ///
    /// ```
    /// use storage_guest::{Atomic, Fake, Store};
    ///
    /// /// Takes an apple and returns how many are left; `None` if there was none.
    /// fn take(store: &impl Atomic) -> Result<Option<u32>, storage_guest::Error> {
    ///     store.update_json("apples", |apples: Option<u32>| apples?.checked_sub(1))
    /// }
    ///
    /// let store = Fake::new();
    /// store.set_json("apples", &1)?;
    /// assert_eq!(take(&store)?, Some(0));
    /// assert_eq!(take(&store)?, None);
    /// # Ok::<(), storage_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`update`](Self::update), and [`Error::Value`] if the stored value is not JSON
    /// of this type, or JSON cannot represent the new one.
    #[cfg(feature = "json")]
    fn update_json<T: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<T>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        loop {
            let (value, version) = self.read(key)?;
            let value = value.map(|value| crate::json::parse(key, &value)).transpose()?;
            let Some(new) = change(value) else { return Ok(None) };
            if self.swap(version, &crate::json::write(key, &new)?)? {
                return Ok(Some(new));
            }
        }
    }
}
