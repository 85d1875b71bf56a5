//! File names: every text has one, no two texts share one, and any name can be decoded.

use storage_backends::internals::{FileName, file_name, read_file_name};

use crate::input::parts;

/// Input: two texts and a name, separated by a byte that does not occur in UTF-8.
pub(crate) fn run(input: &[u8]) {
    let [one, other, name] = parts(input);
    let (first, second) = (named(one), named(other));
    assert_eq!(one == other, first == second, "{one:?} and {other:?}: {first:?}");

    match read_file_name(name) {
        FileName::Text(text) => assert_eq!(file_name(&text), name),
        // Only the record contains the key.
        FileName::Hashed => {
            let (_, hash) = name.split_once("%%").unwrap();
            assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
        FileName::Foreign => {
            assert_ne!(name, first);
            assert_ne!(name, second);
        }
    }
}

/// The name of a text, checked against `docs/formats.md`.
fn named(text: &str) -> String {
    let name = file_name(text);
    assert!((1..=255).contains(&name.len()), "{name:?}");
    is_safe(&name);
    match read_file_name(&name) {
        FileName::Text(back) => {
            assert_eq!(back, text);
            assert!(name.len() <= 240);
        }
        FileName::Hashed => {
            let (start, hash) = name.split_once("%%").unwrap();
            assert!(start.len() <= 120 && hash.len() == 64, "{name:?}");
            // A byte takes at most three characters, so that shorter texts fit.
            assert!(text.len() > 80, "{text:?}");
        }
        FileName::Foreign => panic!("{text:?} has the foreign name {name:?}"),
    }
    name
}

/// A name must not have a special meaning on any file system.
fn is_safe(name: &str) {
    let of = "abcdefghijklmnopqrstuvwxyz0123456789-_@+=,.%";
    assert!(name.chars().all(|c| of.contains(c)), "{name:?}");
    assert!(!name.starts_with('.') && !name.ends_with('.'), "{name:?}");
    let stem = name.split('.').next().unwrap_or_default();
    let reserved = [
        "con", "prn", "aux", "nul", "com0", "com1", "com2", "com3", "com4", "com5", "com6", "com7",
        "com8", "com9", "lpt0", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8",
        "lpt9",
    ];
    assert!(!reserved.contains(&stem), "{name:?}");
}
