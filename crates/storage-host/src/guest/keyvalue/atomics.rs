//! The interface `atomics`: increments, and in the second draft compare-and-swap.

use std::sync::Arc;

use storage_core::{Commit, Revision, StorageError, StorageValue};
use wasmtime::component::{
    ComponentType, Lift, Linker, Lower, Resource, ResourceType, WasmList, WasmStr,
};

use super::error::{Calling, Error};
use crate::guest::bucket::{Bucket, dropped, opened, push};
use crate::guest::state::ComponentState;

/// How often an increment begins again because others came first. Each time one
/// of them got through, so this is more than there are callers.
const TRIES: usize = 10_000;

/// A number as a draft adds it. Stored is a signed number of 64 bits, in ASCII
/// decimal.
pub(super) trait Number:
    ComponentType + Lift + Lower + Copy + Send + Sync + 'static
{
    fn to_stored(self) -> Option<i64>;
    fn of_stored(number: i64) -> Option<Self>;
    /// What the numbers of the draft are, for an error.
    const RANGE: &'static str;
}

impl Number for u64 {
    const RANGE: &'static str = "0 to 9223372036854775807";

    fn to_stored(self) -> Option<i64> {
        self.try_into().ok()
    }

    fn of_stored(number: i64) -> Option<Self> {
        number.try_into().ok()
    }
}

impl Number for i64 {
    const RANGE: &'static str = "-9223372036854775808 to 9223372036854775807";

    fn to_stored(self) -> Option<i64> {
        Some(self)
    }

    fn of_stored(number: i64) -> Option<Self> {
        Some(number)
    }
}

/// Adds `increment` to the interface under this name.
pub(super) fn add_increment<T: 'static, N: Number>(
    linker: &mut Linker<T>,
    name: &str,
    state: fn(&mut T) -> &mut ComponentState,
) -> wasmtime::Result<()> {
    linker.instance(name)?.func_wrap(
        "increment",
        move |mut store, (handle, key, delta): (Resource<Bucket>, WasmStr, N)| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            let key = key.to_str(&store)?;
            let calling = Calling { chain: &chain, bucket: &bucket, operation: "increment" };
            Ok((increment(&calling, &key, delta),))
        },
    )
}

/// Adds to a number that is stored, 0 where there is none. After an error it is
/// as it was.
fn increment<N: Number>(calling: &Calling<'_>, key: &str, delta: N) -> Result<N, Error> {
    let storage = calling.bucket.storage();
    let out_of_range = |what: &str| Error::Other(format!("{what} is not within {}", N::RANGE));
    let delta = delta.to_stored().ok_or_else(|| out_of_range("the number to add"))?;
    for _ in 0..TRIES {
        let found = calling.answer(Some(key), storage.get_versioned(key))?;
        let (old, commit) = match found {
            None => (0, Commit::new().require_absent(key)),
            Some(found) => {
                let number = parse(found.value.as_bytes())
                    .ok_or_else(|| Error::other("the value is no decimal number of 64 bits"))?;
                // A draft without negative numbers could not say what it became.
                N::of_stored(number).ok_or_else(|| out_of_range("the stored number"))?;
                (number, Commit::new().require_revision(key, found.revision))
            }
        };
        let sum = old.checked_add(delta).and_then(|sum| Some((sum, N::of_stored(sum)?)));
        let (sum, answer) = sum.ok_or_else(|| out_of_range("the sum"))?;
        match storage.commit(commit.set(key, sum.to_string().as_str().into())) {
            Ok(_) => return Ok(answer),
            Err(StorageError::Conflict(_) | StorageError::AlreadyExists(_)) => {}
            Err(error) => return Err(calling.error(Some(key), &error)),
        }
    }
    Err(Error::other("the key is changed all the time: try again"))
}

/// A number as [`increment`] stores it, and as people write it.
fn parse(value: &[u8]) -> Option<i64> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    // `parse` would take a plus sign too.
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The resource `cas`: a key as it was when the handle was made.
///
/// It keeps no value, which a guest could pile up in the host's memory.
#[derive(Debug)]
struct Cas {
    bucket: Bucket,
    key: String,
    /// `None` for a key that was not there.
    revision: Option<Revision>,
}

