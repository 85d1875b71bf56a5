//! What any store on a server must return, whatever its keys and values are.

use super::*;

/// Components whose prefixes look alike do not see each other. Each of `keys` is its own value,
/// and a component has one key, `k`.
pub(crate) fn components_do_not_see_each_other(store: &impl Store, keys: &[&str]) {
    for key in keys {
        store.set(key, (*key).into()).unwrap();
    }
    for key in keys {
        assert_eq!(store.get(key).unwrap(), Some((*key).into()), "{key}");
        if let Some(prefix) = key.strip_suffix("/k") {
            assert_eq!(store.list_keys(Some(&format!("{prefix}/"))).unwrap(), [*key]);
            let usage = Usage { bytes: 2 * key.len() as u64, keys: 1 };
            assert_eq!(store.usage(Some(&format!("{prefix}/"))).unwrap(), usage);
        }
    }
    let mut sorted: Vec<&str> = keys.to_vec();
    sorted.sort_unstable();
    assert_eq!(store.list_keys(None).unwrap(), sorted);
    let bytes = 2 * keys.iter().map(|key| key.len() as u64).sum::<u64>();
    assert_eq!(store.usage(None).unwrap(), Usage { bytes, keys: keys.len() as u64 });
}

/// Pages, and snapshots of the prefixes that have one, agree with a sorted list.
pub(crate) fn pages_agree_with_a_sorted_list(
    store: &impl Store,
    has_snapshot: impl Fn(&str) -> bool,
) {
    let mut keys: Vec<String> = [
        "a",
        "a/b",
        "a/b/",
        "a/b/c",
        "a/b/c/",
        "a/b/c/d",
        "a/b/c/d/e",
        "a/b/c0",
        "a/b/d/x",
        "a/b0",
        "a0",
        "b",
        "z/y/x/w",
        "z/y/x/\u{10ffff}",
        "z/z/",
    ]
    .map(str::to_owned)
    .into();
    keys.sort();
    for key in &keys {
        store.set(key, "1".into()).unwrap();
    }
    let prefixes = ["", "a", "a/", "a/b", "a/b/", "a/b/c", "a/b/c/", "a/b/c/d", "z/y/x/", "zz"];
    let afters: Vec<Option<&str>> = std::iter::once(None)
        .chain(keys.iter().map(|key| Some(key.as_str())))
        .chain([Some(""), Some("a/b/c/d/"), Some("a/b/c/e"), Some("~")])
        .collect();
    for prefix in prefixes {
        let usage = keys.iter().filter(|key| key.starts_with(prefix));
        let usage: Usage = usage.map(|key| Usage::of(key, 1)).sum();
        assert_eq!(store.usage(Some(prefix)).unwrap(), usage, "{prefix:?}");
        for after in &afters {
            let mut request = PageRequest::new(3).with_prefix(prefix);
            request.after = *after;
            let wanted: Vec<&String> = keys.iter().filter(|key| request.wants(key)).collect();
            let page = store.list_page(request).unwrap();
            let what = format!("prefix {prefix:?}, after {after:?}");
            assert_eq!(
                page.keys.iter().collect::<Vec<_>>(),
                wanted[..wanted.len().min(3)],
                "{what}"
            );
            assert_eq!(page.more, wanted.len() > 3, "{what}");
            if !has_snapshot(prefix) {
                continue;
            }
            let mut read = Vec::new();
            store
                .read_snapshot(prefix, *after, &mut |key, _| {
                    read.push(key.to_owned());
                    Ok(())
                })
                .unwrap();
            assert_eq!(read.iter().collect::<Vec<_>>(), wanted, "{what}");
        }
    }
}

/// Each key is found with its value, by every method, and deleted by a commit that checks it.
pub(crate) fn keys_keep_their_values(
    store: &impl Store,
    prefixes: &[&str],
    keys: &[&str],
    values: &[Vec<u8>],
) {
    let mut expected = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        for prefix in prefixes {
            let key = format!("{prefix}{key}");
            let value = values[n % values.len()].clone();
            if storage_core::split_full_key(&key).0 != *prefix {
                continue;
            }
            match n % 2 {
                0 => store.set(&key, value.clone().into()).unwrap(),
                _ => {
                    let both = Commit::new()
                        .require_absent(&key)
                        .set(&key, value.clone().into())
                        .delete(format!("{key}-"));
                    store.commit(both).map(drop).unwrap();
                }
            }
            expected.push((key, value));
        }
    }
    expected.sort();
    let keys: Vec<&str> = expected.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(store.list_keys(None).unwrap(), keys);
    let many = store.get_many(&keys).unwrap();
    for ((key, value), found) in expected.iter().zip(many) {
        assert_eq!(found, Some(value.clone().into()), "{key:?}");
        assert_eq!(store.get(key).unwrap(), Some(value.clone().into()), "{key:?}");
        assert!(store.exists(key).unwrap(), "{key:?}");
        let mut other = value.clone();
        other.push(0);
        let different = Commit::new().require_value(key, other.into()).delete(key);
        store.commit(different).unwrap_err();
        let same = Commit::new().require_value(key, value.clone().into()).delete(key);
        store.commit(same).unwrap();
        assert_eq!(store.get(key).unwrap(), None, "{key:?}");
    }
    assert_eq!(store.usage(None).unwrap(), Usage::default());
}

/// Keys that break the rules are refused.
pub(crate) fn invalid_keys_are_refused(store: &impl Store) {
    for key in ["app/notes/home/a\0", "\0", "app/notes/home/\n", ""] {
        let invalid = |error| assert!(matches!(error, StorageError::InvalidKey(_)), "{error}");
        invalid(store.set(key, "1".into()).unwrap_err());
        invalid(store.get(key).unwrap_err());
        invalid(store.exists(key).unwrap_err());
        invalid(store.get_many(&[key]).unwrap_err());
        invalid(store.commit(Commit::new().require_absent(key)).unwrap_err());
    }
    assert_eq!(store.usage(None).unwrap().keys, 0);
}

/// A listing has no more keys than a page only if it is asked for as a page.
pub(crate) fn listings_are_longer_than_a_page(store: &impl Store) {
    for chunk in 0..3 {
        let commit = (0..7_000).fold(Commit::new(), |commit, n| {
            commit.set(format!("app/notes/{}/{chunk}-{n:04}", n % 2), "".into())
        });
        store.commit(commit).unwrap();
    }
    assert_eq!(store.list_keys(None).unwrap().len(), 21_000);
    assert_eq!(store.list_keys(Some("app/notes/1/")).unwrap().len(), 10_500);
    let usage = store.usage(Some("app/notes/1/1-")).unwrap();
    assert_eq!(usage, Usage { bytes: 3_500 * 18, keys: 3_500 });
    let page = store.list_page(PageRequest::new(usize::MAX)).unwrap();
    assert!(page.more && page.keys.len() < 21_000);
    let mut read = 0;
    store
        .read_snapshot("", None, &mut |_, _| {
            read += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(read, 21_000);
}
