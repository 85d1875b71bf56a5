//! A check of a whole store, which changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use ::rocksdb::{DBRawIterator, DEFAULT_COLUMN_FAMILY_NAME, ReadOptions};
use storage_core::{StorageError, Usage, split_full_key, validate_full_key};

use super::layout::{self, Layout};
use super::opening::{self, Opened};
use super::options::{LEDGERS, RocksDbOptions};
use super::store::RocksDbStorage;
use super::{errors, keys, ledger};
use crate::disk::{self, Kind};
use crate::permissions::{OpenToOthers, others_may_enter};
use crate::record;
use storage_core::{Problem, ProblemKind, Verified};

impl RocksDbStorage {
    /// Reads the whole store in a folder, as it is at one moment, and calls
    /// `report` with whatever is not as it should be: the log and the list of
    /// files, every block and record against its checksum, keys against the
    /// rules, revisions against their counter, and ledgers against a recount.
    /// Changes nothing, takes no lock and works beside a running writer.
    ///
    /// Damage to the log or to the list of files is the only problem that is
    /// reported: what RocksDB would make of the rest is not what was written.
    ///
    /// # Errors
    /// As [`open_read_only`](Self::open_read_only), but damage is a problem that
    /// is reported.
    pub fn verify(
        path: impl AsRef<Path>,
        report: &mut dyn FnMut(Problem),
    ) -> Result<Verified, StorageError> {
        let layout = Layout::of_store(path.as_ref())?;
        match opening::open_to_read(&layout, &RocksDbOptions::default()) {
            Ok(opened) => {
                let place = layout.root.display().to_string();
                let verified = Verified::default();
                let mut check =
                    Check { opened: &opened, place, report, verified, lost: Vec::new() };
                check.all()?;
                check.directory(&layout)?;
                Ok(check.verified)
            }
            Err(StorageError::Corrupt { key, detail }) => {
                let problem = Problem::new(layout.root.display().to_string(), detail);
                report(match key {
                    Some(key) => problem.with_key(key),
                    None => problem,
                });
                let mut verified = Verified::default();
                verified.problems = 1;
                Ok(verified)
            }
            Err(error) => Err(error),
        }
    }
}

struct Check<'a> {
    opened: &'a Opened,
    place: String,
    report: &'a mut dyn FnMut(Problem),
    verified: Verified,
    /// Where keys could not be read: from the first one behind which nothing is
    /// known, to the next that is.
    lost: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// What a partition's keys take up.
struct Counted {
    name: String,
    usage: Usage,
}

