//! The cases of `wasi:keyvalue`.
//!
//! The drafts differ in the types of cursors and increments and in the result of
//! `get-many`; only the second has `cas`. The traits are what they share; the
//! macros `bind_store`, `bind_atomics`, `bind_swap` and `bind_batch` implement
//! them for the bindings of a draft, and `bind_spin` for those of Spin's interface,
//! which has no batches and no pages.
//!
//! A case requires only what the text of `wasi:keyvalue@0.2.0-draft2` says:
//!
//! - A client reads its own writes. A store may refuse any key or value, but it
//!   keeps those that it accepts, and a refusal changes nothing.
//! - The pages of a listing contain every key, in any order. A host may treat
//!   cursors that no page returned as it likes.
//! - An increment of a missing key stores the number; one that fails changes
//!   nothing. The format and the range of numbers are not specified.
//! - A swap fails if the key was changed since the handle was made, and returns
//!   a new handle on the key. Whether writing the same value again is a change
//!   is not specified.
//! - Batches are not atomic.

mod batches;
mod bind;
mod handles;
mod increments;
pub mod listings;
mod opening;
pub mod overlap;
mod store;
mod swaps;

use std::fmt::Display;
use std::process::ExitCode;
use std::str::FromStr;

use crate::table::{Failure, Table};
use crate::{NOT_EMPTY, PREFIX, command};

/// `error` of the interface `store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// `no-such-store`.
    NoSuchStore,
    /// `access-denied`.
    AccessDenied,
    /// `store-table-full`, in Spin's interface alone.
    StoreTableFull,
    /// `other`, with its text.
    Other(String),
    /// A case that the drafts do not have, by its name.
    Named(&'static str),
}

impl Failure for Error {
    fn variant(&self) -> &'static str {
        match self {
            Self::NoSuchStore => "no-such-store",
            Self::AccessDenied => "access-denied",
            Self::StoreTableFull => "store-table-full",
            Self::Other(_) => "other",
            Self::Named(name) => name,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Other(text) => Some(text),
            Self::NoSuchStore | Self::AccessDenied | Self::StoreTableFull | Self::Named(_) => None,
        }
    }
}

/// A page of a listing and the cursor of the next page.
pub type Page<C> = (Vec<String>, Option<C>);

/// The interface `store`, function by function.
pub trait Bucket: Sized {
    type Cursor: Cursor;

    /// The error for an invalid key or cursor.
    const INVALID: &'static str = "other";

    fn open(identifier: &str) -> Result<Self, Error>;
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error>;
    fn set(&self, key: &str, value: &[u8]) -> Result<(), Error>;
    fn delete(&self, key: &str) -> Result<(), Error>;
    fn exists(&self, key: &str) -> Result<bool, Error>;
    fn list_keys(&self, cursor: Option<&Self::Cursor>) -> Result<Page<Self::Cursor>, Error>;
}

/// The cursor type of a draft.
pub trait Cursor: Clone {
    /// The type of the argument in the bindings.
    type Argument<'a>
    where
        Self: 'a;

    fn argument(&self) -> Self::Argument<'_>;

    /// Cursors that no listing returned, with descriptions.
    fn made_up() -> Vec<(&'static str, Self)>;
}

/// The interface `atomics` of the first draft, and a part of the second's.
pub trait Atomics: Bucket {
    /// `u64` or `s64`.
    type Number: Display + FromStr + From<u8>;

    fn increment(&self, key: &str, delta: Self::Number) -> Result<Self::Number, Error>;
}

/// `cas` and `swap` of the second draft.
pub trait Swap: Bucket {
    type Cas;

    fn cas(&self, key: &str) -> Result<Self::Cas, Error>;
    fn current(cas: &Self::Cas) -> Result<Option<Vec<u8>>, Error>;
    fn swap(cas: Self::Cas, value: &[u8]) -> Result<(), SwapError<Self::Cas>>;
}

/// `cas-error`.
pub enum SwapError<C> {
    /// `store-error`.
    Store(Error),
    /// `cas-failed`, with a new handle on the key.
    Failed(C),
}

/// One element of the result of `get-many`: the key, which one draft omits if it
/// is absent, and the value.
pub type Found = (Option<String>, Option<Vec<u8>>);

/// The interface `batch`.
pub trait Batch: Bucket {
    /// Whether `get-many` names absent keys.
    const NAMES_EACH: bool;

