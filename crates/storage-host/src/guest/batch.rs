//! Several keys in one call. They are checked against the limits before they are copied.

use std::sync::Arc;

use storage_core::{MAX_KEY_BYTES, StorageError, StorageValue, validate_key};
use wasmtime::component::{WasmList, WasmStr};

use super::call::{Caller, Cost, Linkage, Outcome, Target};
use super::errors::{Call, CallError};
use crate::limits::Limits;

/// The key that caused an error about a key: an invalid one, or one above the limit on
/// keys, which matters only for writes.
pub(super) fn first_bad_key<'a>(limits: &Limits, keys: &[&'a str]) -> Option<&'a str> {
    let invalid = || keys.iter().find(|key| validate_key(key).is_err());
    let too_long = || keys.iter().find(|key| limits.check_key(key).is_err());
    invalid().or_else(too_long).or(keys.first()).copied()
}

/// Keys with their values, in the order of a request.
pub(super) type Found = Vec<(String, Option<Arc<[u8]>>)>;

impl<T: 'static, L: Linkage<T>, E: CallError> Caller<'_, T, L, E> {
    /// `get-many`, with the results in the type of the dialect.
    pub(super) fn get_many<R: Send + 'static>(
        &mut self,
        target: Target<'_>,
        keys: &WasmList<WasmStr>,
        convert: fn(Found) -> R,
    ) -> Outcome<R, E> {
        let keys = match self.keys(target, keys)? {
            Ok(keys) => keys,
            Err(error) => return self.refuse(target, "get-many", error.into()),
        };
        self.ask(target, "get-many", Cost::Brief, move |call| get_many(call, keys).map(convert))
    }

    /// Copies the keys of a call, if they are within the limits of a batch.
    ///
    /// # Errors
    /// Inside, [`StorageError::LimitExceeded`] and [`StorageError::InvalidKey`]. Outside, the
    /// guest ends.
    pub(super) fn keys(
        &mut self,
        target: Target<'_>,
        list: &WasmList<WasmStr>,
    ) -> wasmtime::Result<Result<Vec<String>, StorageError>> {
        let limits = self.limits(target)?;
        if let Err(error) = limits.check_batch_len(list.len()) {
            return Ok(Err(error));
        }
        let store = self.store();
        let mut keys = Vec::with_capacity(list.len());
        let mut bytes = 0_usize;
        let listed = list.iter(&mut *store)?.collect::<wasmtime::Result<Vec<_>>>()?;
        for key in listed {
            let key = key.to_str(&*store)?;
            bytes = bytes.saturating_add(key.len());
            if let Err(error) = limits.check_batch_bytes(bytes) {
                return Ok(Err(error));
            }
            // Refuse a long key before the next one is decoded.
            if key.len() > MAX_KEY_BYTES
                && let Err(error) = validate_key(&key)
            {
                return Ok(Err(error));
            }
            keys.push(key.into_owned());
        }
        Ok(Ok(keys))
    }
}

fn get_many<E: CallError>(call: &Call<'_>, keys: Vec<String>) -> Result<Found, E> {
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = call.storage().get_many(&asked);
    let values = call.convert(first_bad_key(call.limits(), &asked), found)?;
    Ok(keys
        .into_iter()
        .zip(values.into_iter().map(|value| value.map(StorageValue::into_shared)))
        .collect())
}
