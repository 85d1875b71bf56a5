//! Calls every function of `wasi:keyvalue@0.2.0-draft` and prints the results.

#![forbid(unsafe_code)]

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/keyvalue-draft", world: "imports" });
}

use std::process::ExitCode;

use bindings::wasi::keyvalue::{atomics, batch, store};

conformance::bind_store!(u64);
conformance::bind_atomics!(u64);
conformance::bind_batch!();

fn main() -> ExitCode {
    conformance::keyvalue::run::<store::Bucket>("keyvalue-draft")
}
