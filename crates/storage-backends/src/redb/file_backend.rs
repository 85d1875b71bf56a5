//! The file access that the engine uses.
//!
//! It differs from the engine's own in three ways:
//!
//! - **The header is written last.** The engine may write its header, which names the
//!   newest commit, long before it syncs. Here the header stays in memory until the
//!   sync. If a commit's pages cannot be written, the file still has the header of the
//!   previous state.
//! - **The last durable header is kept.** After a failed write it is used to read the
//!   state that is known to be on disk ([`super::snapshot`]).
//! - **Writes can be buffered in memory.** A read-only store lets the engine recover in
//!   memory and never changes the file. A store that is being opened for writing changes
//!   the file only after its metadata was checked. When the disk is full, a relaxed store
//!   buffers what it could not write, so that no acknowledged write is lost while the
//!   process runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::redb::StorageBackend;
use storage_core::StorageError;

use crate::faults::fault_point;
use crate::lock;
use crate::locked_file::LockedFile;

/// The unit in which writes are buffered.
const BLOCK: u64 = 4096;

/// Only the header is in front of this offset.
const FIRST_PAGE: u64 = 4096;

/// A store's file, shared by the engine, which reads and writes it, and the store,
/// which asks for its state.
#[derive(Debug)]
pub(super) struct FileBackend {
    path: PathBuf,
    file: Arc<LockedFile>,
    /// Whether writes go to [`Target::Backlog`] when the disk is full.
    buffers_when_full: AtomicBool,
    /// Whether reads must look at buffered blocks.
    buffers: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    target: Target,
    /// The file's length as the engine sees it.
    len: u64,
    /// How much of the file is visible under the buffered blocks.
    base_len: u64,
    /// Buffered blocks, by their number.
    blocks: BTreeMap<u64, Box<[u8]>>,
    /// The header that the engine wrote last.
    header: Option<Vec<u8>>,
    /// Whether the header is not in the file yet.
    header_pending: bool,
    durable: Option<DurableState>,
    failure: Option<Failure>,
    /// The disk's error, while there is a backlog.
    backlog_reason: Option<String>,
}

/// Where writes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    File,
    /// Memory, until [`FileBackend::write_back`].
    Memory,
    /// Memory, because the disk was full when the engine made its newest commit
    /// durable. The engine must not start another write before
    /// [`FileBackend::write_back`] succeeds, because it reuses the pages of the commit
    /// before that.
    Backlog,
}

/// What the file holds after a power cut.
#[derive(Debug, Clone)]
pub(super) struct DurableState {
    pub(super) header: Vec<u8>,
    pub(super) len: u64,
}

/// The first I/O error of the file.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The disk is full. The commit did not happen, because its header was not written.
    NoSpace,
    /// As `NoSpace`, for another reason.
    Write,
    /// Whether the commit is on disk is unknown.
    Sync,
    Read,
}

impl FileBackend {
    /// Wraps a locked file. Writes are buffered until [`write_back`](Self::write_back).
    pub(super) fn new(
        path: &Path,
        file: Arc<LockedFile>,
        buffers_when_full: bool,
    ) -> io::Result<Arc<Self>> {
        let len = file.metadata()?.len();
        let state = State {
            target: Target::Memory,
            len,
            base_len: len,
            blocks: BTreeMap::new(),
            header: None,
            header_pending: false,
            durable: None,
            failure: None,
            backlog_reason: None,
        };
        Ok(Arc::new(Self {
            path: path.to_owned(),
            file,
            buffers_when_full: AtomicBool::new(buffers_when_full),
            buffers: AtomicBool::new(true),
            state: Mutex::new(state),
        }))
    }

    /// The object that the engine owns.
    pub(super) fn engine_backend(self: &Arc<Self>) -> impl StorageBackend {
        EngineBackend(Arc::clone(self))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> u64 {
        self.state().len
    }

    /// Checks before a write that the file is still at its path.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it is not.
    pub(super) fn check_in_place(&self) -> Result<(), StorageError> {
        lock::check_in_place(&self.path, &self.path, &self.file)
    }

    /// Checks the same after a flush.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it is not.
    pub(super) fn check_flushed(&self) -> Result<(), StorageError> {
        lock::check_flushed(&self.path, &self.path, &self.file)
    }

    /// The last durable state; `None` before the first sync.
    pub(super) fn durable(&self) -> Option<DurableState> {
        self.state().durable.clone()
    }

    /// Returns the first failure since the last call.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        self.state().failure.take()
    }

