//! The interface `cas` of `wasmcloud:keyvalue@0.2.0`.

use std::sync::Arc;

use storage_core::{Commit, Revision, StorageError, VersionedValue};
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, WasmList, WasmStr};

use super::linkage::Overlapping;
use super::wasmcloud::Error;
use crate::guest::bucket::Bucket;
use crate::guest::call::{Caller, Cost, Functions, Outcome, StateOf, Target};
use crate::guest::errors::{Call, GuestError};
use crate::guest::key::Key;

/// The longest decimal number of 64 bits.
const LONGEST_VERSION: usize = 20;

/// `entry` of the interface. A version is the revision in decimal.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
struct Entry {
    value: Arc<[u8]>,
    version: String,
}

impl From<VersionedValue> for Entry {
    fn from(found: VersionedValue) -> Self {
        Self { value: found.value.into_shared(), version: found.revision.get().to_string() }
    }
}

/// `cas-options` of the interface.
#[derive(ComponentType, Lift)]
#[component(record)]
struct CasOptions {
    #[component(name = "require-version")]
    require_version: Option<WasmStr>,
    #[component(name = "require-value")]
    require_value: Option<WasmList<u8>>,
}

/// `cas-result` of the interface.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(variant)]
enum CasResult {
    #[component(name = "swapped")]
    Swapped,
    /// With what is stored now.
    #[component(name = "stale")]
    Stale(Option<Entry>),
}

/// Adds the interface to a linker.
pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    name: &str,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    let mut cas = Functions::<T, Overlapping, Error>::new(linker, name, state)?;

    cas.add("current", |caller, (handle, key): (Resource<Bucket>, WasmStr)| {
        let key = caller.key(&key)?;
        caller.ask((&handle).into(), "current", Cost::Brief, move |call| current(call, &key))
    })?;

    cas.add("swap", swap)
}

fn current(call: &Call<'_>, key: &Key) -> Result<Option<Entry>, Error> {
    let found = call.storage().get_versioned(key.as_str());
    call.convert_key(key, found).map(|found| found.map(Entry::from))
}

fn swap<T: Send + 'static>(
    caller: &mut Caller<'_, T, Overlapping, Error>,
    (handle, key, value, options): (Resource<Bucket>, WasmStr, WasmList<u8>, CasOptions),
) -> Outcome<CasResult, Error> {
    let target = Target::Handle(&handle);
    let version = match options.require_version {
        None => None,
        Some(version) => match revision(&version.to_str(caller.store())?) {
            Some(revision) => Some(revision),
            None => return caller.invalid_argument(target),
        },
    };
    if version.is_none() && options.require_value.is_none() {
        return caller.invalid_argument(target);
    }
    let (key, value) = (caller.key(&key)?, caller.value(&value));
    // A value above the limit is stored nowhere, unless the limit was lowered.
    let old = options.require_value.map(|old| caller.value(&old));
    caller.ask(target, "swap", Cost::Long, move |call| {
        let commit = value.copied(call).and_then(|value| {
            let mut commit = Commit::new().set(key.as_str(), value);
            if let Some(revision) = version {
                commit = commit.require_revision(key.as_str(), revision);
            }
            if let Some(old) = old {
                commit = commit.require_value(key.as_str(), old.copied(call)?);
            }
            Ok(commit)
        });
        match commit.and_then(|commit| call.storage().commit(commit)) {
            Ok(_) => Ok(CasResult::Swapped),
            Err(StorageError::Conflict(_)) => current(call, &key).map(CasResult::Stale),
            Err(error) => call.convert_key(&key, Err(error)),
        }
    })
}

/// The revision of a version that [`Entry`] contains; `None` for other texts.
fn revision(version: &str) -> Option<Revision> {
    if version.len() > LONGEST_VERSION {
        return None;
    }
    let number: u64 = version.parse().ok()?;
    (number.to_string() == version).then(|| Revision::new(number))
}

impl<T: Send + 'static> Caller<'_, T, Overlapping, Error> {
    fn invalid_argument<R: Send + 'static>(&mut self, target: Target<'_>) -> Outcome<R, Error> {
        let reason = "a swap needs a valid version or a value".to_owned();
        self.refuse(target, "swap", GuestError::InvalidKey(reason))
    }
}
