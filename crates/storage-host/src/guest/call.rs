//! How the functions of all dialects are added to a linker.
//!
//! A dialect defines each function once, as a closure that reads the arguments from the
//! guest's memory with a [`Caller`] and says what to ask of storage. The [`Linkage`] decides
//! on which thread storage is asked: a synchronous linker asks in place, with everything
//! borrowed. An asynchronous one may move the question to another thread. Therefore the
//! question owns what it needs, and no part of it remains in the future.

use std::marker::PhantomData;
use std::sync::Arc;

use storage_core::{StorageError, StorageValue};
use wasmtime::StoreContextMut;
use wasmtime::component::{
    ComponentNamedList, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType, WasmList,
    WasmStr,
};

use super::bucket::{Bucket, CannotOpen, push};
#[cfg(feature = "p3")]
use super::errors::GuestError;
use super::errors::{Call, CallError};
#[cfg(feature = "memory")]
use super::in_table::WasiKeyValue;
use super::key::{Key, Value};
use super::state::ComponentState;
use crate::limits::{Limits, truncate_cursor};

/// Finds the state of a component in the data of its store.
pub(super) enum StateOf<T: 'static> {
    Field(fn(&mut T) -> &mut ComponentState),
    #[cfg(feature = "memory")]
    InTable(fn(&mut T) -> WasiKeyValue<'_>),
}

impl<T> Clone for StateOf<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for StateOf<T> {}

impl<T> StateOf<T> {
    #[inline]
    pub(super) fn find(self, data: &mut T) -> &mut ComponentState {
        match self {
            Self::Field(field) => field(data),
            #[cfg(feature = "memory")]
            Self::InTable(table) => table(data).state(),
        }
    }
}

/// How long a call may take that is not answered from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// A read of a few keys: microseconds in a local store.
    Brief,
    /// Anything else: a write, a commit, a listing or a count.
    Long,
}

/// The answer to a call, or what is left to do for it.
#[must_use]
pub(super) enum Step<A> {
    Ready(A),
    /// The question, for another thread.
    #[cfg(feature = "async")]
    Offload(super::asynchronous::Job<A>),
}

impl<A: Send + 'static> Step<A> {
    /// Converts the answer with access to the guest's handles.
    pub(super) fn then<B>(
        self,
        state: &mut ComponentState,
        finish: impl FnOnce(&mut ComponentState, A) -> B + Send + 'static,
    ) -> Step<B> {
        match self {
            Self::Ready(answer) => Step::Ready(finish(state, answer)),
            #[cfg(feature = "async")]
            Self::Offload(job) => Step::Offload(job.then(finish)),
        }
    }
}

/// What a function of a dialect returns: the step to a result with the dialect's error, or
/// why the guest ends.
pub(super) type Outcome<R, E> = wasmtime::Result<Step<Result<R, E>>>;

