//! Listings, usage and ledgers: what is read from folders as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use storage_core::{MAX_FULL_KEY_BYTES, PageRequest, StorageError, Usage, split_full_key};

use super::components::ComponentNames;
use super::index::KeyIndex;
use super::name::{self, Decoded};
use super::partition::{Partition, PartitionState};
use super::store::FileStorage;
use super::write::usage_of_file;
use super::{disk, scan};
use crate::partitions::{Names, Partitions};
use crate::{hooks, record};

impl Partitions for FileStorage {
    fn names(&self, prefix: &str, from: Bound<&str>, limit: usize) -> Result<Names, StorageError> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        // A reader cannot know what a writer beside it does, so it looks again
        // whenever a listing begins. So does a writer that could not read all.
        let outdated = |names: &ComponentNames| {
            from == Bound::Unbounded && (self.writer.is_none() || names.is_incomplete())
        };
        let names = match names.as_mut() {
            Some(names) if !outdated(names) => names,
            _ => names.insert(self.scan_names()?),
        };
        Ok(names.find(prefix, from, limit))
    }

    fn keys_in(
        &self,
        partition: &str,
        own: PageRequest<'_>,
        found: &mut Vec<String>,
    ) -> Result<(), StorageError> {
        let partition = self.partition(partition);
        self.with_index(&partition, own.after.is_none(), |index| {
            found.extend(index.page(own).map(|key| [&*partition.name, key].concat()));
        })?;
        self.shed_indexes(&partition);
        Ok(())
    }

    fn usage_in(&self, partition: &str, own_prefix: &str) -> Result<Usage, StorageError> {
        let partition = self.partition(partition);
        if own_prefix.is_empty()
            && let Some(ledger) = partition.state().ledger
        {
            return Ok(ledger);
        }
        let mut keys = Vec::new();
        let all = PageRequest::new(usize::MAX).with_prefix(own_prefix);
        self.keys_in(&partition.name, all, &mut keys)?;
        self.usage_of_keys(&partition, keys.iter().map(String::as_str))
    }
}

impl FileStorage {
    /// Counts a partition, if it is not counted yet, so that writes can keep the
    /// ledger from now on. Other writes go on meanwhile: what they have written
    /// is looked at once more in the end.
    pub(super) fn load_ledger(&self, partition: &Partition) -> Result<(), StorageError> {
        if partition.state().ledger.is_some() {
            return Ok(());
        }
        let _counting = partition.enter_to_count();
        if partition.state().ledger.is_some() {
            return Ok(());
        }
        let alone = partition.enter_alone();
        partition.state().written_since = Some(BTreeSet::new());
        drop(alone);
        hooks::before_count();
        let counted = self.count_keys(partition);
        hooks::after_count();

        let _alone = partition.enter_alone();
        // A write beside this that failed half-way has taken it away.
        let since = partition.state().written_since.take();
        let (mut counted, Some(since)) = (counted?, since) else { return Ok(()) };
        for own in since {
            let now = self.usage_of(partition, &[&*partition.name, &*own].concat())?;
            counted.insert(own.into(), now);
        }
        self.check_listed()?;
        partition.state().ledger = Some(counted.into_values().sum());
        Ok(())
    }

    /// What each own key of a partition takes up, some before and some after a
    /// write that goes on beside this.
    fn count_keys(&self, partition: &Partition) -> Result<BTreeMap<String, Usage>, StorageError> {
        let usage_of = |own: String| {
            let usage = self.usage_of(partition, &[&*partition.name, &*own].concat())?;
            Ok((own, usage))
        };
        self.scan_keys(partition)?.into_iter().map(usage_of).collect()
    }

