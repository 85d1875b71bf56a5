//! The file as the engine sees it.
//!
//! The engine's own file access would do but for three things that are added
//! here:
//!
//! - **The header is written last.** The engine writes its header, which names
//!   the newest commit, whenever it likes before it syncs. Here the header waits
//!   in memory for the sync, so that a commit whose pages could not be written
//!   has left the file's header alone, and the state before it is still what the
//!   file says.
//! - **The last durable header is remembered.** With it the state that is known
//!   to be on the disk can be read after a write has failed ([`super::snapshot`]).
//! - **Writes can be held in memory.** A store that is open for reading lets the
//!   engine recover from a crash in memory and never touches the file; one that
//!   is being opened for writing touches it only once it is known to be ours. A
//!   relaxed store whose disk is full holds what it could not write, so that
//!   nothing acknowledged is lost while the process lives.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::redb::StorageBackend;
use storage_core::StorageError;

use crate::lock;
use crate::locked_file::LockedFile;

/// The unit in which writes are held.
const BLOCK: u64 = 4096;

/// Nothing but the header lies in front of this offset.
const FIRST_PAGE: u64 = 4096;

/// A store's file, shared by the engine, which writes and reads it, and the
/// store, which asks what became of it.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    file: Arc<LockedFile>,
    /// Whether a full disk is hidden from the engine, as [`Hold::Behind`].
    absorbs: bool,
    /// Whether reads have to look at what is held.
    held: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    hold: Hold,
    /// The file's length as the engine sees it.
    len: u64,
    /// How much of the file shows, where writes are held.
    base_len: u64,
    /// Held writes, by the number of the block.
    blocks: BTreeMap<u64, Box<[u8]>>,
    /// What the engine wrote last as its header.
    header: Option<Vec<u8>>,
    /// Whether the file does not have that header yet.
    header_waits: bool,
    durable: Option<DurableState>,
    failure: Option<Failure>,
    /// What the disk refused, while writes are held for that.
    behind_because: Option<String>,
}

/// Where writes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// To the file.
    Through,
    /// To memory, until [`Disk::settle`].
    Scratch,
    /// To memory, because the disk was full when the engine made its newest
    /// commit durable. The engine must not begin another write before this is
    /// settled: it believes that the pages of the commit before are free.
    Behind,
}

/// What the file is known to hold after a power cut.
#[derive(Debug, Clone)]
pub(super) struct DurableState {
    pub(super) header: Vec<u8>,
    pub(super) len: u64,
}

/// The first thing that went wrong with the file.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// Nothing of the commit counts: its header was not written.
    NoSpace,
    /// As `NoSpace`, for another reason.
    Write,
    /// Whether the commit is on the disk is unknown.
    Sync,
    /// Something could not be read.
    Read,
}

impl Disk {
    /// Takes a file whose lock is held. Writes are held until
    /// [`settle`](Self::settle).
    pub(super) fn new(path: &Path, file: Arc<LockedFile>, absorbs: bool) -> io::Result<Arc<Self>> {
        let len = file.metadata()?.len();
        let state = State {
            hold: Hold::Scratch,
            len,
            base_len: len,
            blocks: BTreeMap::new(),
            header: None,
            header_waits: false,
            durable: None,
            failure: None,
            behind_because: None,
        };
        Ok(Arc::new(Self {
            path: path.to_owned(),
            file,
            absorbs,
            held: AtomicBool::new(true),
            state: Mutex::new(state),
        }))
    }

    /// The engine's end of it.
    pub(super) fn backend(self: &Arc<Self>) -> impl StorageBackend {
        Backend(Arc::clone(self))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics with the lock held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> u64 {
        self.state().len
    }

    /// Makes sure that the file is still at its path, before something is written.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it is not.
    pub(super) fn check_in_place(&self) -> Result<(), StorageError> {
        lock::check_in_place(&self.path, &self.path, &self.file)
    }

    /// Makes sure of that after a flush.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it is not.
    pub(super) fn check_flushed(&self) -> Result<(), StorageError> {
        lock::check_flushed(&self.path, &self.path, &self.file)
    }

    /// What is known to be durable; `None` before the first sync.
    pub(super) fn durable(&self) -> Option<DurableState> {
        self.state().durable.clone()
    }

    /// What went wrong first since this was asked last.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        self.state().failure.take()
    }

    /// Whether a full disk has kept the newest durable commit out of the file.
    pub(super) fn is_behind(&self) -> bool {
        self.state().hold == Hold::Behind
    }

    /// Why the file lacks the newest durable commit, if it does.
    pub(super) fn behind_because(&self) -> Option<String> {
        self.state().behind_because.clone()
    }

    /// Puts what is held into the file, durably; from here on writes go there.
    ///
    /// An engine that has only been opened has nothing but a header that waits
    /// for its first commit: the one in the file is as good until then, because
    /// the engine does not write over what that one names.
    ///
    /// # Errors
    /// Of the file system; everything is still held then, and the file says what
    /// it said before.
    pub(super) fn settle(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.hold == Hold::Through {
            return Ok(());
        }
        self.settle_locked(&mut state)
    }

