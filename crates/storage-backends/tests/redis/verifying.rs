//! Verify, on damage that commands can make.

use storage_core::{Problem, ProblemKind};

use super::*;

const KEY: &str = "app/notes/home/a";

pub(crate) fn problems(store: &RedisStorage) -> Vec<Problem> {
    let mut problems = Vec::new();
    let verified = store.verify(&mut |problem| problems.push(problem)).unwrap();
    assert_eq!(verified.problems + verified.warnings, problems.len() as u64);
    problems
}

#[test]
fn verify_counts_every_key() {
    for test in TestStore::all() {
        let store = test.open();
        for key in [KEY, "app/notes/home/b", "app/notes/work/a", "unscoped"] {
            store.set(key, "1234".into()).unwrap();
        }
        store.set("app/notes/empty/a", "".into()).unwrap();
        store.delete("app/notes/empty/a").unwrap();
        let verified = store.verify(&mut |problem| panic!("{problem}")).unwrap();
        assert_eq!(verified.usage, store.usage(None).unwrap());
        assert_eq!((verified.usage.keys, verified.components), (4, 2));
    }
}

#[test]
fn verify_finds_wrong_counters_indexes_registries_and_keys() {
    let Some(test) = TestStore::single() else { return };
    let store = test.open();
    for key in [KEY, "app/notes/home/b", "app/notes/work/a", "unscoped"] {
        store.set(key, "1".into()).unwrap();
    }
    assert_eq!(problems(&store), []);
    let mut raw = test.raw();
    let home = "app/notes/home/";
    let name = |kind, rest: &str| test.name(kind, rest);
    let mut check = |damage: &str, repair: &str, expected: &[&str]| {
        raw.run(damage);
        let found: Vec<String> = problems(&store).iter().map(ToString::to_string).collect();
        for expected in expected {
            let has = |one: &String| one.contains(expected);
            assert!(found.iter().any(has), "{damage}: {expected}: {found:?}");
        }
        assert_eq!(found.len(), expected.len(), "{damage}: {found:?}");
        raw.run(repair);
        assert_eq!(problems(&store), [], "{repair}");
    };
    let counter = name("m", home);
    check(
        &format!("HINCRBY {counter} bytes 1"),
        &format!("HINCRBY {counter} bytes -1"),
        &["usage counter"],
    );
    check(
        &format!("HINCRBY {counter} keys -1"),
        &format!("HINCRBY {counter} keys 1"),
        &["usage counter"],
    );
    check(
        &format!("HSET {} bytes 8", name("m", "")),
        &format!("HSET {} bytes 9", name("m", "")),
        &["usage counter of \"\""],
    );
    let index = name("i", home);
    check(
        &format!("ZADD {index} 0 new"),
        &format!("ZREM {index} new"),
        // The counter is right, and a reader does not find the key.
        &[],
    );
    check(
        &format!("ZREM {index} b"),
        &format!("ZADD {index} 0 b"),
        &["usage counter", "is not listed"],
    );
    let value = name("v", "app/notes/home/b");
    let moved = name("v", "app/notes/home/c");
    check(
        &format!("RENAME {value} {moved}"),
        &format!("RENAME {moved} {value}"),
        &["usage counter", "has no value", "is not listed"],
    );
    check(
        &format!("ZREM {} {home}", name("c", "")),
        &format!("ZADD {} 0 {home}", name("c", "")),
        &["has keys, but is not listed"],
    );
    check(
        &format!("ZADD {} 0 no/such/one/", name("c", "")),
        &format!("ZREM {} no/such/one/", name("c", "")),
        &["has no keys"],
    );
    let foreign = name("q", "mine");
    check(&format!("SET {foreign} 1"), &format!("DEL {foreign}"), &["not a key of the store"]);
    let foreign = name("i", "a/b/c");
    check(&format!("SET {foreign} 1"), &format!("DEL {foreign}"), &["not a key of the store"]);
    raw.run(&format!("SET {} 1", name("q", "mine")));
    assert_eq!(problems(&store)[0].kind, ProblemKind::ForeignFile);
    raw.run(&format!("DEL {}", name("q", "mine")));
    // The numbers of commits began again, as those of an old copy of the last number.
    raw.run(&format!("SET {} 5", name("n", "")));
    let found = problems(&store);
    assert!(found.iter().any(|one| one.to_string().contains("beyond the last")), "{found:?}");
    store.set("app/notes/other/a", "1".into()).unwrap();
    assert_eq!(problems(&store), []);
}

