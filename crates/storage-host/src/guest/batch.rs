//! Several keys in one call. They are checked against the limits before they are copied.

use std::mem;
use std::sync::Arc;

use storage_core::{MAX_KEY_BYTES, StorageError, StorageValue, validate_key};
use wasmtime::component::{WasmList, WasmStr};

use super::call::{Caller, Cost, Linkage, Outcome, Target};
use super::errors::{Call, CallError};
use crate::limits::{Limits, VALUES_PER_READ};

/// The most keys of a brief read.
const BRIEF_KEYS: usize = VALUES_PER_READ;

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
            Err(error) => return self.over_limit(target, "get-many", error),
        };
        let cost = if keys.len() > BRIEF_KEYS { Cost::Long } else { Cost::Brief };
        self.ask_known(
            target,
            "get-many",
            cost,
            Reading { keys, values: Vec::new() },
            move |call, reading| reading.known(call).map(convert),
            move |call, reading| reading.rest(call).map(convert),
        )
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
        self.count(bytes);
        Ok(Ok(keys))
    }
}

/// A read of several keys.
struct Reading {
    keys: Vec<String>,
    /// The values of the first keys. A key that was found is not asked for again: the cache
    /// would count it twice.
    values: Vec<Option<StorageValue>>,
}

impl Reading {
    /// The answer, if all keys are known in memory and within the limits. Otherwise keeps the
    /// values up to the first key that is not.
    fn known(&mut self, call: &Call<'_>) -> Option<Found> {
        // Without a key, storage still decides whether the caller has access.
        self.keys.first()?;
        let mut bytes = self.bytes();
        let limits = call.limits();
        let fits = |len| {
            bytes = bytes.saturating_add(len);
            limits.check_batch_bytes(bytes).is_ok()
        };
        call.bucket.known_many(&self.keys, &mut self.values, fits).then(|| self.found())
    }

    /// Reads the keys that have no value yet.
    fn rest<E: CallError>(mut self, call: &Call<'_>) -> Result<Found, E> {
        match self.read(call) {
            Ok(()) => Ok(self.found()),
            Err(error) => {
                let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
                Err(E::from_storage(call, first_bad_key(&call.limits(), &keys), &error))
            }
        }
    }

    fn read(&mut self, call: &Call<'_>) -> Result<(), StorageError> {
        if self.keys.is_empty() {
            return call.storage().get_many(&[]).map(drop);
        }
        let mut bytes = self.bytes();
        let limits = call.limits();
        limits.check_batch_bytes(bytes)?;
        let rest: Vec<&str> =
            self.keys.iter().skip(self.values.len()).map(String::as_str).collect();
        // A few at a time, so that the values are never far above the limit.
        for keys in rest.chunks(VALUES_PER_READ) {
            for value in call.storage().get_many(keys)? {
                bytes = bytes.saturating_add(value.as_ref().map_or(0, StorageValue::len));
                limits.check_batch_bytes(bytes)?;
                self.values.push(value);
            }
        }
        Ok(())
    }

    /// The bytes of the keys and the values.
    fn bytes(&self) -> usize {
        let keys = self.keys.iter().map(String::len).sum::<usize>();
        keys + self.values.iter().flatten().map(StorageValue::len).sum::<usize>()
    }

    fn found(&mut self) -> Found {
        let (keys, values) = (mem::take(&mut self.keys), mem::take(&mut self.values));
        let values = values.into_iter().map(|value| value.map(StorageValue::into_shared));
        keys.into_iter().zip(values).collect()
    }
}
