//! `list_components`: the components that have a key.

use super::listing::{NEIGHBOURS, owned};
use super::{Case, Subject, case};
use crate::KeyPage;
use crate::conformance::subject::{Opened, expect, expect_page};

pub(super) const CASES: &[Case] = &[
    case!(an_empty_storage_has_no_components needs Store),
    case!(a_component_ends_at_the_third_slash needs Store),
    case!(components_are_listed_once_and_in_byte_order needs Store),
    case!(unscoped_keys_belong_to_no_component needs Store),
    case!(a_page_of_components_begins_after_any_text needs Store),
    case!(a_component_without_keys_is_not_listed needs Store),
];

fn components(store: &Opened) -> Vec<String> {
    let page = store.list_components(None, usize::MAX);
    expect("more, of all components", page.more, false);
    page.keys
}

fn an_empty_storage_has_no_components(subject: &Subject<'_>) {
    let store = subject.open();
    for limit in [0, 1, usize::MAX] {
        expect("list_components", store.list_components(None, limit), KeyPage::default());
        expect("list_components", store.list_components(Some("a/b/c/"), limit), KeyPage::default());
    }
}

fn a_component_ends_at_the_third_slash(subject: &Subject<'_>) {
    let store = subject.open();
    for key in ["a/b/c/d/e/f", "b/c/d/", "///", "c//d/e", "\u{e9}/\u{e9}/\u{e9}/\u{e9}"] {
        store.set(key, "");
    }
    let expected = owned(&["///", "a/b/c/", "b/c/d/", "c//d/", "\u{e9}/\u{e9}/\u{e9}/"]);
    expect("list_components", components(&store), expected);
}

fn components_are_listed_once_and_in_byte_order(subject: &Subject<'_>) {
    let store = subject.open();
    for user_key in ["k1", "k2", "k3/with/more/slashes"] {
        for component in NEIGHBOURS {
            store.set(&format!("{component}{user_key}"), user_key);
        }
    }
    let mut expected = owned(&NEIGHBOURS);
    expected.sort();
    expect("list_components", components(&store), expected);
}

fn unscoped_keys_belong_to_no_component(subject: &Subject<'_>) {
    let store = subject.open();
    for key in ["a", "a/b", "a/b/c", "z", "//"] {
        store.set(key, "");
    }
    expect("list_components", components(&store), vec![]);
    store.set("m/n/o/p", "");
    expect("list_components", components(&store), owned(&["m/n/o/"]));
}

fn a_page_of_components_begins_after_any_text(subject: &Subject<'_>) {
    let store = subject.open();
    let mut all = owned(&NEIGHBOURS);
    all.sort();
    for component in &all {
        store.set(&format!("{component}key"), "");
    }
    let mut texts =
        owned(&["a", "a/b", "a/b/001", "a/b/001/key", "a/b/001/\u{ffff}", "b", "A", "a/b/002/"]);
    texts.extend(all.iter().cloned());
    for after in &texts {
        let expected: Vec<String> = all.iter().filter(|name| *name > after).cloned().collect();
        for limit in [0, 1, 3, 100] {
            let page = store.list_components(Some(after), limit);
            let what = format!("list_components({after:?}, {limit})");
            expect_page(what, &page, &expected, limit);
        }
    }
}

fn a_component_without_keys_is_not_listed(subject: &Subject<'_>) {
    let store = subject.open();
    for key in ["a/b/c/1", "a/b/c/2", "a/b/d/1", "a/b/e/1"] {
        store.set(key, "");
    }
    store.delete("a/b/c/1");
    expect("list_components", components(&store), owned(&["a/b/c/", "a/b/d/", "a/b/e/"]));
    store.delete("a/b/c/2");
    expect("list_components", components(&store), owned(&["a/b/d/", "a/b/e/"]));
    // Reading and deleting create no component.
    store.delete("a/b/f/1");
    store.holds("a/b/g/1", None);
    expect("list_keys of no component", store.list_keys(Some("a/b/h/")), vec![]);
    expect("list_components", components(&store), owned(&["a/b/d/", "a/b/e/"]));
    store.set("a/b/c/3", "");
    expect("list_components", components(&store), owned(&["a/b/c/", "a/b/d/", "a/b/e/"]));
}
