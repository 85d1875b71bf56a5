//! Verifies a store file by file and changes nothing.
//!
//! Reads the files directly, not through the store. A value is correct if its checksum
//! is, and if its file is the one that its key belongs in: this covers wrong names, wrong
//! directories and swapped files. What the next writer will sweep, apply or rebuild is not
//! a problem. A writer may have the store open, because files are replaced as a whole;
//! then only the usage is not compared.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use storage_core::{
    Problem, Revision, StorageError, Usage, Verified, split_full_key, validate_full_key,
};

use super::journal::{self, Journal, JournalFile};
use super::layout::{self, Layout, TEMP_PREFIX};
use super::lock::SharedLock;
use super::name::{self, Decoded};
use super::pending::PendingCommits;
use super::reader::Reader;
use super::{disk, key_file, revisions};
use crate::lock::LOCK_FILE;
use crate::permissions::{OpenToOthers, others_may_enter};
use crate::{component_index, identity, record};

mod strays;

/// The memory for indexes while the store counts its keys.
const INDEX_BUDGET_BYTES: usize = 64 << 20;

/// Verifies the store in `root`; see [`FileStorage::verify`](super::FileStorage::verify).
pub(super) fn verify(
    root: &Path,
    report: &mut dyn FnMut(Problem),
) -> Result<Verified, StorageError> {
    identity::refuse_file(root)?;
    let layout = Layout::new(root);
    layout.refuse_pipes_in_root()?;
    if !layout.is_store()? && layout.any_record()?.is_none() {
        layout.refuse_missing()?;
    }
    let mut check = Check {
        layout,
        report,
        verified: Verified::default(),
        pending: PendingCommits::default(),
        pending_keys: BTreeMap::new(),
        reported: BTreeSet::new(),
        largest: None,
        counted: Some(Usage::default()),
        open_to_others: OpenToOthers::default(),
    };
    let before = Quiescence::observe(root);
    check.format()?;
    check.root();
    check.journal();
    check.components();
    let unscoped = check.layout.directory("");
    check.component(&unscoped, false);
    check.pending_elsewhere();
    // After the records: a running writer increases the counter first.
    check.counter();
    if before.is_some() && before == Quiescence::observe(root) {
        check.recount();
    }
    check.permissions();
    Ok(check.verified)
}

/// The revision counter while no writer has the store open. Every opening that writes
/// changes it, because it reserves a new block.
#[derive(PartialEq, Eq)]
struct Quiescence(Option<Vec<u8>>);

impl Quiescence {
    /// `None` if a writer has the store open.
    fn observe(root: &Path) -> Option<Self> {
        SharedLock::take(root, LOCK_FILE).ok()?;
        disk::read(&root.join(revisions::REVISIONS_FILE)).ok().map(Self)
    }
}

/// An entry of a directory.
struct Found {
    path: PathBuf,
    /// `None` if it is not UTF-8. All names of a store are.
    name: Option<String>,
    kind: FoundKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FoundKind {
    File,
    Directory,
    Link,
    Other,
}

struct Check<'a> {
    layout: Layout,
    report: &'a mut dyn FnMut(Problem),
    verified: Verified,
    pending: PendingCommits,
    /// The keys of pending commits by directory, until the directory is checked.
    pending_keys: BTreeMap<PathBuf, Vec<String>>,
    /// The keys of pending commits with a reported problem.
    reported: BTreeSet<String>,
    /// The largest revision and its file.
    largest: Option<(Revision, PathBuf)>,
    /// The usage that the store must report; `None` if it is unknown.
    counted: Option<Usage>,
    /// The files that other users can access.
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

