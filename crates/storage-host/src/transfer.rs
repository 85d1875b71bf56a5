//! Copies every key and value of a store to another store.

pub(crate) mod batch;
mod by_component;
pub(crate) mod component;
pub(crate) mod error;
pub(crate) mod target_keys;

use std::fmt;

use storage_core::{StorageError, StorageValue, Store, Usage};

use self::batch::Batch;
use self::by_component::read_by_component;
use self::component::SettingsOf;
use self::error::CopyError;
use self::target_keys::{Held, TargetKeys, held};

/// How keys are written to a target that may not be empty.
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub struct CopyOptions<'a> {
    /// Whether the target may have other data. The copied values replace those of the target,
    /// and the target's other keys stay. Default: no.
    pub merge: bool,
    /// Whether each component is copied as of a point in time of its own, for a source without
    /// snapshots of the whole store, such as a cluster. Default: no.
    pub by_component: bool,
    /// Returns the settings of a component, of which the quota and the limits of keys and
    /// values apply. Default: none apply.
    pub settings: Option<&'a SettingsOf<'a>>,
}

impl<'a> CopyOptions<'a> {
    /// The defaults.
    pub const fn new() -> Self {
        Self { merge: false, by_component: false, settings: None }
    }

    /// Sets whether to merge.
    #[must_use]
    pub const fn with_merge(mut self, merge: bool) -> Self {
        self.merge = merge;
        self
    }

    /// Sets whether each component is copied as of a point in time of its own.
    #[must_use]
    pub const fn with_by_component(mut self, by_component: bool) -> Self {
        self.by_component = by_component;
        self
    }

    /// Sets the settings of components.
    #[must_use]
    pub const fn with_settings(mut self, settings: &'a SettingsOf<'a>) -> Self {
        self.settings = Some(settings);
        self
    }
}

impl fmt::Debug for CopyOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyOptions")
            .field("merge", &self.merge)
            .field("by_component", &self.by_component)
            .field("has_settings", &self.settings.is_some())
            .finish()
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

/// Copies a snapshot of one store to another, or snapshots of its components
/// ([`CopyOptions::by_component`]).
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
/// written, unless the source changed since an interrupted copy. After
/// [`Quota`](CopyError::Quota), and after [`Write`](CopyError::Write) because of a limit, what was
/// written before stays.
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
    options: CopyOptions<'_>,
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
    by_component: bool,
    /// The target's keys that are not compared yet. Empty when merging, which reads
    /// each key instead.
    target: TargetKeys<'a>,
    /// Whether an earlier pass compared all of the target.
    compared: bool,
    /// Whether keys of this pass are left for another pass to write.
    gaps: bool,
    others: u64,
    first_other: Option<String>,
    batch: Batch<'a>,
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
    fn new(to: &'a dyn Store, options: CopyOptions<'a>, compared: bool) -> Self {
        Self {
            to,
            merge: options.merge,
            by_component: options.by_component,
            target: TargetKeys::new((!options.merge).then_some(to), ""),
            compared,
            gaps: false,
            others: 0,
            first_other: None,
            batch: Batch::new(to, options.settings),
            copied: Copied::default(),
        }
    }

    fn run(
        &mut self,
        from: &dyn Store,
        progress: &mut dyn FnMut(&str, &Copied),
    ) -> Result<(), CopyError> {
        let mut stopped = None;
        let by_component = self.by_component;
        let mut visit = |key: &str, value| {
            self.visit(key, value).map_err(|stop| {
                stopped = Some(stop);
                // Ends the snapshot; not reported.
                StorageError::Unavailable { key: None, detail: String::new() }
            })?;
            progress(key, &self.copied);
            Ok(())
        };
        let read = match by_component {
            true => read_by_component(from, &mut visit),
            false => from.read_snapshot("", None, &mut visit),
        };
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
        self.batch.write()
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
            match held(self.to, key, &value)? {
                Held::Same => {
                    self.copied.unchanged = self.copied.unchanged + usage;
                    return Ok(());
                }
                Held::Other if !self.merge => {
                    self.count_other(key.to_owned());
                    return Ok(());
                }
                Held::Other | Held::Nothing => {}
            }
        }
        let may_write = self.merge || self.compared || self.target.peek()?.is_none();
        if !may_write || self.gaps || self.others > 0 {
            self.gaps = true;
            // The rest of the source cannot change the result.
            return if may_write { Err(Stop::Compared) } else { Ok(()) };
        }
        self.batch.add(key, value)?;
        self.copied.written = self.copied.written + usage;
        Ok(())
    }

    /// Counts a key of the target that the source lacks or has with another value.
    fn count_other(&mut self, key: String) {
        self.others += 1;
        self.first_other.get_or_insert(key);
    }
}
