//! `list_page`: a listing in pages.

use std::collections::BTreeSet;

use super::listing::{NEIGHBOURS, filled};
use super::{Case, Subject, case};
use crate::PageRequest;
use crate::conformance::subject::{Opened, expect, expect_page, expect_that};

pub(super) const CASES: &[Case] = &[
    case!(a_page_has_the_first_keys_of_its_request),
    case!(a_page_begins_after_any_key_present_or_not),
    case!(a_page_combines_prefix_and_after),
    case!(a_page_of_an_empty_storage_is_the_last),
    case!(pages_of_any_size_add_up_to_the_listing),
    case!(pages_cross_components_in_byte_order),
    case!(paging_neither_skips_nor_repeats_keys_during_writes),
];

/// Requests a page, which must have the first keys of `wanted`.
fn check_page(store: &Opened, request: PageRequest<'_>, wanted: &[String]) {
    let page = store.list_page(request);
    expect_page(format_args!("list_page({request:?})"), &page, wanted, request.limit);
}

fn wanted(keys: &[String], request: PageRequest<'_>) -> Vec<String> {
    keys.iter().filter(|key| request.wants(key)).cloned().collect()
}

fn a_page_has_the_first_keys_of_its_request(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    let keys = filled(&store, &["a", "b", "c", "d", "e"].map(|own| format!("{one}{own}")));
    for limit in [1, 2, 4, 5, 6, 1000, usize::MAX - 1, usize::MAX] {
        check_page(&store, PageRequest::new(limit), &keys);
    }
}

fn a_page_begins_after_any_key_present_or_not(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    let keys = filled(&store, &["b", "d", "da", "f", "\u{e9}"].map(|own| format!("{one}{own}")));
    for after in
        ["a", "b", "ba", "c", "d", "d ", "da", "e", "f", "g", "\u{e8}", "\u{e9}", "\u{ffff}"]
    {
        let after = format!("{one}{after}");
        for limit in [1, 2, 10] {
            let request = PageRequest::new(limit).after(&after);
            check_page(&store, request, &wanted(&keys, request));
        }
    }
    // A key that is deleted between two pages.
    let deleted = format!("{one}d");
    store.delete(&deleted);
    let request = PageRequest::new(10).after(&deleted);
    check_page(&store, request, &wanted(&keys, request));
}

fn a_page_combines_prefix_and_after(subject: &Subject<'_>) {
    let store = subject.open();
    #[rustfmt::skip]
    let keys = [
        "a", "ab", "ab/c", "ab/c/d/e", "ab/c/d/f", "ab/c/d/", "ab/c/d", "ab/c0", "ab/c-/d/e",
        "ab0", "b", "b/c/d/e", "b/c/d/f", "b/c/e/f", "b0", "c/c/c/\u{e9}",
        "c/c/c/\u{e9}/\u{e9}", "c/c/c/f",
    ];
    let keys = filled(&store, &keys);
    let mut texts: Vec<&str> = vec![
        "", "A", "aa", "ab/", "ab/c/", "ab/c/c", "ab/c/d/a", "ab/c/d/g", "ab/c/e", "b/", "b/c",
        "b/c/", "b/c/d", "b/c/d/", "c", "c/c/c", "c/c/c/", "d", "\u{e9}",
    ];
    texts.extend(keys.iter().map(String::as_str));
    for prefix in &texts {
        for after in &texts {
            for limit in [0, 1, 3, 100] {
                let request = PageRequest::new(limit).with_prefix(prefix).after(after);
                check_page(&store, request, &wanted(&keys, request));
            }
        }
    }
}

fn a_page_of_an_empty_storage_is_the_last(subject: &Subject<'_>) {
    let store = subject.open();
    for limit in [0, 1, usize::MAX] {
        check_page(&store, PageRequest::new(limit), &[]);
        check_page(&store, PageRequest::new(limit).with_prefix("a").after("b"), &[]);
        check_page(&store, PageRequest::new(limit).with_prefix("a/b/c/").after("a/b/c/d"), &[]);
    }
}

