//! Opening a store: creating it, and what is refused.

use std::thread;

use super::*;

const KEY: &str = "app/notes/home/a";

#[test]
fn hosts_that_open_a_new_store_at_once_create_one() {
    for test in TestStore::all() {
        let ids: Vec<String> = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| test.open().store_id().to_owned())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0] && id.len() == 32), "{ids:?}");
    }
}

#[test]
fn a_missing_store_is_not_created_for_reading() {
    for test in TestStore::all() {
        for opened in [
            RedisStorage::open_read_only(&test.options),
            RedisStorage::open_existing(&test.options),
        ] {
            let error = opened.unwrap_err();
            assert!(matches!(&error, StorageError::IoError(text) if text.contains("has no store")));
        }
        assert_eq!(RedisStorage::exists(&test.options), Ok(false));
        assert_eq!(test.names(), Vec::<String>::new());
        test.open().set(KEY, "1".into()).unwrap();
        let names = test.names();
        assert_eq!(RedisStorage::exists(&test.options), Ok(true));
        let reader = RedisStorage::open_read_only(&test.options).unwrap();
        assert_eq!(reader.get(KEY).unwrap(), Some("1".into()));
        assert_eq!(reader.set(KEY, "2".into()), Err(StorageError::ReadOnly));
        assert_eq!(reader.usage(None).unwrap().keys, 1);
        assert_eq!(reader.flush(), Ok(()));
        assert_eq!(test.names(), names);
        RedisStorage::open_existing(&test.options).unwrap().set(KEY, "2".into()).unwrap();
        assert_eq!(reader.get(KEY).unwrap(), Some("2".into()));
    }
}

#[test]
fn a_newer_format_is_refused() {
    for test in TestStore::all() {
        drop(test.open());
        let marker = test.name("s", "");
        let mut holders = test.servers();
        let find = format!("EXISTS {marker}");
        // Only the node that has the first shard replies.
        let mut holder = holders
            .drain(..)
            .find_map(|mut raw| {
                let reply = raw.reply(redis::cmd("EXISTS").arg(&marker));
                (reply == redis::Value::Int(1)).then_some(raw)
            })
            .expect(&find);
        holder.run(&format!("HSET {marker} format 2"));
        for opened in
            [RedisStorage::open(&test.options), RedisStorage::open_read_only(&test.options)]
        {
            let error = opened.unwrap_err();
            let StorageError::Unsupported(text) = &error else { panic!("{error}") };
            assert!(text.contains("format 2"), "{text}");
        }
        RedisStorage::exists(&test.options).unwrap_err();
        holder.run(&format!("HSET {marker} format 1 shards 7"));
        let error = RedisStorage::open(&test.options).unwrap_err();
        assert!(matches!(&error, StorageError::Unsupported(text) if text.contains("7 shards")));
    }
}

#[test]
fn other_keys_with_the_prefix_are_refused() {
    let Some(test) = TestStore::single() else { return };
    let mut raw = test.raw();
    for (kind, command) in [("s", "SET"), ("s", "SADD"), ("n", "SET"), ("c", "SADD")] {
        let name = test.name(kind, "");
        raw.run(&format!("{command} {name} mine"));
        let error = RedisStorage::open(&test.options).unwrap_err();
        let StorageError::IoError(text) = &error else { panic!("{kind}: {error}") };
        assert!(text.contains("do not belong to a store"), "{text}");
        assert_eq!(test.names(), std::slice::from_ref(&name));
        raw.run(&format!("DEL {name}"));
    }
    test.open().set(KEY, "1".into()).unwrap();
}

