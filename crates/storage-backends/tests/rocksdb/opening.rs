//! What is opened, what is refused, and what a killed process costs.

use std::process::{Child, Command, Stdio};

use storage_core::StorageError;

use super::*;

fn refusal(result: Result<RocksDbStorage, StorageError>, place: &Place) -> String {
    let message = result.unwrap_err().to_string();
    message
        .replace(&*place.path().to_string_lossy(), "STORE")
        .replace(&std::process::id().to_string(), "PID")
}

fn both(place: &Place) -> String {
    [
        refusal(RocksDbStorage::open(place.path(), small()), place),
        refusal(RocksDbStorage::open_read_only(place.path(), small()), place),
    ]
    .join("\n")
}

#[test]
fn a_missing_store_is_created_by_writers_only() {
    let place = Place::new();
    let result = RocksDbStorage::open_read_only(place.path(), small());
    insta::assert_snapshot!(refusal(result, &place), @"storage failed: STORE does not exist; a store is created when it is first opened for writing");
    assert!(RocksDbStorage::verify(place.path(), &mut |_| {}).is_err());
    assert!(!place.path().exists(), "a reader makes nothing");
    drop(open(&place.path()));
    assert_eq!(contents(&read_only(&place.path())), []);
}

#[test]
fn a_file_is_refused() {
    let place = Place::new();
    fs::write(place.path(), "text").unwrap();
    insta::assert_snapshot!(both(&place), @r"
    storage failed: STORE is a file, not a store directory
    storage failed: STORE is a file, not a store directory
    ");
    assert_eq!(fs::read(place.path()).unwrap(), b"text");
}

#[test]
fn a_directory_with_other_files_is_unchanged() {
    let place = Place::new();
    fs::create_dir(place.path()).unwrap();
    fs::write(place.path().join("thesis.txt"), "text").unwrap();
    let before = place.tree();
    insta::assert_snapshot!(both(&place), @r"
    storage failed: STORE holds files that do not belong to a store; give the path of a store, or of an empty or missing directory
    storage failed: STORE is not a store; a store is created when it is first opened for writing
    ");
    assert_eq!(place.tree(), before);
}

#[test]
fn a_foreign_database_is_refused_and_unchanged() {
    let place = Place::new();
    let mut options = ::rocksdb::Options::default();
    options.create_if_missing(true);
    let database = ::rocksdb::DB::open(&options, place.path()).unwrap();
    database.put("key", "value").unwrap();
    drop(database);
    let before = place.tree();
    insta::assert_snapshot!(both(&place), @r"
    storage failed: STORE is a RocksDB database of another program, not a store
    storage failed: STORE is a RocksDB database of another program, not a store
    ");
    assert_eq!(place.tree(), before);
}

#[test]
fn another_format_is_refused_with_its_version() {
    let place = Place::new();
    drop(open(&place.path()));
    raw(&place, |database| {
        let meta = database.cf_handle("meta").unwrap();
        database.put_cf(meta, "format", "2").unwrap();
    });
    let before = place.tree();
    insta::assert_snapshot!(both(&place), @r"
    not supported: the store in STORE has format 2, but this program reads format 1; use the release that wrote it
    not supported: the store in STORE has format 2, but this program reads format 1; use the release that wrote it
    ");
    let ours = |(path, _): &(PathBuf, Vec<u8>)| !path.ends_with("WRITER");
    assert!(place.tree().into_iter().filter(ours).eq(before.into_iter().filter(ours)));
}

#[test]
fn another_format_with_other_column_families_is_refused_with_its_version() {
    let place = Place::new();
    drop(open(&place.path()));
    raw(&place, |database| {
        let meta = database.cf_handle("meta").unwrap();
        database.put_cf(meta, "format", "7").unwrap();
        database.create_cf("more", &::rocksdb::Options::default()).unwrap();
    });
    assert_eq!(both(&place).matches("has format 7, but this program reads format 1").count(), 2);
}

/// Opens the store's database itself.
pub(super) fn raw(place: &Place, change: impl FnOnce(&mut ::rocksdb::DB)) {
    let options = ::rocksdb::Options::default();
    let names = ["default", "meta", "ledgers"];
    let mut merging = ::rocksdb::Options::default();
    merging.set_merge_operator_associative("airssys.ledger.1", |_, _, _| None);
    let families = names.map(|name| {
        let options = if name == "ledgers" { merging.clone() } else { options.clone() };
        ::rocksdb::ColumnFamilyDescriptor::new(name, options)
    });
    let mut database =
        ::rocksdb::DB::open_cf_descriptors(&options, place.path(), families).unwrap();
    change(&mut database);
    for name in names {
        database.flush_cf(database.cf_handle(name).unwrap()).unwrap();
    }
}

#[test]
fn a_second_writer_names_the_first() {
    let place = Place::new();
    let first = open(&place.path());
    let second = RocksDbStorage::open(place.path(), small());
    assert!(matches!(second, Err(StorageError::Locked(_))), "{second:?}");
    if cfg!(target_os = "linux") {
        insta::assert_snapshot!(refusal(second, &place), @"the store STORE is locked: this process has it open for writing; close it first");
    }
    first.set("a/b/c/still", "works".into()).unwrap();
    drop(first);
    open(&place.path());
}

#[test]
fn another_rocksdb_program_is_excluded() {
    let place = Place::new();
    drop(open(&place.path()));
    raw(&place, |_| {
        let result = RocksDbStorage::open(place.path(), small());
        assert!(matches!(result, Err(StorageError::Locked(_))), "{result:?}");
    });
    open(&place.path());
}

#[test]
fn each_store_has_its_own_id() {
    let [one, other] = [Place::new(), Place::new()];
    let id = open(&one.path()).store_id().to_owned();
    assert_eq!(id.len(), 32);
    assert_eq!(read_only(&one.path()).store_id(), id);
    assert_eq!(open(&one.path()).store_id(), id);
    assert_ne!(open(&other.path()).store_id(), id);
}

#[test]
fn an_unfinished_store_is_created_again() {
    let whole = Place::new();
    drop(open(&whole.path()));
    let files: Vec<PathBuf> = whole.tree().into_keys().collect();
    // Whatever was there already when the process was killed.
    for lost in 0..=files.len() {
        let place = Place::new();
        copy_files(&whole.path(), &place.path());
        for file in &files[..lost] {
            fs::remove_file(place.path().join(file.file_name().unwrap())).unwrap();
        }
        fs::write(place.path().join("CREATING"), "").unwrap();
        let result = RocksDbStorage::open_read_only(place.path(), small());
        assert!(refusal(result, &place).contains("STORE is not a store"));
        let storage = open(&place.path());
        storage.set("a/b/c/d", "value".into()).unwrap();
        drop(storage);
        assert_sound(&place.path());
        assert!(!place.path().join("CREATING").exists());
    }
}

#[test]
fn a_database_without_current_is_not_replaced() {
    let place = Place::new();
    open(&place.path()).set("a/b/c/d", "value".into()).unwrap();
    fs::remove_file(place.path().join("CURRENT")).unwrap();
    let before = place.tree();
    for result in [
        RocksDbStorage::open(place.path(), small()),
        RocksDbStorage::open_read_only(place.path(), small()),
    ] {
        assert!(matches!(result, Err(StorageError::Corrupt { .. })), "{result:?}");
    }
    assert_eq!(place.tree(), before);
}

#[cfg(unix)]
#[test]
fn a_new_store_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    open(&place.path().join("below"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.path().join("below")), 0o700);
    let given = place.path().join("given");
    fs::create_dir(&given).unwrap();
    fs::set_permissions(&given, fs::Permissions::from_mode(0o750)).unwrap();
    open(&given);
    assert_eq!(mode(&given), 0o750);
}

#[test]
fn closing_leaves_no_log_to_replay() {
    for options in [small(), unsynced()] {
        let place = Place::new();
        let storage = RocksDbStorage::open(place.path(), options).unwrap();
        storage.set("a/b/c/d", "value".into()).unwrap();
        drop(storage);
        let logs: usize = place
            .tree()
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|ending| ending == "log"))
            .map(|(_, bytes)| bytes.len())
            .sum();
        assert_eq!(logs, 0);
        assert!(!place.path().join("UNSYNCED").exists());
    }
}

/// This very test, in a process that writes until it is killed.
const CHILD: &str = "STORAGE_TEST_ROCKSDB_CHILD";

fn child(test: &str, place: &Place) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, place.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn is_child() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

#[test]
fn a_killed_process_loses_nothing_and_leaves_no_lock() {
    if let Some(path) = is_child() {
        let storage = RocksDbStorage::open(&path, unsynced()).unwrap();
        for number in 0u32.. {
            let text = number.to_string();
            let commit = set("app/notes/home/number", &text).set("loose", text.as_str().into());
            storage.commit(commit).unwrap();
            // Outside of the store, so that it can be told what was acknowledged.
            // Under its name only when it is whole: the kill may come any time.
            fs::write(path.with_extension("new"), &text).unwrap();
            fs::rename(path.with_extension("new"), path.with_extension("acknowledged")).unwrap();
        }
    }
    let place = Place::new();
    let acknowledged = place.path().with_extension("acknowledged");
    let mut writer = child("opening::a_killed_process_loses_nothing_and_leaves_no_lock", &place);
    let number = || fs::read_to_string(&acknowledged).ok()?.parse::<u32>().ok();
    while number().is_none_or(|number| number < 300) {
        assert!(writer.try_wait().unwrap().is_none(), "the writer ended by itself");
        std::thread::yield_now();
    }
    match RocksDbStorage::open(place.path(), small()) {
        Err(StorageError::Locked(detail)) => {
            let named = detail.contains(&format!("process {}", writer.id()));
            assert!(named || !cfg!(target_os = "linux"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
    writer.kill().unwrap();
    writer.wait().unwrap();
    let last = number().unwrap();
    for storage in [read_only(&place.path()), open(&place.path())] {
        let value = |key| String::from_utf8(storage.get(key).unwrap().unwrap().into_bytes());
        let found = value("app/notes/home/number").unwrap();
        assert_eq!(value("loose").unwrap(), found);
        let found: u32 = found.parse().unwrap();
        assert!(found == last || found == last + 1, "{found}, {last} was acknowledged");
    }
    assert_sound(&place.path());
    assert!(!place.path().join("UNSYNCED").exists());
}

#[test]
fn a_restored_copy_uses_new_revisions() {
    restored::a_restored_copy_uses_new_revisions(open);
}
