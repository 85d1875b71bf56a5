//! The engine in whatever condition it is: opening it, and what its errors and
//! panics lead to.
//!
//! After an I/O error the engine has to be opened anew. Until that succeeds, at
//! the next write for which there is room, the last durable state is read
//! ([`Snapshot`]). After a sync that failed, writing needs the store to be
//! opened anew by whoever uses it. After a panic, which the engine answers some
//! damage with, nothing is asked of it any more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ::redb::{Database, ReadTransaction, ReadableDatabase, TableError};
use storage_core::StorageError;

use super::disk::{Disk, Failure, FailureKind};
use super::fail::{Fail, corrupt, panic_text};
use super::options::RedbOptions;
use super::place;
use super::snapshot::Snapshot;
use super::tables::{BadMeta, DATA, FORMAT, LEDGERS, META, Meta};
use crate::identity;
use crate::locked_file::LockedFile;

/// How often a read is begun again when the engine stops under it.
const TRIES: usize = 3;

pub(super) struct Engine {
    path: PathBuf,
    disk: Arc<Disk>,
    cache_bytes: usize,
    state: RwLock<State>,
}

struct State {
    /// Counts the changes of `mode`, so that of many who find the engine stopped
    /// one acts.
    generation: u64,
    mode: Mode,
}

enum Mode {
    Open(Database),
    /// Writing has failed, and the last durable state is read.
    Stopped {
        snapshot: Snapshot,
        failure: Failure,
    },
    /// Nothing can be answered any more.
    Gone(StorageError),
}

/// Why the engine is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Write,
    /// The file is not touched.
    Read,
}

impl Engine {
    /// Opens the engine on a file whose lock is held, and reads what the store
    /// says of itself. A file that is refused is left as it is.
    pub(super) fn open(
        path: &Path,
        file: Arc<LockedFile>,
        options: &RedbOptions,
        purpose: Purpose,
    ) -> Result<(Self, Meta), StorageError> {
        let absorbs = purpose == Purpose::Write && options.is_relaxed()?;
        let disk = Disk::new(path, file, absorbs)
            .map_err(|error| place::failed("look at", path, &error))?;
        let check = disk.len() <= options.check_up_to_bytes;
        let (db, meta) = guarded(path, || {
            let db = start(&disk, options.cache_bytes, check)?;
            let meta = read_meta(path, &db)?;
            Ok((db, meta))
        })
        .map_err(|stopped| stopped.told(path))?;
        let engine = Self {
            path: path.to_owned(),
            disk,
            cache_bytes: options.cache_bytes,
            state: RwLock::new(State { generation: 0, mode: Mode::Open(db) }),
        };
        if purpose == Purpose::Write {
            let settled = engine.disk.settle();
            settled.map_err(|error| place::failed("write", path, &error))?;
        }
        Ok((engine, meta))
    }

