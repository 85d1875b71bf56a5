//! The storage of a case, and assertions that name the call that failed.
#![expect(clippy::panic, reason = "a case reports by panicking, as a test does")]

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::panic::resume_unwind;
use std::sync::Barrier;
use std::thread;

use super::implementation::{Handle, Open};
use super::{Feature, Implementation};
use crate::{
    Commit, ComponentStorage, KeyPage, PageRequest, Revision, StorageError, StorageValue, Store,
    Usage, VersionedValue, derived, put, split_full_key,
};

/// The implementation under test, and a storage for one case.
pub(super) struct Subject<'a> {
    implementation: &'a Implementation,
    open: Open,
}

impl<'a> Subject<'a> {
    pub(super) fn new(implementation: &'a Implementation) -> Self {
        Self { implementation, open: implementation.make() }
    }

    pub(super) fn has(&self, feature: Feature) -> bool {
        self.implementation.has(feature)
    }

    pub(super) fn max_key_bytes(&self) -> usize {
        self.implementation.max_key_bytes()
    }

    /// Opens the storage. Drop the previous one first.
    pub(super) fn open(&self) -> Opened {
        Opened { handle: (self.open)(), revisions: self.has(Feature::Revisions) }
    }

    /// A component prefix; `""` where all keys belong to one component.
    pub(super) fn component(&self, instance: &str) -> String {
        if self.has(Feature::Components) {
            format!("suite/component/{instance}/")
        } else {
            String::new()
        }
    }
}

/// An open storage whose calls are expected to succeed.
pub(super) struct Opened {
    handle: Handle,
    revisions: bool,
}

/// All keys with their values and, where there are any, revisions.
pub(super) type Contents = BTreeMap<String, (Vec<u8>, Option<Revision>)>;

impl Opened {
    /// The storage itself, for calls that may fail.
    pub(super) fn storage(&self) -> &dyn ComponentStorage {
        self.handle.storage()
    }

    /// The store itself, for cases that need [`Feature::Store`].
    pub(super) fn store(&self) -> &dyn Store {
        match &self.handle {
            Handle::Store(store) => &**store,
            Handle::Storage(_) => panic!("the case must need Feature::Store"),
        }
    }

    #[track_caller]
    pub(super) fn set(&self, key: &str, value: impl Into<StorageValue>) {
        succeed(format_args!("set({})", short(key)), self.storage().set(key, value.into()));
    }

    #[track_caller]
    pub(super) fn get(&self, key: &str) -> Option<StorageValue> {
        succeed(format_args!("get({})", short(key)), self.storage().get(key))
    }

    #[track_caller]
    pub(super) fn delete(&self, key: &str) {
        succeed(format_args!("delete({})", short(key)), self.storage().delete(key));
    }

    #[track_caller]
    pub(super) fn exists(&self, key: &str) -> bool {
        succeed(format_args!("exists({})", short(key)), self.storage().exists(key))
    }

    #[track_caller]
    pub(super) fn list_keys(&self, prefix: Option<&str>) -> Vec<String> {
        succeed(format_args!("list_keys({prefix:?})"), self.storage().list_keys(prefix))
    }

    #[track_caller]
    pub(super) fn list_page(&self, request: PageRequest<'_>) -> KeyPage {
        succeed(format_args!("list_page({request:?})"), self.storage().list_page(request))
    }

    #[track_caller]
    pub(super) fn list_components(&self, after: Option<&str>, limit: usize) -> KeyPage {
        let what = format!("list_components({after:?}, {limit})");
        succeed(
            what,
            match &self.handle {
                Handle::Store(store) => store.list_components(after, limit),
                Handle::Storage(storage) => derived::list_components(storage, after, limit),
            },
        )
    }

    #[track_caller]
    pub(super) fn get_many(&self, keys: &[&str]) -> Vec<Option<StorageValue>> {
        succeed(format_args!("get_many of {} keys", keys.len()), self.storage().get_many(keys))
    }

    #[track_caller]
    pub(super) fn usage(&self, prefix: Option<&str>) -> Usage {
        succeed(format_args!("usage({prefix:?})"), self.storage().usage(prefix))
    }

    #[track_caller]
    pub(super) fn flush(&self) {
        if let Handle::Store(store) = &self.handle {
            succeed("flush()", store.flush());
        }
    }

