//! The top of a chain: the rate limit, metrics and spans.

use std::sync::Arc;

use storage_core::{
    Commit, ComponentStorage, Expected, KeyPage, PageRequest, Revision, StorageError, StorageValue,
    Usage, VersionedValue,
};

use crate::live::Account;
use crate::operation::Operation;
#[cfg(feature = "tracing")]
use crate::operation::Outcome;
use crate::rate::Throttle;

/// The `tracing` target of the spans of storage calls, for filters.
#[cfg(feature = "tracing")]
pub const CALL_TARGET: &str = "storage_host::call";

/// Applies the rate limit of a component to its calls, counts them, and makes them visible in
/// traces.
#[derive(Debug)]
pub(crate) struct Observed<S> {
    inner: S,
    /// Of the component that calls, which need not own the keys.
    account: Arc<Account>,
}

/// What a call returns, as metrics see it.
trait Answer {
    /// Whether the key exists that was asked for.
    #[cfg(feature = "tracing")]
    fn is_found(&self) -> bool {
        true
    }

    /// The bytes of its keys and values.
    fn bytes(&self) -> usize {
        0
    }
}

impl Answer for () {}
impl Answer for Usage {}
impl Answer for Revision {}

impl Answer for bool {
    #[cfg(feature = "tracing")]
    fn is_found(&self) -> bool {
        *self
    }
}

impl Answer for Option<StorageValue> {
    #[cfg(feature = "tracing")]
    fn is_found(&self) -> bool {
        self.is_some()
    }

    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, StorageValue::len)
    }
}

impl Answer for Option<VersionedValue> {
    #[cfg(feature = "tracing")]
    fn is_found(&self) -> bool {
        self.is_some()
    }

    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, |found| found.value.len())
    }
}

impl Answer for Vec<Option<StorageValue>> {
    fn bytes(&self) -> usize {
        self.iter().flatten().map(StorageValue::len).sum()
    }
}

impl Answer for Vec<String> {
    fn bytes(&self) -> usize {
        self.iter().map(String::len).sum()
    }
}

impl Answer for KeyPage {
    fn bytes(&self) -> usize {
        self.keys.bytes()
    }
}

/// What a call is made with.
#[derive(Clone, Copy)]
struct Request {
    operation: Operation,
    /// As the rate limit counts them.
    operations: usize,
    /// The bytes of keys and values.
    bytes: usize,
}

impl Request {
    fn new(operation: Operation, bytes: usize) -> Self {
        Self { operation, operations: 1, bytes }
    }

    /// The bytes that it writes.
    #[cfg(feature = "metrics")]
    fn written(self) -> usize {
        match self.operation {
            Operation::Set | Operation::Delete | Operation::Commit => self.bytes,
            _ => 0,
        }
    }

    fn commit(commit: &Commit) -> Self {
        let mut bytes: usize = commit.keys().map(str::len).sum();
        for check in &commit.checks {
            if let Expected::Value(value) = &check.expected {
                bytes = bytes.saturating_add(value.len());
            }
        }
        for value in commit.writes.iter().filter_map(|write| write.value.as_ref()) {
            bytes = bytes.saturating_add(value.len());
        }
        let operations = commit.checks.len().max(commit.writes.len()).max(1);
        Self { operation: Operation::Commit, operations, bytes }
    }
}

impl<S> Observed<S> {
    pub(crate) fn new(inner: S, account: Arc<Account>) -> Self {
        Self { inner, account }
    }

