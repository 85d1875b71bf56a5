//! Opens the engine and handles its errors and panics.
//!
//! After an I/O error the engine must be reopened. Until the next write that finds room
//! does so, reads use the last durable state ([`Snapshot`]). After a failed sync, writes
//! are refused until the caller reopens the store. After a panic, which some damage
//! causes, the engine is no longer used.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ::redb::{Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, TableError};
use storage_core::StorageError;

use super::error::{Error, Stopped, catch_panic, corrupt};
use super::file_backend::{Failure, FailureKind, FileBackend};
use super::options::RedbOptions;
use super::snapshot::Snapshot;
use super::tables::{BadMeta, DATA, FORMAT, META, Meta, USAGE_COUNTERS};
use crate::locked_file::LockedFile;
use crate::{identity, io_failure};

/// How often a read is retried when the engine stops during it.
const TRIES: usize = 3;

pub(super) struct Engine {
    path: PathBuf,
    file: Arc<FileBackend>,
    cache_bytes: usize,
    state: RwLock<State>,
}

struct State {
    /// Counts the changes of `mode`, so that one of several threads that see the engine
    /// stop handles it.
    generation: u64,
    mode: Mode,
}

enum Mode {
    Open(Database),
    /// A write failed; reads use the last durable state.
    Stopped {
        snapshot: Snapshot,
        failure: Failure,
    },
    /// Every call fails with this error.
    Failed(StorageError),
}

/// What the engine is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Write,
    /// The file is not changed.
    Read,
}

impl Engine {
    /// Opens the engine on a locked file and reads the store's metadata. If that fails,
    /// the file is unchanged.
    pub(super) fn open(
        path: &Path,
        file: Arc<LockedFile>,
        options: &RedbOptions,
        purpose: Purpose,
    ) -> Result<(Self, Meta), StorageError> {
        let buffers_when_full = purpose == Purpose::Write && options.is_relaxed()?;
        let file = FileBackend::new(path, file, buffers_when_full)
            .map_err(|error| io_failure::failed("read the metadata of", path, &error))?;
        let check = file.len() <= options.check_up_to_bytes;
        let (db, meta) = catch_panic(path, || {
            let db = start(&file, options.cache_bytes, check)?;
            let meta = read_meta(path, &db)?;
            Ok((db, meta))
        })
        .map_err(|stopped| stopped.into_storage_error(path))?;
        let engine = Self {
            path: path.to_owned(),
            file,
            cache_bytes: options.cache_bytes,
            state: RwLock::new(State { generation: 0, mode: Mode::Open(db) }),
        };
        if purpose == Purpose::Write {
            let written = engine.file.write_back();
            written.map_err(|error| io_failure::failed("write", path, &error))?;
        }
        Ok((engine, meta))
    }

