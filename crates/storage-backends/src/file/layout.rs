//! Where everything lies in a store's folder, and the file that says what it is.
//!
//! ```text
//! FORMAT                      what this folder is, in which version
//! LOCK                        the writer's lock, with its process id
//! revisions                   the reserved revisions
//! components/app/notes/home/  the keys of app/notes/home, a file each
//! loose/                      keys with fewer than three slashes
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
const FORMAT_VERSION: &str = "1";
pub(super) const FORMAT: u32 = 1;
const COMPONENTS: &str = "components";
const LOOSE: &str = "loose";
const JOURNAL: &str = "journal";

/// What the name of a file that is being written begins with. No key's name
/// begins with a dot.
pub(super) const TEMP_PREFIX: &str = ".tmp-";

/// How to get a `FORMAT` back.
pub(super) const REPAIR: &str = "restore FORMAT from a backup of this store, or make an empty \
    store elsewhere and move its FORMAT here";

/// The paths of a store.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
}

impl Layout {
    /// The folders that every store has.
    pub(super) const FOLDERS: [&str; 3] = [COMPONENTS, LOOSE, JOURNAL];
    /// The files beside them.
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

    /// The folder of a partition's keys.
    pub(super) fn folder(&self, partition: &str) -> PathBuf {
        if partition.is_empty() {
            return self.root.join(LOOSE);
        }
        let segments = partition.strip_suffix('/').unwrap_or(partition).split('/');
        segments.fold(self.components(), |folder, segment| folder.join(name::encode(segment)))
    }

    /// The file of a key.
    pub(super) fn key_file(&self, full_key: &str) -> PathBuf {
        let (partition, own) = split_full_key(full_key);
        self.folder(partition).join(name::encode(own))
    }

    /// The file that a write prepares before it takes the key's name; `position`
    /// tells the writes of a commit apart.
    pub(super) fn temp_file(&self, full_key: &str, revision: Revision, position: usize) -> PathBuf {
        let (partition, _) = split_full_key(full_key);
        self.folder(partition).join(format!("{TEMP_PREFIX}{:016x}-{position}", revision.get()))
    }

    /// The revision in the name of such a file; `None` for any other name.
    pub(super) fn revision_of_temp(name: &str) -> Option<Revision> {
        let (number, position) = name.strip_prefix(TEMP_PREFIX)?.split_once('-')?;
        let is_position = !position.is_empty() && position.bytes().all(|b| b.is_ascii_digit());
        revision_in_name(number).filter(|_| is_position)
    }

    /// Whether a file is such a one of a write that came before `revision`.
    pub(super) fn is_temp_before(name: &str, revision: Revision) -> bool {
        Self::revision_of_temp(name).is_some_and(|found| found < revision)
    }