    /// The storage below. Calls of it do not count.
    pub(crate) fn inner(&self) -> &S {
        &self.inner
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

impl<S: ComponentStorage> Observed<S> {
    /// Takes what a call needs from the rate of the component.
    #[inline]
    fn admit(&self, request: Request) -> Result<Option<&Throttle>, StorageError> {
        let throttle = self.account.throttle();
        if let Some(throttle) = throttle {
            let Request { operation, operations, bytes, .. } = request;
            let admitted = self.account.admit(throttle, operations, bytes);
            admitted.inspect_err(|error| self.account.refused(operation, error))?;
        }
        Ok(throttle)
    }

    /// Makes a call that is within the rate.
    fn ask<R: Answer>(
        &self,
        throttle: Option<&Throttle>,
        #[cfg_attr(not(feature = "tracing"), expect(unused, reason = "traces name it"))]
        request: Request,
        call: impl FnOnce(&S) -> Result<R, StorageError>,
    ) -> Result<R, StorageError> {
        #[cfg(feature = "tracing")]
        let span = self.account.span(request.operation).entered();
        #[cfg(feature = "metrics")]
        let timer = self.account.start_timer();
        let result = call(&self.inner);
        let bytes = result.as_ref().map_or(0, Answer::bytes);
        #[cfg(feature = "tracing")]
        let outcome = match &result {
            Ok(answer) if answer.is_found() => Outcome::Ok,
            Ok(_) => Outcome::NotFound,
            Err(error) => Outcome::of_error(error),
        };
        #[cfg(feature = "metrics")]
        {
            let written = if result.is_ok() { request.written() } else { 0 };
            self.account.count_call(request.operation, outcome, timer, [bytes, written]);
        }
        #[cfg(feature = "tracing")]
        if result.is_err() {
            span.record("error.type", outcome.as_str());
        }
        if let Some(throttle) = throttle {
            throttle.charge(bytes);
        }
        result
    }

    fn call<R: Answer>(
        &self,
        request: Request,
        call: impl FnOnce(&S) -> Result<R, StorageError>,
    ) -> Result<R, StorageError> {
        let throttle = self.admit(request)?;
        self.ask(throttle, request, call)
    }

    /// Reads a key from memory, for a call that is within the rate.
    #[inline]
    fn read_memory(
        &self,
        throttle: Option<&Throttle>,
        operation: Operation,
        prefix: &str,
        key: &str,
    ) -> Option<Option<StorageValue>> {
        #[cfg(feature = "metrics")]
        let read = self.account.begin_memory_read(operation);
        let known = self.inner.try_get(prefix, key)?;
        let bytes = if operation == Operation::Exists { 0 } else { known.bytes() };
        #[cfg(feature = "metrics")]
        self.account.end_memory_read(read, known.is_some(), bytes);
        #[cfg(feature = "tracing")]
        self.account.trace_memory_read(operation);
        if let Some(throttle) = throttle {
            throttle.charge(bytes);
        }
        Some(known)
    }

    /// Reads a key as [`try_get`](ComponentStorage::try_get), on behalf of an operation.
    #[inline]
    pub(crate) fn known(
        &self,
        operation: Operation,
        prefix: &str,
        key: &str,
    ) -> Option<Option<StorageValue>> {
        let bytes = prefix.len() + key.len();
        let throttle = self.account.throttle();
        if let Some(throttle) = throttle
            // The call that follows is refused, and counted then.
            && self.account.admit(throttle, 1, bytes).is_err()
        {
            return None;
        }
        let known = self.read_memory(throttle, operation, prefix, key);
        if let (None, Some(throttle)) = (&known, throttle) {
            throttle.refund(1, bytes);
        }
        known
    }

    /// Reads keys from memory and adds their values to `values`, up to the first that is not
    /// known or whose value `fits` refuses. Returns whether all are known.
    #[cfg(feature = "wasmtime")]
    pub(crate) fn known_many(
        &self,
        keys: &[String],
        values: &mut Vec<Option<StorageValue>>,
        mut fits: impl FnMut(usize) -> bool,
    ) -> bool {
        let asked = keys.bytes_of_keys();
        let throttle = self.account.throttle();
        if let Some(throttle) = throttle
            && self.account.admit(throttle, keys.len(), asked).is_err()
        {
            return false;
        }
        #[cfg(feature = "metrics")]
        let read = self.account.begin_memory_read(Operation::GetMany);
        let mut bytes = 0;
        let mut all = true;
        for key in keys {
            let Some(value) = self.inner.try_get("", key) else {
                all = false;
                break;
            };
            let len = value.bytes();
            bytes += len;
            values.push(value);
            if !fits(len) {
                all = false;
                break;
            }
        }
        if let Some(throttle) = throttle {
            let rest = keys.get(values.len()..).unwrap_or_default();
            throttle.refund(rest.len(), rest.bytes_of_keys());
            throttle.charge(bytes);
        }
        if all {
            #[cfg(feature = "metrics")]
            self.account.end_memory_read(read, true, bytes);
            #[cfg(feature = "tracing")]
            self.account.trace_memory_read(Operation::GetMany);
        }
        all
    }
}

/// The bytes of keys, of which no caller has more than its limits allow.
trait Keys {
    fn bytes_of_keys(&self) -> usize;
}

impl<K: AsRef<str>> Keys for [K] {
    fn bytes_of_keys(&self) -> usize {
        self.iter().map(|key| key.as_ref().len()).sum()
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: ComponentStorage> ComponentStorage for Observed<S> {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        let request = Request::new(Operation::Get, key.len());
        let throttle = self.admit(request)?;
        match self.read_memory(throttle, Operation::Get, "", key) {
            Some(known) => Ok(known),
            None => self.ask(throttle, request, |inner| inner.get(key)),
        }
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        let bytes = key.len().saturating_add(value.len());
        let request = Request::new(Operation::Set, bytes);
        self.call(request, |inner| inner.set(key, value))
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        let bytes = key.len();
        let request = Request::new(Operation::Delete, bytes);
        self.call(request, |inner| inner.delete(key))
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        let request = Request::new(Operation::Exists, key.len());
        let throttle = self.admit(request)?;
        match self.read_memory(throttle, Operation::Exists, "", key) {
            Some(known) => Ok(known.is_some()),
            None => self.ask(throttle, request, |inner| inner.exists(key)),
        }
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let request = Request::new(Operation::ListKeys, prefix.map_or(0, str::len));
        self.call(request, |inner| inner.list_keys(prefix))
    }

    fn list_page(&self, page: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        let bytes = page.prefix.len().saturating_add(page.after.map_or(0, str::len));
        let request = Request::new(Operation::ListPage, bytes);
        self.call(request, |inner| inner.list_page(page))
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        let request = Request {
            operations: keys.len().max(1),
            ..Request::new(Operation::GetMany, keys.bytes_of_keys())
        };
        self.call(request, |inner| inner.get_many(keys))
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        let request = Request::new(Operation::Usage, prefix.map_or(0, str::len));
        self.call(request, |inner| inner.usage(prefix))
    }

    #[inline]
    fn try_get(&self, prefix: &str, key: &str) -> Option<Option<StorageValue>> {
        self.known(Operation::Get, prefix, key)
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        let request = Request::new(Operation::GetVersioned, key.len());
        self.call(request, |inner| inner.get_versioned(key))
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        let request = Request::commit(&commit);
        self.call(request, |inner| inner.commit(commit))
    }
}

impl Account {
    /// Counts a call that was refused before it was made.
    #[cfg(not(feature = "tracing"))]
    fn refused(&self, _: Operation, _: &StorageError) {}

    /// Counts a call that was refused before it was made.
    #[cfg(feature = "tracing")]
    pub(crate) fn refused(&self, operation: Operation, error: &StorageError) {
        let outcome = Outcome::of_error(error);
        #[cfg(feature = "metrics")]
        self.count_refusal(operation, outcome);
        tracing::debug!(
            target: CALL_TARGET,
            {
                db.system.name = self.live().kind(),
                db.namespace = self.id().as_str(),
                db.operation.name = operation.as_str(),
                error.type = outcome.as_str(),
            },
            "a storage call was refused"
        );
    }

    /// The span of a call that is not answered from memory.
    #[cfg(feature = "tracing")]
    fn span(&self, operation: Operation) -> tracing::Span {
        tracing::debug_span!(
            target: CALL_TARGET,
            "storage",
            "db.system.name" = self.live().kind(),
            "db.namespace" = self.id().as_str(),
            "db.operation.name" = operation.as_str(),
            "error.type" = tracing::field::Empty,
        )
    }

    #[cfg(feature = "tracing")]
    #[inline]
    fn trace_memory_read(&self, operation: Operation) {
        tracing::trace!(
            target: CALL_TARGET,
            {
                db.system.name = self.live().kind(),
                db.namespace = self.id().as_str(),
                db.operation.name = operation.as_str(),
            },
            "answered from memory"
        );
    }
}
