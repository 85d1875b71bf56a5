//! Servers whose memory is full.

use super::*;

const KEY: &str = "app/notes/home/a";

#[test]
fn a_server_that_evicts_keys_is_refused_for_writing() {
    let Some(server) =
        OwnServer::start(&[("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")])
    else {
        return;
    };
    let error = RedisStorage::open(&server.options()).unwrap_err();
    let StorageError::Unsupported(text) = &error else { panic!("{error}") };
    assert!(text.contains("allkeys-lru") && text.contains("noeviction"), "{text}");
    server.raw().run("CONFIG SET maxmemory-policy noeviction");
    RedisStorage::open(&server.options()).unwrap().set(KEY, "1".into()).unwrap();
    server.raw().run("CONFIG SET maxmemory-policy volatile-lru");
    RedisStorage::open_existing(&server.options()).unwrap_err();
    let reader = RedisStorage::open_read_only(&server.options()).unwrap();
    let warnings = reader.inspect().unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.code == "eviction"), "{warnings:?}");
    // Without a limit nothing is removed.
    server.raw().run("CONFIG SET maxmemory 0");
    RedisStorage::open(&server.options()).unwrap();
}

#[test]
fn a_full_server_refuses_sets_and_can_be_emptied() {
    let Some(server) = OwnServer::start(&[]) else { return };
    let store = RedisStorage::open(&server.options()).unwrap();
    for n in 0..100 {
        store.set(&format!("app/notes/home/{n}"), vec![7; 10_000].into()).unwrap();
    }
    server.raw().run("CONFIG SET maxmemory 1");
    let before = store.usage(None).unwrap();
    let both = Commit::new().delete("app/notes/home/1").set(KEY, vec![7; 20_000].into());
    for commit in [Commit::new().set(KEY, "1".into()), both] {
        let error = store.commit(commit).unwrap_err();
        let StorageError::Unavailable { detail, .. } = &error else { panic!("{error}") };
        assert!(detail.contains("memory") && !detail.contains("may or may not"), "{detail}");
    }
    assert_eq!(store.usage(None).unwrap(), before);
    assert_eq!(store.get(KEY).unwrap(), None);
    assert!(store.exists("app/notes/home/1").unwrap());
    // Another host can open the store, verify it and copy it.
    let other = RedisStorage::open(&server.options()).unwrap();
    assert_eq!(verifying::problems(&other), []);
    let mut read = 0;
    let reader = RedisStorage::open_read_only(&server.options()).unwrap();
    reader
        .read_snapshot("", None, &mut |key, _| {
            if read == 0 {
                // Several at the same time, too.
                store.read_snapshot("", None, &mut |_, _| Ok(())).unwrap();
            }
            read += 1;
            // Deletes keep what the snapshot needs, and succeed.
            other.delete(key)
        })
        .unwrap();
    assert_eq!(read, 100);
    other.delete("app/notes/home/missing").unwrap();
    assert_eq!(other.usage(None).unwrap(), Usage::default());
    assert_eq!(store.list_components(None, 10).unwrap().keys, Vec::<String>::new());
    server.raw().run("CONFIG SET maxmemory 0");
    store.set(KEY, "1".into()).unwrap();
    assert_eq!(verifying::problems(&store), []);
}

#[test]
fn a_server_without_enough_replicas_refuses_writes_and_changes_nothing() {
    let Some(server) = OwnServer::start(&[]) else { return };
    let store = RedisStorage::open(&server.options()).unwrap();
    store.set(KEY, "1".into()).unwrap();
    server.raw().run("CONFIG SET min-replicas-to-write 1");
    for commit in [Commit::new().set(KEY, "2".into()), Commit::new().delete(KEY)] {
        let error = store.commit(commit).unwrap_err();
        assert!(error.to_string().contains("min-replicas-to-write"), "{error}");
        assert!(!error.to_string().contains("may or may not"), "{error}");
    }
    assert_eq!(store.get(KEY).unwrap(), Some("1".into()));
    server.raw().run("CONFIG SET min-replicas-to-write 0");
    assert_eq!(verifying::problems(&store), []);
}
