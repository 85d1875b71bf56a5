//! A check of a whole store, file by file, which changes nothing.
//!
//! It looks at every file itself and not at what the store makes of it. A value
//! is right if its checksum is, and if its key's file is the one that it lies
//! in: that covers names, folders and swapped files alike. What the next writer
//! would sweep, finish or rebuild from what is whole is no problem. Beside a
//! running writer the check holds too, since files are replaced as a whole;
//! only a recount has to be left out then.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use storage_core::{
    ComponentStorage, Revision, StorageError, Usage, split_full_key, validate_full_key,
};

use super::journal::{self, Journal, JournalFile};
use super::layout::{self, Layout, TEMP_PREFIX};
use super::lock::ReadersHold;
use super::name::{self, Decoded};
use super::read_only::Unfinished;
use super::store::{FileOptions, FileStorage};
use super::write::usage_of_file;
use super::{disk, revisions};
use crate::lock::LOCK_FILE;
use crate::permissions::{OpenToOthers, others_may_enter};
use crate::store_path;
use crate::{identity, record};
use storage_core::{Problem, Verified};

mod strays;

impl FileStorage {
    /// Reads every file of the store in a folder, checks what can be checked,
    /// and calls `report` with whatever is not as it should be: checksums, names
    /// and folders against keys, commits that are not finished, the counter of
    /// revisions, files that are none of the store's, modes that let other users
    /// in, and the store's own count of its keys. Changes nothing, and takes the
    /// writer's lock for an instant at most. It works beside a running writer, where
    /// the count is not compared.
    ///
    /// Memory grows with the keys of the largest component, as for a listing.
    ///
    /// # Errors
    /// [`StorageError::IoError`] if there is no store, and
    /// [`StorageError::Unsupported`] for one of another format. All else is a
    /// [`Problem`].
    pub fn verify(
        path: impl AsRef<Path>,
        report: &mut dyn FnMut(Problem),
    ) -> Result<Verified, StorageError> {
        let root = &store_path::resolve(path.as_ref())?;
        identity::refuse_file(root)?;
        let layout = Layout::new(root);
        layout.refuse_pipes_in_root()?;
        if !layout.is_store()? && layout.any_record()?.is_none() {
            Self::refuse_missing(root)?;
        }
        let mut check = Check {
            layout,
            report,
            verified: Verified::default(),
            unfinished: Unfinished::default(),
            pending: BTreeMap::new(),
            reported: BTreeSet::new(),
            largest: None,
            counted: Some(Usage::default()),
            open_to_others: OpenToOthers::default(),
        };
        let stillness = Stillness::look(root);
        check.format()?;
        check.root();
        check.journal();
        check.components();
        let loose = check.layout.folder("");
        check.partition(&loose, false);
        check.pending_elsewhere();
        // After the records: a running writer raises it first.
        check.counter();
        if stillness.is_some() && stillness == Stillness::look(root) {
            check.recount();
        }
        check.permissions();
        Ok(check.verified)
    }
}

/// What changes when somebody writes: the counter of revisions, of which every
/// opening reserves a new block for its first write.
#[derive(PartialEq, Eq)]
struct Stillness(Option<Vec<u8>>);

impl Stillness {
    /// `None` if a writer has the store open.
    fn look(root: &Path) -> Option<Self> {
        ReadersHold::take(root, LOCK_FILE).ok()?;
        disk::read(&root.join(revisions::REVISIONS_FILE)).ok().map(Self)
    }
}

/// Something in a folder.
struct Found {
    path: PathBuf,
    /// `None` if it is not UTF-8, as all of the store's is.
    name: Option<String>,
    kind: FoundKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FoundKind {
    File,
    Folder,
    Link,
    Other,
}

struct Check<'a> {
    layout: Layout,
    report: &'a mut dyn FnMut(Problem),
    verified: Verified,
    unfinished: Unfinished,
    /// The keys of unfinished commits, by the folder that they lie in, until it
    /// is looked at.
    pending: BTreeMap<PathBuf, Vec<String>>,
    /// Those of which a problem was reported with their commit.
    reported: BTreeSet<String>,
    /// The largest revision that was seen, and where.
    largest: Option<(Revision, PathBuf)>,
    /// What the store itself must count; `None` once that cannot be told.
    counted: Option<Usage>,
    /// What of the store other users may use.
    open_to_others: OpenToOthers,
}

