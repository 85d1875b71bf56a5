//! The linkage of an asynchronous linker: calls that may block run on other threads.

use std::any::Any;
use std::future::{self, Future};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use storage_core::StorageError;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use wasmtime::component::{ComponentNamedList, Lift, LinkerInstance, Lower};
use wasmtime::{AsContextMut, StoreContextMut};

use super::call::{Cost, Linkage, StateOf, Step};
use super::errors::{Call, CallError, GuestError};
use super::state::ComponentState;
use crate::component_chain::ComponentChain;
use crate::host::StorageHost;
use crate::offload::{BriefReads, Refused};

/// The linkage of an asynchronous linker.
pub(super) struct Offloading;

impl<T: Send + 'static> Linkage<T> for Offloading {
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
        (R,): ComponentNamedList + Lower,
    {
        interface.func_wrap_async(name, move |mut store, params| {
            let ready = match function(store.as_context_mut(), params) {
                Ok(Step::Ready(result)) => Ok((result,)),
                Ok(Step::Offload(job)) => {
                    return Box::new(async move {
                        let done = job.run().await?;
                        Ok((done.finish(state.find(store.data_mut())),))
                    }) as Box<dyn Future<Output = _> + Send + '_>;
                }
                Err(error) => Err(error),
            };
            Box::new(future::ready(ready))
        })
    }

    fn ask<I, R, E>(
        call: &Call<'_>,
        cost: Cost,
        mut input: I,
        known: impl FnOnce(&Call<'_>, &mut I) -> Option<R>,
        ask: impl FnOnce(&Call<'_>, I) -> Result<R, E> + Send + 'static,
    ) -> Step<Result<R, E>>
    where
        I: Send + 'static,
        R: Send + 'static,
        E: CallError,
    {
        // Before a future exists: a known answer costs no more than the box of a ready one.
        if let Some(known) = known(call, &mut input) {
            return Step::Ready(Ok(known));
        }
        // A component that floods is refused here, without a thread.
        if let Err(error) = call.own.account().check_rate() {
            call.own.account().refused(call.storage_operation(), &error);
            return Step::Ready(Err(E::from_storage(call, None, &error)));
        }
        match place(call.own.host(), cost) {
            Place::Here => Step::Ready(ask(call, input)),
            Place::Blocking => match call.own.host().offloader().try_admit(call.own.share()) {
                Some(_permits) => Step::Ready(block_in_place(|| ask(call, input))),
                None => Step::Offload(Job::new(call, move |call| ask(call, input))),
            },
            Place::OtherThread => Step::Offload(Job::new(call, move |call| ask(call, input))),
        }
    }
}

/// Where a call is made.
enum Place {
    /// Here, as it does not block.
    Here,
    /// Here, after tokio has moved other tasks away.
    Blocking,
    OtherThread,
}

fn place(host: &StorageHost, cost: Cost) -> Place {
    let store = host.store_behaviour();
    if !store.may_block {
        return Place::Here;
    }
    // Other hosts are reached through a network.
    if cost == Cost::Long || store.is_shared {
        return Place::OtherThread;
    }
    let has_threads = Handle::try_current()
        .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    match host.offloader().settings().brief_reads {
        BriefReads::Auto | BriefReads::InPlace if has_threads => Place::Blocking,
        BriefReads::InPlace => Place::Here,
        BriefReads::Auto | BriefReads::Offload => Place::OtherThread,
    }
}

/// A call to be made on another thread. It owns everything that it needs.
pub(super) struct Job<A> {
    chain: Arc<ComponentChain>,
    #[cfg(feature = "p3")]
    size: super::p3::Size,
    /// Makes the call, or returns the error of a refused one.
    call: Box<dyn FnOnce(Result<(), Refused>) -> Done<A> + Send>,
}

/// An answer, which may need the guest's handles to be complete.
pub(super) enum Done<A> {
    Answer(A),
    NeedsState(Box<dyn FnOnce(&mut ComponentState) -> A + Send>),
}

impl<A> Done<A> {
    /// The answer, if it is complete without the guest's handles.
    #[cfg(feature = "p3")]
    pub(super) fn answer(self) -> Option<A> {
        match self {
            Self::Answer(answer) => Some(answer),
            Self::NeedsState(_) => None,
        }
    }

    pub(super) fn finish(self, state: &mut ComponentState) -> A {
        match self {
            Self::Answer(answer) => answer,
            Self::NeedsState(finish) => finish(state),
        }
    }
}

impl<R: Send + 'static, E: CallError> Job<Result<R, E>> {
    fn new(call: &Call<'_>, ask: impl FnOnce(&Call<'_>) -> Result<R, E> + Send + 'static) -> Self {
        let chain = Arc::clone(call.own);
        let (own, bucket, operation) = (Arc::clone(&chain), call.bucket.clone(), call.operation);
        #[cfg(feature = "p3")]
        let size = super::p3::Size::of(call);
        // What the call does belongs to the span of the guest.
        let span = tracing::Span::current();
        let call = move |admitted: Result<(), Refused>| {
            let call = Call {
                own: &own,
                bucket: &bucket,
                operation,
                #[cfg(feature = "p3")]
                copied: 0,
            };
            Done::Answer(match admitted {
                Err(refused) => Err(E::from_refused(&call, refused)),
                Ok(()) => catch_unwind(AssertUnwindSafe(|| span.in_scope(|| ask(&call))))
                    .unwrap_or_else(|panic| Err(E::from_storage(&call, None, &panicked(&*panic)))),
            })
        };
        Self {
            chain,
            #[cfg(feature = "p3")]
            size,
            call: Box::new(call),
        }
    }
}

