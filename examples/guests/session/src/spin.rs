//! `fermyon:spin/key-value@2.0.0`; `list-keys` calls `get-keys`.

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/spin-2.0", world: "imports" });
}

use bindings::fermyon::spin::key_value::{Error, Store};

use crate::{Handle, keyvalue};

conformance::bind_spin!();

thread_local! {
    static STORE: Handle<Store> = const { Handle::new(None) };
}

pub(crate) fn call(words: &[&str]) -> Option<String> {
    STORE.with(|store| keyvalue::basic_call(store, words))
}