impl Cas {
    fn new(calling: &Calling<'_>, key: &str) -> Result<Self, Error> {
        let found = calling.answer(Some(key), calling.bucket.storage().get_versioned(key))?;
        Ok(Self {
            bucket: calling.bucket.clone(),
            key: key.to_owned(),
            revision: found.map(|found| found.revision),
        })
    }
}

/// `cas-error` of the interface.
#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
enum CasError {
    #[component(name = "store-error")]
    StoreError(Error),
    /// With a handle on the key as it is now.
    #[component(name = "cas-failed")]
    CasFailed(Resource<Cas>),
}

/// Adds `cas` and `swap` to the interface under this name.
pub(super) fn add_swap<T: 'static>(
    linker: &mut Linker<T>,
    name: &str,
    state: fn(&mut T) -> &mut ComponentState,
) -> wasmtime::Result<()> {
    let mut interface = linker.instance(name)?;

    interface.resource("cas", ResourceType::host::<Cas>(), move |mut store, rep| {
        dropped::<T, Cas>(&mut store, state, rep)
    })?;

    interface.func_wrap(
        "[static]cas.new",
        move |mut store, (handle, key): (Resource<Bucket>, WasmStr)| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            let calling = Calling { chain: &chain, bucket: &bucket, operation: "cas.new" };
            let cas = Cas::new(&calling, &key.to_str(&store)?);
            let state = state(store.data_mut());
            Ok((cas.and_then(|cas| push(state, cas).map_err(Error::of_handles)),))
        },
    )?;

    interface.func_wrap("[method]cas.current", move |mut store, (handle,): (Resource<Cas>,)| {
        let state = state(store.data_mut());
        let cas = state.handles().get(&handle)?;
        let calling = Calling {
            chain: state.storage_for_call()?,
            bucket: &cas.bucket,
            operation: "cas.current",
        };
        let found = calling.answer(Some(&cas.key), cas.bucket.storage().get(&cas.key));
        Ok((found.map(|value| value.map(StorageValue::into_shared)),))
    })?;

    interface.func_wrap("swap", move |mut store, (handle, value): (Resource<Cas>, WasmList<u8>)| {
        let Cas { bucket, key, revision } = state(store.data_mut()).handles_mut().delete(handle)?;
        let value = bucket
            .limits()
            .check_value_len(value.len())
            .map(|()| StorageValue::from(value.as_le_slice(&store)));
        let state = state(store.data_mut());
        let chain = Arc::clone(state.storage_for_call()?);
        let calling = Calling { chain: &chain, bucket: &bucket, operation: "swap" };
        let swapped = value.and_then(|value| {
            let commit = match revision {
                Some(revision) => Commit::new().require_revision(&key, revision),
                None => Commit::new().require_absent(&key),
            };
            bucket.storage().commit(commit.set(&key, value))
        });
        let answer = match swapped {
            Ok(_) => Ok(()),
            Err(StorageError::Conflict(_) | StorageError::AlreadyExists(_)) => {
                let fresh = Cas::new(&calling, &key)
                    .and_then(|cas| push(state, cas).map_err(Error::of_handles));
                Err(fresh.map_or_else(CasError::StoreError, CasError::CasFailed))
            }
            Err(error) => Err(CasError::StoreError(calling.error(Some(&key), &error))),
        };
        Ok((answer,))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_decimal_numbers_of_64_bits_are_numbers() {
        for (text, number) in
            [("0", 0), ("-1", -1), ("007", 7), ("9223372036854775807", i64::MAX), ("-0", 0)]
        {
            assert_eq!(parse(text.as_bytes()), Some(number), "{text}");
        }
        for text in
            ["", "-", "+1", " 1", "1 ", "1.0", "0x1", "--1", "9223372036854775808", "\u{661}"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(&[5, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(parse(&[0xff]), None);
    }

    #[test]
    fn a_draft_without_signs_has_half_of_the_numbers() {
        assert_eq!(u64::MAX.to_stored(), None);
        assert_eq!((1_u64 << 63).to_stored(), None);
        assert_eq!(u64::of_stored(-1), None);
        assert_eq!(u64::of_stored(i64::MAX), Some(i64::MAX as u64));
        assert_eq!(i64::of_stored(-1), Some(-1));
    }
}
