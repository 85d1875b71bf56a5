//! Keys are opaque, and invalid keys are refused.

use super::listing::owned;
use super::{Case, Feature, Subject, case};
use crate::conformance::subject::{expect, expect_keys, expect_that, short};
use crate::{Commit, ComponentStorage, StorageError, split_full_key, validate_full_key};

pub(super) const CASES: &[Case] = &[
    case!(keys_of_every_form_are_distinct),
    case!(keys_of_every_form_are_listed_byte_for_byte),
    case!(a_component_may_have_keys_of_every_form),
    case!(a_key_may_be_as_long_as_the_limit),
    case!(component_prefixes_of_any_form_are_distinct),
    case!(a_refused_key_changes_nothing needs KeyRules),
    case!(a_commit_with_a_refused_key_changes_nothing needs KeyRules, Commits),
    case!(one_refused_key_fails_get_many needs KeyRules),
];

/// Keys that a layer below might confuse, rewrite or interpret: as a path, a pattern,
/// a device or an escape.
#[rustfmt::skip]
const STRANGE: &[&str] = &[
    // Paths.
    "/", "//", "///", "a/", "/a", "a//b", ".", "..", "...", "./a", "../a", "a/../b", "a/./b", "a/..",
    "../../../../etc/passwd", "~", "~/a", "a\\b", "..\\a", "C:", "C:\\a", "\\\\host\\share", "file:///a",
    // Names that some file systems reserve, fold or trim.
    "con", "CON", "nul.txt", "aux", "com1", "lpt9.log", "prn.", "conin$", "a.", "a..", ".a", "a ", " a",
    " ", "  ", "a.tmp", "a~", "#a#", "lost+found", "desktop.ini", ".git", "thumbs.db", "FORMAT", "LOCK",
    // Case, look-alikes, and one character composed in two ways.
    "key", "Key", "KEY", "kEy", "stra\u{df}e", "strasse", "STRASSE", "\u{e9}", "e\u{301}", "\u{c9}", "k",
    "\u{212a}", "a", "\u{430}", "\u{ff41}", "i", "I", "\u{131}", "\u{130}", "\u{1e9b}\u{323}", "\u{fb01}",
    "fi", "\u{5e9}\u{5dc}\u{5d5}\u{5dd}", "\u{3053}\u{3093}", "caf\u{c2}", "\u{c3}\u{a9}",
    // Patterns, escapes and other languages.
    "*", "?", "a*", "[a]", "[a-z]", "{a,b}", "%", "%%", "%2f", "%2F", "%00", "%61", "_", "a_b", "a%b", "$HOME",
    "$(a)", "`a`", "'", "''", "\"", "\\", "\\0", "\\x00", "\\u0061", "a;b", "a|b", "a&b", "a<b>", "a=b", "a:b",
    "a,b", "!", "#", "@", "+", "-", "--", "-rf", "^", "0", "00", "01", "1", "1e1", "null", "true", "NaN",
    // Edge cases of Unicode.
    "\u{a0}", "\u{ad}", "\u{200b}", "\u{200d}", "\u{202e}abc", "\u{feff}", "\u{fffd}", "\u{fffe}",
    "\u{e000}", "\u{d7ff}", "\u{10000}", "\u{10ffff}", "\u{1f600}", "\u{1f468}\u{200d}\u{1f469}",
];

/// The strange keys and long ones, each once.
fn keys_of_every_form(longest: usize) -> Vec<String> {
    let mut keys: Vec<String> = STRANGE.iter().map(|key| (*key).to_owned()).collect();
    // Long keys that differ in one byte, early or late, and in length by one.
    for len in [100, 127, 128, 200, 247, 248, 254, 255, 256, 257, 511, 512, 1000, longest] {
        let end = len.min(longest).saturating_sub(1);
        keys.push(format!("{}x", "k".repeat(end)));
        keys.push(format!("{}y", "k".repeat(end)));
        keys.push(format!("K{}", "k".repeat(end)));
    }
    keys.push("\u{1f600}".repeat(longest / 4));
    keys.push("\u{e9}/".repeat(longest / 3));
    keys.push("../".repeat(longest / 3));
    keys.retain(|key| key.len() <= longest && validate_full_key(key).is_ok());
    keys.sort();
    keys.dedup();
    keys
}

fn keys_of_every_form_are_distinct(subject: &Subject<'_>) {
    let store = subject.open();
    let keys = keys_of_every_form(subject.max_key_bytes());
    // The value is the key, so a confused pair is detected.
    for key in &keys {
        store.set(key, key.as_bytes());
    }
    for key in &keys {
        store.holds(key, key.as_bytes());
    }
    // Deleting every second one leaves the others.
    for key in keys.iter().step_by(2) {
        store.delete(key);
    }
    for (n, key) in keys.iter().enumerate() {
        store.holds(key, (n % 2 == 1).then_some(key.as_bytes()));
    }
}

fn keys_of_every_form_are_listed_byte_for_byte(subject: &Subject<'_>) {
    let store = subject.open();
    let keys = keys_of_every_form(subject.max_key_bytes());
    for key in &keys {
        store.set(key, "");
    }
    let listed = store.list_keys(None);
    for (found, expected) in listed.iter().zip(&keys) {
        expect("a key of list_keys(None)", found, expected);
    }
    expect("the number of keys that are listed", listed.len(), keys.len());
}