    /// Whether a full disk keeps the newest durable commit out of the file.
    pub(super) fn has_backlog(&self) -> bool {
        self.state().target == Target::Backlog
    }

    /// Why there is a backlog; `None` if there is none.
    pub(super) fn backlog_reason(&self) -> Option<String> {
        self.state().backlog_reason.clone()
    }

    fn buffers_when_full(&self) -> bool {
        self.buffers_when_full.load(Ordering::Relaxed)
    }

    /// Calls `run`, during which a write to a full disk fails and is not buffered.
    pub(super) fn without_backlog<T>(&self, run: impl FnOnce() -> T) -> T {
        let buffered = self.buffers_when_full.swap(false, Ordering::Relaxed);
        let ran = run();
        self.buffers_when_full.store(buffered, Ordering::Relaxed);
        ran
    }

    /// Writes what is buffered to the file, durably. Later writes go to the file.
    ///
    /// An engine that was only opened has buffered nothing but a header. That header is
    /// written with the first commit: until then, the one in the file is equivalent.
    ///
    /// # Errors
    /// The error of the file system. Then everything is still buffered, and the state in
    /// the file is unchanged.
    pub(super) fn write_back(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.target == Target::File {
            return Ok(());
        }
        self.write_back_locked(&mut state)
    }

    fn write_back_locked(&self, state: &mut State) -> io::Result<()> {
        let real_len = self.file.metadata()?.len();
        if !state.blocks.is_empty() || state.len != real_len {
            state.header_pending = true;
        }
        if state.len > real_len {
            fault_point("set_len")?;
            self.file.set_len(state.len)?;
        }
        for (number, block) in &state.blocks {
            let offset = number.saturating_mul(BLOCK);
            fault_point("write")?;
            write_at(&self.file, block, offset)?;
        }
        if state.header_pending {
            // The header must not reach the disk before the pages that it names.
            fault_point("sync")?;
            self.file.sync_data()?;
            self.sync_header(state)?;
        }
        if state.len < real_len {
            // Only now the end of the file holds no durable page.
            fault_point("set_len")?;
            self.file.set_len(state.len)?;
        }
        state.blocks.clear();
        state.base_len = state.len;
        state.target = Target::File;
        state.backlog_reason = None;
        self.buffers.store(false, Ordering::Release);
        Ok(())
    }

    /// Discards the backlog. Nothing is written to the file from now on.
    pub(super) fn detach(&self) {
        let mut state = self.state();
        state.base_len = state.base_len.min(state.len);
        state.target = Target::Memory;
        self.buffers.store(true, Ordering::Release);
    }

    /// Writes a pending header, and syncs.
    fn sync_header(&self, state: &mut State) -> io::Result<()> {
        if state.header_pending
            && let Some(header) = &state.header
        {
            fault_point("write header")?;
            write_at(&self.file, header, 0)?;
        }
        fault_point("sync")?;
        self.file.sync_data()?;
        state.mark_durable();
        Ok(())
    }

    /// Checks that a small commit would find room now. First releases the space of the
    /// failed commit.
    pub(super) fn check_room(&self) -> io::Result<()> {
        static ROOM: [u8; 1 << 18] = [0; 1 << 18];
        let state = self.state();
        let durable_len = state.durable.as_ref().map_or(state.len, |durable| durable.len);
        self.file.set_len(durable_len)?;
        let tried = fault_point("write").and_then(|()| write_at(&self.file, &ROOM, durable_len));
        self.file.set_len(durable_len)?;
        tried
    }

    /// Prepares the file for a new engine that starts at the last durable state.
    pub(super) fn rewind(&self) -> io::Result<()> {
        let mut state = self.state();
        if let Some(durable) = state.durable.clone() {
            state.header = Some(durable.header);
            state.header_pending = false;
        }
        state.blocks.clear();
        state.failure = None;
        state.len = self.file.metadata()?.len();
        state.base_len = state.len;
        state.target = Target::Memory;
        self.buffers.store(true, Ordering::Release);
        Ok(())
    }

