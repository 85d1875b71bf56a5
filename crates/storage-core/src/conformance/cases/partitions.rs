//! `list_partitions`: the components that hold a key.

use super::listing::{NEIGHBOURS, owned};
use super::{Case, Subject, case};
use crate::KeyPage;
use crate::conformance::subject::{Store, expect, expect_that};

pub(super) const CASES: &[Case] = &[
    case!(an_empty_storage_has_no_partitions),
    case!(a_partition_ends_at_the_third_slash),
    case!(partitions_are_listed_once_and_in_byte_order),
    case!(keys_with_fewer_slashes_belong_to_no_partition),
    case!(partitions_go_on_after_the_last_one_seen),
    case!(a_partition_without_keys_is_not_listed),
];

fn partitions(store: &Store) -> Vec<String> {
    let page = store.list_partitions(None, usize::MAX);
    expect("more, of all partitions", page.more, false);
    page.keys
}

fn an_empty_storage_has_no_partitions(subject: &Subject<'_>) {
    let store = subject.open();
    for limit in [0, 1, usize::MAX] {
        expect("list_partitions", store.list_partitions(None, limit), KeyPage::default());
        expect("list_partitions", store.list_partitions(Some("a/b/c/"), limit), KeyPage::default());
    }
}

fn a_partition_ends_at_the_third_slash(subject: &Subject<'_>) {
    let store = subject.open();
    for key in ["a/b/c/d/e/f", "b/c/d/", "///", "c//d/e", "\u{e9}/\u{e9}/\u{e9}/\u{e9}"] {
        store.set(key, "");
    }
    let expected = owned(&["///", "a/b/c/", "b/c/d/", "c//d/", "\u{e9}/\u{e9}/\u{e9}/"]);
    expect("list_partitions", partitions(&store), expected);
}

fn partitions_are_listed_once_and_in_byte_order(subject: &Subject<'_>) {
    let store = subject.open();
    for own in ["k1", "k2", "k3/with/more/slashes"] {
        for partition in NEIGHBOURS {
            store.set(&format!("{partition}{own}"), own);
        }
    }
    let mut expected = owned(&NEIGHBOURS);
    expected.sort();
    expect("list_partitions", partitions(&store), expected);
}

fn keys_with_fewer_slashes_belong_to_no_partition(subject: &Subject<'_>) {
    let store = subject.open();
    for key in ["a", "a/b", "a/b/c", "z", "//"] {
        store.set(key, "");
    }
    expect("list_partitions", partitions(&store), vec![]);
    store.set("m/n/o/p", "");
    expect("list_partitions", partitions(&store), owned(&["m/n/o/"]));
}

fn partitions_go_on_after_the_last_one_seen(subject: &Subject<'_>) {
    let store = subject.open();
    let mut all = owned(&NEIGHBOURS);
    all.sort();
    for partition in &all {
        store.set(&format!("{partition}key"), "");
    }
    let mut texts =
        owned(&["a", "a/b", "a/b/001", "a/b/001/key", "a/b/001/\u{ffff}", "b", "A", "a/b/002/"]);
    texts.extend(all.iter().cloned());
    for after in &texts {
        let expected: Vec<&String> = all.iter().filter(|name| *name > after).collect();
        for limit in [0, 1, 3, 100] {
            let page = store.list_partitions(Some(after), limit);
            let what = format!("list_partitions({after:?}, {limit})");
            expect_that(format_args!("{what} to keep to its limit"), page.keys.len() <= limit);
            let (front, rest) = expected.split_at(page.keys.len().min(expected.len()));
            expect(&what, page.keys.iter().collect::<Vec<_>>(), front.to_vec());
            expect(format_args!("more of {what}"), page.more, !rest.is_empty());
            expect_that(
                format_args!("{what} to have a name, because more follow"),
                limit == 0 || !page.more || !page.keys.is_empty(),
            );
        }
    }
}

fn a_partition_without_keys_is_not_listed(subject: &Subject<'_>) {
    let store = subject.open();
    for key in ["a/b/c/1", "a/b/c/2", "a/b/d/1", "a/b/e/1"] {
        store.set(key, "");
    }
    store.delete("a/b/c/1");
    expect("list_partitions", partitions(&store), owned(&["a/b/c/", "a/b/d/", "a/b/e/"]));
    store.delete("a/b/c/2");
    expect("list_partitions", partitions(&store), owned(&["a/b/d/", "a/b/e/"]));
    // Nor does one come to be by reading or deleting.
    store.delete("a/b/f/1");
    store.holds("a/b/g/1", None);
    expect("list_keys of no partition", store.list_keys(Some("a/b/h/")), vec![]);
    expect("list_partitions", partitions(&store), owned(&["a/b/d/", "a/b/e/"]));
    store.set("a/b/c/3", "");
    expect("list_partitions", partitions(&store), owned(&["a/b/c/", "a/b/d/", "a/b/e/"]));
}
