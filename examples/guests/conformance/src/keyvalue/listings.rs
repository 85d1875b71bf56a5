//! `list-keys`: pages and cursors.

use std::collections::BTreeMap;

use super::{Batch, Bucket, Cursor, Error, delete_all, list, set_all};
use crate::key;
use crate::table::{Outcome, Table};

/// A number of keys that takes several pages on most hosts.
const KEYS: usize = 1_100;

/// Concurrent listings, one more than some hosts remember.
const LISTINGS: usize = 65;

pub(super) fn empty<B: Bucket>(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let bucket = B::open(store)?;
    let listed = list(&bucket).map(|pages| counted(pages.concat().len()));
    table.asks("list-keys", "an empty store", "no keys", listed);
    Ok(())
}

/// A listing of several pages, also while keys are created and deleted.
pub(super) fn pages<B: Batch>(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let bucket = B::open(store)?;
    let keys = page_keys();
    set_all(&bucket, &keys, b"")?;

    let pages = list(&bucket)?;
    let listed = pages.concat();
    table.asks("list-keys", "1,100 keys: which", "each of them, once", each_once(&keys, &listed));
    table.leaves("list-keys", "1,100 keys: how many pages", Outcome::new(pages.len().to_string()));
    let order = if listed.is_sorted() { "ascending" } else { "another" };
    table.leaves("list-keys", "1,100 keys: in which order", order);
    let again = list(&bucket)?.concat();
    let same = if again == listed { "the same" } else { "another" };
    table.leaves("list-keys", "the same keys again: in which order", same);

    // After the first page, delete a listed key and an unlisted one, and create one
    // before and one after the others.
    let (first, cursor) = bucket.list_keys(None)?;
    let seen = |key: &String| first.contains(key);
    let (Some(gone_seen), Some(gone_unseen)) =
        (first.first().cloned(), keys.iter().rev().find(|key| !seen(key)).cloned())
    else {
        let came = Outcome::new("all keys come in one page");
        table.leaves("list-keys", "keys that come and go between pages", came);
        return Ok(());
    };
    let (front, behind) = (key("page/0000-new"), key("page/~new"));
    delete_all(&bucket, &[gone_seen.clone(), gone_unseen.clone()])?;
    set_all(&bucket, &[front.clone(), behind.clone()], b"")?;
    let mut rest = Vec::new();
    let mut cursor = cursor;
    while let Some(next) = &cursor {
        let (keys, next) = bucket.list_keys(Some(next))?;
        rest.extend(keys);
        cursor = next;
    }
    let whole = [first.clone(), rest].concat();
    let stayed: Vec<String> =
        keys.into_iter().filter(|key| *key != gone_seen && *key != gone_unseen).collect();
    let of_stayed: Vec<String> = whole.iter().filter(|key| stayed.contains(key)).cloned().collect();
    let shown =
        |key: &String| Outcome::new(if whole.contains(key) { "listed" } else { "not listed" });
    let what = "keys come and go between pages: those that stayed";
    table.leaves("list-keys", what, each_once(&stayed, &of_stayed));
    table.leaves("list-keys", "one that went, not yet listed", shown(&gone_unseen));
    table.leaves("list-keys", "one that came, in front in byte order", shown(&front));
    table.leaves("list-keys", "one that came, behind in byte order", shown(&behind));

    // Use the cursor of a page after all keys of the page were deleted.
    let (first, cursor) = bucket.list_keys(None)?;
    delete_all(&bucket, &first)?;
    let left = list(&bucket)?.concat();
    let next = cursor.as_ref().map(|cursor| bucket.list_keys(Some(cursor))).transpose()?;
    let came = match next {
        None => "all keys come in one page",
        Some((keys, _)) if keys.is_empty() => "no keys",
        Some((keys, None)) if keys == left => "the keys that are left",
        Some(_) => "some of the keys that are left",
    };
    table.leaves("list-keys", "the next page, all keys of this one gone", came);
    Ok(())
}

/// Cursors that no page returned, that were used before, or that are old.
pub(super) fn cursors<B: Batch>(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let bucket = B::open(store)?;
    set_all(&bucket, &page_keys(), b"")?;

    for (what, cursor) in B::Cursor::made_up() {
        let came = bucket.list_keys(Some(&cursor)).map(|(keys, _)| match keys.as_slice() {
            [] => "no keys".to_owned(),
            _ => "keys".to_owned(),
        });
        let what = format!("a made-up cursor, {what}");
        let may = ["no keys", "keys", B::INVALID];
        table.leaves_between("list-keys", &what, &may, came);
    }

    let (_, Some(cursor)) = bucket.list_keys(None)? else {
        let came = Outcome::new("all keys come in one page");
        table.leaves("list-keys", "cursors of pages", came);
        return Ok(());
    };
    let (next, end) = bucket.list_keys(Some(&cursor))?;
    let compared = |cursor: &B::Cursor, bucket: &B| {
        let came = bucket.list_keys(Some(cursor)).map(|(keys, _)| {
            let same = if keys == next { "the same page" } else { "another page" };
            same.to_owned()
        });
        Outcome::from(came)
    };
    table.leaves("list-keys", "a cursor used twice", compared(&cursor, &bucket));
    if end.is_none() {
        let what = "a cursor of a listing that has ended";
        table.leaves("list-keys", what, compared(&cursor, &bucket));
    }
    let other = B::open(store)?;
    table.leaves("list-keys", "a cursor on another handle", compared(&cursor, &other));
    drop(other);

    let mut begun = Vec::new();
    for _ in 0..LISTINGS {
        begun.extend(bucket.list_keys(None)?.1);
    }
    for (what, cursor) in [
        ("65 listings under way: the newest", begun.last()),
        ("65 listings under way: the second", begun.get(1)),
        ("65 listings under way: the oldest", begun.first()),
    ] {
        if let Some(cursor) = cursor {
            table.leaves("list-keys", what, compared(cursor, &bucket));
        }
    }
    Ok(())
}

fn page_keys() -> Vec<String> {
    (0..KEYS).map(|number| key(&format!("page/{number:04}"))).collect()
}

fn counted(keys: usize) -> String {
    match keys {
        0 => "no keys".to_owned(),
        1 => "1 key".to_owned(),
        _ => format!("{keys} keys"),
    }
}

/// Whether a listing contains each of these keys once and no others.
pub fn each_once(keys: &[String], listed: &[String]) -> Outcome {
    let mut times: BTreeMap<&String, usize> = keys.iter().map(|key| (key, 0)).collect();
    let mut foreign = 0;
    for key in listed {
        match times.get_mut(key) {
            Some(times) => *times += 1,
            None => foreign += 1,
        }
    }
    let missing = times.values().filter(|times| **times == 0).count();
    let twice = times.values().filter(|times| **times > 1).count();
    if (missing, twice, foreign) == (0, 0, 0) {
        return Outcome::new("each of them, once");
    }
    Outcome::new(format!("{missing} missing, {twice} more than once, {foreign} others"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_compared_key_by_key() {
        let keys = |text: &str| text.split_terminator(' ').map(str::to_owned).collect::<Vec<_>>();
        let came = |listed| each_once(&keys("a b c"), &keys(listed)).to_string();
        assert_eq!(came("c a b"), "each of them, once");
        assert_eq!(came("a a b x"), "1 missing, 1 more than once, 1 others");
        assert_eq!(came(""), "3 missing, 0 more than once, 0 others");
    }
}
