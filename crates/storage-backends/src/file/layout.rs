//! The paths in a store directory, and the file `FORMAT` that marks it as a store.
//!
//! ```text
//! FORMAT                      the format version and the store id
//! LOCK                        the store lock, with the process id of the writer
//! revisions                   the reserved revisions
//! components/app/notes/home/  the keys of app/notes/home, one file each
//! loose/                      unscoped keys
//! journal/                    commits of several keys while they are applied
//! ```

use std::fs::FileType;
use std::path::{Path, PathBuf};

use storage_core::{Revision, StorageError, split_full_key};

use super::disk::Kind;
use super::{disk, name, revisions, scan};
use crate::lock::{LOCK_FILE, is_process_id};
use crate::{identity, record};

const FORMAT_FILE: &str = "FORMAT";
const FORMAT_TITLE: &str = "airssys file store";
/// The version of the format.
pub(super) const FORMAT: u32 = 1;
const COMPONENTS: &str = "components";
const UNSCOPED: &str = "loose";
const JOURNAL: &str = "journal";

/// The prefix of the names of temporary files. No name of a key begins with a dot.
pub(super) const TEMP_PREFIX: &str = ".tmp-";

/// How to replace a missing or damaged `FORMAT`.
pub(super) const REPAIR: &str = "restore FORMAT from a backup of this store, or create an empty \
    store elsewhere and move its FORMAT here";

/// The paths of a store.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
}

impl Layout {
    /// The directories of every store.
    pub(super) const DIRECTORIES: [&str; 3] = [COMPONENTS, UNSCOPED, JOURNAL];
    /// The files of every store.
    pub(super) const FILES: [&str; 3] = [FORMAT_FILE, LOCK_FILE, revisions::REVISIONS_FILE];

    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn components(&self) -> PathBuf {
        self.root.join(COMPONENTS)
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.root.join(JOURNAL)
    }

    /// The directory of a component's keys; that of the unscoped keys for an empty
    /// prefix.
    pub(super) fn directory(&self, prefix: &str) -> PathBuf {
        if prefix.is_empty() {
            return self.root.join(UNSCOPED);
        }
        let segments = prefix.strip_suffix('/').unwrap_or(prefix).split('/');
        segments.fold(self.components(), |path, segment| path.join(name::encode(segment)))
    }

    /// The file of a key.
    pub(super) fn key_file(&self, full_key: &str) -> PathBuf {
        let (prefix, user_key) = split_full_key(full_key);
        self.directory(prefix).join(name::encode(user_key))
    }

    /// The revision in the name of a temporary file; `None` for any other name.
    pub(super) fn revision_of_temp(name: &str) -> Option<Revision> {
        let (number, position) = name.strip_prefix(TEMP_PREFIX)?.split_once('-')?;
        let is_position = !position.is_empty() && position.bytes().all(|b| b.is_ascii_digit());
        revision_in_name(number).filter(|_| is_position)
    }

    /// Whether this is the temporary file of a write before `revision`.
    pub(super) fn is_temp_before(name: &str, revision: Revision) -> bool {
        Self::revision_of_temp(name).is_some_and(|found| found < revision)
    }

    /// A directory and its parents up to the store directory. All of them must be synced
    /// to make the path of a file durable.
    pub(super) fn up_to_root<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Path> {
        path.ancestors().take_while(|above| above.starts_with(&self.root))
    }

    /// The file that marks the directory as a store.
    pub(super) fn format_file(&self) -> PathBuf {
        self.root.join(FORMAT_FILE)
    }

