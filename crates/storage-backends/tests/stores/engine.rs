//! The engines under test.

use std::path::Path;
use std::sync::Arc;

use storage_backends::Durability;
use storage_core::{Problem, StorageError, StorageValue, Store, Verified};

use crate::support::{StoreDir, contents, problems};

pub(crate) type Opened = Result<Arc<dyn Store>, StorageError>;
type Verify = fn(&Path, &mut dyn FnMut(Problem)) -> Result<Verified, StorageError>;
type Contents = fn() -> Vec<(String, StorageValue)>;

/// A persistent store, and how to change its data without it.
#[derive(Clone, Copy)]
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    pub(crate) is_directory: bool,
    /// The file with the store lock; empty for the store file itself.
    pub(crate) lock_file: &'static str,
    /// Whether a store can be read while a writer has it open.
    pub(crate) reads_beside_writer: bool,
    /// The durability that syncs least.
    pub(crate) relaxed: Durability,
    pub(crate) open_with: fn(&Path, Durability) -> Opened,
    pub(crate) open_read_only: fn(&Path) -> Opened,
    pub(crate) verify: Verify,
    pub(crate) set_format: fn(&Path, u32),
    pub(crate) read_record: fn(&Path, &str) -> Vec<u8>,
    pub(crate) write_record: fn(&Path, &str, &[u8]),
    /// The id of the store in the fixture of the first format, and what it holds.
    pub(crate) first_format: (&'static str, Contents),
}

impl Engine {
    #[track_caller]
    pub(crate) fn open(&self, path: &Path) -> Arc<dyn Store> {
        (self.open_with)(path, Durability::Sync).unwrap()
    }

    #[track_caller]
    pub(crate) fn open_relaxed(&self, path: &Path) -> Arc<dyn Store> {
        (self.open_with)(path, self.relaxed).unwrap()
    }

    #[track_caller]
    pub(crate) fn read_only(&self, path: &Path) -> Arc<dyn Store> {
        (self.open_read_only)(path).unwrap()
    }

    /// The errors of a writer, a reader and verify, without the path. The store must not
    /// change.
    #[track_caller]
    pub(crate) fn refusals(&self, dir: &StoreDir) -> [StorageError; 3] {
        let (names, before) = (dir.names(), self.data(dir));
        let errors = [
            (self.open_with)(&dir.path(), Durability::Sync).map(drop),
            (self.open_read_only)(&dir.path()).map(drop),
            (self.verify)(&dir.path(), &mut |_| {}).map(drop),
        ];
        assert!(dir.names() == names && self.data(dir) == before, "the store changed");
        errors.map(Result::unwrap_err)
    }

    /// The files of a store except for its lock file, which says who has the lock.
    fn data(&self, dir: &StoreDir) -> impl PartialEq + use<> {
        let mut tree = dir.tree();
        if self.is_directory {
            tree.remove(&dir.path().join(self.lock_file));
        }
        tree
    }

    #[track_caller]
    pub(crate) fn problems(&self, dir: &StoreDir) -> Vec<Problem> {
        problems(|report| (self.verify)(&dir.path(), report)).1
    }

    /// Checks that verify finds no problem and counts what the store lists.
    #[track_caller]
    pub(crate) fn assert_undamaged(&self, path: &Path) {
        let (verified, problems) = problems(|report| (self.verify)(path, report));
        assert_eq!(problems, []);
        let store = self.read_only(path);
        assert_eq!(verified.usage, store.usage(None).unwrap());
        assert_eq!(verified.usage.keys, contents(&store).len() as u64);
        let components = store.list_components(None, usize::MAX).unwrap().keys;
        assert_eq!(verified.components, components.len() as u64);
    }
}