    #[track_caller]
    pub(super) fn get_versioned(&self, key: &str) -> Option<VersionedValue> {
        succeed(format_args!("get_versioned({})", short(key)), self.storage().get_versioned(key))
    }

    #[track_caller]
    pub(super) fn put(&self, key: &str, value: impl Into<StorageValue>) -> Revision {
        let written = put(self.storage(), key, value.into());
        succeed(format_args!("put({})", short(key)), written)
    }

    #[track_caller]
    pub(super) fn commit(&self, commit: Commit) -> Revision {
        let what = format!("commit({commit:?})");
        succeed(what, self.storage().commit(commit))
    }

    /// The commit must fail with this error and change neither contents nor usage.
    #[track_caller]
    pub(super) fn refuses(&self, commit: Commit, error: &StorageError) {
        let before = (self.contents(), self.usage(None));
        let what = format!("commit({commit:?})");
        expect(&what, self.storage().commit(commit), Err(error.clone()));
        let after = (self.contents(), self.usage(None));
        expect(format_args!("contents and usage after the failed {what}"), after, before);
    }

    /// Every way to read the key must return this value, or none.
    #[track_caller]
    pub(super) fn holds<'v>(&self, key: &str, value: impl Into<Option<&'v [u8]>>) {
        let expected = value.into();
        let shown = short(key);
        expect_value(format_args!("get({shown})"), self.get(key).as_ref(), expected);
        expect(format_args!("exists({shown})"), self.exists(key), expected.is_some());
        let many = self.get_many(&[key]);
        expect(format_args!("the number of values of get_many([{shown}])"), many.len(), 1);
        let one = many.first().and_then(Option::as_ref);
        expect_value(format_args!("get_many([{shown}])"), one, expected);
        let (component, user_key) = split_full_key(key);
        for (prefix, key) in [("", key), (component, user_key)] {
            if let Some(known) = self.storage().try_get(prefix, key) {
                let what = format_args!("try_get({prefix:?}, {})", short(key));
                expect_value(what, known.as_ref(), expected);
            }
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

/// Returns the result of a call that must succeed.
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

/// Compares long lists of keys, and shows only the first difference.
#[track_caller]
pub(super) fn expect_keys(what: impl Display, found: &[String], expected: &[String]) {
    let same = found.iter().zip(expected).take_while(|(found, expected)| found == expected).count();
    if same < found.len().max(expected.len()) {
        let at =
            |keys: &[String]| keys.get(same).map_or("no more keys".to_owned(), |key| short(key));
        panic!("{what}: expected {} after {same} keys, found {}", at(expected), at(found));
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

/// A page must have the first `wanted` keys, and show whether there are more.
#[track_caller]
pub(super) fn expect_page(what: impl Display, page: &KeyPage, wanted: &[String], limit: usize) {
    expect_that(format_args!("{what} to have at most {limit} keys"), page.keys.len() <= limit);
    let (first, rest) = wanted.split_at(page.keys.len().min(wanted.len()));
    expect(&what, page.keys.as_slice(), first);
    expect(format_args!("more of {what}"), page.more, !rest.is_empty());
    // A listing continues after the last key of a page.
    let can_continue = limit == 0 || !page.more || !page.keys.is_empty();
    expect_that(format_args!("{what} to have a key, because more follow"), can_continue);
}

/// A value, shortened for a message.
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

/// A key, shortened for a message.
pub(super) fn short(key: &str) -> String {
    format!("{:?}", crate::key::excerpt(key))
}

/// Runs `work` in `count` threads that begin together, passes each its number, and
/// returns their results. Propagates a panic.
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

/// Runs `work` in `count` threads and passes each its number. Calls `meanwhile`
/// repeatedly in this thread until they have ended, and once after that. Propagates a
/// panic.
pub(super) fn while_in_threads(
    count: usize,
    work: impl Fn(usize) + Sync,
    mut meanwhile: impl FnMut(),
) {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..count).map(|n| scope.spawn(move || work(n))).collect();
        // The threads do not wait for this one: an unfair lock may starve it until they
        // have ended.
        while !threads.iter().all(|thread| thread.is_finished()) {
            meanwhile();
        }
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
        meanwhile();
    });
}
