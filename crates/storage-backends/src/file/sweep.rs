//! Removes what killed writers have left behind, in the background.
//!
//! A killed write leaves a temporary file in its component's directory, and the
//! first write of a component may leave empty directories. The sweep removes only
//! files of earlier openings, so it needs no lock for them. A component's directory
//! goes only if nobody in this process uses the component; a directory above that
//! goes if it is empty, and a write that needs it makes it anew.
//!
//! What cannot be removed stays until the next opening.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};

use storage_core::Revision;

use super::disk;
use super::layout::Layout;
use super::lock::WriterLock;
use super::name::{self, Decoded};
use super::store::KnownPartitions;

/// A sweep that is under way. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Sweep {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sweep {
    /// Begins to sweep what was left before `first`, the first revision of this
    /// opening.
    pub(super) fn start(
        layout: Layout,
        first: Revision,
        partitions: KnownPartitions,
        lock: Arc<WriterLock>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sweeper = Sweeper { layout, first, partitions, lock, stop: Arc::clone(&stop) };
        let run = move || sweeper.run();
        // Without a thread what was left stays until the next opening.
        let thread = thread::Builder::new().name("storage-sweep".to_owned()).spawn(run).ok();
        Self { stop, thread }
    }

    /// Waits until it has come to its end.
    #[cfg(test)]
    pub(super) fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A sweep that panicked has nothing to say.
            let _ = thread.join();
        }
    }
}

struct Sweeper {
    layout: Layout,
    first: Revision,
    partitions: KnownPartitions,
    lock: Arc<WriterLock>,
    stop: Arc<AtomicBool>,
}

impl Sweeper {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn run(&self) {
        let components = self.layout.components();
        for namespace in self.directories(&components) {
            let below_namespace = components.join(&namespace);
            for component in self.directories(&below_namespace) {
                let below_component = below_namespace.join(&component);
                for instance in self.directories(&below_component) {
                    // Another writer may have what has taken the store's path.
                    if self.is_stopped() || self.lock.check().is_err() {
                        return;
                    }
                    let directory = below_component.join(&instance);
                    if !self.remove_files(&directory) {
                        self.remove_component(&directory, [&namespace, &component, &instance]);
                    }
                }
                remove_if_empty(&below_component);
            }
            remove_if_empty(&below_namespace);
        }
        self.remove_files(&self.layout.folder(""));
    }

    /// The directories of the store in a directory, as far as they can be listed.
    fn directories(&self, directory: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let _ = disk::visit_entries(directory, |name, file_type| {
            if file_type.is_dir() && name::decode(&name) != Decoded::Foreign {
                found.push(name);
            }
            !self.is_stopped()
        });
        found
    }

    /// Removes what earlier writes left in a directory of keys, and tells whether
    /// anything else is there.
    fn remove_files(&self, directory: &Path) -> bool {
        let mut others = false;
        let listed = disk::visit_entries(directory, |name, file_type| {
            if file_type.is_file() && Layout::is_temp_before(&name, self.first) {
                others |= disk::remove(&directory.join(name)).is_err();
            } else {
                others = true;
            }
            !self.is_stopped()
        });
        others || listed.is_err()
    }

    /// Removes the directory of a component that nobody in this process uses.
    fn remove_component(&self, directory: &Path, segments: [&str; 3]) {
        // Held meanwhile, so that nobody begins to use the component.
        let known = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        if !known.uses(name_of(segments).as_deref(), directory) {
            remove_if_empty(directory);
        }
    }
}

/// The name of a component by those of its directories; `None` where one is too
/// long to be told by its name.
fn name_of(segments: [&str; 3]) -> Option<String> {
    let mut partition = String::new();
    for segment in segments {
        let Decoded::Text(text) = name::decode(segment) else { return None };
        partition.push_str(&text);
        partition.push('/');
    }
    Some(partition)
}

