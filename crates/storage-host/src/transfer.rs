//! Copying a store: every key and value, byte for byte, into another one.

use storage_core::{Commit, PageRequest, StorageError, StorageValue, Store, Usage, split_full_key};

/// The most keys that are written at once: many share what one durable write
/// costs.
const BATCH_KEYS: usize = 4096;

/// The most bytes that wait to be written; a single value may be larger.
const BATCH_BYTES: u64 = 8 << 20;

/// How many keys of the target are listed at a time.
const PAGE: usize = 1_000;

/// How [`copy_store`] treats a target that is not empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyOptions {
    /// Whether the target may hold other data: the source's values win, and the
    /// target's other keys stay. Default: no.
    pub merge: bool,
}

impl CopyOptions {
    /// The defaults.
    pub const fn new() -> Self {
        Self { merge: false }
    }

    /// The same with or without merging.
    #[must_use]
    pub const fn with_merge(mut self, merge: bool) -> Self {
        self.merge = merge;
        self
    }
}

/// What a copy has done, in full keys and their values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// What was written.
    pub written: Usage,
    /// What the target had already.
    pub unchanged: Usage,
}

impl Copied {
    /// All that the source holds.
    pub fn total(&self) -> Usage {
        self.written + self.unchanged
    }
}

/// Why a copy was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The target holds keys that the source lacks or has with another value.
    #[error(
        "the target holds other data: {keys} {} that the source lacks or has with another value, \
         first {first:?}",
        if *keys == 1 { "key" } else { "keys" }
    )]
    OtherData {
        /// How many there are.
        keys: u64,
        /// The first of them in byte order, as a full key.
        first: String,
    },
    /// The source could not be read to its end.
    #[error("cannot read the source: {0}")]
    Source(#[source] StorageError),
    /// The target could not be read.
    #[error("cannot read the target: {0}")]
    Target(#[source] StorageError),
    /// The target did not take what was to be written.
    #[error("cannot write {first:?}{} to the target: {error}", up_to(last, first))]
    Write {
        /// The first full key that was to be written at once.
        first: String,
        /// The last one.
        last: String,
        /// Why.
        #[source]
        error: StorageError,
    },
    /// What was written could not be made durable.
    #[error("cannot make the target durable: {0}")]
    Flush(#[source] StorageError),
}

fn up_to(last: &str, first: &str) -> String {
    if last == first { String::new() } else { format!(" to {last:?}") }
}

/// Copies every key of one store, as of one moment, to another.
///
/// Keys and values go over byte for byte; their revisions are the target's own.
/// While it runs nobody else may write to the target, or have it open for
/// writing through a cache. Memory is bounded, whatever
/// the stores hold, to what the source's
/// [`read_snapshot`](Store::read_snapshot) needs and some 10 MiB.
///
/// Before it writes anything it compares the target with the source: what is
/// equal is left alone, and anything else that is there is
/// [`CopyError::OtherData`], unless [`CopyOptions::merge`] allows it. So a copy
/// that was interrupted, however that happened, goes on when it is made again,
/// as long as the source is the same. An empty target costs no comparison.
///
/// Keys of one component are written in batches, each of them all or nothing;
/// at the end everything is durable, whatever the durability of the target. A
/// value that is damaged in the target counts as missing.
///
/// `progress` is called with each key of the source once it was looked at.
///
/// # Errors
/// [`CopyError`]. After [`OtherData`](CopyError::OtherData) nothing was written,
/// unless the source was changed by somebody while a copy went on.
///
/// ```
/// use storage_host::{ComponentStorage, CopyOptions, Mode, StoreUrl, copy_store};
///
/// # #[cfg(feature = "memory")] {
/// let memory: StoreUrl = "memory:".parse()?;
/// let (from, to) = (memory.open(Mode::ReadWrite)?, memory.open(Mode::ReadWrite)?);
/// from.set("app/notes/home/1", "buy milk".into())?;
///
/// let copied = copy_store(&from, &to, CopyOptions::default(), &mut |_, _| {})?;
/// assert_eq!(copied.written.keys, 1);
/// // Once more: it is all there.
/// let again = copy_store(&from, &to, CopyOptions::default(), &mut |_, _| {})?;
/// assert_eq!((again.written.keys, again.unchanged.keys), (0, 1));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn copy_store(
    from: &dyn Store,
    to: &dyn Store,
    options: CopyOptions,
    progress: &mut dyn FnMut(&str, &Copied),
) -> Result<Copied, CopyError> {
    let mut walk = Walk::new(to, options, false);
    walk.run(from, progress)?;
    if walk.gaps {
        // The target lacks keys before others that it has: now that all of it
        // was compared, they can be written.
        walk = Walk::new(to, options, true);
        walk.run(from, progress)?;
    }
    to.flush().map_err(CopyError::Flush)?;
    Ok(walk.copied)
}

/// One way through the source in order, beside the keys of the target.
struct Walk<'a> {
    to: &'a dyn Store,
    merge: bool,
    /// The target's keys from the first on that was not compared yet; none when
    /// merging, which asks for each key instead.
    target: TargetKeys<'a>,
    /// Whether all of the target was compared before, so that nothing has to wait
    /// for that.
    compared: bool,
    /// Whether something has to be written that had to wait.
    gaps: bool,
    others: u64,
    first_other: Option<String>,
    batch: Vec<(String, StorageValue)>,
    batch_bytes: u64,
    copied: Copied,
}

