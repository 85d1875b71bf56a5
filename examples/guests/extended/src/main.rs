//! Calls every function of `airssys:storage/extended@0.1.0`, also with invalid
//! arguments, and prints the results.

#![forbid(unsafe_code)]

mod commits;
mod reads;
mod writes;

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit", "../../../wit/extended"],
        world: "airssys:storage/extended-guest",
        generate_all,
    });
}

use std::process::ExitCode;

use bindings::airssys::core::errors::StorageError;
use bindings::airssys::core::storage;
use bindings::airssys::storage::extended::{Error, Store, Write};
use conformance::table::{Failure, Outcome, Table};
use conformance::{NOT_EMPTY, PREFIX, command, hold};

conformance::bind_extended!();

/// The outcome of a call whose result differs in each run. The interface says
/// which errors have a key as payload; their key is shown.
fn ok<T>(result: Result<T, Error>) -> Outcome {
    match &result {
        Err(
            error @ (Error::Conflict(key)
            | Error::Storage(StorageError::NotFound(key) | StorageError::AlreadyExists(key))),
        ) => {
            let key = key.strip_prefix(PREFIX).unwrap_or(key);
            Outcome::new(format!("{} {key}", error.variant()))
        }
        _ => result.map(drop).into(),
    }
}

type Cases = fn(&mut Table<'_>, &Store) -> Result<(), Error>;

fn main() -> ExitCode {
    command::run("extended", |options, table| {
        let name = options.store.as_deref().unwrap_or_default();
        let failed = |error: Error| format!("cannot use the store: {}", error.variant());
        let store = Store::open(name).map_err(failed)?;
        clean(&store).map_err(failed)?;
        let page = store.list_page("", None, 1).map_err(failed)?;
        if !page.keys.is_empty() {
            return Err(NOT_EMPTY.to_owned());
        }
        let cases: [(&str, Cases); 8] = [
            ("open", opening),
            ("get-versioned", reads::versioned),
            ("list-page", reads::pages),
            ("get-many", reads::many),
            ("create", writes::create_and_update),
            ("commit", commits::commits),
            ("commit", commits::limits),
            ("usage", writes::usage),
        ];
        for (function, cases) in cases {
            table.group(function, |table| cases(table, &store));
            clean(&store).map_err(failed)?;
        }
        Ok(())
    })
}

/// Removes every key of the cases.
fn clean(store: &Store) -> Result<(), Error> {
    loop {
        let page = store.list_page(PREFIX, None, 500)?;
        let deletes: Vec<_> = page.keys.into_iter().map(Write::Delete).collect();
        store.commit(&[], &deletes)?;
        if !page.more {
            return Ok(());
        }
    }
}

/// Which names `open` accepts.
fn opening(table: &mut Table<'_>, store: &Store) -> Result<(), Error> {
    let key = conformance::key("opening");
    store.create(&key, b"here")?;
    let found = |name: &str| {
        let found = Store::open(name).and_then(|store| store.get_versioned(&key));
        Outcome::from(found.map(|found| found.map(|found| found.value)))
    };
    table.asks("open", "\"\"", "\"here\"", found(""));
    table.asks("open", "\"default\"", "\"here\"", found("default"));
    for (what, name) in [
        ("\"Default\"", "Default"),
        ("\" \"", " "),
        ("\"a/b\", too short for an id", "a/b"),
        ("\"a/b/c/d\", too long for one", "a/b/c/d"),
        ("\"a//c\", with an empty part", "a//c"),
        ("\"../../../etc\", with parts that would climb", "../../../etc"),
        ("\"a/b/*\", with a part that could match", "a/b/*"),
        ("a name with a control character", "a/b/c\n"),
        ("a name of 100,000 bytes", &"n".repeat(100_000)),
    ] {
        table.asks("open", what, "no-such-store", found(name));
    }
    for (what, name) in [
        ("\"conformance/neighbour/1\", another component's id", "conformance/neighbour/1"),
        ("\"conformance/unused/1\", an id without a component", "conformance/unused/1"),
    ] {
        table.asks("open", what, "access-denied", found(name));
    }

    let what = "what airssys:core/storage stored";
    storage::set(&key, b"by the other").map_err(Error::Storage)?;
    table.asks("get-versioned", what, "\"by the other\"", found(""));
    let revision = store.update(&key, b"back")?;
    let back = storage::get(&key).map_err(Error::Storage);
    table.asks("update", "what airssys:core/storage reads", "\"back\"", back);
    storage::set(&key, b"back").map_err(Error::Storage)?;
    let later = store.get_versioned(&key)?.is_some_and(|found| found.revision > revision);
    let what = "airssys:core/storage gives a later revision";
    table.asks("get-versioned", what, "true", later);

    let (mut open, came) = hold(1_001, || Store::open(""));
    table.leaves("open", "1,001 handles at a time and one more", came);
    open.pop();
    table.asks("open", "one more, after one was dropped", "\"back\"", found(""));
    Ok(())
}
