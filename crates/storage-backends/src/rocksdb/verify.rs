//! Verifies a whole store without changing it.

use std::collections::BTreeMap;

use ::rocksdb::{DBRawIterator, DEFAULT_COLUMN_FAMILY_NAME, ReadOptions};
use storage_core::{
    Problem, ProblemKind, StorageError, Usage, Verified, split_full_key, validate_full_key,
};

use super::layout::{self, Layout};
use super::opening::{self, Opened};
use super::options::{RocksDbOptions, USAGE_COUNTERS};
use super::{counter_format, error, keys};
use crate::disk::{self, Kind};
use crate::permissions::{OpenToOthers, others_may_enter};
use crate::record;

/// Verifies the store in a directory.
pub(super) fn verify(
    layout: &Layout,
    report: &mut dyn FnMut(Problem),
) -> Result<Verified, StorageError> {
    let location = layout.root.display().to_string();
    let mut verified = Verified::default();
    match opening::open_to_read(layout, &RocksDbOptions::default()) {
        Ok(opened) => {
            let mut check =
                Check { opened: &opened, location, report, verified, unread: Vec::new() };
            check.all()?;
            check.directory(layout)?;
            Ok(check.verified)
        }
        Err(StorageError::Corrupt { key, detail }) => {
            let mut problem = Problem::new(location, detail);
            problem.key = key;
            verified.count(&problem);
            report(problem);
            Ok(verified)
        }
        Err(error) => Err(error),
    }
}

struct Check<'a> {
    opened: &'a Opened,
    location: String,
    report: &'a mut dyn FnMut(Problem),
    verified: Verified,
    /// Ranges of stored keys that could not be read.
    unread: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// The counted usage of a component.
struct Counted {
    component: String,
    usage: Usage,
}

