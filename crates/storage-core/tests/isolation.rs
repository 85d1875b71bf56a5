//! No component sees, names or changes the data of another, whatever the ids and
//! keys.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use storage_core::conformance::{CountingStorage, Method, ReferenceStorage};
use storage_core::{
    Commit, ComponentId, ComponentStorage, MAX_KEY_BYTES, MAX_SEGMENT_BYTES, NamespacedStorage,
    PageRequest, Revision, StorageError, Usage,
};

type Component = NamespacedStorage<Arc<ReferenceStorage>>;

/// Similar segments, and arbitrary ones.
fn segment() -> impl Strategy<Value = String> {
    let alike = [
        "0", "00", "001", "0011", "001-", "001.", "001:", "a", "A", "a-b", "a.b", "a:b", "a@b",
        "a+b", "a_b", "...", "-", "con", "nul.txt",
    ];
    let longest = "x".repeat(MAX_SEGMENT_BYTES);
    prop_oneof![
        6 => select(alike.to_vec()).prop_map(str::to_owned),
        2 => "[A-Za-z0-9._:@+-]{1,128}".prop_filter("is . or ..", |text| text != "." && text != ".."),
        1 => Just(longest),
    ]
}

fn id() -> impl Strategy<Value = ComponentId> {
    (segment(), segment(), segment()).prop_map(|(namespace, name, instance)| {
        ComponentId::new(&namespace, &name, &instance).unwrap()
    })
}

/// Unusual keys, and arbitrary ones.
fn key() -> impl Strategy<Value = String> {
    #[rustfmt::skip]
    let strange = [
        "/", "//", "../", "../../a/001/k", "..", ".", "a", "A", "a/0/001/k", "0/0/0/k", "a/a/a/",
        "%2e%2e%2f", "*", "a*", "?", "\u{e9}", "e\u{301}", "\u{c9}", "\u{430}", " ", "a ", "\\",
        "..\\a", "con", "%", "_", "'", "\u{202e}", "\u{10ffff}",
    ];
    let any = proptest::collection::vec(any::<char>(), 1..60)
        .prop_map(|chars| chars.into_iter().filter(|c| !c.is_control()).collect::<String>());
    let long = (1..=MAX_KEY_BYTES).prop_map(|len| "k".repeat(len));
    prop_oneof![
        5 => select(strange.to_vec()).prop_map(str::to_owned),
        3 => any.prop_filter("is empty", |key| !key.is_empty()),
        1 => long,
        1 => Just("\u{1f600}".repeat(MAX_KEY_BYTES / 4)),
    ]
}

/// Components of one store, and the keys of each.
fn tenants() -> impl Strategy<Value = BTreeMap<ComponentId, BTreeSet<String>>> {
    proptest::collection::btree_map(id(), proptest::collection::btree_set(key(), 1..8), 1..7)
}