/// How functions are linked, and where storage is asked.
pub(super) trait Linkage<T: 'static>: Sized + 'static {
    /// Adds a function to an interface.
    fn add<P, R>(
        interface: &mut LinkerInstance<'_, T>,
        name: &str,
        state: StateOf<T>,
        function: impl Fn(StoreContextMut<'_, T>, P) -> wasmtime::Result<Step<R>>
        + Send
        + Sync
        + 'static,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + 'static,
        R: Send + 'static,
        (R,): ComponentNamedList + Lower;

    /// Asks storage. `known` is the answer if storage has it in memory; otherwise it may
    /// keep in the input what it has found. `ask` asks.
    fn ask<I, R, E>(
        call: &Call<'_>,
        cost: Cost,
        input: I,
        known: impl FnOnce(&Call<'_>, &mut I) -> Option<R>,
        ask: impl FnOnce(&Call<'_>, I) -> Result<R, E> + Send + 'static,
    ) -> Step<Result<R, E>>
    where
        I: Send + 'static,
        R: Send + 'static,
        E: CallError;
}

/// The linkage of a synchronous linker: storage is asked on the guest's thread.
pub(super) struct InPlace;

impl<T: 'static> Linkage<T> for InPlace {
    fn add<P, R>(
        interface: &mut LinkerInstance<'_, T>,
        name: &str,
        _: StateOf<T>,
        function: impl Fn(StoreContextMut<'_, T>, P) -> wasmtime::Result<Step<R>>
        + Send
        + Sync
        + 'static,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + 'static,
        R: Send + 'static,
        (R,): ComponentNamedList + Lower,
    {
        interface.func_wrap(name, move |store, params| match function(store, params)? {
            Step::Ready(result) => Ok((result,)),
            #[cfg(feature = "async")]
            Step::Offload(_) => Err(wasmtime::Error::msg("a synchronous call was offloaded")),
        })
    }

    #[inline]
    fn ask<I, R, E>(
        call: &Call<'_>,
        _: Cost,
        input: I,
        _: impl FnOnce(&Call<'_>, &mut I) -> Option<R>,
        ask: impl FnOnce(&Call<'_>, I) -> Result<R, E> + Send + 'static,
    ) -> Step<Result<R, E>>
    where
        I: Send + 'static,
        R: Send + 'static,
        E: CallError,
    {
        Step::Ready(ask(call, input))
    }
}

/// Adds the functions of one interface to a linker. All of them have errors of type `E`.
pub(super) struct Functions<'a, T: 'static, L, E> {
    interface: LinkerInstance<'a, T>,
    state: StateOf<T>,
    kind: PhantomData<fn() -> (L, E)>,
}

impl<'a, T: 'static, L: Linkage<T>, E: CallError> Functions<'a, T, L, E> {
    /// Adds an interface to a linker, or more functions to one that it has.
    ///
    /// # Errors
    /// If the name is in use for something else.
    pub(super) fn new(
        linker: &'a mut Linker<T>,
        interface: &str,
        state: StateOf<T>,
    ) -> wasmtime::Result<Self> {
        Ok(Self { interface: linker.instance(interface)?, state, kind: PhantomData })
    }

    /// Adds further functions with another type of error.
    pub(super) fn with_error<F: CallError>(self) -> Functions<'a, T, L, F> {
        Functions { interface: self.interface, state: self.state, kind: PhantomData }
    }

    /// Adds a function that asks storage.
    ///
    /// # Errors
    /// If the interface already has it.
    pub(super) fn add<P, R>(
        &mut self,
        name: &str,
        function: impl Fn(&mut Caller<'_, T, L, E>, P) -> Outcome<R, E> + Send + Sync + 'static,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + 'static,
        R: Lower + Send + 'static,
    {
        let state = self.state;
        L::add(&mut self.interface, name, state, move |store, params| {
            function(&mut Caller::new(store, state), params)
        })
    }

    /// Adds a function that never waits for storage. It returns all its results as a tuple.
    ///
    /// # Errors
    /// If the interface already has it.
    pub(super) fn add_immediate<P, R>(
        &mut self,
        name: &str,
        function: impl Fn(&mut Caller<'_, T, L, E>, P) -> wasmtime::Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + 'static,
        R: ComponentNamedList + Lower + 'static,
    {
        let state = self.state;
        self.interface
            .func_wrap(name, move |store, params| function(&mut Caller::new(store, state), params))
    }

    /// Adds a function whose type is `async` and that never waits for storage.
    ///
    /// # Errors
    /// If the interface already has it.
    #[cfg(feature = "p3")]
    pub(super) fn add_ready<P, R>(
        &mut self,
        name: &str,
        function: impl Fn(&mut Caller<'_, T, L, E>, P) -> wasmtime::Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + 'static,
        R: Lower + Send + 'static,
    {
        let state = self.state;
        L::add(&mut self.interface, name, state, move |store, params| {
            Ok(Step::Ready(function(&mut Caller::new(store, state), params)?))
        })
    }

    /// Adds a resource, which the guest's table of handles holds as an `R`.
    ///
    /// # Errors
    /// If the interface already has it.
    pub(super) fn add_resource<R: Send + 'static>(&mut self, name: &str) -> wasmtime::Result<()> {
        let state = self.state;
        self.interface.resource(name, ResourceType::host::<R>(), move |mut store, rep| {
            // Fails only if the handle does not exist, which wasmtime prevents.
            state.find(store.data_mut()).handles_mut().delete(Resource::<R>::new_own(rep))?;
            Ok(())
        })
    }
}

/// Which storage a call uses.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// The caller's own.
    Own,
    /// The bucket of a handle.
    Handle(&'a Resource<Bucket>),
    Bucket(&'a Bucket),
}

impl<'a> From<&'a Resource<Bucket>> for Target<'a> {
    fn from(handle: &'a Resource<Bucket>) -> Self {
        Self::Handle(handle)
    }
}

impl Target<'_> {
    /// # Errors
    /// If the handle does not exist, which wasmtime prevents.
    fn bucket<'a>(self, state: &'a ComponentState) -> wasmtime::Result<&'a Bucket>
    where
        Self: 'a,
    {
        Ok(match self {
            Self::Own => state.own_bucket(),
            Self::Handle(handle) => state.handles().get(handle)?,
            Self::Bucket(bucket) => bucket,
        })
    }
}

/// The guest that calls a function: its store and its memory.
pub(super) struct Caller<'a, T: 'static, L, E> {
    store: StoreContextMut<'a, T>,
    state: StateOf<T>,
    /// The bytes of the arguments that were copied.
    #[cfg(feature = "p3")]
    copied: usize,
    kind: PhantomData<fn() -> (L, E)>,
}

impl<'a, T: 'static, L: Linkage<T>, E: CallError> Caller<'a, T, L, E> {
    fn new(store: StoreContextMut<'a, T>, state: StateOf<T>) -> Self {
        Self {
            store,
            state,
            #[cfg(feature = "p3")]
            copied: 0,
            kind: PhantomData,
        }
    }

    /// Counts bytes of the arguments that are copied.
    pub(super) fn count(&mut self, bytes: usize) {
        #[cfg(feature = "p3")]
        {
            self.copied = self.copied.saturating_add(bytes);
        }
        #[cfg(not(feature = "p3"))]
        let _ = bytes;
    }

    pub(super) fn store(&mut self) -> &mut StoreContextMut<'a, T> {
        &mut self.store
    }

    pub(super) fn state(&mut self) -> &mut ComponentState {
        self.state.find(self.store.data_mut())
    }

    /// Copies a key.
    ///
    /// # Errors
    /// If it is not valid text: the guest ends.
    pub(super) fn key(&mut self, key: &WasmStr) -> wasmtime::Result<Key> {
        let key = Key::new(key.to_str(&self.store)?);
        self.count(key.as_str().len());
        Ok(key)
    }

    /// Copies a key after which a listing continues.
    ///
    /// # Errors
    /// If it is not valid text: the guest ends.
    pub(super) fn cursor(&self, after: &WasmStr) -> wasmtime::Result<String> {
        Ok(truncate_cursor(&after.to_str(&self.store)?).to_owned())
    }

    /// Copies a value, if it is within the guest's limits.
    pub(super) fn value(&mut self, value: &WasmList<u8>) -> Value {
        self.count(value.len());
        let limits = self.state().storage().limits();
        Value::new(value.len(), &limits, || StorageValue::from(value.as_le_slice(&self.store)))
    }

    /// The limits of calls to a target.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(super) fn limits(&mut self, target: Target<'_>) -> wasmtime::Result<Limits> {
        self.call(target, "", |call| call.limits())
    }

    /// Asks storage on behalf of the guest. `operation` is for the log.
    ///
    /// # Errors
    /// Once the host is shut down: the guest ends.
    pub(super) fn ask<R: Send + 'static>(
        &mut self,
        target: Target<'_>,
        operation: &'static str,
        cost: Cost,
        ask: impl FnOnce(&Call<'_>) -> Result<R, E> + Send + 'static,
    ) -> Outcome<R, E> {
        self.ask_known(target, operation, cost, (), |_, _| None, |call, ()| ask(call))
    }

    /// The same, with the answer of `known` if storage has it in memory.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(super) fn ask_known<I: Send + 'static, R: Send + 'static>(
        &mut self,
        target: Target<'_>,
        operation: &'static str,
        cost: Cost,
        input: I,
        known: impl FnOnce(&Call<'_>, &mut I) -> Option<R>,
        ask: impl FnOnce(&Call<'_>, I) -> Result<R, E> + Send + 'static,
    ) -> Outcome<R, E> {
        self.call(target, operation, |call| L::ask(call, cost, input, known, ask))
    }

    /// Answers with an error that was found before storage was asked.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    #[cfg(feature = "p3")]
    pub(super) fn refuse<R: Send + 'static>(
        &mut self,
        target: Target<'_>,
        operation: &'static str,
        refused: GuestError,
    ) -> Outcome<R, E> {
        self.call(target, operation, |call| Step::Ready(Err(E::from_guest(call, refused))))
    }

    /// Answers with a limit that was exceeded. It counts as a call of storage.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(super) fn over_limit<R: Send + 'static>(
        &mut self,
        target: Target<'_>,
        operation: &'static str,
        error: StorageError,
    ) -> Outcome<R, E> {
        self.call(target, operation, |call| {
            call.own.account().refused(call.storage_operation(), &error);
            Step::Ready(Err(E::from_guest(call, error.into())))
        })
    }

    /// Runs `run` with the call, for its storage and its errors.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(super) fn call<R>(
        &mut self,
        target: Target<'_>,
        operation: &'static str,
        run: impl FnOnce(&Call<'_>) -> R,
    ) -> wasmtime::Result<R> {
        let state = &*self.state.find(self.store.data_mut());
        let own = state.storage_for_call()?;
        Ok(run(&Call {
            own,
            bucket: target.bucket(state)?,
            operation,
            #[cfg(feature = "p3")]
            copied: self.copied,
        }))
    }

    /// Opens the store that a guest names.
    ///
    /// # Errors
    /// If the name is not valid text: the guest ends.
    pub(super) fn open(&mut self, name: &WasmStr) -> wasmtime::Result<Result<Resource<Bucket>, E>>
    where
        E: From<CannotOpen>,
    {
        let own = Arc::clone(self.state().storage());
        // Not copied, because it may be longer than any valid name.
        let opened = Bucket::open(&own, &name.to_str(&self.store)?);
        Ok(match opened {
            Ok(bucket) => push(self.state(), "open", bucket),
            Err(why) => Err(why.into()),
        })
    }
}
