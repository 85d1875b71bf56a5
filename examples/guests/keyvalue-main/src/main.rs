//! A small program over `wasi:keyvalue@0.2.0-draft`. It opens the default store,
//! increments a number and stores a few values.
//!
//! The store must contain only the key `atomics_key` with the value `5`. The
//! program prints nothing, or the step that failed.

#![forbid(unsafe_code)]

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/keyvalue-draft", world: "imports" });
}

use std::fmt::Debug;
use std::io::Write;
use std::process::ExitCode;

use bindings::wasi::keyvalue::{atomics, batch, store};

fn main() -> ExitCode {
    match steps() {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            let _ = writeln!(std::io::stderr(), "keyvalue-main: {wrong}");
            ExitCode::FAILURE
        }
    }
}

fn steps() -> Result<(), String> {
    let bucket = done("open the default store", store::open(""))?;

    // What was there before.
    let listed = done("list the keys", bucket.list_keys(None))?;
    same("the keys at the start", listed.keys, vec!["atomics_key".to_owned()])?;
    let sum = done("add 1 to atomics_key", atomics::increment(&bucket, "atomics_key", 1))?;
    same("5 and 1", sum, 6)?;

    // One key.
    done("set hello", bucket.set("hello", b"world"))?;
    let value = done("get hello", bucket.get("hello"))?;
    same("hello", value, Some(b"world".to_vec()))?;
    same("hello exists", done("ask for hello", bucket.exists("hello"))?, true)?;
    done("delete hello", bucket.delete("hello"))?;
    same("hello exists", done("ask for hello", bucket.exists("hello"))?, false)?;
    same("hello", done("get hello", bucket.get("hello"))?, None)?;

    // Several keys.
    let pair = |number: u8| (format!("a{number}"), vec![number]);
    let keys = |numbers: &[u8]| numbers.iter().map(|n| pair(*n).0).collect::<Vec<_>>();
    done("set three keys", batch::set_many(&bucket, &[1, 2, 3].map(pair)))?;
    let found = done("get three keys", batch::get_many(&bucket, &keys(&[1, 2, 3])))?;
    same("three keys", found, [1, 2, 3].map(|number| Some(pair(number))).to_vec())?;
    done("delete two of them", batch::delete_many(&bucket, &keys(&[1, 3])))?;
    let found = done("get what is left", batch::get_many(&bucket, &keys(&[1, 2, 3])))?;
    same("what is left", found, vec![None, Some(pair(2)), None])
}

fn done<T>(step: &str, result: Result<T, store::Error>) -> Result<T, String> {
    result.map_err(|error| format!("cannot {step}: {error:?}"))
}

fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, not {expected:?}")) }
}