    fn settle_locked(&self, state: &mut State) -> io::Result<()> {
        let real_len = self.file.metadata()?.len();
        if !state.blocks.is_empty() || state.len != real_len {
            state.header_waits = true;
        }
        if state.len > real_len {
            fault_point("set_len")?;
            self.file.set_len(state.len)?;
        }
        for (number, block) in &state.blocks {
            let at = number.saturating_mul(BLOCK);
            fault_point("write")?;
            write_at(&self.file, block, at)?;
        }
        if state.header_waits {
            // The header must not reach the disk in front of what it names.
            fault_point("sync")?;
            self.file.sync_data()?;
            self.sync_header(state)?;
        }
        if state.len < real_len {
            // Only now nothing durable lies there any more.
            fault_point("set_len")?;
            self.file.set_len(state.len)?;
        }
        state.blocks.clear();
        state.base_len = state.len;
        state.hold = Hold::Through;
        state.behind_because = None;
        self.held.store(false, Ordering::Release);
        Ok(())
    }

    /// Gives up what is held: from here on nothing reaches the file.
    pub(super) fn detach(&self) {
        let mut state = self.state();
        state.base_len = state.base_len.min(state.len);
        state.hold = Hold::Scratch;
        self.held.store(true, Ordering::Release);
    }

    /// Writes the header, if it waits, and syncs.
    fn sync_header(&self, state: &mut State) -> io::Result<()> {
        if state.header_waits
            && let Some(header) = &state.header
        {
            fault_point("write header")?;
            write_at(&self.file, header, 0)?;
        }
        fault_point("sync")?;
        self.file.sync_data()?;
        state.is_durable();
        Ok(())
    }

    /// Whether a small commit would find room now. What the failed one took is
    /// given back first.
    pub(super) fn has_room(&self) -> io::Result<()> {
        static ROOM: [u8; 1 << 18] = [0; 1 << 18];
        let state = self.state();
        let durable_len = state.durable.as_ref().map_or(state.len, |durable| durable.len);
        self.file.set_len(durable_len)?;
        let tried = fault_point("write").and_then(|()| write_at(&self.file, &ROOM, durable_len));
        self.file.set_len(durable_len)?;
        tried
    }

    /// Makes the file ready for another engine that begins at the last durable
    /// state.
    pub(super) fn rewind(&self) -> io::Result<()> {
        let mut state = self.state();
        if let Some(durable) = state.durable.clone() {
            state.header = Some(durable.header);
            state.header_waits = false;
        }
        state.blocks.clear();
        state.failure = None;
        state.len = self.file.metadata()?.len();
        state.base_len = state.len;
        state.hold = Hold::Scratch;
        self.held.store(true, Ordering::Release);
        Ok(())
    }

    /// Tries to put the last durable header back after a sync that failed, so
    /// that whoever opens the file next finds the state that is known to be on
    /// the disk, and not one that may be in the system's memory alone.
    fn restore_header(&self, state: &State) {
        if let Some(durable) = &state.durable {
            // It may well fail as the sync has: then the outcome stays unknown.
            let _ = fault_point("restore")
                .and_then(|()| write_at(&self.file, &durable.header, 0))
                .and_then(|()| self.file.sync_data());
        }
    }

    fn fail(&self, state: &mut State, kind: FailureKind, error: &io::Error) {
        let kind = match kind {
            FailureKind::Write if is_no_space(error) => FailureKind::NoSpace,
            other => other,
        };
        let what = match kind {
            FailureKind::NoSpace | FailureKind::Write => "write",
            FailureKind::Sync => "sync",
            FailureKind::Read => "read",
        };
        let detail = crate::io_failure::message(what, &self.path, error);
        state.failure.get_or_insert(Failure { kind, detail });
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset >= FIRST_PAGE && !self.held.load(Ordering::Acquire) {
            return self.read_file(offset, out);
        }
        let state = self.state();
        if state.hold == Hold::Through && offset >= FIRST_PAGE {
            drop(state);
            return self.read_file(offset, out);
        }
        let end = offset.saturating_add(out.len() as u64);
        if end > state.len {
            return Err(io::Error::from(ErrorKind::UnexpectedEof));
        }
        out.fill(0);
        let shown = state.base_len.clamp(offset, end) - offset;
        if let Some(shown) = usize::try_from(shown).ok().and_then(|shown| out.get_mut(..shown))
            && !shown.is_empty()
        {
            fault_point("read")?;
            read_at(&self.file, shown, offset)?;
        }
        for (number, block) in state.blocks.range(offset / BLOCK..end.div_ceil(BLOCK)) {
            overlay(out, offset, block, number.saturating_mul(BLOCK));
        }
        if let Some(header) = &state.header {
            overlay(out, offset, header, 0);
        }
        Ok(())
    }

