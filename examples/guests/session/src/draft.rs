//! `wasi:keyvalue@0.2.0-draft`.

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/keyvalue-draft", world: "imports" });
}

use bindings::wasi::keyvalue::{atomics, batch, store};

use crate::{Handle, keyvalue};

conformance::bind_store!(u64);
conformance::bind_atomics!(u64);
conformance::bind_batch!();

thread_local! {
    static BUCKET: Handle<store::Bucket> = const { Handle::new(None) };
}

pub(crate) fn call(words: &[&str]) -> Option<String> {
    BUCKET.with(|bucket| keyvalue::call(bucket, words))
}
