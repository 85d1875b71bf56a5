//! `wasi:keyvalue@0.2.0-draft2`: the calls of both drafts; `cas KEY` creates a
//! handle on a key, and `current` and `swap VALUE` use it. A swap that fails keeps
//! the handle that it returns.

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/keyvalue-draft2", world: "imports" });
}

use bindings::wasi::keyvalue::{atomics, batch, store};
use conformance::keyvalue::{Swap, SwapError};

use crate::{Handle, keyvalue, shown, text};

conformance::bind_store!(String);
conformance::bind_atomics!(i64);
conformance::bind_swap!();
conformance::bind_batch!();

thread_local! {
    static BUCKET: Handle<store::Bucket> = const { Handle::new(None) };
    static CAS: Handle<atomics::Cas> = const { Handle::new(None) };
}

pub(crate) fn call(words: &[&str]) -> Option<String> {
    match words {
        ["cas", key] => BUCKET.with_borrow(|bucket| {
            let cas = bucket.as_ref()?.cas(key);
            Some(shown(cas.map(|cas| {
                CAS.set(Some(cas));
                "ok".to_owned()
            })))
        }),
        ["current"] => {
            CAS.with_borrow(|cas| Some(shown(store::Bucket::current(cas.as_ref()?).map(text))))
        }
        ["swap", value] => {
            let cas = CAS.take()?;
            Some(match store::Bucket::swap(cas, value.as_bytes()) {
                Ok(()) => "ok".to_owned(),
                Err(SwapError::Store(error)) => shown(Err(error)),
                Err(SwapError::Failed(fresh)) => {
                    CAS.set(Some(fresh));
                    "cas-failed".to_owned()
                }
            })
        }
        _ => BUCKET.with(|bucket| keyvalue::call(bucket, words)),
    }
}