/// The keys of all pages.
fn all_pages(store: &Opened, prefix: &str, limit: usize, key_count: usize) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    // Each page but the last has a key, so this ends.
    for _ in 0..=key_count {
        let request = PageRequest { prefix, after: seen.last().map(String::as_str), limit };
        let page = store.list_page(request);
        let done = !page.more;
        seen.extend(page.keys);
        if done {
            break;
        }
    }
    seen
}

fn pages_of_any_size_add_up_to_the_listing(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    let keys: Vec<String> = (0..30).map(|n| format!("{one}{n}")).collect();
    let keys = filled(&store, &keys);
    for limit in [1, 2, 3, 7, 29, 30, 31] {
        let what = format!("pages of {limit}");
        expect(&what, all_pages(&store, "", limit, keys.len()), keys.clone());
        expect(&what, all_pages(&store, &one, limit, keys.len()), keys.clone());
    }
}

fn pages_cross_components_in_byte_order(subject: &Subject<'_>) {
    let store = subject.open();
    let mut keys: Vec<String> = Vec::new();
    for component in NEIGHBOURS {
        keys.extend(["", "k1", "k2"].map(|own| format!("{component}{own}")));
    }
    // Unscoped keys before, between and after the components.
    let unscoped = [
        "a", "a/b", "a/b/001", "a/b/0011", "a/b/001-", "a/b/1", "a0", "b", "a/c/x", "A", "a-",
        "a/b/",
    ];
    keys.extend(unscoped.map(str::to_owned));
    let keys = filled(&store, &keys);
    expect("list_keys(None)", store.list_keys(None), keys.clone());
    for prefix in ["", "a", "a/", "a/b", "a/b/", "a/b/00", "a/b/001", "a/b/001/", "a/b/001/k"] {
        let expected = wanted(&keys, PageRequest::new(0).with_prefix(prefix));
        for limit in [1, 2, 5, 100] {
            let found = all_pages(&store, prefix, limit, keys.len());
            expect(
                format_args!("pages of {limit} with prefix {prefix:?}"),
                found,
                expected.clone(),
            );
        }
    }
    // From every key, and from between all of them.
    for key in &keys {
        for after in [key.clone(), format!("{key}\u{10ffff}"), format!("{key} ")] {
            let request = PageRequest::new(3).after(&after);
            check_page(&store, request, &wanted(&keys, request));
        }
    }
}

fn paging_neither_skips_nor_repeats_keys_during_writes(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    let key = |n: usize| format!("{one}{n:02}");
    // Even keys stay; odd ones are written and deleted between pages.
    for n in (0..40).step_by(2) {
        store.set(&key(n), "");
    }
    let mut seen: Vec<String> = Vec::new();
    for round in 0..40 {
        let page = store.list_page(PageRequest {
            prefix: &one,
            after: seen.last().map(String::as_str),
            limit: 3,
        });
        let last = !page.more;
        seen.extend(page.keys);
        if last {
            break;
        }
        let (new, old) = ((round * 14 + 1) % 40, (round * 22 + 39) % 40);
        store.set(&key(new), "");
        store.delete(&key(old));
        // The key after which the next page begins.
        if let Some(odd) = seen.last().filter(|key| key.ends_with(['1', '3', '5', '7', '9'])) {
            store.delete(odd);
        }
    }
    expect_that(format_args!("the pages to be in order: {seen:?}"), seen.is_sorted());
    let unique: BTreeSet<&String> = seen.iter().collect();
    expect("the number of different keys among those seen", unique.len(), seen.len());
    for n in (0..40).step_by(2) {
        expect_that(
            format_args!("{:?}, which exists throughout, among {seen:?}", key(n)),
            unique.contains(&key(n)),
        );
    }
}