impl Check<'_> {
    fn problem(&mut self, key: Option<&str>, detail: impl Into<String>) {
        let problem = Problem::new(self.place.clone(), detail);
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
        let mut ledgers = self.ledgers()?;
        let mut partitions: Vec<Counted> = Vec::new();
        self.keys(|check, stored, record| {
            let Some(key) = check.key(stored, record) else { return };
            let (name, own) = split_full_key(&key);
            let usage = Usage::of(own, record::value_len_beside_key(record));
            match partitions.last_mut().filter(|last| last.name == name) {
                Some(last) => last.usage = last.usage + usage,
                None => {
                    check.verified.components += u64::from(!name.is_empty());
                    partitions.push(Counted { name: name.to_owned(), usage });
                    // All but the last are complete.
                    if partitions.len() > 1 {
                        let counted = partitions.swap_remove(0);
                        check.compare(&counted, ledgers.remove(&counted.name));
                    }
                }
            }
        })?;
        for counted in partitions {
            let kept = ledgers.remove(&counted.name);
            self.compare(&counted, kept);
        }
        for (name, kept) in ledgers {
            self.compare(&Counted { name, usage: Usage::default() }, Some(kept));
        }
        Ok(())
    }

    /// Looks at the files themselves: whose they are, and who may use them.
    fn directory(&mut self, layout: &Layout) -> Result<(), StorageError> {
        let mut open_to_others = OpenToOthers::default();
        open_to_others.look_at_root(&layout.root);
        let mut names = disk::names(&layout.root, Kind::Any)?;
        names.sort_unstable();
        for name in names {
            let path = layout.path(&name);
            if layout::is_stores(&name) {
                open_to_others.look(&path);
            } else {
                let detail = "not part of the store, ignored; move it out of the store's directory";
                let problem = Problem::new(path.display().to_string(), detail);
                self.report(problem.with_kind(ProblemKind::ForeignFile));
            }
        }
        // RocksDB makes its files by the umask, so the directory has to keep others out.
        if others_may_enter(&layout.root)
            && let Some(warning) = open_to_others.warning(&layout.root, "chmod go=")
        {
            self.report(warning);
        }
        Ok(())
    }

    /// The ledgers, `None` where one cannot be read.
    fn ledgers(&mut self) -> Result<BTreeMap<String, Option<Usage>>, StorageError> {
        let mut found = BTreeMap::new();
        self.walk(LEDGERS, |check, name, entry| match std::str::from_utf8(name) {
            Ok(name) => {
                found.insert(name.to_owned(), ledger::read(name, entry));
            }
            Err(_) => {
                let name = name.escape_ascii();
                check.problem(None, format!("there is a ledger of no component: {name}"));
            }
        })?;
        // A ledger may also lie where its own family could not be read.
        self.lost.clear();
        Ok(found)
    }

    fn keys(&mut self, visit: impl FnMut(&mut Self, &[u8], &[u8])) -> Result<(), StorageError> {
        self.walk(DEFAULT_COLUMN_FAMILY_NAME, visit)
    }

    /// Visits everything in a column family. What cannot be read is reported, and
    /// left out up to the next place that RocksDB knows of.
    fn walk(
        &mut self,
        family: &str,
        mut visit: impl FnMut(&mut Self, &[u8], &[u8]),
    ) -> Result<(), StorageError> {
        let db = &self.opened.db;
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
            self.problem(None, format!("not all of {family} can be read: {error}"));
            if edges.is_none() {
                edges = Some(self.edges(family)?);
            }
            let from = position.clone();
            let mut further = edges.iter().flatten().filter(|edge| **edge > from);
            if !go_on(&mut iterator, &mut further, &mut position) {
                self.lost.push((from, None));
                return Ok(());
            }
            self.lost.push((from, Some(position.clone())));
        }
    }

    /// Where the files of a column family begin and end, in order.
    fn edges(&self, family: &str) -> Result<Vec<Vec<u8>>, StorageError> {
        let root = Path::new(&self.place);
        let files = self.opened.db.live_files();
        let mut edges: Vec<Vec<u8>> = files
            .map_err(|error| errors::failed("list the files of", root, &error))?
            .into_iter()
            .filter(|file| file.column_family_name == family)
            .flat_map(|file| {
                let behind = file.end_key.map(|mut key| {
                    key.push(0);
                    key
                });
                [file.start_key, behind]
            })
            .flatten()
            .collect();
        edges.sort_unstable();
        edges.dedup();
        Ok(edges)
    }

    /// Checks a key and its record; gives the full key if there is one.
    fn key(&mut self, stored: &[u8], bytes: &[u8]) -> Option<String> {
        let Some(key) = keys::full(stored) else {
            let stored = stored.escape_ascii();
            self.problem(None, format!("there is a key that is not UTF-8: {stored}"));
            return None;
        };
        if let Err(error) = validate_full_key(key) {
            self.problem(Some(key), format!("no store holds such a key: {error}"));
        } else if *keys::stored(key) != *stored {
            self.problem(Some(key), "it is stored under the bytes of another key");
        } else {
            match record::decode_beside_key(key, bytes) {
                Err(problem) => self.problem(
                    Some(key),
                    format!("its record: {problem}; restore the store from a copy, or write or delete the key"),
                ),
                Ok((_, revision)) if revision.get() >= self.opened.meta.reserved => self.problem(
                    Some(key),
                    format!(
                        "its revision {revision} is not before {}, the first that was not reserved",
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

    /// Compares a ledger with what was counted, if all could be read.
    fn compare(&mut self, counted: &Counted, kept: Option<Option<Usage>>) {
        let name = &counted.name;
        let (first, end) = match name.as_str() {
            "" => (vec![keys::LOOSE], vec![keys::LOOSE + 1]),
            name => (name.as_bytes().to_vec(), keys::behind(name)),
        };
        let touches = |(from, to): &(Vec<u8>, Option<Vec<u8>>)| {
            *from < end && to.as_ref().is_none_or(|to| *to > first)
        };
        if self.lost.iter().any(touches) {
            return;
        }
        match kept {
            None => {}
            Some(None) => self.problem(
                None,
                format!("the ledger of {name:?} cannot be read; the next budget counts again"),
            ),
            Some(Some(kept)) if kept != counted.usage => {
                let Usage { bytes, keys } = counted.usage;
                self.problem(
                    None,
                    format!(
                        "the ledger of {name:?} says {} bytes and {} keys, and there are {bytes} and {keys}; copy the keys into a new store, which counts them anew",
                        kept.bytes, kept.keys
                    ),
                );
            }
            Some(Some(_)) => {}
        }
    }
}

/// Goes to the first of these places at which something can be read.
fn go_on(
    iterator: &mut DBRawIterator<'_>,
    places: &mut dyn Iterator<Item = &Vec<u8>>,
    position: &mut Vec<u8>,
) -> bool {
    for place in places {
        iterator.seek(place);
        position.clone_from(place);
        if iterator.valid() || iterator.status().is_ok() {
            return true;
        }
    }
    false
}