    /// A folder and those above it, up to the store's own: what has to be synced
    /// so that the names on the way to a file are durable.
    pub(super) fn up_to_root<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = &'a Path> {
        folder.ancestors().take_while(|path| path.starts_with(&self.root))
    }

    /// The file that makes the folder a store.
    pub(super) fn format_file(&self) -> PathBuf {
        self.root.join(FORMAT_FILE)
    }

    /// Refuses a directory of the store that is reached through a symbolic link,
    /// and tells whether it is there.
    pub(super) fn refuse_links(&self, directory: &Path) -> Result<bool, StorageError> {
        let mut on_the_way: Vec<&Path> = self.up_to_root(directory).collect();
        // The root may be a link.
        on_the_way.pop();
        for path in on_the_way.into_iter().rev() {
            match disk::kind_of(path)? {
                Some(kind) if !kind.is_dir() => return Err(disk::not_a_directory(path, kind)),
                Some(_) => {}
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Refuses a store in whose root directory something of its own is a symbolic
    /// link, or something else has the name of one of its files.
    pub(super) fn refuse_links_in_root(&self) -> Result<(), StorageError> {
        for directory in Self::FOLDERS {
            self.refuse_links(&self.root.join(directory))?;
        }
        match self.not_regular()?.first() {
            Some((file, kind)) if kind.is_symlink() => Err(disk::link_to_file(file)),
            Some((file, kind)) => Err(disk::out_of_place(file, *kind)),
            None => Ok(()),
        }
    }

    /// What has the name of one of the store's files and is not a regular file.
    fn not_regular(&self) -> Result<Vec<(PathBuf, FileType)>, StorageError> {
        let mut found = Vec::new();
        for file in Self::FILES.map(|name| self.root.join(name)) {
            if let Some(kind) = disk::kind_of(&file)?.filter(|kind| !kind.is_file()) {
                found.push((file, kind));
            }
        }
        Ok(found)
    }

    /// Refuses a store in which something else has the name of one of its files:
    /// opening a pipe would wait for its other end.
    pub(super) fn refuse_pipes_in_root(&self) -> Result<(), StorageError> {
        for (file, kind) in self.not_regular()? {
            if !kind.is_symlink() {
                return Err(disk::out_of_place(&file, kind));
            }
        }
        Ok(())
    }

    /// Refuses a directory that has records and no `FORMAT`. A new store in it would
    /// begin with revision 1, and give revisions that its records have. A process
    /// that was killed while it made a store has left empty directories.
    pub(super) fn refuse_records_without_format(&self) -> Result<(), StorageError> {
        let Some(file) = self.any_record()? else { return Ok(()) };
        Err(StorageError::Corrupt {
            key: None,
            detail: format!(
                "{} is missing, and there are files where a store has its data, such as {}; {REPAIR}",
                self.format_file().display(),
                file.display()
            ),
        })
    }

    /// A file of a key or of a commit, or what is in its place.
    pub(super) fn any_record(&self) -> Result<Option<PathBuf>, StorageError> {
        scan::any_file(Self::FOLDERS.map(|name| self.root.join(name)).into())
    }

    /// Makes the directories that every store has, where they are missing. A store
    /// loses empty ones in git, in archives and in object storage.
    pub(super) fn make_missing_directories(&self) -> Result<(), StorageError> {
        for folder in Self::FOLDERS.map(|name| self.root.join(name)) {
            if !disk::is_there(&folder)? {
                disk::create_private_directories(&folder)?;
            }
        }
        Ok(())
    }

    /// Whether a store was made here. A folder in which one was begun, by a
    /// process that did not get to the end, is not one yet.
    pub(super) fn is_store(&self) -> Result<bool, StorageError> {
        disk::is_there(&self.format_file())
    }

    /// Whether a store may be made here: nothing of anybody else's is there. A file
    /// with the name of one of ours is ours only by what is in it.
    pub(super) fn may_become_store(&self) -> Result<bool, StorageError> {
        let format_temp = temp_name(FORMAT_FILE);
        for name in disk::names(&self.root, Kind::Any)? {
            let content =
                || disk::read_regular(&self.root.join(&name)).map(Option::unwrap_or_default);
            let is_ours = match name.as_str() {
                LOCK_FILE => is_process_id(&content()?),
                revisions::REVISIONS_FILE => revisions::may_be_begun(&content()?),
                name if name == format_temp => is_begun_format(&content()?),
                name => Self::FOLDERS.contains(&name),
            };
            if !is_ours {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether files stand here that only a store has, which may have lost `FORMAT`.
    pub(super) fn has_files_of_store(&self) -> Result<bool, StorageError> {
        Ok(revisions::reserved_up_to(&self.root)?.is_some())
    }

    /// Makes a store in the folder, which exists, durable whatever its writes
    /// will be: without it they could not be read. `FORMAT` comes last, and makes
    /// it a store.
    pub(super) fn create(&self) -> Result<(), StorageError> {
        self.make_missing_directories()?;
        // A store that was made here before may have given revisions already.
        if revisions::reserved_up_to(&self.root)?.is_none() {
            revisions::Revisions::create(&self.root)?;
        }
        disk::sync_folder(&self.root)?;
        let temp = self.root.join(temp_name(FORMAT_FILE));
        let path = self.format_file();
        disk::remove(&temp).map_err(|error| disk::failed("remove", &temp, &error))?;
        disk::write_new(&temp, format_text(&identity::new_store_id()).as_bytes(), true)?;
        disk::rename(&temp, &path).map_err(|error| disk::failed("make", &path, &error))?;
        disk::sync_folder(&self.root)
    }

    /// Reads what the folder says of itself, and gives the store's id.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for another version of the format,
    /// [`StorageError::Corrupt`] for what is no such text.
    pub(super) fn check_format(&self) -> Result<String, StorageError> {
        let path = self.format_file();
        let text = disk::read(&path)?.unwrap_or_default();
        let text = String::from_utf8(text).unwrap_or_default();
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let version = field("format").unwrap_or_default();
        let is_number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
        if text.lines().next() == Some(FORMAT_TITLE) && is_number && version != FORMAT_VERSION {
            return Err(identity::other_format(&self.root, version, FORMAT_VERSION));
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

/// The revision that the name of a file says in 16 hexadecimal digits.
pub(super) fn revision_in_name(digits: &str) -> Option<Revision> {
    let whole = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u64::from_str_radix(digits, 16).ok().filter(|_| whole)?;
    Some(Revision::new(number))
}

/// Whether a killed process may have left this in place of `FORMAT`.
fn is_begun_format(content: &[u8]) -> bool {
    let title = FORMAT_TITLE.as_bytes();
    content.starts_with(title) || title.starts_with(content)
}

fn temp_name(name: &str) -> String {
    format!("{TEMP_PREFIX}{name}")
}

fn format_text(store_id: &str) -> String {
    let body = format!("{FORMAT_TITLE}\nformat: {FORMAT_VERSION}\nstore-id: {store_id}\n");
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
    fn folders_are_legible_and_stay_inside() {
        let layout = Layout::new(Path::new("store"));
        let file = |key: &str| layout.key_file(key).to_string_lossy().into_owned();
        assert_eq!(file("app/notes/home/note-1"), "store/components/app/notes/home/note-1");
        assert_eq!(file("app/No:tes/home/a/b"), "store/components/app/%4eo%3ates/home/a%2fb");
        assert_eq!(file("no-component"), "store/loose/no-component");
        assert_eq!(file("../../../etc"), "store/components/%2e%2e/%2e%2e/%2e%2e/etc");
        assert_eq!(file("///"), "store/components/%/%/%/%");
    }

    #[test]
    fn folders_above_end_at_the_store() {
        let layout = Layout::new(Path::new("data/store"));
        let folder = layout.folder("app/notes/home/");
        let above: Vec<_> = layout.up_to_root(&folder).map(Path::to_owned).collect();
        assert_eq!(above.len(), 5);
        assert_eq!(above.last(), Some(&layout.root));
    }

    #[test]
    fn every_flipped_byte_of_the_format_is_found() {
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

    #[test]
    fn another_version_is_named() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.create().unwrap();
        fs::write(root.path().join(FORMAT_FILE), "airssys file store\nformat: 12\nwhat: ever\n")
            .unwrap();
        let error = layout.check_format().unwrap_err().to_string();
        assert!(error.contains("format 12") && error.contains("knows format 1;"), "{error}");
    }
}
