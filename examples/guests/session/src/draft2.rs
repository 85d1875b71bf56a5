//! `wasi:keyvalue@0.2.0-draft2`: the calls of both drafts, and `cas KEY`, which
//! keeps a handle on a key, `current`, and `swap VALUE`, which keeps the handle
//! that a failure hands back.

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/keyvalue-draft2", world: "imports" });
}

use bindings::wasi::keyvalue::{atomics, batch, store};
use conformance::keyvalue::{Swap, SwapError};

use crate::{Kept, keyvalue, text, told};

conformance::bind_store!(String);
conformance::bind_atomics!(i64);
conformance::bind_swap!();
conformance::bind_batch!();

thread_local! {
    static BUCKET: Kept<store::Bucket> = const { Kept::new(None) };
    static CAS: Kept<atomics::Cas> = const { Kept::new(None) };
}

pub(crate) fn call(words: &[&str]) -> Option<String> {
    match words {
        ["cas", key] => BUCKET.with_borrow(|bucket| {
            let cas = bucket.as_ref()?.cas(key);
            Some(told(cas.map(|cas| {
                CAS.set(Some(cas));
                "ok".to_owned()
            })))
        }),
        ["current"] => {
            CAS.with_borrow(|cas| Some(told(store::Bucket::current(cas.as_ref()?).map(text))))
        }
        ["swap", value] => {
            let cas = CAS.take()?;
            Some(match store::Bucket::swap(cas, value.as_bytes()) {
                Ok(()) => "ok".to_owned(),
                Err(SwapError::Store(error)) => told(Err(error)),
                Err(SwapError::Failed(fresh)) => {
                    CAS.set(Some(fresh));
                    "cas-failed".to_owned()
                }
            })
        }
        _ => BUCKET.with(|bucket| keyvalue::call(bucket, words)),
    }
}
