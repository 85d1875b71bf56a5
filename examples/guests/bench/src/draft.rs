//! `wasi:keyvalue@0.2.0-draft`.

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/keyvalue-draft", world: "imports" });
}

use std::cell::OnceCell;

use bindings::wasi::keyvalue::{atomics, batch, store};

use crate::bind_keyvalue;

bind_keyvalue!();