    /// Writes an empty store into an empty file, durably.
    pub(super) fn create(path: &Path, file: Arc<LockedFile>) -> Result<(), StorageError> {
        let disk =
            Disk::new(path, file, false).map_err(|error| place::failed("look at", path, &error))?;
        let settle = || disk.settle().map_err(|error| place::failed("write", path, &error));
        settle()?;
        guarded(path, || {
            let db = start(&disk, 0, false)?;
            let txn = db.begin_write()?;
            txn.open_table(DATA)?;
            txn.open_table(LEDGERS)?;
            let meta = Meta { store_id: identity::new_store_id(), reserved_up_to: 1 };
            meta.write(&mut txn.open_table(META)?)?;
            txn.commit()?;
            db.close()?;
            Ok(())
        })
        .map_err(|stopped| match disk.take_failure() {
            Some(failure) => StorageError::IoError(failure.detail),
            None => stopped.told(path),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How often the engine has stopped or was started again. What was not
    /// durable before that is lost.
    pub(super) fn generation(&self) -> u64 {
        self.state().generation
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        // Nothing panics with the lock held for writing.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a read in a transaction of its own; more than once if the engine
    /// stops under it.
    pub(super) fn read<T>(
        &self,
        mut run: impl FnMut(&ReadTransaction) -> Result<T, Fail>,
    ) -> Result<T, StorageError> {
        let mut tries = 1;
        loop {
            match self.read_once(&mut run) {
                Err((error, Some(generation))) if error.is_io() && tries < TRIES => {
                    self.stop(generation);
                    tries += 1;
                }
                Err((error, _)) => return Err(error.told(&self.path)),
                Ok(found) => return Ok(found),
            }
        }
    }

    /// The same for a read that cannot be begun again.
    pub(super) fn read_through<T>(
        &self,
        run: impl FnOnce(&ReadTransaction) -> Result<T, Fail>,
    ) -> Result<T, StorageError> {
        self.read_once(run).map_err(|(error, generation)| {
            if let Some(generation) = generation
                && error.is_io()
            {
                self.stop(generation);
            }
            error.told(&self.path)
        })
    }

    fn read_once<T>(
        &self,
        run: impl FnOnce(&ReadTransaction) -> Result<T, Fail>,
    ) -> Result<T, (Fail, Option<u64>)> {
        let mut generation = None;
        let ran = guarded(&self.path, || {
            let state = self.state();
            generation = Some(state.generation);
            let txn = match &state.mode {
                Mode::Open(db) => db.begin_read()?,
                Mode::Stopped { snapshot, .. } => snapshot.db.begin_read()?,
                Mode::Gone(error) => return Err(error.clone().into()),
            };
            drop(state);
            run(&txn)
        });
        ran.map_err(|stopped| match stopped {
            Stopped::Failed(fail) => (fail, generation),
            Stopped::Panicked(error) => {
                self.give_up(error.clone());
                (error.into(), None)
            }
        })
    }

    /// Runs a write; one at a time. What it leaves undone is undone. It is told
    /// the generation, and must not ask for it.
    ///
    /// # Errors
    /// What `run` answers. After [`StorageError::IoError`] and
    /// [`StorageError::Unavailable`] the outcome is unknown.
    pub(super) fn write<T>(
        &self,
        run: impl FnOnce(&Database, u64) -> Result<T, Fail>,
    ) -> Result<T, StorageError> {
        self.be_ready_to_write()?;
        let state = self.state();
        let generation = state.generation;
        let db = match &state.mode {
            Mode::Open(db) => db,
            Mode::Stopped { failure, .. } => return Err(unavailable(failure)),
            Mode::Gone(error) => return Err(error.clone()),
        };
        let ran = guarded(&self.path, || run(db, generation));
        drop(state);
        ran.map_err(|stopped| match stopped {
            Stopped::Failed(fail) if fail.is_io() => {
                self.stop(generation);
                match &self.state().mode {
                    Mode::Stopped { failure, .. } => write_error(failure),
                    _ => fail.told(&self.path),
                }
            }
            Stopped::Failed(fail) => fail.told(&self.path),
            Stopped::Panicked(error) => {
                self.give_up(error);
                StorageError::Unavailable {
                    key: None,
                    detail: format!(
                        "{}: the engine stopped in a write; whether it happened is unknown until the store is opened anew",
                        self.path.display()
                    ),
                }
            }
        })
    }

    fn be_ready_to_write(&self) -> Result<(), StorageError> {
        let failure = match &self.state().mode {
            Mode::Open(_) => None,
            Mode::Stopped { failure, .. } => Some(failure.clone()),
            Mode::Gone(error) => return Err(error.clone()),
        };
        match failure {
            Some(failure) if failure.kind == FailureKind::Sync => Err(unavailable(&failure)),
            Some(failure) => self.start_again(&failure),
            None if self.disk.is_behind() => {
                let settled = self.disk.settle();
                settled.map_err(|error| place::failed("write", &self.path, &error))
            }
            None => Ok(()),
        }
    }

    /// Goes over to reading the last durable state, unless somebody else has
    /// since `generation`.
    fn stop(&self, generation: u64) {
        let mut state = self.state_mut();
        if state.generation != generation {
            return;
        }
        let new = self.disk.take_failure().unwrap_or_else(|| Failure {
            kind: FailureKind::Read,
            detail: format!("{} could not be read", self.path.display()),
        });
        let gone = Mode::Gone(StorageError::Unavailable { key: None, detail: new.detail.clone() });
        let failure = match std::mem::replace(&mut state.mode, gone) {
            // A read of the durable state has failed: what made it necessary
            // still counts.
            Mode::Stopped { snapshot, failure } => {
                discard(snapshot);
                failure
            }
            Mode::Open(db) => {
                discard(db);
                new
            }
            gone @ Mode::Gone(_) => {
                state.mode = gone;
                return;
            }
        };
        state.generation += 1;
        let Some(durable) = self.disk.durable() else { return };
        match guarded(&self.path, || Snapshot::open(&self.disk, durable, self.cache_bytes)) {
            Ok(snapshot) => state.mode = Mode::Stopped { snapshot, failure },
            Err(stopped) => state.mode = Mode::Gone(stopped.told(&self.path)),
        }
    }

    /// Opens the engine for writing again, where the last durable state is read.
    fn start_again(&self, failure: &Failure) -> Result<(), StorageError> {
        if failure.kind == FailureKind::NoSpace {
            self.disk.has_room().map_err(|_| write_error(failure))?;
        }
        let cannot = |error| place::failed("use", &self.path, &error);
        self.disk.rewind().map_err(cannot)?;
        // The engine recovers as after a crash, and writes nothing but its
        // header: what is read meanwhile stays as it is.
        let db = guarded(&self.path, || start(&self.disk, self.cache_bytes, false))
            .map_err(|stopped| stopped.told(&self.path))?;
        if let Err(error) = self.disk.settle() {
            discard(db);
            return Err(place::failed("write", &self.path, &error));
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

    /// Asks nothing of the engine any more.
    fn give_up(&self, error: StorageError) {
        let mut state = self.state_mut();
        state.generation += 1;
        let old = std::mem::replace(&mut state.mode, Mode::Gone(error));
        drop(state);
        // It must not write what it may have got wrong.
        self.disk.detach();
        discard(old);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.disk.is_behind() && self.disk.settle().is_err() {
            // What closing would write lies where the last durable state does.
            self.disk.detach();
        }
        let gone = Mode::Gone(StorageError::Unavailable { key: None, detail: "closed".into() });
        let mode = std::mem::replace(&mut self.state_mut().mode, gone);
        discard(mode);
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Starts the engine on a disk.
pub(super) fn start(disk: &Arc<Disk>, cache_bytes: usize, check: bool) -> Result<Database, Fail> {
    let mut builder = ::redb::Builder::new();
    builder.set_cache_size(cache_bytes).set_check_integrity_on_open(check);
    Ok(builder.create_with_backend(disk.backend())?)
}

pub(super) fn read_meta(path: &Path, db: &Database) -> Result<Meta, Fail> {
    let txn = db.begin_read()?;
    let table = match txn.open_table(META) {
        Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => {
            return Err(Fail::Store(StorageError::IoError(format!(
                "{} is a redb database with no store in it; give the path of a store, or one where there is nothing yet",
                path.display()
            ))));
        }
        table => table?,
    };
    let bad = match Meta::read(&table)? {
        Ok(meta) => return Ok(meta),
        Err(bad) => bad,
    };
    Err(Fail::Store(match bad {
        BadMeta::OtherFormat(version) => identity::other_format(path, version, FORMAT),
        BadMeta::Damaged(what) => corrupt(path, &format!("{what} is damaged")),
    }))
}

/// Why a call of the engine did not come to its end.
pub(super) enum Stopped {
    Failed(Fail),
    Panicked(StorageError),
}

impl Stopped {
    pub(super) fn told(self, path: &Path) -> StorageError {
        match self {
            Self::Failed(fail) => fail.told(path),
            Self::Panicked(error) => error,
        }
    }
}

/// Calls the engine. It panics on some damage; that is told as damage.
pub(super) fn guarded<T>(path: &Path, run: impl FnOnce() -> Result<T, Fail>) -> Result<T, Stopped> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(ran) => ran.map_err(Stopped::Failed),
        Err(panic) => {
            let detail = format!("the engine stopped: {}", panic_text(&*panic));
            Err(Stopped::Panicked(corrupt(path, &detail)))
        }
    }
}

/// Drops what belongs to the engine, which may panic if it has before.
fn discard<T>(what: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(what)));
}

/// What the write that failed is told.
fn write_error(failure: &Failure) -> StorageError {
    match failure.kind {
        FailureKind::NoSpace | FailureKind::Write | FailureKind::Read => {
            StorageError::IoError(failure.detail.clone())
        }
        FailureKind::Sync => StorageError::IoError(format!(
            "{}; whether the write happened is unknown until the store is opened anew",
            failure.detail
        )),
    }
}

/// What writes after it are told.
fn unavailable(failure: &Failure) -> StorageError {
    StorageError::Unavailable {
        key: None,
        detail: format!(
            "an earlier write failed, and nothing is written until the store is opened anew: {}",
            failure.detail
        ),
    }
}
