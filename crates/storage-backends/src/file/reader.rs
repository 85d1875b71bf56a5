//! Reads keys, listings and usage from the directories of a store.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use storage_core::{PageRequest, StorageError, Usage, VersionedValue, split_full_key};

use super::component::Component;
use super::component_names::{ComponentNames, KnownNames};
use super::components::{Components, ResolvedKey};
use super::layout::Layout;
use super::lock::WriterLock;
use super::name::{self, Decoded};
use super::pending::PendingCommits;
use super::{key_file, scan};
use crate::component_index::{ComponentIndex, Prefixes};

/// Reads a store. Keys are not locked: the caller makes sure that no write to them is in
/// progress.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) layout: Layout,
    pub(super) components: Arc<Components>,
    pub(super) names: KnownNames,
    pending: PendingCommits,
    /// Whether the writer makes its writes durable.
    sync: bool,
    /// `None` if the store is open for reading only.
    lock: Option<Arc<WriterLock>>,
}

impl Reader {
    /// For a store that is open for reading only.
    pub(super) fn new(layout: Layout, pending: PendingCommits, index_budget_bytes: usize) -> Self {
        Self {
            components: Arc::new(Components::new(layout.clone(), index_budget_bytes)),
            layout,
            names: KnownNames::default(),
            pending,
            sync: false,
            lock: None,
        }
    }

    /// For a store that is open for writing.
    pub(super) fn of_writer(
        layout: Layout,
        index_budget_bytes: usize,
        sync: bool,
        lock: Arc<WriterLock>,
    ) -> Self {
        let reader = Self::new(layout, PendingCommits::default(), index_budget_bytes);
        Self { sync, lock: Some(lock), ..reader }
    }

    /// Makes sure that the directory of a component may be read.
    pub(super) fn prepare(&self, component: &Component) -> Result<(), StorageError> {
        component.prepare_to_read(&self.layout, self.sync)
    }

    pub(super) fn read(
        &self,
        key: &ResolvedKey<'_>,
    ) -> Result<Option<VersionedValue>, StorageError> {
        self.pending.read_key(key.full, &key.file)
    }

    pub(super) fn exists(&self, key: &ResolvedKey<'_>) -> Result<bool, StorageError> {
        if self.pending.contains(key.full) {
            return Ok(self.read(key)?.is_some());
        }
        Ok(self.value_len(key)?.is_some())
    }

    /// The length of the value of a key, by the length of its file.
    pub(super) fn value_len(&self, key: &ResolvedKey<'_>) -> Result<Option<usize>, StorageError> {
        key_file::value_len(key.full.len(), &key.file)
    }

    /// Counts the keys of a component, unless it has a usage counter.
    pub(super) fn count(&self, component: &Component) -> Result<(), StorageError> {
        component.count(|| self.scan_keys(component), || self.check_path())
    }

    /// The user keys in the directory of a component.
    fn scan_keys(&self, component: &Component) -> Result<BTreeSet<String>, StorageError> {
        let mut keys = BTreeSet::new();
        component.refuse_links(&self.layout)?;
        for name in scan::key_files(&component.directory)? {
            match name::decode(&name) {
                Decoded::Text(user_key) => {
                    keys.insert(user_key);
                }
                Decoded::Hashed => {
                    let file = component.directory.join(&name);
                    // Deleted since the directory was listed.
                    let Some(key) = key_file::stored_key(&file)? else { continue };
                    let (prefix, user_key) = split_full_key(&key);
                    if prefix != &*component.prefix || name::encode(user_key) != name {
                        return Err(key_file::unknown_key(&file));
                    }
                    keys.insert(user_key.to_owned());
                }
                Decoded::Foreign => {}
            }
        }
        for key in self.pending.keys_in(&component.prefix) {
            let key = self.components.resolve(key);
            if self.read(&key)?.is_some() {
                keys.insert(key.user.to_owned());
            } else {
                keys.remove(key.user);
            }
        }
        self.check_path()?;
        Ok(keys)
    }

