//! `usage`: how much is stored.

use super::{Case, Subject, case};
use crate::Usage;
use crate::conformance::subject::expect;

pub(super) const CASES: &[Case] = &[
    case!(usage_counts_bytes_of_keys_and_values),
    case!(usage_follows_every_write),
    case!(usage_of_a_prefix_counts_only_its_keys),
];

fn usage_counts_bytes_of_keys_and_values(subject: &Subject<'_>) {
    let store = subject.open();
    for prefix in [None, Some(""), Some("a"), Some("a/b/c/")] {
        expect(format_args!("usage({prefix:?})"), store.usage(prefix), Usage::default());
    }
    store.set("key", "value");
    expect("usage(None)", store.usage(None), Usage { bytes: 8, keys: 1 });
    // Bytes, not characters.
    store.set("\u{e9}", "\u{1f600}");
    expect("usage(None)", store.usage(None), Usage { bytes: 14, keys: 2 });
    store.set("empty", "");
    expect("usage(None)", store.usage(None), Usage { bytes: 19, keys: 3 });
    expect("usage(Some(\"\"))", store.usage(Some("")), Usage { bytes: 19, keys: 3 });
}

fn usage_follows_every_write(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "key";
    let len = key.len() as u64;
    let is = |bytes, keys| {
        expect("usage(None)", store.usage(None), Usage { bytes, keys });
    };
    store.set(&key, "12345");
    is(len + 5, 1);
    store.set(&key, "1234567890");
    is(len + 10, 1);
    store.set(&key, "1");
    is(len + 1, 1);
    store.set(&key, "");
    is(len, 1);
    store.delete(&key);
    is(0, 0);
    store.delete(&key);
    is(0, 0);
    store.set(&key, "12");
    is(len + 2, 1);
}

fn usage_of_a_prefix_counts_only_its_keys(subject: &Subject<'_>) {
    let store = subject.open();
    let keys = [
        "a", "ab", "a/b/c/1", "a/b/c/10", "a/b/c/2", "a/b/cd/1", "a/b/c-/1", "a/b/c", "a/b",
        "b/b/c/1", "a/b/c/",
    ];
    for (n, key) in keys.iter().enumerate() {
        store.set(key, vec![b'v'; n]);
    }
    for prefix in
        ["", "a", "a/", "a/b/c", "a/b/c/", "a/b/c/1", "a/b/c/10", "a/b/c/3", "b", "c", "a/b/cd/"]
    {
        let of_prefix = keys.iter().enumerate().filter(|(_, key)| key.starts_with(prefix));
        let expected: Usage = of_prefix.map(|(n, key)| Usage::of(key, n)).sum();
        expect(format_args!("usage({prefix:?})"), store.usage(Some(prefix)), expected);
    }
}
