//! Lists of keys from a guest, which are checked against the limits before they are copied.

use storage_core::{MAX_KEY_BYTES, validate_key};
use wasmtime::StoreContextMut;
use wasmtime::component::{WasmList, WasmStr};

use super::errors::{Call, GuestError};
use crate::limits::Limits;

/// The key that caused an error about a key: an invalid one, or one above the limit on
/// keys, which matters only for writes.
pub(super) fn first_bad_key<'a>(limits: &Limits, keys: &[&'a str]) -> Option<&'a str> {
    let invalid = || keys.iter().find(|key| validate_key(key).is_err());
    let too_long = || keys.iter().find(|key| limits.check_key(key).is_err());
    invalid().or_else(too_long).or(keys.first()).copied()
}

/// Copies the keys of a call, if they are within the limits of a batch.
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
        // Refuse a long key before the next one is decoded.
        if key.len() > MAX_KEY_BYTES
            && let Err(error) = validate_key(&key)
        {
            return Ok(Err(Call { key: Some(&key), ..*call }.error(&error)));
        }
        keys.push(key.into_owned());
    }
    Ok(Ok(keys))
}