#[test]
fn a_store_whose_creation_was_interrupted_is_finished() {
    for test in TestStore::all() {
        let id = test.open().store_id().to_owned();
        for mut raw in test.servers() {
            raw.reply(redis::cmd("HDEL").arg(test.name("s", "")).arg("complete"));
            // The last shard was not created either.
            let last = format!("s:{{{}:ff}}", test.options.prefix);
            raw.reply(redis::cmd("DEL").arg(last));
        }
        assert_eq!(RedisStorage::exists(&test.options), Ok(false));
        RedisStorage::open_existing(&test.options).unwrap_err();
        assert_eq!(test.open().store_id(), id);
        assert_eq!(RedisStorage::exists(&test.options), Ok(true));
        assert_eq!(RedisStorage::open_existing(&test.options).unwrap().store_id(), id);
    }
}

#[test]
fn a_cluster_with_an_emptied_node_is_refused() {
    let Some(test) = TestStore::cluster() else { return };
    test.open().set(KEY, "1".into()).unwrap();
    let lost = format!("s:{{{}:80}}", test.options.prefix);
    for mut raw in test.servers() {
        raw.reply(redis::cmd("DEL").arg(&lost));
    }
    for opened in [RedisStorage::open(&test.options), RedisStorage::open_read_only(&test.options)] {
        let error = opened.unwrap_err();
        let StorageError::Unavailable { detail, .. } = &error else { panic!("{error}") };
        assert!(detail.contains("emptied or replaced"), "{detail}");
    }
    assert!(test.names().iter().all(|name| *name != lost));
}

#[test]
fn a_store_that_was_removed_is_not_written_to() {
    for test in TestStore::all() {
        let store = test.open();
        store.set(KEY, "1".into()).unwrap();
        for mut raw in test.servers() {
            for shard in 0..=255 {
                let marker = format!("s:{{{}:{shard:02x}}}", test.options.prefix);
                raw.reply(redis::cmd("DEL").arg(marker));
            }
        }
        let error = store.set(KEY, "2".into()).unwrap_err();
        let StorageError::Unavailable { detail, .. } = &error else { panic!("{error}") };
        assert!(detail.contains("emptied or replaced"), "{detail}");
        assert!(!detail.contains("may or may not"), "{detail}");
        store.read_snapshot("app/notes/home/", None, &mut |_, _| Ok(())).unwrap_err();
    }
}

#[test]
fn a_server_that_is_emptied_beside_a_host_is_noticed() {
    let Some(server) = OwnServer::start(&[]) else { return };
    let notices: [fn(&RedisStorage) -> StorageError; 3] = [
        |store| store.shared().unwrap().check_identity().unwrap_err(),
        |store| store.shared().unwrap().component_revisions(&["app/notes/home/"]).unwrap_err(),
        |store| store.set(KEY, "2".into()).unwrap_err(),
    ];
    for notice in notices {
        let store = RedisStorage::open(&server.options()).unwrap();
        store.set(KEY, "1".into()).unwrap();
        server.raw().run("FLUSHALL");
        let noticed = notice(&store).to_string();
        assert!(noticed.contains("emptied or replaced"), "{noticed}");
        // Not `None`, which would say that nothing was stored.
        let read = store.get(KEY).unwrap_err().to_string();
        assert!(read.contains("emptied or replaced"), "{read}");
    }
}

#[test]
fn an_emptied_node_of_a_cluster_is_noticed_beside_a_host() {
    let Some(test) = TestStore::cluster() else { return };
    let store = test.open();
    let shared = store.shared().unwrap();
    let keys: Vec<String> = (0..60).map(|n| format!("app/notes/{n}/a")).collect();
    keys.iter().for_each(|key| assert_eq!(store.get(key).unwrap(), None));
    shared.check_identity().unwrap();
    // As if it were emptied, but without what other tests have there.
    let mut node = test.servers().pop().unwrap();
    let names = node.run(&format!("KEYS ?:{{{}:*", test.options.prefix));
    let redis::Value::Array(names) = names else { panic!("{names:?}") };
    for name in names {
        node.reply(redis::cmd("DEL").arg(raw::text(&name)));
    }
    let noticed = shared.check_identity().unwrap_err().to_string();
    assert!(noticed.contains("emptied or replaced"), "{noticed}");
    let failed = keys.iter().filter(|key| store.get(key).is_err()).count();
    assert!(0 < failed && failed < keys.len(), "{failed}");
}