#[cfg(feature = "file")]
pub(crate) const FILE: Engine = {
    use storage_backends::{FileOptions, FileStorage};
    Engine {
        name: "file",
        is_directory: true,
        lock_file: "LOCK",
        reads_beside_writer: true,
        relaxed: Durability::Os,
        open_with: |path, durability| {
            let options = FileOptions::default().with_durability(durability);
            Ok(Arc::new(FileStorage::open(path, options)?))
        },
        open_read_only: |path| {
            Ok(Arc::new(FileStorage::open_read_only(path, FileOptions::default())?))
        },
        verify: |path, report| FileStorage::verify(path, report),
        set_format: |path, format| {
            let text = format!("airssys file store\nformat: {format}\nstore-id: 00\n");
            std::fs::write(path.join("FORMAT"), text).unwrap();
        },
        read_record: |path, key| std::fs::read(path.join("components").join(key)).unwrap(),
        write_record: |path, key, record| {
            std::fs::write(path.join("components").join(key), record).unwrap();
        },
        first_format: ("6b6c6170982517b157088be1f96b5d0d", crate::support::first_format),
    }
};

#[cfg(feature = "redb")]
pub(crate) const REDB: Engine = {
    use crate::raw_redb::{checked, tamper};
    use storage_backends::{RedbOptions, RedbStorage};
    Engine {
        name: "redb",
        is_directory: false,
        lock_file: "",
        reads_beside_writer: false,
        relaxed: Durability::Relaxed,
        open_with: |path, durability| {
            let options = RedbOptions::default().with_durability(durability);
            Ok(Arc::new(RedbStorage::open(path, options)?))
        },
        open_read_only: |path| {
            Ok(Arc::new(RedbStorage::open_read_only(path, RedbOptions::default())?))
        },
        verify: |path, report| RedbStorage::verify(path, report),
        set_format: |path, format| {
            let value = checked(b"format", &format.to_le_bytes());
            tamper(path, "meta", |table| {
                table.insert(b"format".as_slice(), value.as_slice()).unwrap();
            });
        },
        read_record: |path, key| {
            let mut record = Vec::new();
            tamper(path, "data", |table| {
                use redb::ReadableTable;
                record = table.get(key.as_bytes()).unwrap().unwrap().value().to_vec();
            });
            record
        },
        write_record: |path, key, record| {
            tamper(path, "data", |table| drop(table.insert(key.as_bytes(), record).unwrap()));
        },
        first_format: ("4826f5d180ca560874c3013b3c17dd9a", || {
            [
                ("App/Notes/con/UPPER", "case"),
                ("app/counter/001/large", &*"Z".repeat(3_000)),
                ("app/counter/001/runs", "3"),
                ("app/notes/home/a", "with a budget"),
                ("app/notes/home/user:\u{e9}", "accent"),
                ("loose-key", ""),
            ]
            .map(|(key, value)| (key.to_owned(), value.into()))
            .into()
        }),
    }
};

#[cfg(feature = "rocksdb")]
pub(crate) const ROCKSDB: Engine = {
    use crate::raw_rocksdb::raw;
    use storage_backends::{RocksDbOptions, RocksDbStorage};
    /// Small, because a test opens many.
    fn options() -> RocksDbOptions {
        RocksDbOptions::default().with_block_cache_bytes(1 << 20).with_write_buffer_bytes(1 << 20)
    }
    Engine {
        name: "rocksdb",
        is_directory: true,
        lock_file: "WRITER",
        reads_beside_writer: true,
        relaxed: Durability::Os,
        open_with: |path, durability| {
            Ok(Arc::new(RocksDbStorage::open(path, options().with_durability(durability))?))
        },
        open_read_only: |path| Ok(Arc::new(RocksDbStorage::open_read_only(path, options())?)),
        verify: |path, report| RocksDbStorage::verify(path, report),
        set_format: |path, format| {
            raw(path, |database| {
                let meta = database.cf_handle("meta").unwrap();
                database.put_cf(meta, "format", format.to_string()).unwrap();
            });
        },
        read_record: |path, key| {
            let mut record = Vec::new();
            raw(path, |database| record = database.get(key).unwrap().unwrap());
            record
        },
        write_record: |path, key, record| raw(path, |database| database.put(key, record).unwrap()),
        first_format: ("53b40a4d772368865ebc8c11bc536c54", crate::support::first_format),
    }
};
