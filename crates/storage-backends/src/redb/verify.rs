//! Verifies a whole store without changing it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;

use ::redb::{Database, ReadTransaction, ReadableDatabase};
use storage_core::{Problem, StorageError, Usage, Verified, split_full_key, validate_full_key};

use super::engine::{DurableSnapshot, Engine, read_meta, start};
use super::error::{Error, catch_panic};
use super::file_backend::FileBackend;
use super::listing;
use super::tables::{self, DATA, ReadTable, USAGE_COUNTERS};
use crate::io_failure;
use crate::locked_file::LockedFile;
use crate::permissions::OpenToOthers;
use crate::record;

/// The size of the engine's page cache.
const CACHE_BYTES: usize = 64 << 20;

/// Verifies the store in a locked file.
pub(super) fn verify(
    path: &Path,
    file: Arc<LockedFile>,
    report: &mut dyn FnMut(Problem),
) -> Result<Verified, StorageError> {
    let file = FileBackend::new(path, file, false)
        .map_err(|error| io_failure::failed("read the metadata of", path, &error))?;
    let mut check = Check::begin(path, report);
    let mut db = None;
    let checked = check.parts(&mut db, || start(&file, CACHE_BYTES, false));
    // The engine may panic again.
    let _ = catch_panic(path, || {
        drop(db);
        Ok(())
    });
    check.end(checked)
}

/// Verifies the last durable state of an open store. Reads the file, not the engine's cache,
/// but compares no checksums of pages.
pub(super) fn verify_open(
    engine: &Engine,
    flush: impl FnOnce() -> Result<(), StorageError>,
    report: &mut dyn FnMut(Problem),
) -> Result<Verified, StorageError> {
    let mut check = Check::begin(engine.path(), report);
    let mut snapshot = None;
    let mut checked = check.part("pages", |_| {
        snapshot = Some(engine.durable_snapshot(flush, CACHE_BYTES)?);
        Ok(())
    });
    if let Some(db) = snapshot.as_ref().and_then(DurableSnapshot::db) {
        checked = checked.and_then(|()| check.tables(db));
    }
    check.end(checked)
}

struct Check<'a> {
    path: &'a Path,
    report: &'a mut dyn FnMut(Problem),
    /// A panic of `report`, kept apart from the engine's.
    panic: Option<Box<dyn Any + Send>>,
    verified: Verified,
}

impl<'a> Check<'a> {
    fn begin(path: &'a Path, report: &'a mut dyn FnMut(Problem)) -> Self {
        let mut check = Self { path, report, panic: None, verified: Verified::default() };
        let mut open_to_others = OpenToOthers::default();
        open_to_others.examine(path);
        if let Some(warning) = open_to_others.warning(path, "chmod go=") {
            check.report(warning);
        }
        check
    }

    fn end(self, checked: Result<(), StorageError>) -> Result<Verified, StorageError> {
        if let Some(panic) = self.panic {
            resume_unwind(panic);
        }
        checked.map(|()| self.verified)
    }

    fn parts(
        &mut self,
        db: &mut Option<Database>,
        start: impl FnOnce() -> Result<Database, Error>,
    ) -> Result<(), StorageError> {
        self.part("pages", |check| check.pages(db.insert(start()?)))?;
        // Without the engine there is nothing more to read.
        let Some(db) = db else { return Ok(()) };
        self.tables(&*db)
    }

    fn tables(&mut self, db: &impl ReadableDatabase) -> Result<(), StorageError> {
        let mut reserved_up_to = None;
        self.part("meta", |check| {
            reserved_up_to = Some(read_meta(check.path, db)?.reserved_up_to);
            Ok(())
        })?;
        self.part("data", |check| check.records(&db.begin_read()?, reserved_up_to))?;
        self.part("usage counters", |check| check.counters(&db.begin_read()?))
    }

    /// Runs a part of the check. Damage that ends it is reported, and the next part runs.
    fn part(
        &mut self,
        location: &str,
        run: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), StorageError> {
        let path = self.path;
        match catch_panic(path, || run(self)).map_err(|stopped| stopped.into_storage_error(path)) {
            Err(StorageError::Corrupt { key, detail }) => {
                let mut problem = Problem::new(location, detail);
                problem.key = key;
                self.report(problem);
                Ok(())
            }
            other => other,
        }
    }

