//! Removes a component.

use storage_core::{Commit, ComponentId, ComponentStorage, PageRequest, StorageError};

use crate::host::StorageHost;

/// The number of keys of a commit.
const BATCH: usize = 1_000;

impl StorageHost {
    /// Deletes all keys of a component, and returns their number.
    ///
    /// Works whatever the component's limits and quota are, and while it runs; a key that is
    /// written meanwhile may stay. Deletes up to 1,000 keys at a time, each time all or
    /// nothing, and calls `progress` with the number of deleted keys after each. After an
    /// error some keys may be deleted: repeat the call. Other components stay as they are,
    /// and so do grants.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use storage_core::conformance::ReferenceStorage;
    /// use storage_host::{ComponentId, ComponentStorage, StorageHost};
    ///
    /// let host = StorageHost::new(Arc::new(ReferenceStorage::new()));
    /// let (home, work): (ComponentId, ComponentId) =
    ///     ("app/notes/home".parse()?, "app/notes/work".parse()?);
    /// host.component(&home).set("1", "buy milk".into())?;
    /// host.component(&work).set("1", "write".into())?;
    /// assert_eq!(host.wipe(&home, &mut |_| {})?, 1);
    /// assert_eq!(host.store().list_keys(None)?, ["app/notes/work/1"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`ComponentStorage::list_page`] and [`ComponentStorage::commit`].
    pub fn wipe(
        &self,
        id: &ComponentId,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, StorageError> {
        let chain = self.component(id);
        // Above the cache, and below the limits.
        let storage = chain.namespaced();
        let mut deleted = 0;
        let mut after: Option<String> = None;
        loop {
            let request = PageRequest { prefix: "", after: after.as_deref(), limit: BATCH };
            let page = storage.list_page(request)?;
            let Some(last) = page.keys.last() else { return Ok(deleted) };
            let last = last.clone();
            deleted += page.keys.len() as u64;
            let mut commit = Commit::new();
            for key in page.keys {
                match key.is_empty() {
                    // No component can write it or read it.
                    true => self.store().delete(id.key_prefix())?,
                    false => commit = commit.delete(key),
                }
            }
            storage.commit(commit)?;
            progress(deleted);
            if !page.more {
                return Ok(deleted);
            }
            after = Some(last);
        }
    }
}
