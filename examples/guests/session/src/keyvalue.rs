//! The calls that both drafts of `wasi:keyvalue` have, and those of them that Spin's
//! interface has too.

use conformance::keyvalue::{Atomics, Batch, Bucket, Error, Found};

use crate::{Handle, shown, text};

/// Makes a call that all interfaces have; `None` if there is no such call.
pub(crate) fn basic_call<B: Bucket>(handle: &Handle<B>, words: &[&str]) -> Option<String> {
    if let ["open", name] = words {
        let opened = B::open(name).map(|bucket| {
            handle.replace(Some(bucket));
            "ok".to_owned()
        });
        return Some(shown(opened));
    }
    let handle = handle.borrow();
    let bucket = handle.as_ref()?;
    let result: Result<String, Error> = match words {
        ["get", key] => bucket.get(key).map(text),
        ["set", key, value] => bucket.set(key, value.as_bytes()).map(done),
        ["delete", key] => bucket.delete(key).map(done),
        ["exists", key] => bucket.exists(key).map(|exists| exists.to_string()),
        ["list-keys"] => bucket.list_keys(None).map(|(keys, _)| keys.join(" ")),
        _ => return None,
    };
    Some(shown(result))
}

/// Makes a call; `None` if there is no such call.
pub(crate) fn call<B: Atomics + Batch>(handle: &Handle<B>, words: &[&str]) -> Option<String> {
    if let Some(result) = basic_call(handle, words) {
        return Some(result);
    }
    let handle = handle.borrow();
    let bucket = handle.as_ref()?;
    let owned = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    let result: Result<String, Error> = match words {
        ["increment", key, delta] => {
            bucket.increment(key, delta.parse().ok()?).map(|sum| sum.to_string())
        }
        ["get-many", keys @ ..] => bucket.get_many(&owned(keys)).map(|found| {
            let values: Vec<_> = found.into_iter().map(|(_, value): Found| text(value)).collect();
            values.join(" ")
        }),
        ["set-many", pairs @ ..] => {
            let pairs: Vec<_> = pairs
                .chunks_exact(2)
                .filter_map(|pair| match pair {
                    [key, value] => Some(((*key).to_owned(), value.as_bytes().to_vec())),
                    _ => None,
                })
                .collect();
            bucket.set_many(&pairs).map(done)
        }
        ["delete-many", keys @ ..] => bucket.delete_many(&owned(keys)).map(done),
        _ => return None,
    };
    Some(shown(result))
}

fn done((): ()) -> String {
    "ok".to_owned()
}