    fn report(&mut self, problem: Problem) {
        self.verified.count(&problem);
        if self.panic.is_none() {
            let reported = catch_unwind(AssertUnwindSafe(|| (self.report)(problem)));
            self.panic = reported.err();
        }
    }

    /// Compares every page with its checksum.
    fn pages(&mut self, db: &mut Database) -> Result<(), Error> {
        if !db.check_integrity()? {
            self.report(Problem::new(
                "pages",
                "the record of free pages is wrong; no stored data is affected, and opening \
                 the store for writing repairs it",
            ));
        }
        Ok(())
    }

    /// Reads every record.
    fn records(&mut self, txn: &ReadTransaction, reserved_up_to: Option<u64>) -> Result<(), Error> {
        let data = txn.open_table(DATA)?;
        let counters = txn.open_table(USAGE_COUNTERS)?;
        // Unscoped keys are between those of components.
        let (mut unscoped, mut current) = (Usage::default(), (String::new(), Usage::default()));
        for entry in data.range::<&[u8]>(..)? {
            let (key, bytes) = entry?;
            let Ok(key) = std::str::from_utf8(key.value()) else {
                let detail = format!("a key is not UTF-8: \"{}\"", key.value().escape_ascii());
                self.report(Problem::new("data", detail));
                continue;
            };
            if let Err(error) = validate_full_key(key) {
                self.report(Problem::new("data", error.to_string()).with_key(key));
            }
            let (component, user_key) = split_full_key(key);
            if !component.is_empty() && component != current.0 {
                self.end_component(&counters, &current)?;
                current = (component.to_owned(), Usage::default());
            }
            let counted = if component.is_empty() { &mut unscoped } else { &mut current.1 };
            let value_len = record::keyless_value_len(bytes.value());
            *counted = *counted + Usage::of(user_key, value_len);
            match record::decode_keyless(key, bytes.value()) {
                Err(problem) => {
                    let detail = format!("cannot read the record: {problem}");
                    self.report(Problem::new("data", detail).with_key(key));
                }
                Ok((value, revision)) => {
                    self.verified.usage = self.verified.usage + Usage::of(key, value.len());
                    if reserved_up_to.is_some_and(|up_to| revision.get() >= up_to) {
                        let detail =
                            format!("its revision {revision} is beyond the revision counter");
                        self.report(Problem::new("data", detail).with_key(key));
                    }
                }
            }
        }
        self.end_component(&counters, &current)?;
        self.counter(&counters, "", unscoped)
    }

    fn end_component(
        &mut self,
        counters: &ReadTable,
        (component, counted): &(String, Usage),
    ) -> Result<(), Error> {
        if component.is_empty() {
            return Ok(());
        }
        self.verified.components += 1;
        self.counter(counters, component, *counted)
    }

    /// Compares the usage counter of a component, if there is one, with a recount.
    fn counter(
        &mut self,
        counters: &ReadTable,
        component: &str,
        counted: Usage,
    ) -> Result<(), Error> {
        let Some(stored) = counters.get(component.as_bytes())? else { return Ok(()) };
        let detail = match tables::decode_counter(component.as_bytes(), stored.value()) {
            Some(usage) if usage == counted => return Ok(()),
            Some(usage) => format!(
                "the usage counter of {component:?} is {} bytes in {} keys, but there are {} \
                 bytes in {} keys",
                usage.bytes, usage.keys, counted.bytes, counted.keys
            ),
            None => format!("the usage counter of {component:?} is damaged"),
        };
        self.report(Problem::new("usage counters", detail));
        Ok(())
    }

    /// Looks for usage counters without keys.
    fn counters(&mut self, txn: &ReadTransaction) -> Result<(), Error> {
        let (data, counters) = (txn.open_table(DATA)?, txn.open_table(USAGE_COUNTERS)?);
        for entry in counters.range::<&[u8]>(..)? {
            let (component, _) = entry?;
            let known = match std::str::from_utf8(component.value()) {
                Ok(component) if split_full_key(component).0 == component => {
                    listing::has_keys(&data, component)?
                }
                _ => false,
            };
            if !known {
                let component = component.value().escape_ascii();
                let detail = format!("a usage counter of \"{component}\", which has no keys");
                self.report(Problem::new("usage counters", detail));
            }
        }
        Ok(())
    }
}
