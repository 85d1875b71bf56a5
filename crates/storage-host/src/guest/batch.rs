//! Lists of keys that a guest passes, copied no sooner than they are known to be
//! within the limits.

use storage_core::{MAX_KEY_BYTES, validate_key};
use wasmtime::StoreContextMut;
use wasmtime::component::{WasmList, WasmStr};

use super::errors::{Call, GuestError};
use crate::limits::Limits;

/// The key that an error about a key must be about: one that is no key, or one
/// that is longer than the host allows, which only matters where it is written.
pub(super) fn first_bad_key<'a>(limits: &Limits, keys: &[&'a str]) -> Option<&'a str> {
    let invalid = || keys.iter().find(|key| validate_key(key).is_err());
    let too_long = || keys.iter().find(|key| limits.check_key(key).is_err());
    invalid().or_else(too_long).or(keys.first()).copied()
}

/// Copies the keys that a call passes, if they are within the limits of a batch and
/// none is longer than any.
pub(super) fn read_keys<T: 'static>(
    store: &mut StoreContextMut<'_, T>,
    call: &Call<'_>,
    list: &WasmList<WasmStr>,
) -> wasmtime::Result<Result<Vec<String>, GuestError>> {
    let limits = call.limits;
    if let Err(error) = limits.check_batch_len(list.len()) {
        return Ok(Err(call.error(&error)));
    }
    let mut keys = Vec::with_capacity(list.len());
    let mut bytes = 0_usize;
    let listed = list.iter(&mut *store)?.collect::<wasmtime::Result<Vec<_>>>()?;
    for key in listed {
        let key = key.to_str(&*store)?;
        bytes = bytes.saturating_add(key.len());
        if let Err(error) = limits.check_batch_bytes(bytes) {
            return Ok(Err(call.error(&error)));
        }
        // One that is so long is refused before the next is decoded.
        if key.len() > MAX_KEY_BYTES
            && let Err(error) = validate_key(&key)
        {
            return Ok(Err(Call { key: Some(&key), ..*call }.error(&error)));
        }
        keys.push(key.into_owned());
    }
    Ok(Ok(keys))
}