impl Check<'_> {
    fn problem(&mut self, problem: Problem) {
        self.verified.count(&problem);
        (self.report)(problem);
    }

    fn problem_at(&mut self, path: &Path, detail: impl Into<String>) {
        self.problem(Problem::new(path.display().to_string(), detail));
    }

    fn problem_of(&mut self, path: &Path, key: &str, detail: impl Into<String>) {
        self.problem(Problem::new(path.display().to_string(), detail).with_key(key));
    }

    fn format(&mut self) -> Result<(), StorageError> {
        let file = self.layout.format_file();
        if !self.layout.is_store()? {
            self.problem_at(&file, format!("is missing; {}", layout::REPAIR));
            return Ok(());
        }
        match self.layout.check_format() {
            Err(error @ StorageError::Unsupported(_)) => return Err(error),
            Err(StorageError::Corrupt { .. }) => {
                self.problem_at(&file, format!("is damaged; {}", layout::REPAIR));
            }
            Err(error) => self.problem_at(&file, text_of(error)),
            Ok(_) => {}
        }
        Ok(())
    }

    /// What lies beside the folders of keys.
    fn root(&mut self) {
        let root = self.layout.root.clone();
        self.open_to_others.look_at_root(&root);
        for found in self.list(&root) {
            let name = found.name.as_deref().unwrap_or_default();
            let wanted = if Layout::FOLDERS.contains(&name) {
                FoundKind::Folder
            } else if Layout::FILES.contains(&name) {
                FoundKind::File
            } else {
                self.stray(&found, false);
                continue;
            };
            if found.kind == FoundKind::Link {
                self.link(&found.path, wanted);
            } else if found.kind != wanted {
                let what = if wanted == FoundKind::File { "file" } else { "folder" };
                self.problem_at(&found.path, format!("is not the {what} that it should be"));
            } else {
                self.open_to_others.look(&found.path);
            }
        }
    }

    fn journal(&mut self) {
        let mut journals: Vec<Journal> = Vec::new();
        for found in self.list(&self.layout.journal()) {
            let name = found.name.as_deref().unwrap_or_default();
            let of_the_store = JournalFile::of(name);
            if found.kind != FoundKind::File || of_the_store == JournalFile::Foreign {
                self.stray(&found, of_the_store != JournalFile::Foreign);
                continue;
            }
            self.open_to_others.look(&found.path);
            // One that was prepared and never became a commit is swept.
            if of_the_store == JournalFile::Prepared {
                continue;
            }
            let Some(bytes) = self.read(&found.path) else { continue };
            match journal::decode_file(&bytes) {
                Ok(journal) if journal.file(&self.layout) != found.path => {
                    self.problem_at(&found.path, "has the name of another commit");
                    journals.push(journal);
                }
                Ok(journal) => journals.push(journal),
                Err(problem) => self.problem_at(&found.path, problem),
            }
        }
        journals.sort_by_key(|journal| journal.revision);
        for journal in &journals {
            self.commit(journal);
        }
        self.unfinished = Unfinished::of(&self.layout, &journals);
        for key in self.unfinished.keys() {
            let folder = self.layout.folder(split_full_key(key).0);
            self.pending.entry(folder).or_default().push(key.to_owned());
        }
        self.pending.values_mut().for_each(|keys| keys.sort_unstable());
    }

    /// A commit that a writer would finish: are its values there?
    fn commit(&mut self, journal: &Journal) {
        let file = journal.file(&self.layout);
        self.see(journal.revision, &file);
        let layout = self.layout.clone();
        for (entry, temp) in journal.entries_with_temps(&layout) {
            if let Err(error) = validate_full_key(&entry.key) {
                self.problem_of(&file, &entry.key, format!("names a key that cannot be: {error}"));
            }
            // A missing one was given its key's name already.
            if !entry.sets || !matches!(disk::is_there(&temp), Ok(true)) {
                continue;
            }
            let Some(bytes) = self.read(&temp) else { continue };
            let problem = match record::decode(&bytes) {
                Ok(record) if record.key != entry.key => "it holds the value of another key",
                Ok(record) if record.found.revision != journal.revision => {
                    "it holds the value of another commit"
                }
                Ok(_) => continue,
                Err(problem) => problem,
            };
            let detail = format!("{problem}; a commit cannot be finished with it");
            self.problem_of(&temp, &entry.key, detail);
            self.reported.insert(entry.key.clone());
        }
    }

    /// The folders of namespaces, names and instances.
    fn components(&mut self) {
        let components = self.layout.components();
        for namespace in self.folders_in(&components) {
            for component in self.folders_in(&namespace) {
                for instance in self.folders_in(&component) {
                    self.partition(&instance, true);
                }
            }
        }
    }

    /// The folders in a folder that has nothing else.
    fn folders_in(&mut self, path: &Path) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for found in self.list(path) {
            let ours =
                found.name.as_deref().is_some_and(|name| name::decode(name) != Decoded::Foreign);
            match found.kind {
                FoundKind::Folder if ours => {
                    self.open_to_others.look(&found.path);
                    folders.push(found.path);
                }
                FoundKind::Link if ours => self.link(&found.path, FoundKind::Folder),
                _ => self.stray(&found, ours),
            }
        }
        folders
    }

    /// The folder of a partition.
    fn partition(&mut self, folder: &Path, is_component: bool) {
        let before = self.verified.usage.keys;
        let pending = self.pending.remove(folder).unwrap_or_default();
        for found in self.list(folder) {
            let name = found.name.as_deref().unwrap_or_default();
            let ours = name::decode(name) != Decoded::Foreign;
            if found.kind != FoundKind::File {
                self.stray(&found, ours);
            } else if name.starts_with(TEMP_PREFIX) {
                self.temp(&found);
            } else if ours {
                self.open_to_others.look(&found.path);
                self.value(&found.path, &pending);
            } else {
                self.stray(&found, false);
            }
        }
        self.pending_keys(&pending);
        if is_component && self.verified.usage.keys > before {
            self.verified.components += 1;
        }
    }

    /// A file that a write prepared: the next writer sweeps it, if it knows it.
    fn temp(&mut self, found: &Found) {
        match found.name.as_deref().and_then(Layout::revision_of_temp) {
            Some(revision) => {
                self.open_to_others.look(&found.path);
                self.see(revision, &found.path);
            }
            None => self.stray(found, false),
        }
    }

    /// The file of a key.
    fn value(&mut self, path: &Path, pending: &[String]) {
        // Deleted since the folder was listed, or not to be read.
        let Some(bytes) = self.read(path) else { return };
        let named = self.key_by_name(path);
        if named.as_ref().is_some_and(|key| pending.binary_search(key).is_ok()) {
            // Counted with its commit.
            return;
        }
        let len = bytes.len() as u64;
        let record = match record::decode(&bytes) {
            Ok(record) => record,
            Err(problem) => {
                let detail = format!("{problem}; restore the file from a copy");
                return self.damaged(path, named, len, detail);
            }
        };
        self.see(record.found.revision, path);
        let key = record.key;
        if named.is_none() && pending.binary_search(&key).is_ok() {
            return;
        }
        if let Err(error) = validate_full_key(&key) {
            return self.damaged(path, Some(key), len, format!("{error}; remove the file"));
        }
        let right = self.layout.key_file(&key);
        if right != path {
            let detail = format!(
                "it holds the value of key {key:?}, which belongs in {}; restore the file from a copy",
                right.display()
            );
            return self.damaged(path, named, len, detail);
        }
        let usage = Usage::of(&key, record.found.value.len());
        self.verified.usage = self.verified.usage + usage;
        self.counted = self.counted.map(|counted| counted + usage);
    }

    /// A file that a listing takes for a key's, but that is not to be read.
    fn damaged(&mut self, path: &Path, named: Option<String>, len: u64, detail: String) {
        // What the store counts is the length of the file.
        let of_file = named.as_deref().filter(|key| self.layout.key_file(key) == path).map(|key| {
            let (partition, own) = split_full_key(key);
            usage_of_file(key, own, len) + Usage { bytes: partition.len() as u64, keys: 0 }
        });
        self.counted = self.counted.zip(of_file).map(|(counted, usage)| counted + usage);
        match named {
            Some(key) => self.problem_of(path, &key, detail),
            None => self.problem_at(path, detail),
        }
    }

    /// The full key that the names of a file and its folders say; `None` where
    /// one is too long to be told by its name.
    fn key_by_name(&self, path: &Path) -> Option<String> {
        let text = |name: &Path| match name::decode(name.file_name()?.to_str()?) {
            Decoded::Text(text) => Some(text),
            _ => None,
        };
        let folder = path.parent()?;
        let own = text(path)?;
        if folder == self.layout.folder("") {
            return Some(own);
        }
        let segments = [folder.parent()?.parent()?, folder.parent()?, folder].map(text);
        let [Some(namespace), Some(component), Some(instance)] = segments else { return None };
        Some([namespace, component, instance, own].join("/"))
    }

    /// The keys of unfinished commits as a writer would leave them.
    fn pending_keys(&mut self, keys: &[String]) {
        for key in keys {
            let file = self.layout.key_file(key);
            match self.unfinished.read_key(key, &file) {
                Ok(Some(found)) => {
                    self.see(found.revision, &file);
                    let usage = Usage::of(key, found.value.len());
                    self.verified.usage = self.verified.usage + usage;
                    self.counted = self.counted.map(|counted| counted + usage);
                }
                Ok(None) => {}
                Err(error) => {
                    self.counted = None;
                    if !self.reported.contains(key) {
                        self.problem_of(&file, key, text_of(error));
                    }
                }
            }
        }
    }

    /// Those whose folder was not there to be looked at.
    fn pending_elsewhere(&mut self) {
        for (folder, keys) in std::mem::take(&mut self.pending) {
            if self.layout.refuse_links(&folder).is_err() {
                // The link was reported.
                continue;
            }
            let before = self.verified.usage.keys;
            self.pending_keys(&keys);
            if folder != self.layout.folder("") && self.verified.usage.keys > before {
                self.verified.components += 1;
            }
        }
    }

    fn permissions(&mut self) {
        let root = self.layout.root.clone();
        let found = std::mem::take(&mut self.open_to_others);
        if others_may_enter(&root)
            && let Some(warning) = found.warning(&root, "chmod -R go=")
        {
            self.problem(warning);
        }
    }

    fn counter(&mut self) {
        let path = self.layout.root.join(revisions::REVISIONS_FILE);
        match (revisions::reserved_up_to(&self.layout.root), self.largest.take()) {
            (Err(error), _) => self.problem_at(&path, text_of(error)),
            (Ok(None), _) => self.problem_at(
                &path,
                "is missing or damaged; the next writer makes it anew, far beyond every revision \
                 that is in use",
            ),
            (Ok(Some(first)), Some((largest, place))) if largest.get() >= first => {
                let detail = format!(
                    "goes on with revision {first}, but {} has {}, so that revisions would be \
                     given twice; remove the file while nobody writes, and the next writer makes \
                     it anew, beyond every revision in use",
                    place.display(),
                    largest.get()
                );
                self.problem_at(&path, detail);
            }
            _ => {}
        }
    }

    /// Compares with what the store itself counts.
    fn recount(&mut self) {
        let Some(counted) = self.counted else { return };
        let unfinished = std::mem::take(&mut self.unfinished);
        let options = FileOptions::default();
        let store =
            FileStorage::new(self.layout.clone(), String::new(), None, unfinished, &options);
        let detail = match store.usage(None) {
            Ok(usage) if usage == counted => return,
            Ok(usage) => format!(
                "the store counts {} keys and {} bytes, its files hold {} keys and {} bytes",
                usage.keys, usage.bytes, counted.keys, counted.bytes
            ),
            Err(error) => format!("the store cannot be counted: {error}"),
        };
        let root = self.layout.root.clone();
        self.problem_at(&root, detail);
    }

    fn see(&mut self, revision: Revision, path: &Path) {
        if self.largest.as_ref().is_none_or(|(largest, _)| revision > *largest) {
            self.largest = Some((revision, path.to_owned()));
        }
    }

    /// Reads a file; `None` where it has gone, or cannot be read, which is said.
    fn read(&mut self, path: &Path) -> Option<Vec<u8>> {
        disk::read_regular(path).unwrap_or_else(|error| {
            self.counted = None;
            self.problem_at(path, text_of(error));
            None
        })
    }

    /// What is in a folder, by name; one that cannot be listed is said.
    fn list(&mut self, folder: &Path) -> Vec<Found> {
        let mut all = Vec::new();
        let is_link = disk::kind_of(folder).is_ok_and(|kind| kind.is_some_and(|k| k.is_symlink()));
        if is_link && folder != self.layout.root {
            // Reported where it lies.
            return Vec::new();
        }
        let listed = fs::read_dir(folder).and_then(|entries| {
            for entry in entries {
                let entry = entry?;
                let file_type = entry.file_type()?;
                let kind = match () {
                    () if file_type.is_file() => FoundKind::File,
                    () if file_type.is_dir() => FoundKind::Folder,
                    () if file_type.is_symlink() => FoundKind::Link,
                    () => FoundKind::Other,
                };
                all.push((entry.file_name(), kind));
            }
            Ok(())
        });
        match listed {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                self.counted = None;
                self.problem_at(folder, text_of(disk::failed("list", folder, &error)));
            }
            Ok(()) => {}
        }
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let found = |(name, kind): (OsString, FoundKind)| Found {
            path: folder.join(&name),
            name: name.into_string().ok(),
            kind,
        };
        all.into_iter().map(found).collect()
    }
}

/// What an error says, without what a problem says already.
fn text_of(error: StorageError) -> String {
    match error {
        StorageError::IoError(detail)
        | StorageError::Corrupt { detail, .. }
        | StorageError::Unavailable { detail, .. } => detail,
        other => other.to_string(),
    }
}
