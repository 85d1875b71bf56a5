//! Writes the keys of an archive to a store.

use std::collections::BTreeSet;
use std::io::BufRead;

use storage_core::{StorageValue, Store, Usage, split_full_key};

use super::error::ImportError;
use super::reader::ArchiveReader;
use crate::transfer::CopyOptions;
use crate::transfer::batch::Batch;
use crate::transfer::component::Component;
use crate::transfer::error::CopyError;
use crate::transfer::target_keys::{Held, TargetKeys, held};

/// The result of an import, in full keys and their values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// The written keys; of a check, those that an import would write.
    pub written: Usage,
    /// The keys that the target already had with the same value.
    pub unchanged: Usage,
    /// The number of components in the archive.
    pub components: u64,
    /// The bytes of the archive that were read.
    pub archive_bytes: u64,
}

impl Imported {
    /// Returns the usage of the whole archive.
    pub fn total(&self) -> Usage {
        self.written + self.unchanged
    }
}

/// Writes the keys and values of an archive to a store.
///
/// Each block of the archive is written only after it was verified, so nothing that was
/// changed in the archive is written. If the archive is found to be incomplete, the blocks
/// before stay in the target: call [`check_archive`] first if the archive can be read twice.
///
/// Equal values are skipped, so an interrupted import continues when it is repeated. Other
/// data in the imported components is [`ImportError::OtherData`], unless
/// [`CopyOptions::merge`] allows it. They are the components that were chosen for the
/// archive, or all that it has keys of. Other components of the target, and unscoped keys
/// that the archive lacks, stay as they are.
///
/// During the import nothing else may write to the imported components, and no host with a
/// cache may have the target open. Keys of one component are written in batches, each all or
/// nothing; of a component that fits in one batch, of 4,096 keys and 8 MiB, nothing is written
/// if it exceeds its quota. At the end everything is durable, regardless of the target's
/// durability. A damaged value in the target counts as missing.
///
/// Needs about 20 MiB of memory, and four times the largest value. Calls `progress` with each
/// full key after it was processed.
///
/// # Errors
/// [`ImportError`].
pub fn import_archive(
    archive: &mut dyn BufRead,
    to: &dyn Store,
    options: &CopyOptions<'_>,
    progress: &mut dyn FnMut(&str, &Imported),
) -> Result<Imported, ImportError> {
    let mut import = Import::new(Some(to), *options);
    import.batch = Some(Batch::new(to, options.settings));
    let imported = import.run(archive, progress)?;
    to.flush().map_err(CopyError::Flush)?;
    Ok(imported)
}

/// Reads a whole archive and reports what would make an import fail, without writing: damage,
/// other data in the target, and components above their quota or limits. `None` as target
/// stands for an empty store.
///
/// # Errors
/// As [`import_archive`].
pub fn check_archive(
    archive: &mut dyn BufRead,
    to: Option<&dyn Store>,
    options: &CopyOptions<'_>,
    progress: &mut dyn FnMut(&str, &Imported),
) -> Result<Imported, ImportError> {
    Import::new(to, *options).run(archive, progress)
}

struct Import<'a> {
    /// `None` for an empty target.
    to: Option<&'a dyn Store>,
    /// `None` if the archive is only checked.
    batch: Option<Batch<'a>>,
    options: CopyOptions<'a>,
    current: Option<Current<'a>>,
    /// The prefixes of the chosen components of which no key was read.
    unseen: BTreeSet<String>,
    imported: Imported,
}

/// The component whose keys are read.
struct Current<'a> {
    component: Component,
    /// The keys of the target that were not compared yet.
    target: TargetKeys<'a>,
    /// Its usage in the archive.
    usage: Usage,
    /// Whether the target lacks any of it.
    changes: bool,
}

impl<'a> Import<'a> {
    fn new(to: Option<&'a dyn Store>, options: CopyOptions<'a>) -> Self {
        Self {
            to,
            batch: None,
            options,
            current: None,
            unseen: BTreeSet::new(),
            imported: Imported::default(),
        }
    }

    fn run(
        mut self,
        archive: &mut dyn BufRead,
        progress: &mut dyn FnMut(&str, &Imported),
    ) -> Result<Imported, ImportError> {
        let mut reader = ArchiveReader::begin(archive)?;
        self.unseen = reader.selection().cloned().unwrap_or_default();
        while let Some(block) = reader.next_block()? {
            self.imported.archive_bytes = reader.bytes();
            for (key, value) in block {
                self.process(&key, value)?;
                progress(&key, &self.imported);
            }
        }
        self.end_component()?;
        for prefix in std::mem::take(&mut self.unseen) {
            self.refuse_next(&mut TargetKeys::new(self.to, &prefix))?;
        }
        if let Some(batch) = &mut self.batch {
            batch.write()?;
        }
        Ok(self.imported)
    }

    fn process(&mut self, key: &str, value: StorageValue) -> Result<(), ImportError> {
        if !self.current.as_ref().is_some_and(|current| current.component.has(key)) {
            self.end_component()?;
            self.begin_component(key);
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        let is_unscoped = current.component.prefix().is_empty();
        // Unscoped keys lie between the components, so they are not listed.
        let mut exists = is_unscoped;
        while let Some(next) = current.target.peek()? {
            if next > key {
                break;
            }
            exists = next == key;
            if !exists && !self.options.merge {
                return Err(ImportError::OtherData { first: next.to_owned() });
            }
            current.target.next()?;
        }
        let user_key = split_full_key(key).1;
        current.usage = current.usage + Usage::of(user_key, value.len());
        let usage = Usage::of(key, value.len());
        if let Some(to) = self.to.filter(|_| exists) {
            match held(to, key, &value)? {
                Held::Same => {
                    self.imported.unchanged = self.imported.unchanged + usage;
                    return Ok(());
                }
                Held::Other if !self.options.merge => {
                    return Err(ImportError::OtherData { first: key.to_owned() });
                }
                Held::Other | Held::Nothing => {}
            }
        }
        current.changes = true;
        match &mut self.batch {
            Some(batch) => batch.add(key, value)?,
            None => current.component.check(key, value.len())?,
        }
        self.imported.written = self.imported.written + usage;
        Ok(())
    }

    fn begin_component(&mut self, key: &str) {
        let component = Component::of(key, self.options.settings);
        let prefix = component.prefix();
        if !prefix.is_empty() {
            self.imported.components += 1;
        }
        self.unseen.remove(prefix);
        let target = TargetKeys::new(self.to.filter(|_| !prefix.is_empty()), prefix);
        self.current = Some(Current { target, component, usage: Usage::default(), changes: false });
    }

    /// Checks what can be known only after the last key of a component.
    fn end_component(&mut self) -> Result<(), ImportError> {
        let Some(mut current) = self.current.take() else { return Ok(()) };
        self.refuse_next(&mut current.target)?;
        if current.changes {
            current.component.check_usage(current.usage).map_err(ImportError::Quota)?;
        }
        Ok(())
    }

    /// Refuses a key of the target that the archive lacks.
    fn refuse_next(&self, target: &mut TargetKeys<'_>) -> Result<(), ImportError> {
        match target.peek()? {
            Some(next) if !self.options.merge => {
                Err(ImportError::OtherData { first: next.to_owned() })
            }
            _ => Ok(()),
        }
    }
}
