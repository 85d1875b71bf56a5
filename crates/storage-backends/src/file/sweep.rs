//! Removes what killed writers have left behind, in the background.
//!
//! A killed write leaves a temporary file in the directory of its component, and the first
//! write to a component may leave empty directories. The sweep removes only temporary
//! files of earlier openings, so it needs no locks for them. It removes the directory of
//! a component only while this process does not use the component. It removes a directory
//! above that if it is empty; a write creates it again.
//!
//! What cannot be removed stays until the store is next opened.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use storage_core::Revision;

use super::components::Components;
use super::disk;
use super::layout::Layout;
use super::lock::WriterLock;
use super::name::{self, Decoded};

/// A running sweep. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Sweep {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sweep {
    /// Starts to remove what was left before `first`, the first revision of this opening.
    pub(super) fn start(
        layout: Layout,
        first: Revision,
        components: Arc<Components>,
        lock: Arc<WriterLock>,
    ) -> Self {
        let sweeper = Sweeper::new(layout, first, components, lock);
        let stop = Arc::clone(&sweeper.stop);
        let run = move || sweeper.run();
        // If no thread can be started, everything stays until the store is next opened.
        let thread = thread::Builder::new().name("storage-sweep".to_owned()).spawn(run).ok();
        Self { stop, thread }
    }

    /// Waits for the end of the sweep.
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
            // A panic of the sweep does no harm.
            let _ = thread.join();
        }
    }
}

pub(super) struct Sweeper {
    layout: Layout,
    first: Revision,
    components: Arc<Components>,
    lock: Arc<WriterLock>,
    stop: Arc<AtomicBool>,
}

impl Sweeper {
    pub(super) fn new(
        layout: Layout,
        first: Revision,
        components: Arc<Components>,
        lock: Arc<WriterLock>,
    ) -> Self {
        Self { layout, first, components, lock, stop: Arc::default() }
    }

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
                    // Another store may have taken the path.
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
        self.remove_files(&self.layout.directory(""));
    }

    /// The directories of the store in a directory that can be listed.
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

    /// Removes temporary files of earlier openings from a directory of keys. Returns
    /// whether anything is left.
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

    /// Removes the directory of a component that this process does not use.
    fn remove_component(&self, directory: &Path, segments: [&str; 3]) {
        let remove = || remove_if_empty(directory);
        self.components.if_unused(name::decode_prefix(segments).as_deref(), directory, remove);
    }
}

fn remove_if_empty(directory: &Path) {
    // The system refuses to remove a directory that is not empty.
    let _ = fs::remove_dir(directory);
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use storage_core::{Commit, ComponentStorage, StorageError};

    use super::*;
    use crate::file::layout;
    use crate::file::store::{FileOptions, FileStorage};

    fn open(root: &Path) -> FileStorage {
        FileStorage::open(root, FileOptions::default()).unwrap()
    }

    fn open_and_wait(root: &Path) -> FileStorage {
        let mut storage = open(root);
        storage.writer_mut().wait_for_sweep();
        storage
    }

    /// A store with one component, and what killed writers have left in it.
    fn left_behind() -> (tempfile::TempDir, Vec<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        open(root.path()).set("app/notes/home/1", "one".into()).unwrap();
        let long = "s".repeat(300);
        let layout = Layout::new(root.path());
        let mut left = Vec::new();
        for name in ["app/killed/1/", "other/killed/1/", &format!("{long}/{long}/{long}/")] {
            let directory = layout.directory(name);
            fs::create_dir_all(&directory).unwrap();
            let temp = directory.join(layout::temp_name(Revision::new(1), 0));
            fs::write(&temp, "half").unwrap();
            left.extend([directory, temp]);
        }
        for prefix in ["", "app/notes/home/"] {
            let temp = layout.directory(prefix).join(layout::temp_name(Revision::new(2), 7));
            fs::write(&temp, "half").unwrap();
            left.push(temp);
        }
        let empty = layout.directory("empty/empty/empty/");
        fs::create_dir_all(&empty).unwrap();
        let above = empty.parent().unwrap();
        left.extend([above.parent().unwrap().to_owned(), above.to_owned(), empty.clone()]);
        (root, left)
    }

    #[test]
    fn the_next_opening_removes_what_killed_writers_left() {
        let (root, left) = left_behind();
        let storage = open_and_wait(root.path());
        let still_there: Vec<_> = left.iter().filter(|path| path.exists()).collect();
        assert_eq!(still_there, Vec::<&PathBuf>::new());
        assert_eq!(storage.get("app/notes/home/1"), Ok(Some("one".into())));
        for directory in Layout::DIRECTORIES {
            assert!(root.path().join(directory).is_dir(), "{directory}");
        }
    }

    #[test]
    fn foreign_files_and_temporary_files_of_this_opening_stay() {
        let (root, _) = left_behind();
        let first =
            storage_core::put(&open(root.path()), "app/notes/home/1", "one".into()).unwrap();
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

    #[cfg(unix)]
    #[test]
    fn another_store_at_the_same_path_is_not_swept() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("store");
        let mut storage = open_and_wait(&root);
        fs::rename(&root, parent.path().join("moved")).unwrap();
        let mut other = open_and_wait(&root);
        let empty = root.join("components/a/b/c");
        fs::create_dir_all(&empty).unwrap();
        storage.writer_mut().sweeper().run();
        assert!(empty.exists());
        other.writer_mut().sweeper().run();
        assert!(!empty.exists());
    }

    #[test]
    fn the_directory_of_a_component_in_use_stays() {
        let (root, _) = left_behind();
        let mut storage = open_and_wait(root.path());
        for key in ["x/y/z/k", &format!("{0}/{0}/{0}/k", "s".repeat(300))] {
            storage.set(key, "v".into()).unwrap();
            storage.delete(key).unwrap();
        }
        let sweeper = storage.writer_mut().sweeper();
        sweeper.run();
        storage.set("x/y/z/k", "again".into()).unwrap();
        storage.set(&format!("{0}/{0}/{0}/k", "s".repeat(300)), "again".into()).unwrap();
    }

    #[test]
    fn writes_succeed_while_directories_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let options = FileOptions::default().with_durability(crate::Durability::Os);
        let mut storage = FileStorage::open(root.path(), options).unwrap();
        let sweeper = storage.writer_mut().sweeper();
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