    /// Writes an empty store into an empty file, durably.
    pub(super) fn create(path: &Path, file: Arc<LockedFile>) -> Result<(), StorageError> {
        let file = FileBackend::new(path, file, false)
            .map_err(|error| io_failure::failed("read the metadata of", path, &error))?;
        file.write_back().map_err(|error| io_failure::failed("write", path, &error))?;
        catch_panic(path, || {
            let db = start(&file, 0, false)?;
            let txn = db.begin_write()?;
            txn.open_table(DATA)?;
            txn.open_table(USAGE_COUNTERS)?;
            let meta = Meta { store_id: identity::new_store_id(), reserved_up_to: 1 };
            meta.write(&mut txn.open_table(META)?)?;
            txn.commit()?;
            db.close()?;
            Ok(())
        })
        .map_err(|stopped| match file.take_failure() {
            Some(failure) => StorageError::IoError(failure.detail),
            None => stopped.into_storage_error(path),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How often the engine stopped or restarted. Writes of an earlier generation that
    /// were not durable are lost.
    pub(super) fn generation(&self) -> u64 {
        self.state().generation
    }

    pub(super) fn file(&self) -> &FileBackend {
        &self.file
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        // No code panics while it holds the write lock.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a read in a transaction of its own. Retries if the engine stops during it.
    pub(super) fn read<T>(
        &self,
        mut run: impl FnMut(&ReadTransaction) -> Result<T, Error>,
    ) -> Result<T, StorageError> {
        let mut tries = 1;
        loop {
            match self.read_once(&mut run) {
                Err((error, Some(generation))) if error.is_io() && tries < TRIES => {
                    self.stop(generation);
                    tries += 1;
                }
                Err((error, _)) => return Err(error.into_storage_error(&self.path)),
                Ok(found) => return Ok(found),
            }
        }
    }

    /// Runs a read without a retry, because it has side effects.
    pub(super) fn read_without_retry<T>(
        &self,
        run: impl FnOnce(&ReadTransaction) -> Result<T, Error>,
    ) -> Result<T, StorageError> {
        self.read_once(run).map_err(|(error, generation)| {
            if let Some(generation) = generation
                && error.is_io()
            {
                self.stop(generation);
            }
            error.into_storage_error(&self.path)
        })
    }

    fn read_once<T>(
        &self,
        run: impl FnOnce(&ReadTransaction) -> Result<T, Error>,
    ) -> Result<T, (Error, Option<u64>)> {
        let mut generation = None;
        let ran = catch_panic(&self.path, || {
            let state = self.state();
            generation = Some(state.generation);
            let txn = match &state.mode {
                Mode::Open(db) => db.begin_read()?,
                Mode::Stopped { snapshot, .. } => snapshot.db.begin_read()?,
                Mode::Failed(error) => return Err(error.clone().into()),
            };
            drop(state);
            run(&txn)
        });
        ran.map_err(|stopped| match stopped {
            Stopped::Failed(error) => (error, generation),
            Stopped::Panicked(error) => {
                self.fail(error.clone());
                (error.into(), None)
            }
        })
    }

    /// The last durable state as the file has it, read by another engine. It stays readable
    /// while writes go on. `flush` makes every earlier write durable.
    ///
    /// # Errors
    /// Those of `flush`; [`StorageError::Unavailable`] after a failure.
    pub(super) fn durable_snapshot(
        &self,
        flush: impl FnOnce() -> Result<(), StorageError>,
        cache_bytes: usize,
    ) -> Result<DurableSnapshot, StorageError> {
        let stopped = |stopped: Stopped| stopped.into_storage_error(&self.path);
        let pinned = catch_panic(&self.path, || match &self.state().mode {
            Mode::Open(db) => Ok(db.begin_read()?),
            Mode::Stopped { failure, .. } => Err(unavailable(failure).into()),
            Mode::Failed(error) => Err(error.clone().into()),
        })
        .map_err(stopped)?;
        // Then the durable state is not older than the transaction, which keeps the engine
        // from overwriting its pages.
        flush()?;
        let Some(durable) = self.file.durable() else {
            return Err(StorageError::Unsupported(
                "a redb store to which nothing was written cannot be verified while it is open; \
                 close it first"
                    .into(),
            ));
        };
        let open = || Snapshot::open(&self.file, durable, cache_bytes);
        let snapshot = catch_panic(&self.path, open).map_err(stopped)?;
        Ok(DurableSnapshot { parts: Some((snapshot, pinned)) })
    }

    /// Runs a write; one at a time. A transaction that it does not commit is rolled
    /// back. `run` gets the generation, and must not call
    /// [`generation`](Self::generation), which would deadlock.
    ///
    /// # Errors
    /// Those of `run`. After [`StorageError::IoError`] and
    /// [`StorageError::Unavailable`] the write is indeterminate.
    pub(super) fn write<T>(
        &self,
        run: impl FnOnce(&Database, u64) -> Result<T, Error>,
    ) -> Result<T, StorageError> {
        self.prepare_to_write()?;
        let state = self.state();
        let generation = state.generation;
        let db = match &state.mode {
            Mode::Open(db) => db,
            Mode::Stopped { failure, .. } => return Err(unavailable(failure)),
            Mode::Failed(error) => return Err(error.clone()),
        };
        let ran = catch_panic(&self.path, || run(db, generation));
        drop(state);
        ran.map_err(|stopped| self.write_failed(generation, stopped))
    }

    /// Runs maintenance while no other transaction begins. Transactions that have begun
    /// before may still read. Errors are those of [`write`](Self::write).
    pub(super) fn write_alone<T>(
        &self,
        run: impl FnOnce(&mut Database) -> Result<T, Error>,
    ) -> Result<T, StorageError> {
        self.prepare_to_write()?;
        let mut state = self.state_mut();
        let generation = state.generation;
        let db = match &mut state.mode {
            Mode::Open(db) => db,
            Mode::Stopped { failure, .. } => return Err(unavailable(failure)),
            Mode::Failed(error) => return Err(error.clone()),
        };
        let ran = catch_panic(&self.path, || run(db));
        drop(state);
        ran.map_err(|stopped| self.write_failed(generation, stopped))
    }

    /// Handles a failed write, and returns its error.
    fn write_failed(&self, generation: u64, stopped: Stopped) -> StorageError {
        match stopped {
            Stopped::Failed(error) if error.is_io() => {
                self.stop(generation);
                match &self.state().mode {
                    Mode::Stopped { failure, .. } => write_error(failure),
                    _ => error.into_storage_error(&self.path),
                }
            }
            Stopped::Failed(error) => error.into_storage_error(&self.path),
            Stopped::Panicked(error) => {
                self.fail(error);
                StorageError::Unavailable {
                    key: None,
                    detail: format!(
                        "{}: the engine panicked during a write, which may or may not have taken \
                         effect; reopen the store",
                        self.path.display()
                    ),
                }
            }
        }
    }

    fn prepare_to_write(&self) -> Result<(), StorageError> {
        let failure = match &self.state().mode {
            Mode::Open(_) => None,
            Mode::Stopped { failure, .. } => Some(failure.clone()),
            Mode::Failed(error) => return Err(error.clone()),
        };
        match failure {
            Some(failure) if failure.kind == FailureKind::Sync => Err(unavailable(&failure)),
            Some(failure) => self.restart(&failure),
            None if self.file.has_backlog() => {
                let written = self.file.write_back();
                written.map_err(|error| io_failure::failed("write", &self.path, &error))
            }
            None => Ok(()),
        }
    }

    /// Switches to reading the last durable state, unless another thread did so since
    /// `generation`.
    fn stop(&self, generation: u64) {
        let mut state = self.state_mut();
        if state.generation != generation {
            return;
        }
        let new = self.file.take_failure().unwrap_or_else(|| Failure {
            kind: FailureKind::Read,
            detail: format!("cannot read {}", self.path.display()),
        });
        let failed =
            Mode::Failed(StorageError::Unavailable { key: None, detail: new.detail.clone() });
        let failure = match std::mem::replace(&mut state.mode, failed) {
            // A read of the snapshot failed: keep the failure that led to it.
            Mode::Stopped { snapshot, failure } => {
                discard(snapshot);
                failure
            }
            Mode::Open(db) => {
                discard(db);
                new
            }
            failed @ Mode::Failed(_) => {
                state.mode = failed;
                return;
            }
        };
        state.generation += 1;
        let Some(durable) = self.file.durable() else { return };
        match catch_panic(&self.path, || Snapshot::open(&self.file, durable, self.cache_bytes)) {
            Ok(snapshot) => state.mode = Mode::Stopped { snapshot, failure },
            Err(stopped) => state.mode = Mode::Failed(stopped.into_storage_error(&self.path)),
        }
    }

    /// Reopens the engine for writing at the last durable state.
    fn restart(&self, failure: &Failure) -> Result<(), StorageError> {
        if failure.kind == FailureKind::NoSpace {
            self.file.check_room().map_err(|_| write_error(failure))?;
        }
        self.file.rewind().map_err(|error| io_failure::failed("use", &self.path, &error))?;
        // The engine recovers as after a crash and writes only its header, so current
        // readers of the snapshot still see valid pages.
        let db = catch_panic(&self.path, || start(&self.file, self.cache_bytes, false))
            .map_err(|stopped| stopped.into_storage_error(&self.path))?;
        if let Err(error) = self.file.write_back() {
            discard(db);
            return Err(io_failure::failed("write", &self.path, &error));
        }
        let mut state = self.state_mut();
        if let Mode::Stopped { snapshot, .. } = &state.mode {
            snapshot.revoke();
        }
        state.generation += 1;
        let old = std::mem::replace(&mut state.mode, Mode::Open(db));
        drop(state);
        discard(old);
        Ok(())
    }

    /// Stops using the engine.
    fn fail(&self, error: StorageError) {
        let mut state = self.state_mut();
        state.generation += 1;
        let old = std::mem::replace(&mut state.mode, Mode::Failed(error));
        drop(state);
        // Closing it must not write a state that may be wrong.
        self.file.detach();
        discard(old);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.file.has_backlog() && self.file.write_back().is_err() {
            // Closing the engine would overwrite the last durable state.
            self.file.detach();
        }
        let failed = Mode::Failed(StorageError::Unavailable { key: None, detail: "closed".into() });
        let mode = std::mem::replace(&mut self.state_mut().mode, failed);
        discard(mode);
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The last durable state of an open store.
pub(super) struct DurableSnapshot {
    /// The state, and the transaction that keeps its pages. `None` when it is dropped.
    parts: Option<(Snapshot, ReadTransaction)>,
}

impl DurableSnapshot {
    pub(super) fn db(&self) -> Option<&ReadOnlyDatabase> {
        self.parts.as_ref().map(|(snapshot, _)| &snapshot.db)
    }
}

impl Drop for DurableSnapshot {
    fn drop(&mut self) {
        discard(self.parts.take());
    }
}

/// Opens a database in a file.
pub(super) fn start(
    file: &Arc<FileBackend>,
    cache_bytes: usize,
    check: bool,
) -> Result<Database, Error> {
    let mut builder = ::redb::Builder::new();
    builder.set_cache_size(cache_bytes).set_check_integrity_on_open(check);
    Ok(builder.create_with_backend(file.engine_backend())?)
}

pub(super) fn read_meta(path: &Path, db: &impl ReadableDatabase) -> Result<Meta, Error> {
    let txn = db.begin_read()?;
    let table = match txn.open_table(META) {
        Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => {
            return Err(Error::Store(StorageError::IoError(format!(
                "{} is a redb database of another program, not a store; give the path of a \
                 store, or a new path",
                path.display()
            ))));
        }
        table => table?,
    };
    let bad = match Meta::read(&table)? {
        Ok(meta) => return Ok(meta),
        Err(bad) => bad,
    };
    Err(Error::Store(match bad {
        BadMeta::OtherFormat(version) => identity::other_format(path, version, FORMAT),
        BadMeta::Damaged(what) => corrupt(path, &format!("{what} is damaged")),
    }))
}

/// Drops an object of the engine, which may panic again.
fn discard<T>(object: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(object)));
}

/// The error of the write that failed.
fn write_error(failure: &Failure) -> StorageError {
    match failure.kind {
        FailureKind::NoSpace | FailureKind::Write | FailureKind::Read => {
            StorageError::IoError(failure.detail.clone())
        }
        FailureKind::Sync => StorageError::IoError(format!(
            "{}; the write may or may not have taken effect; reopen the store",
            failure.detail
        )),
    }
}

/// The error of later writes.
fn unavailable(failure: &Failure) -> StorageError {
    StorageError::Unavailable {
        key: None,
        detail: format!(
            "an earlier write failed: {}; reopen the store to write again",
            failure.detail
        ),
    }
}
