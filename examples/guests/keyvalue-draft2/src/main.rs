//! Calls every function of `wasi:keyvalue@0.2.0-draft2` and prints the results.

#![forbid(unsafe_code)]

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/keyvalue-draft2", world: "imports" });
}

use std::process::ExitCode;

use bindings::wasi::keyvalue::{atomics, batch, store};

conformance::bind_store!(String);
conformance::bind_atomics!(i64);
conformance::bind_swap!();
conformance::bind_batch!();

fn main() -> ExitCode {
    conformance::keyvalue::run_with_swap::<store::Bucket>("keyvalue-draft2")
}