fn a_component_may_have_keys_of_every_form(subject: &Subject<'_>) {
    let store = subject.open();
    let (one, two) = (subject.component("one"), "suite/component/one1/");
    let room = subject.max_key_bytes() - two.len();
    for own in keys_of_every_form(room) {
        store.set(&format!("{one}{own}"), own.as_bytes());
    }
    let neighbour = format!("{two}neighbour");
    store.set(&neighbour, "");
    for own in keys_of_every_form(room) {
        store.holds(&format!("{one}{own}"), own.as_bytes());
    }
    let mut expected: Vec<String> =
        keys_of_every_form(room).iter().map(|own| format!("{one}{own}")).collect();
    if one.is_empty() {
        expected.push(neighbour);
        expected.sort();
    }
    expect_keys(format_args!("list_keys({one:?})"), &store.list_keys(Some(&one)), &expected);
}

fn a_key_may_be_as_long_as_the_limit(subject: &Subject<'_>) {
    let store = subject.open();
    let longest = "k".repeat(subject.max_key_bytes());
    let of_component = subject.component("one");
    let in_component =
        format!("{of_component}{}", "k".repeat(subject.max_key_bytes() - of_component.len()));
    for key in [longest, in_component] {
        store.set(&key, "value");
        store.holds(&key, &b"value"[..]);
        expect("list_keys of the longest key", store.list_keys(Some(&key)), vec![key.clone()]);
        store.delete(&key);
        store.holds(&key, None);
    }
}

fn component_prefixes_of_any_form_are_distinct(subject: &Subject<'_>) {
    let store = subject.open();
    let long = "n".repeat(300);
    #[rustfmt::skip]
    let keys = [
        "///", "///a", "////", "a///", "//a/k", "../../../k", "../../..//k", "./././k",
        "././../k", "con/nul/aux/k", "CON/nul/aux/k", " / / /k", "./ /../k", "*/*/*/k",
        "%2f/%2f/%2f/k", "a/b/c/k", "A/b/c/k", "a/b/c/", "a/b/c", "a%2fb/c/d/k", "a/b%2fc/d/k",
        "a\\b/c/d/k", "a:b/c/d/k", "a/b:c/d/k", "\u{e9}/\u{e9}/\u{e9}/k",
        "e\u{301}/e\u{301}/e\u{301}/k", "tmp/journal/lock/k", ".lock/.tmp/.journal/k",
    ];
    let mut keys = owned(&keys);
    keys.push(format!("{long}/{long}/{long}/k"));
    keys.push(format!("{long}/{long}/{long}1/k"));
    keys.sort();
    for key in &keys {
        store.set(key, key.as_bytes());
    }
    for key in &keys {
        store.holds(key, key.as_bytes());
    }
    expect("list_keys(None)", store.list_keys(None), keys);
}

/// Keys that break a rule.
fn refused_keys(subject: &Subject<'_>) -> Vec<String> {
    let one = subject.component("one");
    let mut keys = vec![String::new(), "k".repeat(subject.max_key_bytes() + 1)];
    // A character of several bytes that ends after the limit.
    keys.push(format!("{}\u{e9}", "k".repeat(subject.max_key_bytes() - 1)));
    for control in
        ['\0', '\u{1}', '\t', '\n', '\r', '\u{1f}', '\u{7f}', '\u{80}', '\u{85}', '\u{9f}']
    {
        keys.push(control.to_string());
        keys.push(format!("{one}a{control}b"));
    }
    keys
}

fn a_refused_key_changes_nothing(subject: &Subject<'_>) {
    let store = subject.open();
    store.set("key", "value");
    store.set("kk", "value");
    let before = store.contents();
    let storage = store.storage();
    for key in refused_keys(subject) {
        let shown = short(&key);
        refused(format_args!("get({shown})"), storage.get(&key));
        refused(format_args!("set({shown})"), storage.set(&key, "x".into()));
        refused(format_args!("delete({shown})"), storage.delete(&key));
        refused(format_args!("exists({shown})"), storage.exists(&key));
        let (component, user_key) = split_full_key(&key);
        for (prefix, rest) in [("", &*key), (component, user_key)] {
            let what = format_args!("try_get({prefix:?}, {})", short(rest));
            expect(what, storage.try_get(prefix, rest), None);
        }
        if subject.has(Feature::Revisions) {
            refused(format_args!("get_versioned({shown})"), storage.get_versioned(&key));
        }
    }
    expect("the contents after refused keys", store.contents(), before);
}

fn a_commit_with_a_refused_key_changes_nothing(subject: &Subject<'_>) {
    let store = subject.open();
    store.set("key", "value");
    let before = store.contents();
    let storage: &dyn ComponentStorage = store.storage();
    for key in refused_keys(subject) {
        let commits = [
            Commit::new().set("key", "x".into()).set(&*key, "x".into()),
            Commit::new().set(&*key, "x".into()).delete("key"),
            Commit::new().delete("key").delete(&*key),
            Commit::new().require_absent(&*key).set("key", "x".into()),
            Commit::new().require_present(&*key).delete("key"),
            Commit::new().require_value(&*key, "x".into()),
        ];
        for commit in commits {
            let what = format!("commit({commit:?})");
            refused(what, storage.commit(commit));
        }
    }
    expect("the contents after refused commits", store.contents(), before);
}

fn one_refused_key_fails_get_many(subject: &Subject<'_>) {
    let store = subject.open();
    store.set("key", "value");
    for key in refused_keys(subject) {
        let shown = short(&key);
        let result = store.storage().get_many(&["key", &key]);
        refused(format_args!("get_many([\"key\", {shown}])"), result);
    }
}

#[track_caller]
fn refused<T>(what: impl std::fmt::Display, result: Result<T, StorageError>) {
    let found = result.err();
    let refused = matches!(found, Some(StorageError::InvalidKey(_)));
    let shown = found.map_or_else(|| "success".to_owned(), |error| error.to_string());
    expect_that(format_args!("{what} to fail with InvalidKey, found: {shown}"), refused);
}