#[test]
fn damaged_values_are_reported_and_never_returned() {
    let Some(test) = TestStore::single() else { return };
    let store = test.open();
    for key in [KEY, "app/notes/home/b"] {
        store.set(key, "value".into()).unwrap();
    }
    let mut raw = test.raw();
    let name = test.name("v", KEY);
    let length = 8 + 12 + 5 + 4;
    for at in 8..length {
        let stored = raw.reply(redis::cmd("GET").arg(&name));
        let redis::Value::BulkString(mut stored) = stored else { panic!("{stored:?}") };
        assert_eq!(stored.len(), length);
        stored[at] ^= 1;
        raw.reply(redis::cmd("SET").arg(&name).arg(stored));
        let Err(StorageError::Corrupt { key, .. }) = store.get(KEY) else { panic!("byte {at}") };
        assert_eq!(key.as_deref(), Some(KEY));
        store.get_many(&["app/notes/home/b", KEY]).unwrap_err();
        let copied = store.read_snapshot("", None, &mut |_, _| Ok(()));
        assert!(matches!(copied, Err(StorageError::Corrupt { .. })), "{copied:?}");
        let found = problems(&store);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].key.as_deref(), Some(KEY));
        store.set(KEY, "value".into()).unwrap();
        assert_eq!(problems(&store), []);
    }
    // The value of another key.
    raw.run(&format!("COPY {} {name} REPLACE", test.name("v", "app/notes/home/b")));
    store.get(KEY).unwrap_err();
    store.delete(KEY).unwrap();
    assert_eq!(problems(&store), []);
    // Revisions of another shard, and of a commit to come.
    let other = test.name("v", "app/notes/home/b");
    for (at, bytes) in [(7, "z"), (0, "zzz")] {
        raw.run(&format!("SETRANGE {other} {at} {bytes}"));
        let found = problems(&store);
        let is_revision = |one: &Problem| one.to_string().contains("its revision is not one");
        assert!(found.iter().any(is_revision), "{found:?}");
        store.set("app/notes/home/b", "value".into()).unwrap();
        assert_eq!(problems(&store), []);
    }
}

#[test]
fn keys_of_other_types_are_damage_and_change_nothing() {
    let Some(test) = TestStore::single() else { return };
    let store = test.open();
    store.set(KEY, "1".into()).unwrap();
    let mut raw = test.raw();
    let home = "app/notes/home/";
    let others = [("v", "app/notes/home/b"), ("i", home), ("m", home), ("c", "")];
    for (kind, rest) in others {
        let name = test.name(kind, rest);
        let kept = format!("{name}-kept");
        if kind != "v" {
            raw.run(&format!("RENAME {name} {kept}"));
        }
        raw.run(&format!("SADD {name} mine"));
        let before = test.names();
        let commit = Commit::new()
            .set("app/notes/home/b", "1".into())
            .set("app/notes/home/0", "1".into())
            .delete(KEY);
        let error = store.commit(commit).unwrap_err();
        assert!(matches!(error, StorageError::Corrupt { .. }), "{kind}: {error}");
        assert_eq!(store.get(KEY).unwrap(), Some("1".into()), "{kind}");
        assert_eq!(test.names(), before, "{kind}");
        raw.run(&format!("DEL {name}"));
        if kind != "v" {
            raw.run(&format!("RENAME {kept} {name}"));
        }
    }
    assert_eq!(problems(&store), []);
    raw.run(&format!("DEL {}", test.name("v", KEY)));
    raw.run(&format!("SADD {} mine", test.name("v", KEY)));
    let Err(StorageError::Corrupt { key, .. }) = store.get(KEY) else { panic!("not damage") };
    assert_eq!(key.as_deref(), Some(KEY));
    assert!(!problems(&store).is_empty());
}

#[test]
fn verify_is_exact_while_others_write() {
    for test in TestStore::all() {
        let (store, writer) = (test.open(), test.open());
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0.. {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("app/notes/{}/{}", n % 3, n * 31 % 50);
                    match n % 3 {
                        0 => writer.delete(&key).unwrap(),
                        _ => writer.set(&key, vec![7; n % 100].into()).unwrap(),
                    }
                }
            });
            let found: Vec<Problem> = (0..20).flat_map(|_| problems(&store)).collect();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(found, []);
        });
    }
}