    /// The store directory itself.
    fn root(&mut self) {
        let root = self.layout.root.clone();
        self.open_to_others.examine_root(&root);
        for found in self.list(&root) {
            let name = found.name.as_deref().unwrap_or_default();
            let wanted = if Layout::DIRECTORIES.contains(&name) {
                FoundKind::Directory
            } else if Layout::FILES.contains(&name) {
                FoundKind::File
            } else {
                self.stray(&found, false);
                continue;
            };
            if found.kind == FoundKind::Link {
                self.link(&found.path, wanted);
            } else if found.kind != wanted {
                let what = if wanted == FoundKind::File { "file" } else { "directory" };
                self.problem_at(&found.path, format!("is not a {what}"));
            } else {
                self.open_to_others.examine(&found.path);
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
            self.open_to_others.examine(&found.path);
            // A commit that has not happened; the next writer removes it.
            if of_the_store == JournalFile::Prepared {
                continue;
            }
            let Some(bytes) = self.read(&found.path) else { continue };
            match journal::decode_file(&bytes) {
                Ok(journal) if journal.file(&self.layout) != found.path => {
                    self.problem_at(&found.path, "has the file name of another commit");
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
        self.pending = PendingCommits::of(&self.layout, &journals);
        for key in self.pending.keys() {
            let directory = self.layout.directory(split_full_key(key).0);
            self.pending_keys.entry(directory).or_default().push(key.to_owned());
        }
        self.pending_keys.values_mut().for_each(|keys| keys.sort_unstable());
    }

    /// A pending commit: its values must be readable.
    fn commit(&mut self, journal: &Journal) {
        let file = journal.file(&self.layout);
        self.see(journal.revision, &file);
        for (entry, step) in journal.entries.iter().zip(journal.steps(&self.layout)) {
            let temp = step.temp;
            if let Err(error) = validate_full_key(&entry.key) {
                self.problem_of(&file, &entry.key, format!("has a key that is invalid: {error}"));
            }
            // A missing file was renamed already.
            if !entry.sets || !matches!(disk::exists(&temp), Ok(true)) {
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
            let detail = format!("{problem}, so a pending commit cannot be completed");
            self.problem_of(&temp, &entry.key, detail);
            self.reported.insert(entry.key.clone());
        }
    }

    /// The directories of namespaces, names and instances.
    fn components(&mut self) {
        let components = self.layout.components();
        for namespace in self.directories_in(&components) {
            for component in self.directories_in(&namespace) {
                for instance in self.directories_in(&component) {
                    self.component(&instance, true);
                }
            }
        }
    }

    /// The directories in a directory that should hold nothing else.
    fn directories_in(&mut self, path: &Path) -> Vec<PathBuf> {
        let mut directories = Vec::new();
        for found in self.list(path) {
            let ours =
                found.name.as_deref().is_some_and(|name| name::decode(name) != Decoded::Foreign);
            match found.kind {
                FoundKind::Directory if ours => {
                    self.open_to_others.examine(&found.path);
                    directories.push(found.path);
                }
                FoundKind::Link if ours => self.link(&found.path, FoundKind::Directory),
                _ => self.stray(&found, ours),
            }
        }
        directories
    }

    /// The directory of a component's keys or of the unscoped keys.
    fn component(&mut self, directory: &Path, is_component: bool) {
        let before = self.verified.usage.keys;
        let pending = self.pending_keys.remove(directory).unwrap_or_default();
        for found in self.list(directory) {
            let name = found.name.as_deref().unwrap_or_default();
            let ours = name::decode(name) != Decoded::Foreign;
            if found.kind != FoundKind::File {
                self.stray(&found, ours);
            } else if name.starts_with(TEMP_PREFIX) {
                self.temp(&found);
            } else if ours {
                self.open_to_others.examine(&found.path);
                self.value(&found.path, &pending);
            } else {
                self.stray(&found, false);
            }
        }
        self.pending(&pending);
        if is_component && self.verified.usage.keys > before {
            self.verified.components += 1;
        }
    }

    /// The temporary file of a write, which the next writer sweeps.
    fn temp(&mut self, found: &Found) {
        match found.name.as_deref().and_then(Layout::revision_of_temp) {
            Some(revision) => {
                self.open_to_others.examine(&found.path);
                self.see(revision, &found.path);
            }
            None => self.stray(found, false),
        }
    }

    /// The file of a key.
    fn value(&mut self, path: &Path, pending: &[String]) {
        // Deleted since the directory was listed, or unreadable.
        let Some(bytes) = self.read(path) else { return };
        let named = self.key_by_name(path);
        if named.as_ref().is_some_and(|key| pending.binary_search(key).is_ok()) {
            // Counted with the pending commits.
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
        let expected = self.layout.key_file(&key);
        if expected != path {
            let detail = format!(
                "it holds the value of key {key:?}, which belongs in {}; restore the file from a copy",
                expected.display()
            );
            return self.damaged(path, named, len, detail);
        }
        let usage = Usage::of(&key, record.found.value.len());
        self.verified.usage = self.verified.usage + usage;
        self.counted = self.counted.map(|counted| counted + usage);
    }

    /// A file that a listing reports as a key, but whose value cannot be read.
    fn damaged(&mut self, path: &Path, named: Option<String>, len: u64, detail: String) {
        // The store counts it by the length of the file.
        let of_file = named
            .as_deref()
            .filter(|key| self.layout.key_file(key) == path)
            .map(|key| Usage::of(key, key_file::value_len_by_file_len(key.len(), len)));
        self.counted = self.counted.zip(of_file).map(|(counted, usage)| counted + usage);
        match named {
            Some(key) => self.problem_of(path, &key, detail),
            None => self.problem_at(path, detail),
        }
    }

    /// The full key by the names of a file and its directories; `None` if one is hashed.
    fn key_by_name(&self, path: &Path) -> Option<String> {
        let name = |path: &'_ Path| Some(path.file_name()?.to_str()?.to_owned());
        let Decoded::Text(user_key) = name::decode(&name(path)?) else { return None };
        let instance = path.parent()?;
        if instance == self.layout.directory("") {
            return Some(user_key);
        }
        let component = instance.parent()?;
        let segments = [name(component.parent()?)?, name(component)?, name(instance)?];
        let prefix = name::decode_prefix(segments.each_ref().map(String::as_str))?;
        Some(prefix + &user_key)
    }

    /// The keys of pending commits as a writer will leave them.
    fn pending(&mut self, keys: &[String]) {
        for key in keys {
            let file = self.layout.key_file(key);
            match self.pending.read_key(key, &file) {
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

    /// The keys of pending commits whose directories are missing.
    fn pending_elsewhere(&mut self) {
        for (directory, keys) in std::mem::take(&mut self.pending_keys) {
            if self.layout.refuse_links(&directory).is_err() {
                // Already reported.
                continue;
            }
            let before = self.verified.usage.keys;
            self.pending(&keys);
            if directory != self.layout.directory("") && self.verified.usage.keys > before {
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
                "is missing or damaged; the next writer creates it again, with revisions far above \
                 all that are in use",
            ),
            (Ok(Some(first)), Some((largest, file))) if largest.get() >= first => {
                let detail = format!(
                    "continues with revision {first}, but {} has revision {}, so revisions would be \
                     used twice; close the store and remove the file: the next writer creates it \
                     again, with revisions above all that are in use",
                    file.display(),
                    largest.get()
                );
                self.problem_at(&path, detail);
            }
            _ => {}
        }
    }

    /// Compares the usage with what the store counts.
    fn recount(&mut self) {
        let Some(counted) = self.counted else { return };
        let pending = std::mem::take(&mut self.pending);
        let reader = Reader::new(self.layout.clone(), pending, INDEX_BUDGET_BYTES);
        let detail = match component_index::usage(&reader, None) {
            Ok(usage) if usage == counted => return,
            Ok(usage) => format!(
                "the store counts {} keys and {} bytes, but its files hold {} keys and {} bytes",
                usage.keys, usage.bytes, counted.keys, counted.bytes
            ),
            Err(error) => format!("the store cannot count its keys: {error}"),
        };
        let root = self.layout.root.clone();
        self.problem_at(&root, detail);
    }

    fn see(&mut self, revision: Revision, path: &Path) {
        if self.largest.as_ref().is_none_or(|(largest, _)| revision > *largest) {
            self.largest = Some((revision, path.to_owned()));
        }
    }

    /// Reads a file. Returns `None` if it is missing or unreadable; the latter is reported.
    fn read(&mut self, path: &Path) -> Option<Vec<u8>> {
        disk::read_regular(path).unwrap_or_else(|error| {
            self.counted = None;
            self.problem_at(path, text_of(error));
            None
        })
    }

    /// The entries of a directory by name. Reports an unreadable directory.
    fn list(&mut self, directory: &Path) -> Vec<Found> {
        let mut all = Vec::new();
        let is_link =
            disk::kind_of(directory).is_ok_and(|kind| kind.is_some_and(|k| k.is_symlink()));
        if is_link && directory != self.layout.root {
            // Reported with the directory that holds it.
            return Vec::new();
        }
        let listed = fs::read_dir(directory).and_then(|entries| {
            for entry in entries {
                let entry = entry?;
                let file_type = entry.file_type()?;
                let kind = match () {
                    () if file_type.is_file() => FoundKind::File,
                    () if file_type.is_dir() => FoundKind::Directory,
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
                self.problem_at(directory, text_of(disk::failed("list", directory, &error)));
            }
            Ok(()) => {}
        }
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let found = |(name, kind): (OsString, FoundKind)| Found {
            path: directory.join(&name),
            name: name.into_string().ok(),
            kind,
        };
        all.into_iter().map(found).collect()
    }
}

/// The text of an error without its kind.
fn text_of(error: StorageError) -> String {
    match error {
        StorageError::IoError(detail)
        | StorageError::Corrupt { detail, .. }
        | StorageError::Unavailable { detail, .. } => detail,
        other => other.to_string(),
    }
}
