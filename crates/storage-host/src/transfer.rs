//! Copies every key and value of a store to another store.

use storage_core::{Commit, PageRequest, StorageError, StorageValue, Store, Usage, split_full_key};

/// The maximum number of keys of a batch, which share the cost of one durable write.
const BATCH_KEYS: usize = 4096;

/// The maximum number of bytes of a batch of several values.
const BATCH_BYTES: u64 = 8 << 20;

/// The number of keys of a page of the target.
const PAGE: usize = 1_000;

/// How [`copy_store`] treats a target that is not empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyOptions {
    /// Whether the target may have other data. The source's values replace those of
    /// the target, and the target's other keys stay. Default: no.
    pub merge: bool,
}

impl CopyOptions {
    /// The defaults.
    pub const fn new() -> Self {
        Self { merge: false }
    }

    /// Sets whether to merge.
    #[must_use]
    pub const fn with_merge(mut self, merge: bool) -> Self {
        self.merge = merge;
        self
    }
}

/// The result of a copy, in full keys and their values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// The written keys.
    pub written: Usage,
    /// The keys that the target already had with the same value.
    pub unchanged: Usage,
}

impl Copied {
    /// Returns the usage of the whole source.
    pub fn total(&self) -> Usage {
        self.written + self.unchanged
    }
}

/// Why a copy failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The target has keys that the source lacks or has with another value.
    #[error(
        "the target has other data: {keys} {} that the source lacks or has with another value, \
         first {first:?}",
        if *keys == 1 { "key" } else { "keys" }
    )]
    OtherData {
        /// The number of such keys.
        keys: u64,
        /// The first of them in byte order, as a full key.
        first: String,
    },
    /// The source could not be read completely.
    #[error("cannot read the source: {0}")]
    Source(#[source] StorageError),
    /// The target could not be read.
    #[error("cannot read the target: {0}")]
    Target(#[source] StorageError),
    /// A batch could not be written to the target.
    #[error("cannot write {first:?}{} to the target: {error}", up_to(last, first))]
    Write {
        /// The first full key of the batch.
        first: String,
        /// The last one.
        last: String,
        /// Why.
        #[source]
        error: StorageError,
    },
    /// The written keys could not be made durable.
    #[error("cannot make the target durable: {0}")]
    Flush(#[source] StorageError),
}

fn up_to(last: &str, first: &str) -> String {
    if last == first { String::new() } else { format!(" to {last:?}") }
}

/// Copies a snapshot of one store to another.
///
/// Keys and values are copied byte for byte; revisions are the target's own. During
/// the copy nothing else may write to the target, and no host with a cache may have it
/// open. The copy needs about 10 MiB of memory in addition to what the source's
/// [`read_snapshot`](Store::read_snapshot) needs.
///
/// Before it writes, it compares the target with the source. Equal data is left
/// alone; other data is [`CopyError::OtherData`], unless [`CopyOptions::merge`]
/// allows it. So an interrupted copy continues when it is repeated with the same
/// source. An empty target is not compared.
///
/// Keys of one component are written in batches, each all or nothing. At the end
/// everything is durable, regardless of the target's durability. A damaged value in
/// the target counts as missing.
///
/// Calls `progress` with each key of the source after it was processed.
///
/// # Errors
/// [`CopyError`]. [`OtherData`](CopyError::OtherData) means that nothing was
/// written, unless the source changed since an interrupted copy.
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
/// // A second copy finds everything unchanged.
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
    let mut pass = Pass::new(to, options, false);
    pass.run(from, progress)?;
    if pass.gaps {
        // The target lacks keys before others that it has. The first pass has compared all
        // of it, so a second one can write them.
        pass = Pass::new(to, options, true);
        pass.run(from, progress)?;
    }
    to.flush().map_err(CopyError::Flush)?;
    Ok(pass.copied)
}

/// One pass through the source and the keys of the target, both in key order.
struct Pass<'a> {
    to: &'a dyn Store,
    merge: bool,
    /// The target's keys that are not compared yet. Empty when merging, which reads
    /// each key instead.
    target: TargetKeys<'a>,
    /// Whether an earlier pass compared all of the target.
    compared: bool,
    /// Whether keys of this pass are left for another pass to write.
    gaps: bool,
    others: u64,
    first_other: Option<String>,
    batch: Vec<(String, StorageValue)>,
    batch_bytes: u64,
    copied: Copied,
}

/// Ends a pass before the end of the source.
enum Stop {
    /// The target has no more keys, and this pass must not write.
    Compared,
    Failed(CopyError),
}

impl From<CopyError> for Stop {
    fn from(error: CopyError) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Pass<'a> {
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
                // Ends the snapshot; not reported.
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
        // Keys after the source's last key.
        while let Some(key) = self.target.next()? {
            self.count_other(key);
        }
        if let Some(first) = self.first_other.take() {
            return Err(CopyError::OtherData { keys: self.others, first });
        }
        self.write_batch()
    }

    /// Processes the next key of the source.
    fn visit(&mut self, key: &str, value: StorageValue) -> Result<(), Stop> {
        let mut exists = self.merge;
        while let Some(next) = self.target.peek()? {
            if next > key {
                break;
            }
            exists = next == key;
            if let Some(next) = self.target.next()?.filter(|_| !exists) {
                self.count_other(next);
            }
        }
        let usage = Usage::of(key, value.len());
        if exists {
            match self.to.get(key) {
                Ok(Some(found)) if found == value => {
                    self.copied.unchanged = self.copied.unchanged + usage;
                    return Ok(());
                }
                Ok(Some(_)) if !self.merge => {
                    self.count_other(key.to_owned());
                    return Ok(());
                }
                Ok(_) | Err(StorageError::Corrupt { .. }) => {}
                Err(error) => return Err(CopyError::Target(error).into()),
            }
        }
        let may_write = self.merge || self.compared || self.target.peek()?.is_none();
        if !may_write || self.gaps || self.others > 0 {
            self.gaps = true;
            // The rest of the source cannot change the result.
            return if may_write { Err(Stop::Compared) } else { Ok(()) };
        }
        self.add(key, value, usage)?;
        Ok(())
    }

    /// Counts a key of the target that the source lacks or has with another value.
    fn count_other(&mut self, key: String) {
        self.others += 1;
        self.first_other.get_or_insert(key);
    }

    /// Adds a key to the batch, which has keys of one component.
    fn add(&mut self, key: &str, value: StorageValue, usage: Usage) -> Result<(), CopyError> {
        let component = split_full_key(key).0;
        let other = self.batch.last().is_some_and(|(last, _)| split_full_key(last).0 != component);
        let full = self.batch.len() == BATCH_KEYS || self.batch_bytes + usage.bytes > BATCH_BYTES;
        if other || full {
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

/// The keys of the target in order, of which one page is in memory.
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