#[test]
fn a_server_that_was_emptied_by_a_restart_is_noticed() {
    let Some(mut server) = OwnServer::start(&[]) else { return };
    let store = RedisStorage::open(&server.options()).unwrap();
    store.set(KEY, "1".into()).unwrap();
    server.restart();
    let read = store.get(KEY).unwrap_err();
    assert!(read.to_string().contains("emptied or replaced"), "{read}");
    let written = store.set(KEY, "2".into()).unwrap_err();
    assert!(written.to_string().contains("emptied or replaced"), "{written}");
    // Another store is in its place.
    let other = RedisStorage::open(&server.options()).unwrap();
    assert_ne!(other.store_id(), store.store_id());
    store.get(KEY).unwrap_err();
    store.set(KEY, "2".into()).unwrap_err();
    assert_eq!(other.get(KEY).unwrap(), None);
}

#[test]
fn a_user_who_may_not_run_every_command_cannot_open_for_writing() {
    let Some(server) = OwnServer::start(&[]) else { return };
    drop(RedisStorage::open(&server.options()).unwrap());
    let mut raw = server.raw();
    let mut options = server.options().with_password("secret");
    options.user = Some("ada".to_owned());
    for command in ["hset", "zadd", "zrem", "set", "del", "unlink"] {
        raw.run(&format!("ACL SETUSER ada reset on >secret ~* &* +@all -{command}"));
        let error = RedisStorage::open(&options).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(matches!(error, StorageError::Unavailable { .. }), "{command}: {error}");
        RedisStorage::open_read_only(&options).unwrap();
    }
    raw.run("ACL SETUSER ada reset on >secret ~* &* +@all -config");
    let store = RedisStorage::open(&options).unwrap();
    store.set(KEY, "1".into()).unwrap();
    assert_eq!(verifying::problems(&store), []);
    store.inspect().unwrap();
}

#[test]
fn a_store_opens_without_the_replicas_that_its_writes_wait_for() {
    let Some(server) = OwnServer::start(&[]) else { return };
    let waiting = server.options().with_wait(1).with_wait_timeout(Duration::from_millis(100));
    let unconfirmed = |error: StorageError| {
        assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
    };
    unconfirmed(RedisStorage::open(&waiting).unwrap_err());
    RedisStorage::open(&server.options()).unwrap().set(KEY, "1".into()).unwrap();
    let store = RedisStorage::open(&waiting).unwrap();
    assert_eq!(store.get(KEY).unwrap(), Some("1".into()));
    unconfirmed(store.set(KEY, "2".into()).unwrap_err());
}

#[test]
fn unsupported_options_are_refused_without_a_server() {
    let options = RedisOptions::new(storage_backends::Deployment::Single(
        storage_backends::RedisAddress::new("127.0.0.1", 1),
    ));
    let opened = RedisStorage::open(&options.with_prefix("{a}"));
    assert!(matches!(opened, Err(StorageError::Unsupported(_))), "{opened:?}");
}

#[test]
fn durability_is_what_the_server_does() {
    for (policy, durability) in [
        (None, None),
        (Some("always"), Some(Durability::Sync)),
        (Some("everysec"), Some(Durability::Relaxed)),
        (Some("no"), Some(Durability::Os)),
    ] {
        let settings = policy.map(|policy| [("appendonly", "yes"), ("appendfsync", policy)]);
        let settings = settings.as_ref().map(<[_; 2]>::as_slice).unwrap_or_default();
        let Some(server) = OwnServer::start(settings) else { return };
        let store = RedisStorage::open(&server.options()).unwrap();
        let properties = store.properties();
        assert_eq!((properties.kind, properties.durability), ("redis", durability));
        assert!(properties.shared_with_other_hosts && properties.may_block);
        let codes: Vec<&str> =
            store.inspect().unwrap().warnings.iter().map(|warning| warning.code).collect();
        let expected = match durability {
            None => "no_persistence",
            Some(Durability::Sync) => "no_replica",
            Some(_) => "appendfsync",
        };
        assert_eq!(codes[0], expected, "{codes:?}");
        store.set(KEY, "1".into()).unwrap();
        assert_eq!(store.flush().is_err(), durability == Some(Durability::Os));
    }
}