proptest! {
    #[test]
    fn two_components_never_share_a_full_key(a in id(), b in id(), key_a in key(), key_b in key()) {
        let backend = Arc::new(ReferenceStorage::new());
        Component::new(a.clone(), Arc::clone(&backend)).set(&key_a, "a".into())?;
        Component::new(b.clone(), Arc::clone(&backend)).set(&key_b, "b".into())?;
        let same = a == b && key_a == key_b;
        prop_assert_eq!(backend.list_keys(None)?.len(), if same { 1 } else { 2 });
    }

    #[test]
    fn no_key_prefix_begins_with_another(a in id(), b in id()) {
        prop_assert_eq!(a.key_prefix().starts_with(b.key_prefix()), a == b);
    }

    #[test]
    fn an_id_is_read_back_from_its_text(id in id()) {
        prop_assert_eq!(id.to_string_id().parse::<ComponentId>()?, id.clone());
        prop_assert_eq!(ComponentId::new(id.namespace(), id.name(), id.instance())?, id);
    }

    #[test]
    fn components_have_separate_keys_and_values(tenants in tenants()) {
        let backend = Arc::new(ReferenceStorage::new());
        let component = |id: &ComponentId| Component::new(id.clone(), Arc::clone(&backend));
        let value = |id: &ComponentId, key: &str| format!("{id} {key}");
        for (id, keys) in &tenants {
            for key in keys {
                component(id).set(key, value(id, key).as_str().into())?;
            }
        }
        for (id, keys) in &tenants {
            let component = component(id);
            // Byte for byte, and nothing of another component.
            let listed = component.list_keys(None)?;
            prop_assert_eq!(&listed, &keys.iter().cloned().collect::<Vec<_>>());
            let page = component.list_page(PageRequest::new(3))?;
            prop_assert_eq!(&page.keys[..], &listed[..listed.len().min(3)]);
            let rest = component.list_page(PageRequest::new(1000).after(&listed[0]))?;
            prop_assert_eq!(&rest.keys[..], &listed[1..]);
            for key in keys {
                let found = component.get(key)?;
                prop_assert_eq!(found, Some(value(id, key).as_str().into()));
            }
            let usage: Usage = keys.iter().map(|key| Usage::of(key, value(id, key).len())).sum();
            prop_assert_eq!(component.usage(None)?, usage);
        }
        // A delete affects only its component.
        let mut left: usize = tenants.values().map(BTreeSet::len).sum();
        for (id, keys) in &tenants {
            for key in component(id).list_keys(None)? {
                component(id).delete(&key)?;
            }
            left -= keys.len();
            prop_assert_eq!(backend.list_keys(None)?.len(), left);
        }
    }

    #[test]
    fn no_prefix_or_cursor_reveals_other_components(tenants in tenants(), prefix in key(), after in key()) {
        let backend = Arc::new(ReferenceStorage::new());
        let component = |id: &ComponentId| Component::new(id.clone(), Arc::clone(&backend));
        for (id, keys) in &tenants {
            for key in keys {
                component(id).set(key, "".into())?;
            }
        }
        let mut texts = vec![prefix, after, String::new()];
        texts.extend(tenants.keys().map(|id| id.key_prefix().to_owned()));
        for (id, keys) in &tenants {
            let component = component(id);
            for prefix in &texts {
                let begins = |key: &&String| key.starts_with(prefix.as_str());
                let own: Vec<String> = keys.iter().filter(begins).cloned().collect();
                prop_assert_eq!(component.list_keys(Some(prefix))?, own.clone());
                let bytes: usize = own.iter().map(String::len).sum();
                let used = Usage { bytes: bytes as u64, keys: own.len() as u64 };
                prop_assert_eq!(component.usage(Some(prefix))?, used);
                for after in &texts {
                    let request = PageRequest::new(100).with_prefix(prefix).after(after);
                    let behind: Vec<&String> = own.iter().filter(|key| *key > after).collect();
                    let page = component.list_page(request)?;
                    prop_assert_eq!(page.keys.iter().collect::<Vec<_>>(), behind);
                    prop_assert!(!page.more);
                }
            }
        }
    }

    #[test]
    fn a_refused_key_reaches_nothing(good in key(), refused in refused_key()) {
        let (key, rule) = refused;
        let backend = CountingStorage::new(ReferenceStorage::new());
        let id = ComponentId::new("app", "notes", "home").unwrap();
        let component = NamespacedStorage::new(id, &backend);
        let error = |result: Result<(), StorageError>| match result {
            Err(StorageError::InvalidKey(message)) => Ok(message),
            other => Err(TestCaseError::fail(format!("not refused: {other:?}"))),
        };
        let results = [
            component.get(&key).map(drop),
            component.set(&key, "x".into()),
            component.delete(&key),
            component.exists(&key).map(drop),
            component.get_many(&[&good, &key]).map(drop),
            component.get_versioned(&key).map(drop),
            component.commit(Commit::new().set(&*good, "x".into()).set(&*key, "x".into())).map(drop),
            component.commit(Commit::new().delete(&*key)).map(drop),
            component.commit(Commit::new().set(&*good, "x".into()).require_absent(&*key)).map(drop),
            component.commit(Commit::new().require_revision(&*key, Revision::new(1))).map(drop),
        ];
        for result in results {
            let message = error(result)?;
            prop_assert!(message.contains(rule), "{message} does not name the rule: {rule}");
            prop_assert!(message.len() < 400, "{message}");
        }
        prop_assert_eq!(component.try_get("", &key), None);
        // A key that breaks the rules is never known in memory, so `get` may ask.
        prop_assert_eq!(backend.total(), backend.calls(Method::TryGet));
    }

    #[test]
    fn an_id_outside_the_rules_is_refused(
        segments in [segment(), segment(), segment()],
        at in 0_usize..3,
        bad in refused_segment(),
    ) {
        let (bad, rule) = bad;
        let mut segments = segments;
        segments[at] = bad;
        let [namespace, name, instance] = &segments;
        let message = ComponentId::new(namespace, name, instance).unwrap_err().to_string();
        let which = ["namespace", "name", "instance"][at];
        prop_assert!(message.contains(rule) && message.contains(which), "{message}");
        prop_assert!(message.len() < 400, "{message}");
    }

    #[test]
    fn no_other_text_is_an_id(text in "[a./ ]{0,12}") {
        let segments: Vec<&str> = text.split('/').collect();
        let sound = |segment: &&str| !["", ".", ".."].contains(segment) && !segment.contains(' ');
        let expected = segments.len() == 3 && segments.iter().all(sound);
        prop_assert_eq!(text.parse::<ComponentId>().is_ok(), expected);
    }
}