    fn read_file(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        fault_point("read").and_then(|()| read_at(&self.file, out, offset)).inspect_err(|error| {
            self.fail(&mut self.state(), FailureKind::Read, error);
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset == 0 {
            let mut state = self.state();
            state.header = Some(data.to_vec());
            state.header_waits = true;
            return Ok(());
        }
        if !self.held.load(Ordering::Acquire) {
            let written = fault_point("write").and_then(|()| write_at(&self.file, data, offset));
            let Err(error) = written else { return Ok(()) };
            let mut state = self.state();
            if !(self.absorbs && is_no_space(&error)) {
                self.fail(&mut state, FailureKind::Write, &error);
                return Err(error);
            }
            self.fall_behind(&mut state, &error);
        }
        let mut state = self.state();
        self.hold_back(&mut state, offset, data)
    }

    fn fall_behind(&self, state: &mut State, error: &io::Error) {
        state.behind_because = Some(crate::io_failure::message("write", &self.path, error));
        state.base_len = state.len;
        state.hold = Hold::Behind;
        self.held.store(true, Ordering::Release);
    }

    fn hold_back(&self, state: &mut State, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(data.len() as u64);
        if end > state.len {
            return Err(io::Error::from(ErrorKind::UnexpectedEof));
        }
        for number in offset / BLOCK..end.div_ceil(BLOCK) {
            let start = number.saturating_mul(BLOCK);
            let base_len = state.base_len;
            let block = match state.blocks.entry(number) {
                std::collections::btree_map::Entry::Occupied(held) => held.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => {
                    let mut block = vec![0; BLOCK as usize].into_boxed_slice();
                    let whole = offset <= start && end >= start.saturating_add(BLOCK);
                    if !whole && start < base_len {
                        let shown = (base_len - start).min(BLOCK) as usize;
                        if let Some(shown) = block.get_mut(..shown) {
                            read_at(&self.file, shown, start)?;
                        }
                    }
                    free.insert(block)
                }
            };
            overlay(block, start, data, offset);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.hold == Hold::Through {
            match fault_point("set_len").and_then(|()| self.file.set_len(len)) {
                Ok(()) => state.base_len = len,
                Err(error) if self.absorbs && is_no_space(&error) => {
                    self.fall_behind(&mut state, &error);
                }
                Err(error) => {
                    self.fail(&mut state, FailureKind::Write, &error);
                    return Err(error);
                }
            }
        }
        state.len = len;
        state.base_len = state.base_len.min(len);
        state.blocks.split_off(&len.div_ceil(BLOCK));
        if state.hold == Hold::Through
            && let Some(durable) = &mut state.durable
        {
            durable.len = durable.len.min(len);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        match state.hold {
            Hold::Scratch => {
                // What the file has instead says the same.
                state.is_durable();
                Ok(())
            }
            Hold::Through => self.sync_header(&mut state).inspect_err(|error| {
                self.fail(&mut state, FailureKind::Sync, error);
                self.restore_header(&state);
            }),
            Hold::Behind => match self.settle_locked(&mut state) {
                // The engine goes on as if it were durable, and the store refuses
                // writes until it is.
                Err(error) if is_no_space(&error) => Ok(()),
                Err(error) => {
                    self.fail(&mut state, FailureKind::Sync, &error);
                    self.restore_header(&state);
                    Err(error)
                }
                Ok(()) => Ok(()),
            },
        }
    }
}

impl State {
    /// A sync went through. One that carried no header, as when the file grows,
    /// has made no other state durable.
    fn is_durable(&mut self) {
        if let Some(header) = &self.header
            && (self.header_waits || self.durable.is_none())
        {
            self.durable = Some(DurableState { header: header.clone(), len: self.len });
        }
        self.header_waits = false;
        // What went wrong on the way was made good.
        self.failure = None;
    }
}

/// What the engine is given; it may close it without closing the file.
#[derive(Debug)]
struct Backend(Arc<Disk>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

/// Copies what `from`, which begins at `from_at`, has for `to`, which begins at
/// `to_at`.
fn overlay(to: &mut [u8], to_at: u64, from: &[u8], from_at: u64) {
    let skip_to = usize::try_from(from_at.saturating_sub(to_at)).unwrap_or(usize::MAX);
    let skip_from = usize::try_from(to_at.saturating_sub(from_at)).unwrap_or(usize::MAX);
    if let (Some(to), Some(from)) = (to.get_mut(skip_to..), from.get(skip_from..)) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }
}

#[cfg(unix)]
fn read_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(unix)]
fn write_at(file: &File, data: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, data, offset)
}

/// Elsewhere a file has one position, so one access goes at a time.
#[cfg(not(unix))]
static POSITION: Mutex<()> = Mutex::new(());

#[cfg(not(unix))]
fn read_at(mut file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let _position = POSITION.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(out)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, data: &[u8], offset: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    let _position = POSITION.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(data)
}

/// Where the tests make an access to the disk fail.
#[cfg(not(test))]
pub(super) fn fault_point(_operation: &str) -> io::Result<()> {
    Ok(())
}
#[cfg(test)]
pub(super) use super::fault_tests::fault_point;

/// What a thread of the store has to do first so that the tests reach it too.
#[cfg(not(test))]
pub(super) fn inherit_faults() -> impl FnOnce() + Send {
    || {}
}
#[cfg(test)]
pub(super) use super::fault_tests::inherit_faults;
