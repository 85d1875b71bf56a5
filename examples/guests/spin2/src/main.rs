//! Calls every function of `fermyon:spin/key-value@2.0.0` and prints the results.

#![forbid(unsafe_code)]

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/spin-2.0", world: "imports" });
}

use std::process::ExitCode;

use bindings::fermyon::spin::key_value::{Error, Store};
use conformance::keyvalue;
use conformance::table::{Outcome, Table};

conformance::bind_spin!();

fn main() -> ExitCode {
    keyvalue::run_basic::<Store>("spin2", vec![("get-keys", listings)])
}

/// `get-keys`, whose order the interface leaves open.
fn listings(table: &mut Table<'_>, label: &str) -> Result<(), keyvalue::Error> {
    let store = Store::open(label).map_err(error_of)?;
    let set = |name: &str| store.set(&conformance::key(name), b"").map_err(error_of);
    let listed = |store: &Store| {
        let names = |mut keys: Vec<String>| {
            keys.sort();
            let prefix = conformance::PREFIX;
            let names: Vec<_> =
                keys.iter().map(|key| key.strip_prefix(prefix).unwrap_or(key)).collect();
            if names.is_empty() { "no keys".to_owned() } else { names.join(" ") }
        };
        Outcome::from(store.get_keys().map(names).map_err(error_of))
    };
    table.asks("get-keys", "an empty store", "no keys", listed(&store));
    for name in ["b", "a/2", "a/10", "B", "\u{e9}", "%"] {
        set(name)?;
    }
    let all = "% B a/10 a/2 b \u{e9}";
    table.asks("get-keys", "six keys", all, listed(&store));
    let other = Store::open(label).map_err(error_of)?;
    table.asks("get-keys", "six keys, by another handle", all, listed(&other));
    let keys = store.get_keys().map_err(error_of)?;
    let order = if keys.is_sorted() { "ascending" } else { "another" };
    table.leaves("get-keys", "six keys: in which order", order);
    set("b")?;
    store.delete(&conformance::key("a/2")).map_err(error_of)?;
    let what = "after an overwrite and a delete";
    table.asks("get-keys", what, "% B a/10 b \u{e9}", listed(&store));

    for number in 0..1_100 {
        set(&format!("many/{number:04}"))?;
    }
    let many = store.get_keys().map_err(error_of).map(|keys| {
        let mut many: Vec<_> = keys.iter().filter(|key| key.contains("/many/")).collect();
        let listed = many.len();
        many.sort();
        many.dedup();
        format!("{} keys, {listed} of them listed", many.len())
    });
    table.asks("get-keys", "1,100 keys", "1100 keys, 1100 of them listed", many);
    Ok(())
}