    /// The components that hold a key, by their directories.
    ///
    /// # Errors
    /// If the directory of all components is unreadable. An unreadable directory below it
    /// is part of the result.
    fn scan_names(&self) -> Result<ComponentNames, StorageError> {
        let mut found = ComponentNames::default();
        let components = self.layout.components();
        for namespace in scan::directories(&components)? {
            let below_namespace = components.join(&namespace);
            for component in list_or_add_unreadable(&below_namespace, &[&namespace], &mut found) {
                let below_component = below_namespace.join(&component);
                let segments = [&namespace, &component];
                for instance in list_or_add_unreadable(&below_component, &segments, &mut found) {
                    let directory = below_component.join(&instance);
                    let segments = [&namespace, &component, &instance];
                    match self.prefix_of_directory(segments, &directory) {
                        Ok(Some(prefix)) => found.insert(&prefix),
                        Ok(None) => {}
                        Err(error) => found.insert_unreadable(&prefix_of(&segments), error),
                    }
                }
            }
        }
        for prefix in self.pending.prefixes().filter(|prefix| !prefix.is_empty()) {
            match self.scan_keys(&self.components.get(prefix)) {
                Ok(keys) if keys.is_empty() => found.remove(prefix),
                Ok(_) => found.insert(prefix),
                Err(error) => found.insert_unreadable(prefix, error),
            }
        }
        self.check_path()?;
        Ok(found)
    }

    /// The component prefix of a directory, if the directory holds a key.
    fn prefix_of_directory(
        &self,
        segments: [&String; 3],
        directory: &Path,
    ) -> Result<Option<String>, StorageError> {
        if !scan::holds_a_key(directory)? {
            return Ok(None);
        }
        match name::decode_prefix(segments.map(String::as_str)) {
            Some(prefix) => Ok(Some(prefix)),
            // Any record in the directory has the prefix.
            None => self.prefix_by_record(directory),
        }
    }

    fn prefix_by_record(&self, directory: &Path) -> Result<Option<String>, StorageError> {
        let mut damaged = None;
        for name in scan::key_files(directory)? {
            let file = directory.join(&name);
            match key_file::stored_key(&file) {
                Ok(Some(key)) if self.layout.directory(split_full_key(&key).0) == directory => {
                    return Ok(Some(split_full_key(&key).0.to_owned()));
                }
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => damaged = Some(key_file::unknown_key(&file)),
            }
        }
        damaged.map_or(Ok(None), Err)
    }

    /// Makes sure that a scan has read this store, before its result is kept.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if the store was moved or replaced.
    fn check_path(&self) -> Result<(), StorageError> {
        self.lock.as_ref().map_or(Ok(()), |lock| lock.check_listed())
    }

    /// Whether what was scanned earlier may be outdated: there may be a writer in
    /// another process.
    fn is_read_only(&self) -> bool {
        self.lock.is_none()
    }
}

impl ComponentIndex for Reader {
    fn prefixes(
        &self,
        prefix: &str,
        from: Bound<&str>,
        limit: usize,
    ) -> Result<Prefixes, StorageError> {
        self.names.find(self.is_read_only(), || self.scan_names(), (prefix, from, limit))
    }

    fn keys_in(
        &self,
        component: &str,
        request: PageRequest<'_>,
        found: &mut Vec<String>,
    ) -> Result<(), StorageError> {
        let component = self.components.get(component);
        self.prepare(&component)?;
        let rebuild = self.is_read_only() && request.after.is_none();
        let build = || {
            let mut index = self.components.new_index();
            self.scan_keys(&component)?.iter().for_each(|key| index.insert(key));
            Ok(index)
        };
        component.with_index(rebuild, build, |index| {
            found.extend(index.page(request).map(|key| [&*component.prefix, key].concat()));
        })?;
        self.components.shed_indexes(&component);
        Ok(())
    }

    fn usage_in(&self, component: &str, prefix: &str) -> Result<Usage, StorageError> {
        if prefix.is_empty()
            && let Some(usage) = self.components.get(component).usage()
        {
            return Ok(usage);
        }
        let mut keys = Vec::new();
        self.keys_in(component, PageRequest::new(usize::MAX).with_prefix(prefix), &mut keys)?;
        let mut total = Usage::default();
        for key in &keys {
            let key = self.components.resolve(key);
            let len = if self.pending.contains(key.full) {
                self.read(&key)?.map(|found| found.value.len())
            } else {
                self.value_len(&key)?
            };
            total = total + len.map(|len| Usage::of(key.user, len)).unwrap_or_default();
        }
        Ok(total)
    }
}

/// Lists component directories. An unreadable one is added under its prefix.
fn list_or_add_unreadable(
    path: &Path,
    segments: &[&String],
    found: &mut ComponentNames,
) -> Vec<String> {
    scan::directories(path).unwrap_or_else(|error| {
        found.insert_unreadable(&prefix_of(segments), error);
        Vec::new()
    })
}

/// The prefix of the components below a directory, by the names of the directories.
/// Hashed names are used as they are.
fn prefix_of(segments: &[&String]) -> String {
    let text = |segment: &&String| match name::decode(segment) {
        Decoded::Text(text) => text + "/",
        Decoded::Hashed | Decoded::Foreign => format!("{segment}/"),
    };
    segments.iter().map(text).collect()
}
