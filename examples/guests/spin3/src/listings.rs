//! `get-keys`: the stream of keys and the future with its result.

use conformance::key;
use conformance::keyvalue::listings::each_once;
use conformance::keyvalue::{Bucket, Error};
use conformance::table::Table;
use wit_bindgen::block_on;

use crate::{Handle, error_of};

/// More keys than a host is likely to hold in memory for one listing.
const KEYS: usize = 1_100;

pub(crate) fn listings(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let handle = Handle::open(store)?;
    let came = handle.list_keys(None).map(|(keys, _)| format!("{} keys", keys.len()));
    table.asks("get-keys", "an empty store", "0 keys", came);

    let keys: Vec<String> = (0..KEYS).map(|number| key(&format!("keys/{number:04}"))).collect();
    keys.iter().try_for_each(|key| handle.set(key, b""))?;
    let (listed, _) = handle.list_keys(None)?;
    let once = "each of them, once";
    table.asks("get-keys", "1,100 keys: which", once, each_once(&keys, &listed));
    let order = if listed.is_sorted() { "ascending" } else { "another" };
    table.leaves("get-keys", "1,100 keys: in which order", order);

    let (one, two) = block_on(async {
        let (one, one_ended) = handle.0.get_keys().await;
        let (two, two_ended) = handle.0.get_keys().await;
        let listed = (one.collect().await, two.collect().await);
        one_ended.await.and(two_ended.await).map(|()| listed).map_err(error_of)
    })?;
    table.asks("get-keys", "two listings at once: the first", once, each_once(&keys, &one));
    table.asks("get-keys", "two listings at once: the second", once, each_once(&keys, &two));

    let ended = block_on(async {
        let (mut listed, ended) = handle.0.get_keys().await;
        listed.next().await;
        drop(listed);
        ended.await.map_err(error_of)
    });
    table.leaves("get-keys", "the stream dropped after a key: the result", ended);
    let listed = block_on(async {
        let (listed, ended) = handle.0.get_keys().await;
        drop(ended);
        listed.collect().await
    });
    table.asks("get-keys", "the result dropped: the keys", once, each_once(&keys, &listed));
    let listed = block_on(async {
        let other = Handle::open(store)?;
        let (mut listed, ended) = other.0.get_keys().await;
        let first = listed.next().await;
        drop(other);
        let listed: Vec<String> = first.into_iter().chain(listed.collect().await).collect();
        ended.await.map_err(error_of).map(|()| listed)
    })?;
    table.asks("get-keys", "the store dropped meanwhile", once, each_once(&keys, &listed));

    // After the first key, the last one is deleted and one is created behind it.
    let (gone, new) = (key("keys/1099"), key("keys/~new"));
    let listed = block_on(async {
        let (mut listed, ended) = handle.0.get_keys().await;
        let first = listed.next().await;
        handle.0.delete(gone.clone()).await.map_err(error_of)?;
        handle.0.set(new.clone(), Vec::new()).await.map_err(error_of)?;
        let listed: Vec<String> = first.into_iter().chain(listed.collect().await).collect();
        ended.await.map_err(error_of).map(|()| listed)
    })?;
    let stayed: Vec<String> = keys.iter().filter(|key| **key != gone).cloned().collect();
    let of_stayed: Vec<String> =
        listed.iter().filter(|key| stayed.contains(key)).cloned().collect();
    let what = "keys come and go meanwhile: those that stayed";
    table.leaves("get-keys", what, each_once(&stayed, &of_stayed));
    for (what, key) in [("one that went", &gone), ("one that came", &new)] {
        let shown = if listed.contains(key) { "listed" } else { "not listed" };
        table.leaves("get-keys", what, shown);
    }
    Ok(())
}
