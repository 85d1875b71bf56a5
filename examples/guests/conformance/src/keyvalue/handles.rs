//! Several handles on the same store.

use super::{Bucket, Error};
use crate::table::Table;
use crate::{hold, key};

/// More handles than some hosts allow.
const MANY: usize = 1_001;

pub(super) fn handles<B: Bucket>(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let key = key("handle");
    let (one, other) = (B::open(store)?, B::open(store)?);
    one.set(&key, b"by one")?;
    let what = "two handles on one store: what one wrote, by the other";
    table.asks("get", what, "\"by one\"", other.get(&key));
    drop(one);
    table.asks("get", "after one was dropped", "\"by one\"", other.get(&key));
    drop(other);
    let reopened = B::open(store).and_then(|bucket| bucket.get(&key));
    table.asks("get", "after both were dropped", "\"by one\"", reopened);

    let (mut open, came) = hold(MANY, || B::open(store));
    table.leaves("open", "1,001 handles at a time", came);
    let works = open.last().map_or(Ok(None), |bucket| bucket.get(&key));
    table.asks("get", "by the last handle that is open", "\"by one\"", works);
    open.pop();
    let again = B::open(store).and_then(|bucket| bucket.get(&key));
    table.asks("open", "one more, after one was dropped", "\"by one\"", again);
    drop(open);

    let turns = (0..MANY).try_for_each(|_| B::open(store).map(drop));
    table.asks("open", "1,001 times, one at a time", "ok", turns);
    Ok(())
}