    /// Refuses a directory of the store that is reached through a symbolic link.
    /// Returns whether the directory exists.
    pub(super) fn refuse_links(&self, directory: &Path) -> Result<bool, StorageError> {
        let mut path_to_it: Vec<&Path> = self.up_to_root(directory).collect();
        // The store directory may be a link.
        path_to_it.pop();
        for path in path_to_it.into_iter().rev() {
            match disk::kind_of(path)? {
                Some(kind) if !kind.is_dir() => return Err(disk::not_a_directory(path, kind)),
                Some(_) => {}
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Refuses a store directory in which a file or directory of the store is a symbolic
    /// link or has the wrong type.
    pub(super) fn refuse_links_in_root(&self) -> Result<(), StorageError> {
        for directory in Self::DIRECTORIES {
            self.refuse_links(&self.root.join(directory))?;
        }
        match self.not_regular()?.first() {
            Some((file, kind)) if kind.is_symlink() => Err(disk::link_to_file(file)),
            Some((file, kind)) => Err(disk::wrong_type(file, *kind)),
            None => Ok(()),
        }
    }

    /// The paths of the store's files that are not regular files.
    fn not_regular(&self) -> Result<Vec<(PathBuf, FileType)>, StorageError> {
        let mut found = Vec::new();
        for file in Self::FILES.map(|name| self.root.join(name)) {
            if let Some(kind) = disk::kind_of(&file)?.filter(|kind| !kind.is_file()) {
                found.push((file, kind));
            }
        }
        Ok(found)
    }

    /// Refuses a store in which a file of the store is a pipe, socket or device. Opening
    /// a pipe would block.
    pub(super) fn refuse_pipes_in_root(&self) -> Result<(), StorageError> {
        for (file, kind) in self.not_regular()? {
            if !kind.is_symlink() {
                return Err(disk::wrong_type(&file, kind));
            }
        }
        Ok(())
    }

    /// Refuses a directory that is not a store.
    pub(super) fn refuse_missing(&self) -> Result<(), StorageError> {
        identity::refuse_file(&self.root)?;
        self.refuse_links_in_root()?;
        if !self.is_store()? {
            self.refuse_records_without_format()?;
            let what = if disk::exists(&self.root)? { "is not a store" } else { "does not exist" };
            return Err(identity::no_store(&self.root, what));
        }
        Ok(())
    }

    /// Refuses a directory that has records and no `FORMAT`. A new store in it would
    /// start with revision 1 and reuse the revisions of its records. A process that was
    /// killed while it created a store leaves empty directories only.
    fn refuse_records_without_format(&self) -> Result<(), StorageError> {
        let Some(file) = self.any_record()? else { return Ok(()) };
        Err(StorageError::Corrupt {
            key: None,
            detail: format!(
                "{} is missing, but there are files where a store keeps its data, such as {}; \
                 {REPAIR}",
                self.format_file().display(),
                file.display()
            ),
        })
    }

    /// Any file in the directories of keys and commits.
    pub(super) fn any_record(&self) -> Result<Option<PathBuf>, StorageError> {
        scan::any_file(Self::DIRECTORIES.map(|name| self.root.join(name)).into())
    }

    /// Creates the missing directories of a store. Git, archives and object storage do
    /// not keep empty directories.
    pub(super) fn create_missing_directories(&self) -> Result<(), StorageError> {
        for directory in Self::DIRECTORIES.map(|name| self.root.join(name)) {
            if !disk::exists(&directory)? {
                disk::create_private_directories(&directory)?;
            }
        }
        Ok(())
    }

    /// Whether the directory is a store. It is not while its creation is incomplete.
    pub(super) fn is_store(&self) -> Result<bool, StorageError> {
        disk::exists(&self.format_file())
    }

    /// Refuses a directory without `FORMAT` in which no store may be created.
    pub(super) fn refuse_foreign_directory(&self) -> Result<(), StorageError> {
        let is_foreign = !self.may_become_store()?;
        if !is_foreign || self.has_files_of_store()? {
            self.refuse_records_without_format()?;
        }
        if is_foreign { Err(identity::foreign_directory(&self.root)) } else { Ok(()) }
    }

    /// Whether a store may be created here: the directory holds no foreign files. A file
    /// with the name of a store's file is ours only if its content is.
    fn may_become_store(&self) -> Result<bool, StorageError> {
        let format_temp = temp_format_name();
        for name in disk::names(&self.root, Kind::Any)? {
            let content =
                || disk::read_regular(&self.root.join(&name)).map(Option::unwrap_or_default);
            let is_ours = match name.as_str() {
                LOCK_FILE => is_process_id(&content()?),
                revisions::REVISIONS_FILE => revisions::may_be_begun(&content()?),
                name if name == format_temp => is_begun_format(&content()?),
                name => Self::DIRECTORIES.contains(&name),
            };
            if !is_ours {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the directory has a file that only a store has. It may have lost
    /// `FORMAT`.
    fn has_files_of_store(&self) -> Result<bool, StorageError> {
        Ok(revisions::reserved_up_to(&self.root)?.is_some())
    }

    /// Creates a store in an existing directory, durable in every case: without `FORMAT`
    /// later writes could not be read. `FORMAT` is created last.
    pub(super) fn create(&self) -> Result<(), StorageError> {
        self.create_missing_directories()?;
        // An earlier store in this directory may have used revisions already.
        if revisions::reserved_up_to(&self.root)?.is_none() {
            revisions::Revisions::create(&self.root)?;
        }
        disk::sync_directory(&self.root)?;
        let temp = self.root.join(temp_format_name());
        let path = self.format_file();
        disk::remove(&temp).map_err(|error| disk::failed("remove", &temp, &error))?;
        disk::write_new(&temp, format_text(&identity::new_store_id()).as_bytes(), true)?;
        disk::rename(&temp, &path).map_err(|error| disk::failed("create", &path, &error))?;
        disk::sync_directory(&self.root)
    }

    /// Reads and checks `FORMAT`. Returns the store id.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for another format version,
    /// [`StorageError::Corrupt`] if the file is damaged.
    pub(super) fn check_format(&self) -> Result<String, StorageError> {
        let path = self.format_file();
        let text = disk::read(&path)?.unwrap_or_default();
        let text = String::from_utf8(text).unwrap_or_default();
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let version = field("format").unwrap_or_default();
        let is_number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
        if text.lines().next() == Some(FORMAT_TITLE) && is_number && version != FORMAT.to_string() {
            return Err(identity::other_format(&self.root, version, FORMAT));
        }
        match field("store-id") {
            Some(id) if text == format_text(id) => Ok(id.to_owned()),
            _ => Err(StorageError::Corrupt {
                key: None,
                detail: format!("{} is damaged; {REPAIR}", path.display()),
            }),
        }
    }
}

/// The name of the file that a write prepares before it is renamed. `position`
/// distinguishes the writes of a commit.
pub(super) fn temp_name(revision: Revision, position: usize) -> String {
    format!("{TEMP_PREFIX}{:016x}-{position}", revision.get())
}

/// The revision in a file name: 16 hexadecimal digits.
pub(super) fn revision_in_name(digits: &str) -> Option<Revision> {
    let whole = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u64::from_str_radix(digits, 16).ok().filter(|_| whole)?;
    Some(Revision::new(number))
}

/// Whether this may be an incomplete `FORMAT`, left by a killed process.
fn is_begun_format(content: &[u8]) -> bool {
    let title = FORMAT_TITLE.as_bytes();
    content.starts_with(title) || title.starts_with(content)
}

fn temp_format_name() -> String {
    format!("{TEMP_PREFIX}{FORMAT_FILE}")
}

fn format_text(store_id: &str) -> String {
    let body = format!("{FORMAT_TITLE}\nformat: {FORMAT}\nstore-id: {store_id}\n");
    let sealed = record::seal(body.clone().into_bytes());
    let checksum: String =
        sealed.iter().skip(body.len()).map(|byte| format!("{byte:02x}")).collect();
    format!("{body}checksum: {checksum}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn key_files_are_readable_and_inside_the_store() {
        let layout = Layout::new(Path::new("store"));
        let file = |key: &str| layout.key_file(key).to_string_lossy().into_owned();
        assert_eq!(file("app/notes/home/note-1"), "store/components/app/notes/home/note-1");
        assert_eq!(file("app/No:tes/home/a/b"), "store/components/app/%4eo%3ates/home/a%2fb");
        assert_eq!(file("no-component"), "store/loose/no-component");
        assert_eq!(file("../../../etc"), "store/components/%2e%2e/%2e%2e/%2e%2e/etc");
        assert_eq!(file("///"), "store/components/%/%/%/%");
    }

    #[test]
    fn parents_end_at_the_store() {
        let layout = Layout::new(Path::new("data/store"));
        let directory = layout.directory("app/notes/home/");
        let above: Vec<_> = layout.up_to_root(&directory).map(Path::to_owned).collect();
        assert_eq!(above.len(), 5);
        assert_eq!(above.last(), Some(&layout.root));
    }

    #[test]
    fn every_flipped_byte_of_the_format_is_detected() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.create().unwrap();
        let path = root.path().join(FORMAT_FILE);
        let whole = fs::read(&path).unwrap();
        assert_eq!(layout.check_format().unwrap().len(), 32);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert!(layout.check_format().is_err(), "byte {at}");
        }
    }
}