/// Ends a walk before the source's end.
enum Stop {
    /// The target has no more keys, and nothing can be written in this walk.
    Compared,
    Failed(CopyError),
}

impl From<CopyError> for Stop {
    fn from(error: CopyError) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Walk<'a> {
    fn new(to: &'a dyn Store, options: CopyOptions, compared: bool) -> Self {
        Self {
            to,
            merge: options.merge,
            target: TargetKeys {
                to,
                keys: Vec::new().into_iter(),
                after: None,
                more: !options.merge,
            },
            compared,
            gaps: false,
            others: 0,
            first_other: None,
            batch: Vec::new(),
            batch_bytes: 0,
            copied: Copied::default(),
        }
    }

    fn run(
        &mut self,
        from: &dyn Store,
        progress: &mut dyn FnMut(&str, &Copied),
    ) -> Result<(), CopyError> {
        let mut stopped = None;
        let read = from.read_snapshot("", None, &mut |key, value| {
            self.visit(key, value).map_err(|stop| {
                stopped = Some(stop);
                // Nobody sees it: it ends the walk.
                StorageError::Unavailable { key: None, detail: String::new() }
            })?;
            progress(key, &self.copied);
            Ok(())
        });
        match (stopped, read) {
            (Some(Stop::Failed(error)), _) => return Err(error),
            (Some(Stop::Compared), _) | (None, Ok(())) => {}
            (None, Err(error)) => return Err(CopyError::Source(error)),
        }
        // What lies behind the source's last key.
        while let Some(key) = self.target.next()? {
            self.other(key);
        }
        if let Some(first) = self.first_other.take() {
            return Err(CopyError::OtherData { keys: self.others, first });
        }
        self.write_batch()
    }

    /// Takes the next key of the source.
    fn visit(&mut self, key: &str, value: StorageValue) -> Result<(), Stop> {
        let mut there = self.merge;
        while let Some(next) = self.target.peek()? {
            if next > key {
                break;
            }
            there = next == key;
            if let Some(next) = self.target.next()?.filter(|_| !there) {
                self.other(next);
            }
        }
        let usage = Usage::of(key, value.len());
        if there {
            match self.to.get(key) {
                Ok(Some(found)) if found == value => {
                    self.copied.unchanged = self.copied.unchanged + usage;
                    return Ok(());
                }
                Ok(Some(_)) if !self.merge => {
                    self.other(key.to_owned());
                    return Ok(());
                }
                Ok(_) | Err(StorageError::Corrupt { .. }) => {}
                Err(error) => return Err(CopyError::Target(error).into()),
            }
        }
        let may_write = self.merge || self.compared || self.target.peek()?.is_none();
        if !may_write || self.gaps || self.others > 0 {
            self.gaps = true;
            // The rest of the source cannot change what was found out.
            return if may_write { Err(Stop::Compared) } else { Ok(()) };
        }
        self.add(key, value, usage)?;
        Ok(())
    }

    /// Counts a key of the target that is not the source's.
    fn other(&mut self, key: String) {
        self.others += 1;
        self.first_other.get_or_insert(key);
    }

    /// Has a key written, with others of its component.
    fn add(&mut self, key: &str, value: StorageValue, usage: Usage) -> Result<(), CopyError> {
        let partition = |key: &str| split_full_key(key).0.len();
        let apart = self.batch.last().is_some_and(|(last, _)| {
            let len = partition(key);
            len != partition(last) || last.get(..len) != key.get(..len)
        });
        let full = self.batch.len() == BATCH_KEYS || self.batch_bytes + usage.bytes > BATCH_BYTES;
        if apart || full {
            self.write_batch()?;
        }
        self.batch.push((key.to_owned(), value));
        self.batch_bytes += usage.bytes;
        self.copied.written = self.copied.written + usage;
        Ok(())
    }

    fn write_batch(&mut self) -> Result<(), CopyError> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let (Some((first, _)), Some((last, _))) = (batch.first(), batch.last()) else {
            return Ok(());
        };
        let (first, last) = (first.clone(), last.clone());
        let commit =
            batch.into_iter().fold(Commit::new(), |commit, (key, value)| commit.set(key, value));
        match self.to.commit(commit) {
            Ok(_) => Ok(()),
            Err(error) => Err(CopyError::Write { first, last, error }),
        }
    }
}

/// The keys of the target in order, a page in memory at a time.
struct TargetKeys<'a> {
    to: &'a dyn Store,
    keys: std::vec::IntoIter<String>,
    after: Option<String>,
    more: bool,
}

impl TargetKeys<'_> {
    fn peek(&mut self) -> Result<Option<&str>, CopyError> {
        while self.keys.as_slice().is_empty() && self.more {
            let request = PageRequest { prefix: "", after: self.after.as_deref(), limit: PAGE };
            let page = self.to.list_page(request).map_err(CopyError::Target)?;
            if let Some(last) = page.keys.last() {
                self.after = Some(last.clone());
            }
            self.more = page.more && !page.keys.is_empty();
            self.keys = page.keys.into_iter();
        }
        Ok(self.keys.as_slice().first().map(String::as_str))
    }

    fn next(&mut self) -> Result<Option<String>, CopyError> {
        self.peek()?;
        Ok(self.keys.next())
    }
}