    fn get_many(&self, keys: &[String]) -> Result<Vec<Found>, Error>;
    fn set_many(&self, pairs: &[(String, Vec<u8>)]) -> Result<(), Error>;
    fn delete_many(&self, keys: &[String]) -> Result<(), Error>;
}

/// Cases that belong together. An error is from a call that the cases need but do
/// not check.
pub type Group = fn(&mut Table<'_>, &str) -> Result<(), Error>;

/// Runs the cases of an interface with stores and single keys alone, and cases of its
/// own, as a component's whole main function.
pub fn run_basic<B: Batch>(name: &str, own: Vec<(&'static str, Group)>) -> ExitCode {
    let mut groups = basic_groups::<B>();
    groups.extend(own);
    groups.push(("open", handles::handles::<B>));
    run_groups::<B>(name, groups)
}

fn basic_groups<B: Bucket>() -> Vec<(&'static str, Group)> {
    vec![
        ("open", opening::opening::<B>),
        ("get", store::reads_and_writes::<B>),
        ("set", store::keys::<B>),
        ("set", store::values::<B>),
    ]
}

/// Runs the cases of a draft without `cas`, as a component's whole main function.
pub fn run<B: Atomics + Batch>(name: &str) -> ExitCode {
    run_groups::<B>(name, [groups::<B>(), last_groups::<B>()].concat())
}

/// Runs the cases of a draft with `cas`, as a component's whole main function.
pub fn run_with_swap<B: Atomics + Batch + Swap>(name: &str) -> ExitCode {
    let mut groups = groups::<B>();
    groups.push(("swap", swaps::swaps::<B>));
    groups.push(("cas.new", swaps::handles::<B>));
    groups.extend(last_groups::<B>());
    run_groups::<B>(name, groups)
}

fn groups<B: Atomics + Batch>() -> Vec<(&'static str, Group)> {
    vec![
        ("open", opening::opening::<B>),
        ("list-keys", listings::empty::<B>),
        ("get", store::reads_and_writes::<B>),
        ("set", store::keys::<B>),
        ("set", store::values::<B>),
        ("list-keys", listings::pages::<B>),
        ("list-keys", listings::cursors::<B>),
        ("increment", increments::increments::<B>),
        ("get-many", batches::reads::<B>),
        ("set-many", batches::writes::<B>),
        ("delete-many", batches::deletes::<B>),
    ]
}

fn last_groups<B: Batch>() -> Vec<(&'static str, Group)> {
    vec![("open", handles::handles::<B>), ("set-many", batches::large::<B>)]
}

fn run_groups<B: Batch>(name: &str, groups: Vec<(&'static str, Group)>) -> ExitCode {
    command::run(name, |options, table| run_cases::<B>(options.store.as_deref(), &groups, table))
}

/// Runs groups of cases in this store, or in the default one.
fn run_cases<B: Bucket>(
    store: Option<&str>,
    groups: &[(&'static str, Group)],
    table: &mut Table<'_>,
) -> Result<(), String> {
    let store = match store {
        Some(name) => name.to_owned(),
        None => default_store::<B>().map_err(|error| cannot("open \"\" or \"default\"", &error))?,
    };
    prepare::<B>(&store)?;
    for (function, group) in groups {
        table.group(function, |table| group(table, &store));
        clean::<B>(&store).map_err(|error| cannot("remove the keys of the cases", &error))?;
    }
    Ok(())
}

/// The table of an interface whose only calls are those of [`Bucket`], with these groups
/// instead of the drafts' listings.
///
/// # Errors
/// The reason if the cases cannot run.
pub fn table_of_store<B: Bucket>(
    texts: bool,
    own: &[(&'static str, Group)],
) -> Result<String, String> {
    let mut groups = basic_groups::<B>();
    groups.push(("open", handles::handles::<B>));
    groups.extend(own);
    table_of::<B>(texts, &groups)
}

/// The table of an interface with all calls of the drafts but `cas`, and of these groups.
///
/// # Errors
/// The reason if the cases cannot run.
pub fn table_of_all<B: Atomics + Batch>(
    texts: bool,
    own: &[(&'static str, Group)],
) -> Result<String, String> {
    let mut groups = groups::<B>();
    groups.extend(last_groups::<B>());
    groups.extend(own);
    table_of::<B>(texts, &groups)
}

fn table_of<B: Bucket>(texts: bool, groups: &[(&'static str, Group)]) -> Result<String, String> {
    let mut out = Vec::new();
    let mut table = Table::new(&mut out, texts);
    run_cases::<B>(None, groups, &mut table)?;
    table.finish().map_err(|error| error.to_string())?;
    String::from_utf8(out).map_err(|error| error.to_string())
}

fn default_store<B: Bucket>() -> Result<String, Error> {
    B::open("").map(|_| String::new()).or_else(|error| match error {
        Error::NoSuchStore | Error::AccessDenied => {
            B::open("default").map(|_| "default".to_owned())
        }
        Error::StoreTableFull | Error::Other(_) | Error::Named(_) => Err(error),
    })
}

/// Removes the keys of earlier runs and refuses a store with other keys.
fn prepare<B: Bucket>(store: &str) -> Result<(), String> {
    clean::<B>(store).map_err(|error| cannot("use the store", &error))?;
    let bucket = B::open(store).map_err(|error| cannot("open the store", &error))?;
    let pages = list(&bucket).map_err(|error| cannot("list the store", &error))?;
    if pages.concat().is_empty() { Ok(()) } else { Err(NOT_EMPTY.to_owned()) }
}

fn cannot(what: &str, error: &Error) -> String {
    format!("cannot {what}: {}: {}", error.variant(), error.text().unwrap_or("no text"))
}

/// Removes every key of the cases.
fn clean<B: Bucket>(store: &str) -> Result<(), Error> {
    let bucket = B::open(store)?;
    let keys = list(&bucket)?.concat();
    // The cases also use the empty key.
    let own: Vec<String> =
        keys.into_iter().filter(|key| key.is_empty() || key.starts_with(PREFIX)).collect();
    own.iter().try_for_each(|key| bucket.delete(key))
}

/// Deletes keys, in batches if the host accepts them.
fn delete_all<B: Batch>(bucket: &B, keys: &[String]) -> Result<(), Error> {
    for some in keys.chunks(BATCH) {
        if bucket.delete_many(some).is_err() {
            some.iter().try_for_each(|key| bucket.delete(key))?;
        }
    }
    Ok(())
}

/// Stores one value under several keys, in batches if the host accepts them.
fn set_all<B: Batch>(bucket: &B, keys: &[String], value: &[u8]) -> Result<(), Error> {
    for some in keys.chunks(BATCH) {
        let pairs: Vec<_> = some.iter().map(|key| (key.clone(), value.to_vec())).collect();
        if bucket.set_many(&pairs).is_err() {
            some.iter().try_for_each(|key| bucket.set(key, value))?;
        }
    }
    Ok(())
}

/// A size of batches that most hosts accept.
const BATCH: usize = 250;

/// The pages of a whole listing.
fn list<B: Bucket>(bucket: &B) -> Result<Vec<Vec<String>>, Error> {
    /// More pages than a listing of the cases' keys can have.
    const PAGES: usize = 10_000;
    let (keys, mut cursor) = bucket.list_keys(None)?;
    let mut pages = vec![keys];
    while let Some(next) = &cursor {
        if pages.len() >= PAGES {
            return Err(Error::Other("the listing does not end".to_owned()));
        }
        let (keys, next) = bucket.list_keys(Some(next))?;
        pages.push(keys);
        cursor = next;
    }
    Ok(pages)
}