impl<A: Send + 'static> Job<A> {
    pub(super) fn then<B>(
        self,
        finish: impl FnOnce(&mut ComponentState, A) -> B + Send + 'static,
    ) -> Job<B> {
        let Self { call, .. } = self;
        let call = move |admitted| {
            let done = call(admitted);
            Done::NeedsState(Box::new(move |state: &mut ComponentState| {
                let answer = done.finish(state);
                finish(state, answer)
            }) as Box<dyn FnOnce(&mut ComponentState) -> B + Send>)
        };
        Job {
            chain: self.chain,
            #[cfg(feature = "p3")]
            size: self.size,
            call: Box::new(call),
        }
    }

    #[cfg(feature = "p3")]
    pub(super) fn size(&self) -> super::p3::Size {
        self.size
    }

    /// Keeps a value until the call has ended, also if no one waits for it.
    #[cfg(feature = "p3")]
    pub(super) fn with_guard(mut self, guard: impl Send + 'static) -> Self {
        let call = self.call;
        self.call = Box::new(move |admitted| {
            let _guard = guard;
            call(admitted)
        });
        self
    }

    /// Answers with an error instead of making the call.
    #[cfg(feature = "p3")]
    pub(super) fn refuse(self, refused: Refused) -> Done<A> {
        (self.call)(Err(refused))
    }

    /// Makes the call on another thread, once there is a permit.
    ///
    /// # Errors
    /// If the runtime ends: so does the guest.
    pub(super) async fn run(self) -> wasmtime::Result<Done<A>> {
        let Self { chain, call, .. } = self;
        match chain.host().offloader().admit(chain.share()).await {
            Ok(admission) => admission
                .run(move || call(Ok(())))
                .await
                .map_err(|_| wasmtime::Error::msg("the runtime is shutting down")),
            Err(refused) => Ok(call(Err(refused))),
        }
    }
}

impl From<Refused> for GuestError {
    fn from(refused: Refused) -> Self {
        Self::IoError(match refused {
            #[cfg(feature = "p3")]
            Refused::Limit(error) => return error.into(),
            Refused::Overloaded(waited) => format!(
                "the host is overloaded: no thread was free within {} s; nothing was changed, \
                 try again later",
                waited.as_secs_f32()
            ),
            Refused::NoRuntime => {
                "the host has no runtime for asynchronous calls; nothing was changed".to_owned()
            }
        })
    }
}

fn panicked(payload: &(dyn Any + Send)) -> StorageError {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no message");
    StorageError::IoError(format!("a call to storage panicked: {text}"))
}