    /// Tries to restore the last durable header after a failed sync.
    ///
    /// After a failed fsync the kernel may drop the dirty pages and still show them to
    /// readers. Without the old header, the next opening would build on pages that are
    /// not on disk.
    fn restore_header(&self, state: &State) {
        if let Some(durable) = &state.durable {
            // If this fails too, the outcome of the write stays unknown.
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
        if offset >= FIRST_PAGE && !self.buffers.load(Ordering::Acquire) {
            return self.read_file(offset, out);
        }
        let state = self.state();
        if state.target == Target::File && offset >= FIRST_PAGE {
            drop(state);
            return self.read_file(offset, out);
        }
        let end = offset.saturating_add(out.len() as u64);
        if end > state.len {
            return Err(io::Error::from(ErrorKind::UnexpectedEof));
        }
        out.fill(0);
        let visible = state.base_len.clamp(offset, end) - offset;
        if let Some(visible) = usize::try_from(visible).ok().and_then(|len| out.get_mut(..len))
            && !visible.is_empty()
        {
            fault_point("read")?;
            read_at(&self.file, visible, offset)?;
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
            state.header_pending = true;
            return Ok(());
        }
        if !self.buffers.load(Ordering::Acquire) {
            let written = fault_point("write").and_then(|()| write_at(&self.file, data, offset));
            let Err(error) = written else { return Ok(()) };
            let mut state = self.state();
            if !(self.buffers_when_full() && is_no_space(&error)) {
                self.fail(&mut state, FailureKind::Write, &error);
                return Err(error);
            }
            self.start_backlog(&mut state, &error);
        }
        let mut state = self.state();
        self.buffer(&mut state, offset, data)
    }

    fn start_backlog(&self, state: &mut State, error: &io::Error) {
        state.backlog_reason = Some(crate::io_failure::message("write", &self.path, error));
        state.base_len = state.len;
        state.target = Target::Backlog;
        self.buffers.store(true, Ordering::Release);
    }

    fn buffer(&self, state: &mut State, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(data.len() as u64);
        if end > state.len {
            return Err(io::Error::from(ErrorKind::UnexpectedEof));
        }
        for number in offset / BLOCK..end.div_ceil(BLOCK) {
            let start = number.saturating_mul(BLOCK);
            let base_len = state.base_len;
            let block = match state.blocks.entry(number) {
                std::collections::btree_map::Entry::Occupied(block) => block.into_mut(),
                std::collections::btree_map::Entry::Vacant(vacant) => {
                    let mut block = vec![0; BLOCK as usize].into_boxed_slice();
                    let whole = offset <= start && end >= start.saturating_add(BLOCK);
                    if !whole && start < base_len {
                        let visible = (base_len - start).min(BLOCK) as usize;
                        if let Some(visible) = block.get_mut(..visible) {
                            read_at(&self.file, visible, start)?;
                        }
                    }
                    vacant.insert(block)
                }
            };
            overlay(block, start, data, offset);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.target == Target::File {
            match fault_point("set_len").and_then(|()| self.file.set_len(len)) {
                Ok(()) => state.base_len = len,
                Err(error) if self.buffers_when_full() && is_no_space(&error) => {
                    self.start_backlog(&mut state, &error);
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
        if state.target == Target::File
            && let Some(durable) = &mut state.durable
        {
            durable.len = durable.len.min(len);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        match state.target {
            Target::Memory => {
                // The file holds an equivalent state.
                state.mark_durable();
                Ok(())
            }
            Target::File => self.sync_header(&mut state).inspect_err(|error| {
                self.fail(&mut state, FailureKind::Sync, error);
                self.restore_header(&state);
            }),
            Target::Backlog => match self.write_back_locked(&mut state) {
                // The engine continues as if the commit were durable, and the store
                // refuses writes until it is.
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
    /// Records a successful sync. One without a header, as when the file grows, makes
    /// no new state durable.
    fn mark_durable(&mut self) {
        if let Some(header) = &self.header
            && (self.header_pending || self.durable.is_none())
        {
            self.durable = Some(DurableState { header: header.clone(), len: self.len });
        }
        self.header_pending = false;
        self.failure = None;
    }
}

/// The engine may close it without closing the file.
#[derive(Debug)]
struct EngineBackend(Arc<FileBackend>);

impl StorageBackend for EngineBackend {
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

/// Copies the bytes of `from`, which is at offset `from_at`, that overlap with `to`,
/// which is at offset `to_at`.
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

/// On other systems accesses share the file's position, so they take turns.
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
