//! Calls that overlap: several are started before the first is awaited.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use super::{Bucket, Error};
use crate::key;
use crate::table::{Answer, Outcome, Table};

/// The calls of an interface whose functions are `async`.
pub trait Overlapping: Bucket {
    fn get_soon(&self, key: &str) -> impl Future<Output = Result<Option<Vec<u8>>, Error>>;
    fn set_soon(&self, key: &str, value: &[u8]) -> impl Future<Output = Result<(), Error>>;

    /// Waits for calls.
    fn wait<T>(calls: impl Future<Output = T>) -> T;
}

/// Starts all futures, then waits for all of them.
pub async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *result = Some(ready);
            }
        }
        if results.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// Starts a future and drops it.
pub async fn start_and_drop(future: impl Future) {
    start_and_drop_after(future, async {}).await;
}

/// Starts a future and drops it once another one has ended.
pub async fn start_and_drop_after(future: impl Future, after: impl Future) {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
    after.await;
}

/// As many calls as any host of these interfaces runs at once.
const CALLS: usize = 16;

/// The cases, for [`table_of_store`](super::table_of_store) and
/// [`table_of_all`](super::table_of_all).
pub fn overlaps<B: Overlapping>(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let bucket = B::open(store)?;
    let (one, two) = (key("overlap/one"), key("overlap/two"));
    let keys: Vec<String> = (0..CALLS).map(|number| key(&format!("overlap/{number:02}"))).collect();

    let set = B::wait(all(keys.iter().map(|key| bucket.set_soon(key, key.as_bytes()))));
    table.asks("set", "16 keys at once", "16 times ok", counted(set));
    let got = B::wait(all(keys.iter().map(|key| bucket.get_soon(key))));
    let own = keys
        .iter()
        .zip(&got)
        .filter(|(key, value)| matches!(value, Ok(Some(value)) if value == key.as_bytes()));
    table.asks("get", "16 keys at once", "16 of 16", format!("{} of 16", own.count()));
    bucket.set(&two, b"2")?;
    let got = B::wait(all((0..CALLS).map(|_| bucket.get_soon(&two))));
    let same = got.iter().filter(|value| **value == Ok(Some(b"2".to_vec())));
    table.asks("get", "one key 16 times at once", "16 of 16", format!("{} of 16", same.count()));

    let values: Vec<[u8; 1]> = (b'a'..).take(CALLS).map(|letter| [letter]).collect();
    let set = B::wait(all(values.iter().map(|value| bucket.set_soon(&one, value))));
    table.asks("set", "one key 16 times at once", "16 times ok", counted(set));
    let left = bucket.get(&one)?;
    let came = match &left {
        Some(value) if values.iter().any(|written| written.as_slice() == value) => "one of them",
        _ => "something else",
    };
    table.asks("get", "what 16 calls have written at once", "one of them", came);

    let ended = B::wait(all([true, false].map(|reads| {
        let (bucket, one) = (&bucket, &one);
        async move {
            match reads {
                true => Ended::Got(bucket.get_soon(one).await),
                false => Ended::Set(bucket.set_soon(one, b"new").await),
            }
        }
    })));
    for ended in ended {
        match ended {
            Ended::Got(got) => {
                let came = got.map(|value| old_or_new(&left, &value).to_owned());
                table.asks("get", "while a set is in progress", OLD_OR_NEW, came);
            }
            Ended::Set(set) => table.asks("set", "while a get is in progress", "ok", set),
        }
    }

    // Not a set: it could end after these cases.
    B::wait(start_and_drop(bucket.get_soon(&one)));
    table.asks("exists", "after a get was dropped", "true", bucket.exists(&one));
    Ok(())
}

const OLD_OR_NEW: &str = "the old value or the new one";

/// The result of one of two calls that overlap.
enum Ended {
    Got(Result<Option<Vec<u8>>, Error>),
    Set(Result<(), Error>),
}

fn old_or_new(old: &Option<Vec<u8>>, found: &Option<Vec<u8>>) -> &'static str {
    match found {
        found if found == old || found.as_deref() == Some(b"new") => OLD_OR_NEW,
        _ => "something else",
    }
}

/// How often each result came.
fn counted<T: Answer>(results: Vec<Result<T, Error>>) -> Outcome {
    let mut times: Vec<(String, usize)> = Vec::new();
    for result in results {
        let words = Outcome::from(result).to_string();
        match times.iter_mut().find(|(known, _)| *known == words) {
            Some((_, times)) => *times += 1,
            None => times.push((words, 1)),
        }
    }
    let shown: Vec<String> =
        times.iter().map(|(words, times)| format!("{times} times {words}")).collect();
    Outcome::new(shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let refused = || Err(Error::Named("full"));
        let results = vec![Ok(()), refused(), Ok(()), refused(), Ok(())];
        assert_eq!(counted(results).to_string(), "3 times ok, 2 times full");
    }
}
