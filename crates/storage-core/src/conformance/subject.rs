//! What a case works with: storages of the implementation under test, and calls
//! that say what they expected.
#![expect(clippy::panic, reason = "a case reports by panicking, as a test does")]

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::panic::resume_unwind;
use std::sync::Barrier;
use std::thread;

use super::{Feature, Implementation, Place};
use crate::{
    Commit, ComponentStorage, KeyPage, PageRequest, Revision, StorageError, StorageValue, Usage,
    VersionedValue,
};

/// The implementation under test, and a place that the case has for itself.
pub(super) struct Subject<'a> {
    implementation: &'a Implementation,
    place: Box<dyn Place>,
}

impl<'a> Subject<'a> {
    pub(super) fn new(implementation: &'a Implementation) -> Self {
        Self { implementation, place: implementation.new_place() }
    }

    pub(super) fn has(&self, feature: Feature) -> bool {
        self.implementation.has(feature)
    }

    pub(super) fn longest_key(&self) -> usize {
        self.implementation.longest_key()
    }

    /// Opens the place; what was opened before must be dropped first.
    pub(super) fn open(&self) -> Store {
        Store { storage: self.place.open(), revisions: self.has(Feature::Revisions) }
    }

    /// What the keys of a component begin with. Where all keys are one
    /// component's, that is nothing.
    pub(super) fn component(&self, instance: &str) -> String {
        if self.has(Feature::Components) {
            format!("suite/component/{instance}/")
        } else {
            String::new()
        }
    }
}

/// A storage whose calls are expected to succeed.
pub(super) struct Store {
    storage: Box<dyn ComponentStorage>,
    revisions: bool,
}

/// All keys with their values and, where there are any, revisions.
pub(super) type Contents = BTreeMap<String, (Vec<u8>, Option<Revision>)>;

impl Store {
    /// The storage itself, for calls that may fail.
    pub(super) fn storage(&self) -> &dyn ComponentStorage {
        &*self.storage
    }

    #[track_caller]
    pub(super) fn set(&self, key: &str, value: impl Into<StorageValue>) {
        succeed(format_args!("set({})", short(key)), self.storage.set(key, value.into()));
    }

    #[track_caller]
    pub(super) fn get(&self, key: &str) -> Option<StorageValue> {
        succeed(format_args!("get({})", short(key)), self.storage.get(key))
    }

    #[track_caller]
    pub(super) fn delete(&self, key: &str) {
        succeed(format_args!("delete({})", short(key)), self.storage.delete(key));
    }

    #[track_caller]
    pub(super) fn exists(&self, key: &str) -> bool {
        succeed(format_args!("exists({})", short(key)), self.storage.exists(key))
    }

    #[track_caller]
    pub(super) fn list_keys(&self, prefix: Option<&str>) -> Vec<String> {
        succeed(format_args!("list_keys({prefix:?})"), self.storage.list_keys(prefix))
    }

    #[track_caller]
    pub(super) fn list_page(&self, request: PageRequest<'_>) -> KeyPage {
        succeed(format_args!("list_page({request:?})"), self.storage.list_page(request))
    }

    #[track_caller]
    pub(super) fn list_partitions(&self, after: Option<&str>, limit: usize) -> KeyPage {
        let what = format!("list_partitions({after:?}, {limit})");
        succeed(what, self.storage.list_partitions(after, limit))
    }

    #[track_caller]
    pub(super) fn get_many(&self, keys: &[&str]) -> Vec<Option<StorageValue>> {
        succeed(format_args!("get_many of {} keys", keys.len()), self.storage.get_many(keys))
    }

    #[track_caller]
    pub(super) fn usage(&self, prefix: Option<&str>) -> Usage {
        succeed(format_args!("usage({prefix:?})"), self.storage.usage(prefix))
    }

    #[track_caller]
    pub(super) fn flush(&self) {
        succeed("flush()", self.storage.flush());
    }

    #[track_caller]
    pub(super) fn get_versioned(&self, key: &str) -> Option<VersionedValue> {
        succeed(format_args!("get_versioned({})", short(key)), self.storage.get_versioned(key))
    }

    #[track_caller]
    pub(super) fn put(&self, key: &str, value: impl Into<StorageValue>) -> Revision {
        succeed(format_args!("put({})", short(key)), self.storage.put(key, value.into()))
    }

    #[track_caller]
    pub(super) fn commit(&self, commit: Commit) -> Revision {
        let what = format!("commit({commit:?})");
        succeed(what, self.storage.commit(commit))
    }

