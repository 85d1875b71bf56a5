//! What opening creates, and what it refuses.

use super::*;

/// Checks that a writer, a reader and verify refuse the store with the same message.
#[track_caller]
fn assert_refused(engine: Engine, dir: &StoreDir, message: &str) {
    let message = message.replace("STORE", &dir.path().to_string_lossy());
    for error in engine.refusals(dir) {
        assert_eq!(error.to_string(), message);
    }
}

fn a_missing_store_is_created_by_writers_only(engine: Engine) {
    let dir = StoreDir::new();
    for error in [
        (engine.open_read_only)(&dir.path()).map(drop),
        (engine.verify)(&dir.path(), &mut |_| {}).map(drop),
    ] {
        let message = format!(
            "storage failed: {} does not exist; a store is created when it is first opened for writing",
            dir.path().display()
        );
        assert_eq!(error.unwrap_err().to_string(), message);
    }
    assert!(dir.names().is_empty(), "a reader creates nothing");
    let id = id(&engine.open(&dir.path()));
    assert_eq!(contents(&engine.read_only(&dir.path())), []);
    assert_eq!(self::id(&engine.open(&dir.path())), id);
    assert_eq!(dir.names(), ["store"]);
    // Its parent directories also.
    let other = dir.at("missing/directories/store");
    assert_ne!(self::id(&engine.open(&other)), id);
    assert_eq!(id.len(), 32);
}

#[cfg(unix)]
fn a_new_store_is_private(engine: Engine) {
    use support::{mode, set_mode};
    let dir = filled(engine);
    assert_eq!(mode(&dir.path()), if engine.is_directory { 0o700 } else { 0o600 });
    assert_eq!(engine.problems(&dir), []);
    if engine.is_directory {
        let existing = dir.at("existing");
        fs::create_dir(&existing).unwrap();
        set_mode(&existing, 0o750);
        engine.open(&existing);
        assert_eq!(mode(&existing), 0o750);
    }
}

fn the_wrong_kind_of_path_is_refused(engine: Engine) {
    let dir = StoreDir::new();
    let message = if engine.is_directory {
        fs::write(dir.path(), "text").unwrap();
        "storage failed: STORE is a file, not a store directory"
    } else {
        fs::create_dir(dir.path()).unwrap();
        "storage failed: STORE is a directory, not a store file"
    };
    assert_refused(engine, &dir, message);
}

fn foreign_data_is_refused(engine: Engine) {
    let dir = StoreDir::new();
    if !engine.is_directory {
        fs::write(dir.path(), "a thesis").unwrap();
        let message =
            "storage failed: STORE is not a redb database; give the path of a store, or a new path";
        return assert_refused(engine, &dir, message);
    }
    fs::create_dir(dir.path()).unwrap();
    fs::write(dir.path().join("thesis.txt"), "text").unwrap();
    let [writer, reader, verify] = engine
        .refusals(&dir)
        .map(|error| error.to_string().replace(&*dir.path().to_string_lossy(), "STORE"));
    assert_eq!(
        writer,
        "storage failed: STORE holds files that do not belong to a store; give the path of a store, or of an empty or missing directory"
    );
    let message = "storage failed: STORE is not a store; a store is created when it is first opened for writing";
    assert_eq!([reader, verify], [message; 2]);
}

fn another_format_is_refused_with_its_version(engine: Engine) {
    let dir = StoreDir::new();
    drop(engine.open(&dir.path()));
    (engine.set_format)(&dir.path(), 12);
    assert_refused(
        engine,
        &dir,
        "not supported: the store in STORE has format 12, but this program reads format 1; use the release that wrote it",
    );
}

fn the_first_format_is_read(engine: Engine) {
    let fixture = format!("{}-format-1", engine.name);
    let dir = StoreDir::fixture(&fixture);
    let (store_id, expected) = engine.first_format;
    let (verified, problems) = support::problems(|report| (engine.verify)(&dir.path(), report));
    assert_eq!((verified.components, verified.usage.keys, problems), (3, 6, Vec::new()));
    assert_eq!(contents(&engine.read_only(&dir.path())), expected());
    let store = engine.open(&dir.path());
    assert_eq!(contents(&store), expected());
    assert_eq!(id(&store), store_id);
    assert_eq!(store.usage(Some("app/counter/001/")).unwrap(), {
        let own = expected().into_iter().filter(|(key, _)| key.starts_with("app/counter/001/"));
        own.map(|(key, value)| storage_core::Usage::of(&key, value.len())).sum()
    });
    let revision = |key: &str| store.get_versioned(key).unwrap().unwrap().revision;
    let newest = expected().iter().map(|(key, _)| revision(key)).max().unwrap();
    assert!(storage_core::put(&store, KEY, "x".into()).unwrap() > newest);
    drop(store);
    engine.assert_undamaged(&dir.path());
}

#[cfg(unix)]
fn a_dangling_link_is_an_error_with_its_target(engine: Engine) {
    let dir = StoreDir::new();
    let target = dir.at("unmounted/store");
    std::os::unix::fs::symlink(&target, dir.path()).unwrap();
    let below = (engine.open_with)(&dir.path().join("below"), Durability::Sync);
    let errors = engine.refusals(&dir).into_iter().chain(below.err());
    let expected = format!(
        "{} is a symbolic link to {}, which does not exist; ",
        dir.path().display(),
        target.display()
    );
    for error in errors {
        assert!(error.to_string().contains(&expected), "{error}");
    }
    assert!(dir.path().is_symlink());
    assert_eq!(dir.names(), ["store"]);
}

test_each_engine! {
    a_missing_store_is_created_by_writers_only,
    the_wrong_kind_of_path_is_refused,
    foreign_data_is_refused,
    another_format_is_refused_with_its_version,
    the_first_format_is_read,
}

#[cfg(unix)]
mod unix {
    use super::{a_dangling_link_is_an_error_with_its_target, a_new_store_is_private};

    test_each_engine! { a_dangling_link_is_an_error_with_its_target, a_new_store_is_private }
}
