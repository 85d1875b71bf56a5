//! A check of the whole store, which changes nothing.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;

use ::redb::{Database, ReadTransaction, ReadableDatabase};
use storage_core::{StorageError, Usage, split_full_key, validate_full_key};

use super::disk::Disk;
use super::engine::{guarded, read_meta, start};
use super::fail::Fail;
use super::tables::{self, DATA, LEDGERS, ReadTable};
use super::{listing, place};
use crate::locked_file::LockedFile;
use crate::permissions::OpenToOthers;
use crate::record;
use storage_core::{Problem, Verified};

/// How much of the file the engine may keep in memory meanwhile.
const CACHE_BYTES: usize = 64 << 20;

/// Checks the store in a file whose lock is held.
pub(super) fn verify(
    path: &Path,
    file: Arc<LockedFile>,
    report: &mut dyn FnMut(Problem),
) -> Result<Verified, StorageError> {
    let disk =
        Disk::new(path, file, false).map_err(|error| place::failed("look at", path, &error))?;
    let mut check = Check { path, report, panic: None, verified: Verified::default() };
    let mut open_to_others = OpenToOthers::default();
    open_to_others.look(path);
    if let Some(warning) = open_to_others.warning(path, "chmod go=") {
        check.problem(warning);
    }
    let mut db = None;
    let checked = check.parts(&mut db, || start(&disk, CACHE_BYTES, false));
    // The engine may panic where it has before.
    let _ = guarded(path, || {
        drop(db);
        Ok(())
    });
    if let Some(panic) = check.panic {
        resume_unwind(panic);
    }
    checked.map(|()| check.verified)
}

struct Check<'a> {
    path: &'a Path,
    report: &'a mut dyn FnMut(Problem),
    /// A panic of `report`, which is none of the engine's.
    panic: Option<Box<dyn Any + Send>>,
    verified: Verified,
}

impl Check<'_> {
    fn parts(
        &mut self,
        db: &mut Option<Database>,
        start: impl FnOnce() -> Result<Database, Fail>,
    ) -> Result<(), StorageError> {
        self.part("pages", |check| check.pages(db.insert(start()?)))?;
        // Where the engine does not start there is nothing more to read.
        let Some(db) = db else { return Ok(()) };
        let mut reserved_up_to = None;
        self.part("meta", |check| {
            reserved_up_to = Some(read_meta(check.path, db)?.reserved_up_to);
            Ok(())
        })?;
        self.part("data", |check| check.records(&db.begin_read()?, reserved_up_to))?;
        self.part("ledgers", |check| check.ledgers(&db.begin_read()?))
    }

    /// Runs a part of the check. Damage that ends it is a problem, and the next
    /// part goes on.
    fn part(
        &mut self,
        place: &str,
        run: impl FnOnce(&mut Self) -> Result<(), Fail>,
    ) -> Result<(), StorageError> {
        let path = self.path;
        match guarded(path, || run(self)).map_err(|stopped| stopped.told(path)) {
            Err(StorageError::Corrupt { key, detail }) => {
                let mut problem = Problem::new(place, detail);
                problem.key = key;
                self.problem(problem);
                Ok(())
            }
            other => other,
        }
    }

    fn problem(&mut self, problem: Problem) {
        self.verified.count(&problem);
        if self.panic.is_none() {
            let reported = catch_unwind(AssertUnwindSafe(|| (self.report)(problem)));
            self.panic = reported.err();
        }
    }

    /// Tests every page against its checksum.
    fn pages(&mut self, db: &mut Database) -> Result<(), Fail> {
        if !db.check_integrity()? {
            self.problem(Problem::new(
                "pages",
                "what the file says of its free pages is wrong; nothing stored is concerned, and a check when the store is opened for writing puts it right",
            ));
        }
        Ok(())
    }

    /// Reads every record.
    fn records(&mut self, txn: &ReadTransaction, reserved_up_to: Option<u64>) -> Result<(), Fail> {
        let data = txn.open_table(DATA)?;
        let ledgers = txn.open_table(LEDGERS)?;
        // Keys of no component lie between those of components.
        let (mut loose, mut current) = (Usage::default(), (String::new(), Usage::default()));
        for entry in data.range::<&[u8]>(..)? {
            let (key, bytes) = entry?;
            let Ok(key) = std::str::from_utf8(key.value()) else {
                let detail = format!("a key is not UTF-8: \"{}\"", key.value().escape_ascii());
                self.problem(Problem::new("data", detail));
                continue;
            };
            if let Err(error) = validate_full_key(key) {
                self.problem(Problem::new("data", error.to_string()).with_key(key));
            }
            let (partition, own) = split_full_key(key);
            if !partition.is_empty() && partition != current.0 {
                self.end_partition(&ledgers, &current)?;
                current = (partition.to_owned(), Usage::default());
            }
            let counted = if partition.is_empty() { &mut loose } else { &mut current.1 };
            *counted = *counted + Usage::of(own, super::write::value_len(bytes.value()));
            match record::decode_beside_key(key, bytes.value()) {
                Err(problem) => {
                    let detail = format!("its record: {problem}");
                    self.problem(Problem::new("data", detail).with_key(key));
                }
                Ok((value, revision)) => {
                    self.verified.usage = self.verified.usage + Usage::of(key, value.len());
                    if reserved_up_to.is_some_and(|up_to| revision.get() >= up_to) {
                        let detail =
                            format!("its revision {revision} is beyond the counter of revisions");
                        self.problem(Problem::new("data", detail).with_key(key));
                    }
                }
            }
        }
        self.end_partition(&ledgers, &current)?;
        self.ledger(&ledgers, "", loose)
    }

    fn end_partition(
        &mut self,
        ledgers: &ReadTable,
        (partition, counted): &(String, Usage),
    ) -> Result<(), Fail> {
        if partition.is_empty() {
            return Ok(());
        }
        self.verified.components += 1;
        self.ledger(ledgers, partition, *counted)
    }

    /// Compares the ledger of a partition, if there is one, with what was
    /// counted.
    fn ledger(&mut self, ledgers: &ReadTable, partition: &str, counted: Usage) -> Result<(), Fail> {
        let Some(found) = ledgers.get(partition.as_bytes())? else { return Ok(()) };
        let detail = match tables::read_ledger(partition.as_bytes(), found.value()) {
            Some(kept) if kept == counted => return Ok(()),
            Some(kept) => format!(
                "the ledger of {partition:?} says {} bytes in {} keys, and there are {} bytes in {} keys",
                kept.bytes, kept.keys, counted.bytes, counted.keys
            ),
            None => format!("the ledger of {partition:?} is damaged"),
        };
        self.problem(Problem::new("ledgers", detail));
        Ok(())
    }

    /// Looks for ledgers of what is not there.
    fn ledgers(&mut self, txn: &ReadTransaction) -> Result<(), Fail> {
        let (data, ledgers) = (txn.open_table(DATA)?, txn.open_table(LEDGERS)?);
        for entry in ledgers.range::<&[u8]>(..)? {
            let (partition, _) = entry?;
            let known = match std::str::from_utf8(partition.value()) {
                Ok(partition) if split_full_key(partition).0 == partition => {
                    listing::holds_key(&data, partition)?
                }
                _ => false,
            };
            if !known {
                let partition = partition.value().escape_ascii();
                let detail = format!("a ledger of \"{partition}\", which holds no key");
                self.problem(Problem::new("ledgers", detail));
            }
        }
        Ok(())
    }
}
