//! Listings and isolation, over components in many shards and unscoped keys.

use super::*;

#[test]
fn components_do_not_see_each_other() {
    for test in TestStore::all() {
        let store = test.open();
        let keys = [
            "app/notes/001/k",
            "app/notes/0011/k",
            "app/notes/001-/k",
            "App/notes/001/k",
            "app/notes/*/k",
            "app/notes/?/k",
            "app//001/k",
            "a}b/{c/[d]/k",
            "k",
            "app/notes",
        ];
        returned::components_do_not_see_each_other(&store, &keys);
    }
}

#[test]
fn pages_from_every_key_with_every_prefix_agree_with_a_sorted_list() {
    for test in TestStore::all() {
        let store = test.open();
        let is_component = |prefix: &str| !storage_core::split_full_key(prefix).0.is_empty();
        returned::pages_agree_with_a_sorted_list(&store, |prefix| {
            !test.is_cluster() || is_component(prefix)
        });
    }
}

#[test]
fn many_small_components_are_listed_in_order() {
    const COUNT: usize = 1_500;
    for test in TestStore::all() {
        let store = test.open();
        let mut keys = Vec::new();
        for n in 0..COUNT {
            let key = format!("app/notes/{}/k{}", n * 7919 % COUNT, n % 3);
            store.set(&key, "1".into()).unwrap();
            keys.push(key);
            if n % 10 == 0 {
                let unscoped = format!("app/notes/{n}");
                store.set(&unscoped, "1".into()).unwrap();
                keys.push(unscoped);
            }
        }
        keys.sort();
        assert_eq!(store.list_keys(None).unwrap(), keys);
        assert_eq!(store.list_keys(Some("app/notes/1")).unwrap().len(), {
            keys.iter().filter(|key| key.starts_with("app/notes/1")).count()
        });
        let mut components: Vec<&str> =
            keys.iter().map(|key| storage_core::split_full_key(key).0).collect();
        components.sort_unstable();
        components.dedup();
        components.remove(0);
        for limit in [7, 100, 10_000] {
            let mut listed: Vec<String> = Vec::new();
            loop {
                let page = store.list_components(listed.last().map(String::as_str), limit).unwrap();
                assert!(page.keys.len() <= limit);
                assert!(!page.more || !page.keys.is_empty());
                listed.extend(page.keys);
                if !page.more {
                    break;
                }
            }
            assert_eq!(listed, components, "{limit}");
        }
        assert!(store.list_components(None, 0).unwrap().more);
        let nothing = store.list_components(Some("b"), 0).unwrap();
        assert!(nothing.keys.is_empty() && !nothing.more);
        assert!(!store.list_components(None, COUNT).unwrap().more);
    }
}

/// The shard of a component on a cluster: the lower bits of its CRC-16.
fn shard(component: &str) -> u8 {
    let crc = component.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    });
    crc.to_be_bytes()[1]
}

#[test]
fn components_that_are_all_in_one_shard_are_listed() {
    let Some(test) = TestStore::cluster() else { return };
    let store = test.open();
    let mut components: Vec<String> = (0..)
        .map(|n| format!("app/notes/{n}/"))
        .filter(|component| shard(component) == 0x25)
        .take(60)
        .collect();
    for component in &components {
        let both = Commit::new()
            .set(format!("{component}k"), "1".into())
            // The same shard, so a commit can have both.
            .set(format!("{}k", components[0]), "1".into());
        store.commit(both).unwrap();
    }
    let indexes: Vec<String> =
        test.names().into_iter().filter(|name| name.starts_with("i:")).collect();
    assert_eq!(indexes.len(), 60);
    assert!(indexes.iter().all(|name| name.contains(":25}")), "{indexes:?}");
    components.sort();
    let page = store.list_components(None, 50).unwrap();
    assert_eq!((page.keys.as_slice(), page.more), (&components[..50], true));
    let page = store.list_components(page.keys.last().map(String::as_str), 50).unwrap();
    assert_eq!((page.keys.as_slice(), page.more), (&components[50..], false));
    assert_eq!(store.list_keys(None).unwrap().len(), 60);
    assert_eq!(store.usage(None).unwrap().keys, 60);
    let page = store.list_page(PageRequest::new(55)).unwrap();
    assert_eq!((page.keys.len(), page.more), (55, true));
}

#[test]
fn listings_are_longer_than_a_page() {
    let Some(test) = TestStore::single() else { return };
    let store = test.open();
    returned::listings_are_longer_than_a_page(&store);
}

#[test]
fn get_many_finds_keys_of_many_shards_in_their_order() {
    for test in TestStore::all() {
        let store = test.open();
        let keys: Vec<String> = (0..500).map(|n| format!("app/notes/{n}/k")).collect();
        for (n, key) in keys.iter().enumerate().filter(|(n, _)| n % 2 == 0) {
            store.set(key, n.to_string().as_str().into()).unwrap();
        }
        let mut asked: Vec<&str> = keys.iter().map(String::as_str).collect();
        asked.push(&keys[2]);
        let found = store.get_many(&asked).unwrap();
        for (n, value) in found.iter().enumerate() {
            let n = if n == 500 { 2 } else { n };
            let expected = (n % 2 == 0).then(|| n.to_string().as_str().into());
            assert_eq!(*value, expected, "{n}");
        }
        assert_eq!(store.get_many(&[]).unwrap(), []);
    }
}

#[test]
fn a_cluster_refuses_commits_and_snapshots_of_several_components() {
    let Some(test) = TestStore::cluster() else { return };
    let store = test.open();
    let both =
        Commit::new().set("app/notes/home/a", "1".into()).set("app/notes/work/a", "1".into());
    let error = store.commit(both).unwrap_err();
    assert!(
        matches!(&error, StorageError::Unsupported(text) if text.contains("several components"))
    );
    assert_eq!(store.usage(None).unwrap(), Usage::default());
    let error = store.read_snapshot("", None, &mut |_, _| Ok(())).unwrap_err();
    assert!(matches!(&error, StorageError::Unsupported(text) if text.contains("each component")));
}