/// An invalid key, and the rule that it breaks.
fn refused_key() -> impl Strategy<Value = (String, &'static str)> {
    let control =
        (key(), any::<prop::sample::Index>(), 0_usize..65).prop_map(|(key, at, which)| {
            // U+0000 to U+001F, and U+007F to U+009F.
            let number = if which < 0x20 { which } else { which + 0x7f - 0x20 } as u32;
            let mut chars: Vec<char> = key.chars().take(100).collect();
            chars.insert(at.index(chars.len() + 1), char::from_u32(number).unwrap());
            (chars.into_iter().collect(), "no control characters")
        });
    let too_long =
        (1_usize..5000, select(vec!["k", "\u{e9}", "\u{1f600}"])).prop_map(|(more, of)| {
            let text = of.repeat((MAX_KEY_BYTES + more).div_ceil(of.len()));
            (text, "at most 1024 bytes")
        });
    prop_oneof![Just((String::new(), "at least 1 byte")), control, too_long]
}

/// An invalid segment, and the rule that it breaks.
fn refused_segment() -> impl Strategy<Value = (String, &'static str)> {
    let likely = select(vec!['/', '\\', ' ', '\0', '\n', '%', '*', '~', '\u{e9}', '\u{202e}']);
    let other = prop_oneof![likely, any::<char>()]
        .prop_filter("is allowed", |c| !c.is_ascii_alphanumeric() && !"._-:@+".contains(*c));
    let holds = (segment(), other, any::<prop::sample::Index>()).prop_map(|(text, other, at)| {
        let mut chars: Vec<char> = text.chars().take(100).collect();
        chars.insert(at.index(chars.len() + 1), other);
        (chars.into_iter().collect(), "allowed characters are A-Z a-z 0-9 . _ - : @ +")
    });
    let too_long = (1_usize..2000)
        .prop_map(|more| ("x".repeat(MAX_SEGMENT_BYTES + more), "bytes, more than 128"));
    prop_oneof![
        Just((String::new(), "is empty")),
        Just((".".to_owned(), "may not be")),
        Just(("..".to_owned(), "may not be")),
        holds,
        too_long,
    ]
}

#[test]
fn a_view_of_a_view_adds_its_own_prefix() {
    let backend = ReferenceStorage::new();
    let outer = NamespacedStorage::new("a/b/c".parse().unwrap(), &backend);
    let inner = NamespacedStorage::new("d/e/f".parse().unwrap(), &outer);
    inner.set("key", "value".into()).unwrap();
    assert_eq!(backend.list_keys(None).unwrap(), ["a/b/c/d/e/f/key"]);
    assert_eq!(outer.list_keys(None).unwrap(), ["d/e/f/key"]);
    assert_eq!(inner.list_keys(None).unwrap(), ["key"]);
    assert_eq!(inner.get("key").unwrap(), Some("value".into()));
    let error = inner.commit(Commit::new().require_absent("key")).unwrap_err();
    assert_eq!(error, StorageError::AlreadyExists("key".into()));
}