#[test]
fn synced_writes_survive_a_killed_server() {
    let Some(mut server) = OwnServer::start(&[("appendonly", "yes"), ("appendfsync", "always")])
    else {
        return;
    };
    let store = RedisStorage::open(&server.options()).unwrap();
    for n in 0..100 {
        store.set(&format!("app/notes/home/{n}"), "1".into()).unwrap();
    }
    let last = storage_core::put(&store, KEY, "1".into()).unwrap();
    server.restart();
    assert_eq!(store.get(KEY).unwrap(), Some("1".into()));
    assert_eq!(store.usage(None).unwrap().keys, 101);
    assert!(storage_core::put(&store, KEY, "2".into()).unwrap() > last);
    assert_eq!(verifying::problems(&store), []);
}

#[test]
fn doctor_reports_the_servers() {
    for test in TestStore::all() {
        let report = test.open().inspect().unwrap();
        let version = report.version.split_once(' ').unwrap().1;
        assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{report:?}");
        assert!(report.bytes > 0 && report.latency > Duration::ZERO);
        assert_eq!(report.eviction_policy, "noeviction");
        assert_eq!(report.primaries > 1, test.is_cluster());
        assert!(!report.is_encrypted);
    }
}

#[test]
fn servers_are_inspected_before_they_have_a_store() {
    for test in TestStore::all() {
        let before = RedisStorage::inspect_servers(&test.options).unwrap();
        assert_eq!(RedisStorage::exists(&test.options), Ok(false));
        let store = test.open();
        assert_eq!(before.durability, store.properties().durability);
        let after = store.inspect().unwrap();
        assert_eq!((before.warnings, before.persistence), (after.warnings, after.persistence));
    }
    let Some(server) = OwnServer::start(&[("maxmemory", "100mb")]) else { return };
    let refuses = || {
        let report = RedisStorage::inspect_servers(&server.options()).unwrap();
        report.warnings.iter().any(|warning| warning.refuses_writes)
    };
    // As opening does.
    for (setting, is_refused) in [
        ("maxmemory-policy allkeys-lru", true),
        ("maxmemory-policy noeviction", false),
        ("min-replicas-to-write 1", true),
        ("min-replicas-to-write 0", false),
    ] {
        server.raw().run(&format!("CONFIG SET {setting}"));
        assert_eq!(refuses(), is_refused, "{setting}");
        assert_eq!(RedisStorage::open(&server.options()).is_err(), is_refused, "{setting}");
    }
}

#[test]
fn a_user_who_may_not_publish_is_warned_of() {
    let Some(server) = OwnServer::start(&[]) else { return };
    let mut options = server.options().with_password("secret");
    options.user = Some("ada".to_owned());
    for (channel, is_warned) in [("", true), ("&e:{storage:*", false)] {
        // Before version 7, a user has all channels at first.
        let rules = format!("reset resetchannels on >secret ~?:{{storage:* +@all {channel}");
        let rules = rules.trim_end();
        server.raw().run(&format!("ACL SETUSER ada {rules}"));
        let store = RedisStorage::open(&options).unwrap();
        store.set(KEY, "1".into()).unwrap();
        for report in [store.inspect(), RedisStorage::inspect_servers(&options)] {
            let mut warnings = report.unwrap().warnings.into_iter();
            let found = warnings.find(|warning| warning.code == "no_notices");
            assert_eq!(found.is_some(), is_warned, "{channel}: {found:?}");
        }
    }
}
