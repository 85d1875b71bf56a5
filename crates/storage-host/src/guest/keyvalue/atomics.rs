//! The interface `atomics`: increments, and in the second draft compare-and-swap.

use std::sync::Arc;

use storage_core::{Commit, Revision, StorageError, StorageValue};
use wasmtime::component::{
    ComponentType, Lift, Linker, Lower, Resource, ResourceType, WasmList, WasmStr,
};

use super::error::{Calling, Error};
use crate::guest::bucket::{Bucket, dropped, opened, push};
use crate::guest::state::ComponentState;

/// How often an increment is retried after a conflict. Each conflict means that another
/// caller succeeded, so this exceeds the number of callers.
const TRIES: usize = 10_000;

/// The type of increments in a draft. Values are signed 64-bit numbers in ASCII decimal.
pub(super) trait Number:
    ComponentType + Lift + Lower + Copy + Send + Sync + 'static
{
    fn to_stored(self) -> Option<i64>;
    fn of_stored(number: i64) -> Option<Self>;
    /// The range of the type, for errors.
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

/// Adds to a stored number; a missing one is 0. An error changes nothing.
fn increment<N: Number>(calling: &Calling<'_>, key: &str, delta: N) -> Result<N, Error> {
    let storage = calling.bucket.storage();
    let out_of_range = |what: &str| Error::Other(format!("{what} is not within {}", N::RANGE));
    let delta = delta.to_stored().ok_or_else(|| out_of_range("the number to add"))?;
    for _ in 0..TRIES {
        let found = calling.convert(Some(key), storage.get_versioned(key))?;
        let (old, commit) = match found {
            None => (0, Commit::new().require_absent(key)),
            Some(found) => {
                let value = found.value.as_bytes();
                let number = parse(value).ok_or_else(|| Error::Other(why_not_a_number(value)))?;
                // An unsigned draft cannot return a negative result.
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
    Err(Error::other("too many conflicting writes of this key; try again"))
}

/// Parses a number in the form that [`increment`] stores. Other forms (`05`, `+5`, `-0`) are
/// refused, because an increment would change the form too.
fn parse(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The error for a value that is not a number, with the likely cause.
fn why_not_a_number(value: &[u8]) -> String {
    const WHAT: &str = "the value is not a decimal number of 64 bits";
    let text = std::str::from_utf8(value).unwrap_or_default();
    let without_newline =
        text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    if without_newline.is_some_and(|line| parse(line.as_bytes()).is_some()) {
        return format!("{WHAT}: it ends in a newline; store the number without one");
    }
    match text.trim().parse::<i64>() {
        Ok(number) => format!(
            "{WHAT}: leading zeros, a plus sign, -0 and spaces are not allowed; store it as {number}"
        ),
        Err(_) => WHAT.to_owned(),
    }
}

/// The resource `cas`: the revision of a key when the handle was created.
///
/// It holds no value: with many handles, a guest could fill the host's memory.
#[derive(Debug)]
struct Cas {
    bucket: Bucket,
    key: String,
    /// `None` for a missing key.
    revision: Option<Revision>,
}

impl Cas {
    fn new(calling: &Calling<'_>, key: &str) -> Result<Self, Error> {
        let found = calling.convert(Some(key), calling.bucket.storage().get_versioned(key))?;
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
    /// With a new handle for the current revision.
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
        let found = calling.convert(Some(&cas.key), cas.bucket.storage().get(&cas.key));
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
    fn numbers_are_read_in_the_form_that_is_stored() {
        for number in [0, 1, -1, 5, 10, -700, i64::MAX, i64::MIN] {
            assert_eq!(parse(number.to_string().as_bytes()), Some(number));
        }
    }

    #[test]
    fn other_forms_of_a_number_are_refused() {
        for text in [
            "",
            "-",
            "+",
            "+5",
            "+0",
            "-0",
            "00",
            "05",
            "007",
            "-05",
            " 5",
            "5 ",
            "5\n",
            "5.0",
            "0x5",
            "--5",
            "9223372036854775808",
            "\u{665}",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(&[5, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(parse(&[0xff]), None);
    }

    #[test]
    fn the_error_names_a_trailing_newline_and_other_forms() {
        let what = "the value is not a decimal number of 64 bits";
        for text in ["5\n", "-12\r\n"] {
            let error = why_not_a_number(text.as_bytes());
            assert_eq!(
                error,
                format!("{what}: it ends in a newline; store the number without one")
            );
        }
        for (text, number) in [("05", 5), ("-0", 0), ("+5", 5), (" 5 ", 5), ("05\n", 5)] {
            let error = why_not_a_number(text.as_bytes());
            assert!(error.ends_with(&format!("; store it as {number}")), "{text:?}: {error}");
        }
        for value in [&b""[..], b"five\n", b"\n", b"5.0", b"9223372036854775808", &[5, 0], &[0xff]]
        {
            assert_eq!(why_not_a_number(value), what, "{value:?}");
        }
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
