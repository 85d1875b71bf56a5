//! A store whose path leads to another store, or nowhere.

use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;

const CHILD_ENGINE: &str = "STORAGE_TEST_ENGINE";
const CHILD_STORE: &str = "STORAGE_TEST_STORE";

/// Writes to a store in another process: RocksDB does not open a path twice in one.
fn write_in_another_process(engine: Engine, dir: &StoreDir) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("moved::{}::child", engine.name)])
        .env(CHILD_ENGINE, engine.name)
        .env(CHILD_STORE, dir.path())
        .status();
    assert!(status.unwrap().success());
}

/// The other process.
fn child(engine: Engine) {
    if std::env::var(CHILD_ENGINE).is_ok_and(|name| name == engine.name) {
        let path = std::env::var_os(CHILD_STORE).unwrap();
        engine.open(Path::new(&path)).set("a/b/c/1", "second".into()).unwrap();
    }
}

#[track_caller]
fn assert_moved(dir: &StoreDir, result: Result<(), StorageError>, consequence: &str) {
    let expected = format!(
        "the store is unavailable: the store at {} was moved or replaced while it was open; {consequence}",
        dir.path().display()
    );
    let message = result.unwrap_err().to_string();
    assert!(message.starts_with(&expected), "{message}");
    assert!(message.ends_with("; restart this process to use what is there now"), "{message}");
}

/// Writes of every kind.
fn writes(store: &dyn Store) -> [Result<(), StorageError>; 6] {
    let several = || Commit::new().set("a/b/c/1", "first".into()).set("d/e/f/2", "first".into());
    let budget = Budget { max_bytes: 1_000, max_keys: 10 };
    let counted = Commit::new().set("x/y/z/1", "first".into()).with_budget(budget);
    [
        store.set("a/b/c/1", "first".into()),
        store.set("new/com/ponent/1", "first".into()),
        store.delete("a/b/c/2"),
        store.commit(several()).map(drop),
        store.commit(counted).map(drop),
        store.commit(several().require_value("a/b/c/1", "old".into())).map(drop),
    ]
}

fn a_replaced_store_is_not_written_to(engine: Engine) {
    for durability in [Durability::Sync, engine.relaxed] {
        let dir = StoreDir::new();
        let away = dir.at("away");
        let first = (engine.open_with)(&dir.path(), durability).unwrap();
        first.set("a/b/c/1", "old".into()).unwrap();
        first.flush().unwrap();
        fs::rename(dir.path(), &away).unwrap();
        support::copy(&away, &dir.path());
        write_in_another_process(engine, &dir);
        let before = (dir.tree(), support::files_below(&away));
        for result in writes(&first) {
            assert_moved(&dir, result, "nothing was ");
        }
        assert!((dir.tree(), support::files_below(&away)) == before);
        assert_eq!(engine.read_only(&dir.path()).get("a/b/c/1"), Ok(Some("second".into())));

        // Back at its path it works again, and no key is indeterminate.
        fs::rename(dir.path(), dir.at("second")).unwrap();
        fs::rename(&away, dir.path()).unwrap();
        assert_eq!(first.get("a/b/c/1"), Ok(Some("old".into())));
        writes(&first).into_iter().take(5).for_each(|result| result.unwrap());
        first.flush().unwrap();
        drop(first);
        assert_eq!(engine.read_only(&dir.path()).get("d/e/f/2"), Ok(Some("first".into())));
        engine.assert_undamaged(&dir.path());
        engine.assert_undamaged(&dir.at("second"));
    }
}

fn a_moved_store_keeps_its_acknowledged_writes(engine: Engine) {
    let dir = StoreDir::new();
    let store = engine.open_relaxed(&dir.path());
    store.set("a/b/c/1", "acknowledged".into()).unwrap();
    fs::rename(dir.path(), dir.at("away")).unwrap();
    for result in writes(&store).into_iter().take(5) {
        assert_moved(&dir, result, "nothing was ");
    }
    assert_moved(&dir, store.flush(), "earlier writes are in the store that was opened");
    assert!(!dir.path().exists());
    drop(store);
    assert_eq!(dir.names(), ["away"]);
    let moved = engine.read_only(&dir.at("away"));
    assert_eq!(contents(&moved), [("a/b/c/1".to_owned(), "acknowledged".into())]);
}

fn a_store_stays_at_the_target_of_its_link(engine: Engine) {
    let dir = StoreDir::new();
    let switch = |target: &str| {
        let _ = fs::remove_file(dir.path());
        drop(engine.open(&dir.at(target)));
        symlink(dir.at(target), dir.path()).unwrap();
    };
    switch("one");
    let store = engine.open(&dir.path());
    store.set(KEY, "one".into()).unwrap();
    switch("two");
    engine.open(&dir.path()).set(KEY, "two".into()).unwrap();
    store.set(KEY, "still one".into()).unwrap();
    drop(store);
    assert_eq!(engine.read_only(&dir.at("one")).get(KEY), Ok(Some("still one".into())));
    assert_eq!(engine.read_only(&dir.at("two")).get(KEY), Ok(Some("two".into())));
}

test_each_engine! {
    child,
    a_replaced_store_is_not_written_to,
    a_moved_store_keeps_its_acknowledged_writes,
    a_store_stays_at_the_target_of_its_link,
}