impl Check<'_> {
    fn problem(&mut self, key: Option<&str>, detail: impl Into<String>) {
        let problem = Problem::new(self.location.clone(), detail);
        self.report(match key {
            Some(key) => problem.with_key(key),
            None => problem,
        });
    }

    fn report(&mut self, problem: Problem) {
        self.verified.count(&problem);
        (self.report)(problem);
    }

    fn all(&mut self) -> Result<(), StorageError> {
        let mut counters = self.counters()?;
        let mut counted: Vec<Counted> = Vec::new();
        self.keys(|check, stored, record| {
            let Some(key) = check.key(stored, record) else { return };
            let (component, user_key) = split_full_key(&key);
            let usage = Usage::of(user_key, record::keyless_value_len(record));
            match counted.last_mut().filter(|last| last.component == component) {
                Some(last) => last.usage = last.usage + usage,
                None => {
                    check.verified.components += u64::from(!component.is_empty());
                    counted.push(Counted { component: component.to_owned(), usage });
                    // All but the last are complete.
                    if counted.len() > 1 {
                        let complete = counted.swap_remove(0);
                        check.compare(&complete, counters.remove(&complete.component));
                    }
                }
            }
        })?;
        for complete in counted {
            let stored = counters.remove(&complete.component);
            self.compare(&complete, stored);
        }
        for (component, stored) in counters {
            self.compare(&Counted { component, usage: Usage::default() }, Some(stored));
        }
        Ok(())
    }

    /// Looks for foreign files and for files that other users may open.
    fn directory(&mut self, layout: &Layout) -> Result<(), StorageError> {
        let mut open_to_others = OpenToOthers::default();
        open_to_others.examine_root(&layout.root);
        let mut names = disk::names(&layout.root, Kind::Any)?;
        names.sort_unstable();
        for name in names {
            let path = layout.path(&name);
            if layout::belongs_to_store(&name) {
                open_to_others.examine(&path);
            } else {
                let detail = "not part of the store, ignored; move it out of the store's directory";
                let problem = Problem::new(path.display().to_string(), detail);
                self.report(problem.with_kind(ProblemKind::ForeignFile));
            }
        }
        // RocksDB applies the umask to its files, so the directory must keep others out.
        if others_may_enter(&layout.root)
            && let Some(warning) = open_to_others.warning(&layout.root, "chmod go=")
        {
            self.report(warning);
        }
        Ok(())
    }

    /// The usage counters; `None` for a damaged one.
    fn counters(&mut self) -> Result<BTreeMap<String, Option<Usage>>, StorageError> {
        let mut found = BTreeMap::new();
        self.scan(USAGE_COUNTERS, |check, component, entry| {
            match std::str::from_utf8(component) {
                Ok(component) => {
                    let usage = counter_format::decode_total(component, entry);
                    found.insert(component.to_owned(), usage);
                }
                Err(_) => {
                    let component = component.escape_ascii();
                    let detail = format!("a usage counter's component is not UTF-8: {component}");
                    check.problem(None, detail);
                }
            }
        })?;
        // These are ranges of the counters, not of the keys.
        self.unread.clear();
        Ok(found)
    }

    fn keys(&mut self, visit: impl FnMut(&mut Self, &[u8], &[u8])) -> Result<(), StorageError> {
        self.scan(DEFAULT_COLUMN_FAMILY_NAME, visit)
    }

    /// Visits everything in a column family. Reports what cannot be read, and continues
    /// at the next edge of a file.
    fn scan(
        &mut self,
        family: &str,
        mut visit: impl FnMut(&mut Self, &[u8], &[u8]),
    ) -> Result<(), StorageError> {
        let db = &self.opened.database.db;
        let Some(handle) = db.cf_handle(family) else { return Ok(()) };
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_verify_checksums(true);
        let mut iterator = db.raw_iterator_cf_opt(handle, options);
        let mut edges: Option<Vec<Vec<u8>>> = None;
        let mut position = Vec::new();
        iterator.seek(&position);
        loop {
            while let Some((stored, record)) = iterator.item() {
                visit(self, stored, record);
                position.clear();
                position.extend_from_slice(stored);
                iterator.next();
            }
            let Err(error) = iterator.status() else { return Ok(()) };
            self.problem(None, format!("a part of {family} cannot be read: {error}"));
            if edges.is_none() {
                edges = Some(self.edges(family)?);
            }
            let from = position.clone();
            let mut further = edges.iter().flatten().filter(|edge| **edge > from);
            if !seek_next(&mut iterator, &mut further, &mut position) {
                self.unread.push((from, None));
                return Ok(());
            }
            self.unread.push((from, Some(position.clone())));
        }
    }

    /// The first keys of a column family's files and the ends of their ranges, in order.
    fn edges(&self, family: &str) -> Result<Vec<Vec<u8>>, StorageError> {
        let database = &self.opened.database;
        let files = database.db.live_files();
        let mut edges: Vec<Vec<u8>> = files
            .map_err(|error| error::failed("list the files of", &database.root, &error))?
            .into_iter()
            .filter(|file| file.column_family_name == family)
            .flat_map(|file| {
                let end = file.end_key.map(|mut key| {
                    key.push(0);
                    key
                });
                [file.start_key, end]
            })
            .flatten()
            .collect();
        edges.sort_unstable();
        edges.dedup();
        Ok(edges)
    }

    /// Checks a key and its record. Returns the full key, if it is text.
    fn key(&mut self, stored: &[u8], bytes: &[u8]) -> Option<String> {
        let Some(key) = keys::full(stored) else {
            let stored = stored.escape_ascii();
            self.problem(None, format!("a key is not UTF-8: {stored}"));
            return None;
        };
        if let Err(error) = validate_full_key(key) {
            self.problem(Some(key), format!("the key is invalid: {error}"));
        } else if *keys::stored(key) != *stored {
            self.problem(
                Some(key),
                "it is stored in the wrong range: an unscoped key among \
                 those of components, or the reverse",
            );
        } else {
            match record::decode_keyless(key, bytes) {
                Err(problem) => self.problem(
                    Some(key),
                    format!(
                        "cannot read the record: {problem}; restore the store from a copy, or \
                         write or delete the key"
                    ),
                ),
                Ok((_, revision)) if revision.get() >= self.opened.meta.reserved => self.problem(
                    Some(key),
                    format!(
                        "its revision {revision} is beyond the revision counter, which is {}",
                        self.opened.meta.reserved
                    ),
                ),
                Ok((value, _)) => {
                    self.verified.usage = self.verified.usage + Usage::of(key, value.len());
                }
            }
        }
        Some(key.to_owned())
    }

    /// Compares a usage counter with a recount, if all keys could be read.
    fn compare(&mut self, counted: &Counted, stored: Option<Option<Usage>>) {
        let component = &counted.component;
        let (first, end) = match component.as_str() {
            "" => (vec![keys::UNSCOPED], vec![keys::UNSCOPED + 1]),
            component => (component.as_bytes().to_vec(), keys::end_of_prefix(component)),
        };
        let overlaps = |(from, to): &(Vec<u8>, Option<Vec<u8>>)| {
            *from < end && to.as_ref().is_none_or(|to| *to > first)
        };
        if self.unread.iter().any(overlaps) {
            return;
        }
        match stored {
            None => {}
            Some(None) => {
                let detail = format!(
                    "the usage counter of {component:?} is damaged; the next budget counts again"
                );
                self.problem(None, detail);
            }
            Some(Some(stored)) if stored != counted.usage => {
                let Usage { bytes, keys } = counted.usage;
                let detail = format!(
                    "the usage counter of {component:?} is {} bytes in {} keys, but there are \
                     {bytes} bytes in {keys} keys; copy the store to count again",
                    stored.bytes, stored.keys
                );
                self.problem(None, detail);
            }
            Some(Some(_)) => {}
        }
    }
}

/// Seeks the first of these keys at which something can be read.
fn seek_next(
    iterator: &mut DBRawIterator<'_>,
    candidates: &mut dyn Iterator<Item = &Vec<u8>>,
    position: &mut Vec<u8>,
) -> bool {
    for key in candidates {
        iterator.seek(key);
        position.clone_from(key);
        if iterator.valid() || iterator.status().is_ok() {
            return true;
        }
    }
    false
}
