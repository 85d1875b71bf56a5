//! Writes the keys of a store as an archive.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use storage_core::{ComponentId, StorageError, Store, Usage, split_full_key};

use super::error::ExportError;
use super::lines::{FORMAT, Header, VERSION};
use super::writer::ArchiveWriter;

/// What an archive has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// Full keys and their values.
    pub usage: Usage,
    /// The number of components.
    pub components: u64,
    /// The bytes of the archive.
    pub archive_bytes: u64,
    /// The chosen components without any key, in order. Empty during the export.
    pub empty: Vec<ComponentId>,
}

/// Writes an archive of a store, or of the chosen components, to `out`.
///
/// The archive is of one snapshot ([`Store::read_snapshot`]): it has every write that
/// returned before the call, none that began after it, and each commit as a whole or not at
/// all. Depending on the store, writers may wait for an `out` that is slow. To choose
/// components, it reads all keys that begin with the common beginning of their prefixes.
///
/// Needs about as much memory as the largest value in addition to what the snapshot needs.
/// Buffers its writes. If it fails, every import refuses what was written.
///
/// Calls `progress` with each full key after it was written.
///
/// # Errors
/// [`ExportError`].
///
/// ```
/// use storage_host::{ComponentStorage, CopyOptions, Mode, StoreUrl};
/// use storage_host::{export_store, import_archive};
///
/// # #[cfg(feature = "memory")] {
/// let memory: StoreUrl = "memory:".parse()?;
/// let (from, to) = (memory.open(Mode::ReadWrite)?, memory.open(Mode::ReadWrite)?);
/// from.set("app/notes/home/1", "buy milk".into())?;
///
/// let mut archive = Vec::new();
/// let exported = export_store(&from, None, &mut archive, &mut |_, _| {})?;
/// assert_eq!((exported.usage.keys, exported.components), (1, 1));
///
/// let options = CopyOptions::new();
/// import_archive(&mut archive.as_slice(), &to, &options, &mut |_, _| {})?;
/// assert_eq!(to.get("app/notes/home/1")?, Some("buy milk".into()));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn export_store(
    store: &dyn Store,
    selection: Option<&[ComponentId]>,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(&str, &Exported),
) -> Result<Exported, ExportError> {
    let chosen = selection.map(|ids| ids.iter().cloned().collect::<BTreeSet<_>>());
    let header = Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        store_id: store.properties().store_id,
        time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        selection: chosen.as_ref().map(|ids| ids.iter().map(ComponentId::to_string).collect()),
    };
    let writer = ArchiveWriter::begin(out, &header).map_err(ExportError::Archive)?;
    let selection = chosen.as_ref().map(Selection::new);
    let mut export =
        Export { writer, selection, last_key: String::new(), exported: Exported::default() };
    export.read(store, progress)?;
    export.writer.finish().map_err(ExportError::Archive)?;
    export.count();
    let mut exported = export.exported;
    if let (Some(ids), Some(selection)) = (chosen, export.selection) {
        let is_empty = |id: &ComponentId| selection.unseen.contains(id.key_prefix());
        exported.empty = ids.into_iter().filter(is_empty).collect();
    }
    Ok(exported)
}

/// The chosen components.
struct Selection {
    prefixes: BTreeSet<String>,
    /// Those of which no key was read.
    unseen: BTreeSet<String>,
    /// The common beginning of all prefixes.
    common: String,
}

impl Selection {
    fn new(ids: &BTreeSet<ComponentId>) -> Self {
        let prefixes: BTreeSet<String> = ids.iter().map(|id| id.key_prefix().to_owned()).collect();
        // They are in order, so all have the common beginning of the first and the last.
        let (first, last) = (prefixes.first(), prefixes.last());
        let pairs = first
            .into_iter()
            .flat_map(|text| text.chars())
            .zip(last.into_iter().flat_map(|text| text.chars()));
        let common = pairs.take_while(|(one, other)| one == other).map(|(one, _)| one).collect();
        Self { unseen: prefixes.clone(), prefixes, common }
    }

    /// Whether a key is of a chosen component.
    fn has(&mut self, key: &str) -> bool {
        let prefix = split_full_key(key).0;
        self.unseen.remove(prefix);
        self.prefixes.contains(prefix)
    }

    /// Whether a key follows those of all chosen components.
    fn ends_before(&self, key: &str) -> bool {
        self.prefixes.last().is_none_or(|last| key > last.as_str() && !key.starts_with(last))
    }
}

struct Export<'a> {
    writer: ArchiveWriter<'a>,
    selection: Option<Selection>,
    last_key: String,
    exported: Exported,
}

/// Ends a snapshot before its end.
enum Stop {
    /// No chosen component follows.
    Complete,
    Failed(ExportError),
}

impl Export<'_> {
    fn read(
        &mut self,
        store: &dyn Store,
        progress: &mut dyn FnMut(&str, &Exported),
    ) -> Result<(), ExportError> {
        let prefix = self.selection.as_ref().map_or(String::new(), |chosen| chosen.common.clone());
        let mut stopped = None;
        let read = store.read_snapshot(&prefix, None, &mut |key, value| {
            self.visit(key, value.as_bytes(), progress).map_err(|stop| {
                stopped = Some(stop);
                // Ends the snapshot; not reported.
                StorageError::Unavailable { key: None, detail: String::new() }
            })
        });
        match (stopped, read) {
            (Some(Stop::Failed(error)), _) => Err(error),
            (Some(Stop::Complete), _) | (None, Ok(())) => Ok(()),
            (None, Err(error)) => Err(ExportError::Store(error)),
        }
    }

    fn visit(
        &mut self,
        key: &str,
        value: &[u8],
        progress: &mut dyn FnMut(&str, &Exported),
    ) -> Result<(), Stop> {
        if let Some(selection) = &mut self.selection
            && !selection.has(key)
        {
            return if selection.ends_before(key) { Err(Stop::Complete) } else { Ok(()) };
        }
        if key <= self.last_key.as_str() {
            // A damaged store; an import would refuse the archive.
            let detail = "the store lists it in the wrong order".to_owned();
            let error = StorageError::Corrupt { key: Some(key.to_owned()), detail };
            return Err(Stop::Failed(ExportError::Store(error)));
        }
        key.clone_into(&mut self.last_key);
        let written = self.writer.key(key, value);
        written.map_err(|error| Stop::Failed(ExportError::Archive(error)))?;
        self.count();
        progress(key, &self.exported);
        Ok(())
    }

    fn count(&mut self) {
        let totals = self.writer.totals();
        self.exported.usage = totals.usage;
        self.exported.components = totals.components;
        self.exported.archive_bytes = self.writer.bytes();
    }
}