    /// What these keys of a partition take up, without its name.
    fn usage_of_keys<'a>(
        &self,
        partition: &Partition,
        keys: impl Iterator<Item = &'a str>,
    ) -> Result<Usage, StorageError> {
        let mut total = Usage::default();
        for key in keys {
            let (_, own) = split_full_key(key);
            if self.unfinished.concerns(key) {
                if let Some(found) = self.read(partition, key)? {
                    total = total + Usage::of(own, found.value.len());
                }
            } else if let Some(len) = disk::regular_len(&partition.file(own))? {
                total = total + usage_of_file(key, own, len);
            }
        }
        Ok(total)
    }

    /// Runs `look` on the sorted keys of a partition; `begins` says that a
    /// listing begins.
    fn with_index<T>(
        &self,
        partition: &Partition,
        begins: bool,
        look: impl FnOnce(&mut KeyIndex) -> T,
    ) -> Result<T, StorageError> {
        partition.prepare_to_read(&self.layout, self.syncs())?;
        let outdated = self.writer.is_none() && begins;
        if !outdated && let PartitionState { index: Some(index), .. } = &mut *partition.state() {
            return Ok(look(index));
        }
        let _alone = partition.enter_alone();
        let mut index = KeyIndex::new(Arc::clone(&self.index_budget));
        for own in self.scan_keys(partition)? {
            index.insert(&own);
        }
        Ok(look(partition.state().index.insert(index)))
    }

    /// Reads the own keys of a partition from its folder.
    fn scan_keys(&self, partition: &Partition) -> Result<BTreeSet<String>, StorageError> {
        let mut keys = BTreeSet::new();
        partition.refuse_links(&self.layout)?;
        for name in scan::key_files(&partition.folder)? {
            match name::decode(&name) {
                Decoded::Text(own) => {
                    keys.insert(own);
                }
                Decoded::Hashed => {
                    let file = partition.folder.join(&name);
                    // Deleted since the folder was read.
                    let Some(key) = key_of_hashed(&file)? else { continue };
                    let (of, own) = split_full_key(&key);
                    if of != &*partition.name || name::encode(own) != name {
                        return Err(unreadable(&file));
                    }
                    keys.insert(own.to_owned());
                }
                Decoded::Foreign => {}
            }
        }
        for key in self.unfinished.keys_in(&partition.name) {
            let (_, own) = split_full_key(key);
            if self.read(partition, key)?.is_some() {
                keys.insert(own.to_owned());
            } else {
                keys.remove(own);
            }
        }
        self.check_listed()?;
        Ok(keys)
    }

    /// Reads the names of the partitions that hold a key from the directories.
    ///
    /// # Errors
    /// If the directory of all components cannot be read. One below it that cannot
    /// is part of the result.
    fn scan_names(&self) -> Result<ComponentNames, StorageError> {
        let mut found = ComponentNames::default();
        let components = self.layout.components();
        for namespace in scan::directories(&components)? {
            let below_namespace = components.join(&namespace);
            for component in directories_or_note(&below_namespace, &[&namespace], &mut found) {
                let below_component = below_namespace.join(&component);
                let segments = [&namespace, &component];
                for instance in directories_or_note(&below_component, &segments, &mut found) {
                    let folder = below_component.join(&instance);
                    let segments = [&namespace, &component, &instance];
                    match self.name_of_partition(&segments, &folder) {
                        Ok(Some(name)) => found.insert(&name),
                        Ok(None) => {}
                        Err(error) => found.insert_unreadable(&prefix_of(&segments), error),
                    }
                }
            }
        }
        for name in self.unfinished.partitions().filter(|name| !name.is_empty()) {
            match self.scan_keys(&self.partition(name)) {
                Ok(keys) if keys.is_empty() => found.remove(name),
                Ok(_) => found.insert(name),
                Err(error) => found.insert_unreadable(name, error),
            }
        }
        self.check_listed()?;
        Ok(found)
    }

    /// The partition of a directory, if that holds a key.
    fn name_of_partition(
        &self,
        segments: &[&String; 3],
        folder: &Path,
    ) -> Result<Option<String>, StorageError> {
        if scan::holds_a_key(folder)? { self.name_of_folder(segments, folder) } else { Ok(None) }
    }

    /// Makes sure that what was listed, to be remembered, is of this store.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if the store is not where it was opened.
    fn check_listed(&self) -> Result<(), StorageError> {
        self.writer.as_ref().map_or(Ok(()), |writer| writer.lock.check_listed())
    }

    /// The partition that a folder belongs to.
    fn name_of_folder(
        &self,
        segments: &[&String; 3],
        folder: &Path,
    ) -> Result<Option<String>, StorageError> {
        let mut name = String::new();
        for segment in segments {
            match name::decode(segment) {
                Decoded::Text(text) => {
                    name.push_str(&text);
                    name.push('/');
                }
                // The folder's own name does not tell; any record in it does.
                Decoded::Hashed => return self.name_by_record(folder),
                Decoded::Foreign => return Ok(None),
            }
        }
        Ok(Some(name))
    }

    fn name_by_record(&self, folder: &Path) -> Result<Option<String>, StorageError> {
        let mut damaged = None;
        for name in scan::key_files(folder)? {
            let file = folder.join(&name);
            match key_of_hashed(&file) {
                Ok(Some(key)) if self.layout.folder(split_full_key(&key).0) == folder => {
                    return Ok(Some(split_full_key(&key).0.to_owned()));
                }
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => damaged = Some(unreadable(&file)),
            }
        }
        damaged.map_or(Ok(None), Err)
    }
}

/// The largest revision of a record below a folder, 0 where there is none. Reads
/// every file.
pub(super) fn largest_revision(folder: &Path) -> Result<u64, StorageError> {
    let mut largest = 0;
    let (files, folders) = scan::everything(folder)?;
    for name in files {
        let record =
            disk::read_regular(&folder.join(name))?.and_then(|bytes| record::decode(&bytes).ok());
        largest = largest.max(record.map_or(0, |record| record.found.revision.get()));
    }
    for name in folders {
        largest = largest.max(largest_revision(&folder.join(name))?);
    }
    Ok(largest)
}

/// Lists component directories. One that cannot be read is recorded as unreadable
/// under its prefix.
fn directories_or_note(
    path: &Path,
    segments: &[&String],
    found: &mut ComponentNames,
) -> Vec<String> {
    scan::directories(path).unwrap_or_else(|error| {
        found.insert_unreadable(&prefix_of(segments), error);
        Vec::new()
    })
}

/// The prefix of the components in a directory, by its name and those above it.
/// A hashed name is used as it is.
fn prefix_of(segments: &[&String]) -> String {
    let text = |segment: &&String| match name::decode(segment) {
        Decoded::Text(text) => text + "/",
        Decoded::Hashed | Decoded::Foreign => format!("{segment}/"),
    };
    segments.iter().map(text).collect()
}

/// The full key that a record names, without reading its value. The caller
/// compares it with the file's name, which has its hash.
fn key_of_hashed(file: &Path) -> Result<Option<String>, StorageError> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk::failed("read", file, &error)),
    };
    let mut start = Vec::new();
    opened
        .take((record::overhead("") + MAX_FULL_KEY_BYTES) as u64)
        .read_to_end(&mut start)
        .map_err(|error| disk::failed("read", file, &error))?;
    record::key_at_start(&start).map(Some).ok_or_else(|| unreadable(file))
}

fn unreadable(file: &Path) -> StorageError {
    StorageError::Corrupt {
        key: None,
        detail: format!(
            "{} does not say which key it belongs to; restore the file from a copy, or remove it",
            file.display()
        ),
    }
}