    /// The commit must fail with this error and change nothing.
    #[track_caller]
    pub(super) fn refuses(&self, commit: Commit, error: &StorageError) {
        let before = self.contents();
        let what = format!("commit({commit:?})");
        expect(&what, self.storage.commit(commit), Err(error.clone()));
        expect(format_args!("what is stored after the failed {what}"), self.contents(), before);
    }

    /// Every way to read the key must answer this value.
    #[track_caller]
    pub(super) fn holds<'v>(&self, key: &str, value: impl Into<Option<&'v [u8]>>) {
        let expected = value.into();
        let shown = short(key);
        expect_value(format_args!("get({shown})"), self.get(key).as_ref(), expected);
        expect(format_args!("exists({shown})"), self.exists(key), expected.is_some());
        let many = self.get_many(&[key]);
        expect(format_args!("the number of answers of get_many([{shown}])"), many.len(), 1);
        let one = many.first().and_then(Option::as_ref);
        expect_value(format_args!("get_many([{shown}])"), one, expected);
        if let Some(at_hand) = self.storage.try_get(key) {
            expect_value(format_args!("try_get({shown})"), at_hand.as_ref(), expected);
        }
        if self.revisions {
            let versioned = self.get_versioned(key).map(|found| found.value);
            expect_value(format_args!("get_versioned({shown})"), versioned.as_ref(), expected);
        }
    }

    /// Everything that is stored.
    #[track_caller]
    pub(super) fn contents(&self) -> Contents {
        let mut contents = Contents::new();
        for key in self.list_keys(None) {
            let found = if self.revisions {
                self.get_versioned(&key).map(|found| (found.value, Some(found.revision)))
            } else {
                self.get(&key).map(|value| (value, None))
            };
            let Some((value, revision)) = found else {
                panic!("{} was listed but has no value", short(&key));
            };
            contents.insert(key, (value.into_bytes(), revision));
        }
        contents
    }
}

/// The result of a call that must succeed.
#[track_caller]
pub(super) fn succeed<T>(what: impl Display, result: Result<T, StorageError>) -> T {
    result.unwrap_or_else(|error| panic!("{what} failed: {error}"))
}

#[track_caller]
pub(super) fn expect<T: PartialEq + Debug>(what: impl Display, found: T, expected: T) {
    if found != expected {
        panic!("{what}: expected {expected:?}, found {found:?}");
    }
}

#[track_caller]
pub(super) fn expect_that(what: impl Display, holds: bool) {
    if !holds {
        panic!("expected {what}");
    }
}

#[track_caller]
pub(super) fn expect_value(
    what: impl Display,
    found: Option<&StorageValue>,
    expected: Option<&[u8]>,
) {
    let found = found.map(StorageValue::as_bytes);
    if found != expected {
        panic!("{what}: expected {}, found {}", show(expected), show(found));
    }
}

/// A value as a message can carry it.
fn show(value: Option<&[u8]>) -> String {
    const SHOWN_BYTES: usize = 40;
    match value {
        None => "no value".to_owned(),
        Some(bytes) => match bytes.get(..SHOWN_BYTES) {
            Some(start) => format!("{} bytes from \"{}\"", bytes.len(), start.escape_ascii()),
            None => format!("\"{}\"", bytes.escape_ascii()),
        },
    }
}

/// A key as a message can carry it.
pub(super) fn short(key: &str) -> String {
    format!("{:?}", crate::key::excerpt(key))
}

/// Runs `work` in `count` threads, which begin together, each with its number,
/// and returns what they returned. A panic in one is passed on.
pub(super) fn in_threads<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let begin = Barrier::new(count);
    thread::scope(|scope| {
        let (begin, work) = (&begin, &work);
        let threads: Vec<_> = (0..count)
            .map(|n| {
                scope.spawn(move || {
                    begin.wait();
                    work(n)
                })
            })
            .collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}

/// Runs `work` in `count` threads, each with its number, and `meanwhile` in this
/// one, again and again until they have ended and once more. A panic in one is
/// passed on.
pub(super) fn while_in_threads(
    count: usize,
    work: impl Fn(usize) + Sync,
    mut meanwhile: impl FnMut(),
) {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..count).map(|n| scope.spawn(move || work(n))).collect();
        // None of them waits for this one: a lock that is not fair may keep it out
        // for as long as there are others.
        while !threads.iter().all(|thread| thread.is_finished()) {
            meanwhile();
        }
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
        meanwhile();
    });
}
