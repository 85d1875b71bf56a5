//! The functions for single keys, which most dialects have.

use std::sync::Arc;

use storage_core::StorageValue;
use wasmtime::component::{Resource, WasmList, WasmStr};

use super::bucket::Bucket;
use super::call::{Caller, Cost, Functions, Linkage, Outcome, Target};
use super::errors::CallError;
use super::key::Key;

impl<T: 'static, L: Linkage<T>, E: CallError> Functions<'_, T, L, E> {
    /// Adds `get`, `set`, `delete` and `exists` as methods of a resource, whose handles are
    /// buckets.
    ///
    /// # Errors
    /// If the interface already has one of them.
    pub(super) fn add_verbs(&mut self, resource: &str) -> wasmtime::Result<()> {
        let method = |name: &str| format!("[method]{resource}.{name}");

        self.add(&method("get"), |caller, (handle, key): (Resource<Bucket>, WasmStr)| {
            caller.get((&handle).into(), &key)
        })?;

        self.add(
            &method("set"),
            |caller, (handle, key, value): (Resource<Bucket>, WasmStr, WasmList<u8>)| {
                caller.set((&handle).into(), &key, &value)
            },
        )?;

        self.add(&method("delete"), |caller, (handle, key): (Resource<Bucket>, WasmStr)| {
            caller.delete((&handle).into(), &key)
        })?;

        self.add(&method("exists"), |caller, (handle, key): (Resource<Bucket>, WasmStr)| {
            caller.exists((&handle).into(), &key)
        })
    }
}

impl<T: 'static, L: Linkage<T>, E: CallError> Caller<'_, T, L, E> {
    /// `get`: the value of a key.
    pub(super) fn get(
        &mut self,
        target: Target<'_>,
        key: &WasmStr,
    ) -> Outcome<Option<Arc<[u8]>>, E> {
        let key = self.key(key)?;
        self.get_key(target, "get", key)
    }

    /// The same under another name, for a key that the host has.
    pub(super) fn get_key(
        &mut self,
        target: Target<'_>,
        operation: &'static str,
        key: Key,
    ) -> Outcome<Option<Arc<[u8]>>, E> {
        let shared = |value: Option<StorageValue>| value.map(StorageValue::into_shared);
        self.ask_known(
            target,
            operation,
            Cost::Brief,
            key,
            move |call, key| call.storage().try_get("", key.as_str()).map(shared),
            move |call, key| call.convert_key(&key, call.storage().get(key.as_str())).map(shared),
        )
    }

    /// `exists`: whether a key has a value.
    pub(super) fn exists(&mut self, target: Target<'_>, key: &WasmStr) -> Outcome<bool, E> {
        let key = self.key(key)?;
        self.ask_known(
            target,
            "exists",
            Cost::Brief,
            key,
            |call, key| call.bucket.known_exists(key.as_str()),
            |call, key| call.convert_key(&key, call.storage().exists(key.as_str())),
        )
    }

    /// `set`: stores a value under a key.
    pub(super) fn set(
        &mut self,
        target: Target<'_>,
        key: &WasmStr,
        value: &WasmList<u8>,
    ) -> Outcome<(), E> {
        let (key, value) = (self.key(key)?, self.value(value));
        self.ask(target, "set", Cost::Long, move |call| {
            let value = value.copied(call);
            let set = value.and_then(|value| call.storage().set(key.as_str(), value));
            call.convert_key(&key, set)
        })
    }

    /// `delete`: removes a key.
    pub(super) fn delete(&mut self, target: Target<'_>, key: &WasmStr) -> Outcome<(), E> {
        let key = self.key(key)?;
        self.ask(target, "delete", Cost::Long, move |call| {
            call.convert_key(&key, call.storage().delete(key.as_str()))
        })
    }
}
