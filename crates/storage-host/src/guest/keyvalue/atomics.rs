//! The interface `atomics`: increments, and in the second draft compare-and-swap.

use std::fmt::Write as _;

use arrayvec::ArrayString;
use storage_core::{Commit, Revision, StorageError, StorageValue};
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, WasmList, WasmStr};

use super::error::Error;
use crate::guest::bucket::{Bucket, push};
use crate::guest::call::{Caller, Cost, Functions, Linkage, Outcome, StateOf, Target};
use crate::guest::errors::{Call, CallError, GuestError};
use crate::guest::key::Key;

/// How often an increment is retried after a conflict. Each conflict means that another
/// caller succeeded, so this exceeds the number of callers.
const TRIES: usize = 10_000;

/// The type of increments in a draft. Values are signed 64-bit numbers in ASCII decimal.
pub(in crate::guest) trait Number:
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
pub(super) fn add_increment<N: Number, T: 'static, L: Linkage<T>>(
    linker: &mut Linker<T>,
    name: &str,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    let mut atomics = Functions::<T, L, Error>::new(linker, name, state)?;

    atomics.add("increment", |caller, (handle, key, delta): (Resource<Bucket>, WasmStr, N)| {
        let key = caller.key(&key)?;
        caller.ask((&handle).into(), "increment", Cost::Long, move |call| {
            increment(call, &key, delta)
        })
    })
}

/// Adds to a stored number; a missing one is 0. An error changes nothing.
pub(in crate::guest) fn increment<N: Number, E: CallError>(
    call: &Call<'_>,
    key: &Key,
    delta: N,
) -> Result<N, E> {
    let (storage, text) = (call.storage(), key.as_str());
    // With room for the component prefix, which is added to the keys of a commit.
    let owned = || {
        let mut owned = String::with_capacity(call.own.id().key_prefix().len() + text.len());
        owned.push_str(text);
        owned
    };
    let failed = |reason: String| E::from_guest(call, GuestError::IoError(reason));
    let out_of_range = |what: &str| failed(format!("{what} is not within {}", N::RANGE));
    let delta = delta.to_stored().ok_or_else(|| out_of_range("the number to add"))?;
    for _ in 0..TRIES {
        let found = call.convert_key::<_, E>(key, storage.get_versioned(text))?;
        let (old, commit) = match found {
            None => (0, Commit::new().require_absent(owned())),
            Some(found) => {
                let value = found.value.as_bytes();
                let number = parse(value).ok_or_else(|| failed(why_not_a_number(value)))?;
                // An unsigned draft cannot return a negative result.
                N::of_stored(number).ok_or_else(|| out_of_range("the stored number"))?;
                (number, Commit::new().require_revision(owned(), found.revision))
            }
        };
        let sum = old.checked_add(delta).and_then(|sum| Some((sum, N::of_stored(sum)?)));
        let (sum, answer) = sum.ok_or_else(|| out_of_range("the sum"))?;
        match storage.commit(commit.set(owned(), stored(sum))) {
            Ok(_) => return Ok(answer),
            Err(StorageError::Conflict(_) | StorageError::AlreadyExists(_)) => {}
            Err(error) => return call.convert_key(key, Err(error)),
        }
    }
    Err(failed("too many conflicting writes of this key; try again".to_owned()))
}

/// Parses a number in the form that [`increment`] stores. Other forms (`05`, `+5`, `-0`) are
/// refused, because an increment would change the form too.
fn parse(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let number = text.parse().ok()?;
    let is_stored_form = match text.strip_prefix('-').unwrap_or(text).as_bytes() {
        // `parse` accepts these in front of other digits, and a minus in front of 0.
        [b'+' | b'0', ..] => text == "0",
        _ => true,
    };
    is_stored_form.then_some(number)
}

/// A number as [`increment`] stores it.
fn stored(number: i64) -> StorageValue {
    let mut text = ArrayString::<20>::new();
    match write!(text, "{number}") {
        Ok(()) => text.as_str().into(),
        // No number of 64 bits is longer.
        Err(_) => number.to_string().as_str().into(),
    }
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
#[derive(Debug, Clone)]
struct Cas {
    bucket: Bucket,
    key: String,
    /// `None` for a missing key.
    revision: Option<Revision>,
}

impl Cas {
    fn new(call: &Call<'_>, key: &Key) -> Result<Self, Error> {
        let found =
            call.convert_key::<_, Error>(key, call.storage().get_versioned(key.as_str()))?;
        Ok(Self {
            bucket: call.bucket.clone(),
            key: key.as_str().to_owned(),
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

impl CallError for CasError {
    fn from_guest(call: &Call<'_>, error: GuestError) -> Self {
        Self::StoreError(Error::from_guest(call, error))
    }

    fn from_storage(call: &Call<'_>, key: Option<&str>, error: &StorageError) -> Self {
        Self::StoreError(Error::from_storage(call, key, error))
    }
}

/// Adds `cas` and `swap` to the interface under this name.
pub(super) fn add_swap<T: 'static, L: Linkage<T>>(
    linker: &mut Linker<T>,
    name: &str,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    let mut atomics = Functions::<T, L, Error>::new(linker, name, state)?;

    atomics.add_resource::<Cas>("cas")?;

    atomics.add("[static]cas.new", |caller, (handle, key): (Resource<Bucket>, WasmStr)| {
        let key = caller.key(&key)?;
        let made = caller
            .ask((&handle).into(), "cas.new", Cost::Brief, move |call| Cas::new(call, &key))?;
        Ok(made
            .then(caller.state(), |state, made| made.and_then(|cas| push(state, "cas.new", cas))))
    })?;

    atomics.add("[method]cas.current", |caller, (handle,): (Resource<Cas>,)| {
        let Cas { bucket, key, .. } = caller.state().handles().get(&handle)?.clone();
        caller.get_key(Target::Bucket(&bucket), "cas.current", Key::new(key.into()))
    })?;

    atomics.with_error::<CasError>().add("swap", swap)
}

fn swap<T: 'static, L: Linkage<T>>(
    caller: &mut Caller<'_, T, L, CasError>,
    (handle, value): (Resource<Cas>, WasmList<u8>),
) -> Outcome<(), CasError> {
    let Cas { bucket, key, revision } = caller.state().handles_mut().delete(handle)?;
    let value = caller.value(&value);
    let swapped = caller.ask(Target::Bucket(&bucket), "swap", Cost::Long, move |call| {
        let written = value.copied(call).and_then(|value| {
            let commit = match revision {
                Some(revision) => Commit::new().require_revision(&key, revision),
                None => Commit::new().require_absent(&key),
            };
            call.storage().commit(commit.set(&key, value))
        });
        match written {
            Ok(_) => Ok(None),
            Err(StorageError::Conflict(_) | StorageError::AlreadyExists(_)) => {
                Cas::new(call, &Key::new(key.into())).map(Some).map_err(CasError::StoreError)
            }
            Err(error) => call.convert(Some(&key), Err(error)),
        }
    })?;
    Ok(swapped.then(caller.state(), |state, swapped| match swapped? {
        None => Ok(()),
        Some(fresh) => Err(match push(state, "swap", fresh) {
            Ok(handle) => CasError::CasFailed(handle),
            Err(error) => CasError::StoreError(error),
        }),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_the_form_that_is_stored() {
        for number in [0, 1, -1, 5, 10, -700, i64::MAX, i64::MIN] {
            assert_eq!(parse(number.to_string().as_bytes()), Some(number));
            assert_eq!(stored(number).as_bytes(), number.to_string().as_bytes());
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