fn remove_if_empty(directory: &Path) {
    // The system refuses one that is not.
    let _ = fs::remove_dir(directory);
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use storage_core::{Commit, ComponentStorage, StorageError};

    use crate::file::store::{FileOptions, FileStorage};

    use super::*;

    fn open(root: &Path) -> FileStorage {
        FileStorage::open(root, FileOptions::default()).unwrap()
    }

    fn open_and_wait(root: &Path) -> FileStorage {
        let mut storage = open(root);
        storage.wait_for_sweep();
        storage
    }

    /// A store with one component, and what writers leave that are killed in the
    /// first write of a component.
    fn left_behind() -> (tempfile::TempDir, Vec<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        open(root.path()).set("app/notes/home/1", "one".into()).unwrap();
        let long = "s".repeat(300);
        let layout = Layout::new(root.path());
        let mut left = Vec::new();
        for name in ["app/killed/1/", "other/killed/1/", &format!("{long}/{long}/{long}/")] {
            let directory = layout.folder(name);
            fs::create_dir_all(&directory).unwrap();
            let revision = Revision::new(1);
            let temp = layout.temp_file(&format!("{name}k"), revision, 0);
            fs::write(&temp, "half").unwrap();
            left.extend([directory, temp]);
        }
        for key in ["loose", "app/notes/home/2"] {
            let temp = layout.temp_file(key, Revision::new(2), 7);
            fs::write(&temp, "half").unwrap();
            left.push(temp);
        }
        let empty = layout.folder("empty/empty/empty/");
        fs::create_dir_all(&empty).unwrap();
        let above = empty.parent().unwrap();
        left.extend([above.parent().unwrap().to_owned(), above.to_owned(), empty.clone()]);
        (root, left)
    }

    #[test]
    fn what_killed_writers_left_is_gone_after_the_next_opening() {
        let (root, left) = left_behind();
        let storage = open_and_wait(root.path());
        let still_there: Vec<_> = left.iter().filter(|path| path.exists()).collect();
        assert_eq!(still_there, Vec::<&PathBuf>::new());
        assert_eq!(storage.get("app/notes/home/1"), Ok(Some("one".into())));
        for directory in Layout::FOLDERS {
            assert!(root.path().join(directory).is_dir(), "{directory}");
        }
    }

    #[test]
    fn files_of_others_and_of_this_opening_stay() {
        let (root, _) = left_behind();
        let first = open(root.path()).writer().unwrap().revisions.first();
        let home = root.path().join("components/app/notes/home");
        let later = format!(".tmp-{:016x}-0", first.get() + 1_000_000);
        let kept = [later.as_str(), ".tmp-mine", ".tmp-0000000000000001-0.bak", ".DS_Store"];
        for name in kept {
            fs::write(home.join(name), "x").unwrap();
        }
        let foreign = root.path().join("components/Foreign/a");
        fs::create_dir_all(&foreign).unwrap();
        drop(open_and_wait(root.path()));
        assert!(kept.iter().all(|name| home.join(name).exists()));
        assert!(foreign.exists());
    }

    fn sweeper_of(storage: &FileStorage) -> Sweeper {
        let writer = storage.writer().unwrap();
        Sweeper {
            layout: storage.layout.clone(),
            first: writer.revisions.first(),
            partitions: storage.known_partitions(),
            lock: Arc::clone(&writer.lock),
            stop: Arc::default(),
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_has_taken_the_path_of_a_store_is_not_swept() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("store");
        let storage = open_and_wait(&root);
        fs::rename(&root, parent.path().join("moved")).unwrap();
        let other = open_and_wait(&root);
        let empty = root.join("components/a/b/c");
        fs::create_dir_all(&empty).unwrap();
        sweeper_of(&storage).run();
        assert!(empty.exists());
        sweeper_of(&other).run();
        assert!(!empty.exists());
    }

    #[test]
    fn a_component_in_use_keeps_its_directory() {
        let (root, _) = left_behind();
        let storage = open_and_wait(root.path());
        for key in ["x/y/z/k", &format!("{0}/{0}/{0}/k", "s".repeat(300))] {
            storage.set(key, "v".into()).unwrap();
            storage.delete(key).unwrap();
        }
        let sweeper = sweeper_of(&storage);
        sweeper.run();
        storage.set("x/y/z/k", "again".into()).unwrap();
        storage.set(&format!("{0}/{0}/{0}/k", "s".repeat(300)), "again".into()).unwrap();
    }

    #[test]
    fn writers_go_on_while_directories_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let options = FileOptions::default().with_durability(crate::Durability::Os);
        let storage = FileStorage::open(root.path(), options).unwrap();
        let sweeper = sweeper_of(&storage);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let sweeping = scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    sweeper.run();
                }
            });
            let written: Result<Vec<Revision>, StorageError> = (0..300)
                .map(|number| {
                    let [one, other] = ["a", "b"].map(|last| format!("n{number}/c/{last}/key"));
                    storage.commit(Commit::new().set(one, "x".into()).set(other, "x".into()))
                })
                .collect();
            done.store(true, Ordering::Release);
            sweeping.join().unwrap();
            assert_eq!(written.map(|all| all.len()), Ok(300));
        });
        assert_eq!(storage.list_keys(None).unwrap().len(), 600);
    }

    #[test]
    fn a_sweep_ends_with_its_store() {
        let (root, _) = left_behind();
        for _ in 0..20 {
            drop(open(root.path()));
        }
        assert_eq!(open_and_wait(root.path()).list_keys(None).unwrap(), ["app/notes/home/1"]);
    }
}
