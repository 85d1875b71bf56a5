//! The linkage of functions that are `async` in their interface.

use std::sync::Arc;

use storage_core::MAX_KEY_BYTES;
use wasmtime::AsContextMut;
use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, ComponentNamedList, Lift, LinkerInstance, Lower};

use crate::guest::asynchronous::{Job, Offloading};
use crate::guest::call::{Cost, Linkage, StateOf, Step};
use crate::guest::errors::{Call, CallError};
use crate::offload::Refused;

/// The linkage of functions whose calls overlap. A call that is offloaded does not block
/// the guest.
pub(super) struct Overlapping;

impl<T: Send + 'static> Linkage<T> for Overlapping {
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
        interface.func_wrap_concurrent(name, move |accessor, params| {
            // Now, and not in the future: afterwards the guest may change the arguments.
            let step = accessor.with(|mut access| function(access.as_context_mut(), params));
            Box::pin(async move {
                match step? {
                    Step::Ready(result) => Ok((result,)),
                    Step::Offload(job) => Ok((run(accessor, state, job).await?,)),
                }
            })
        })
    }

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
        E: CallError,
    {
        <Offloading as Linkage<T>>::ask(call, cost, input, known, ask)
    }
}

/// Makes a call that was read, if the guest may have another one in progress.
async fn run<T: Send + 'static, A: Send + 'static>(
    accessor: &Accessor<T>,
    state: StateOf<T>,
    job: Job<A>,
) -> wasmtime::Result<A> {
    let calls = accessor.with(|mut access| Arc::clone(state.find(access.data_mut()).calls()));
    let size = job.size();
    let done = match calls.begin(size.arguments) {
        Ok(call) => {
            let room = calls.room(size.result);
            // Here until the guest has the result, and there until the call has ended.
            let call = Arc::new(room.wait(call).await);
            job.with_guard(Arc::clone(&call)).run().await?
        }
        Err(error) => job.refuse(Refused::Limit(error)),
    };
    Ok(accessor.with(|mut access| done.finish(state.find(access.data_mut()))))
}

/// The bytes that the host holds for a call.
#[derive(Debug, Clone, Copy)]
pub(in crate::guest) struct Size {
    arguments: usize,
    /// The most that the result has.
    result: usize,
}

impl Size {
    pub(in crate::guest) fn of(call: &Call<'_>) -> Self {
        let limits = call.limits();
        let result = match call.operation {
            "set" | "delete" | "exists" | "increment" | "set-many" | "delete-many" => 0,
            "get" | "current" | "swap" => limits.value_bytes,
            "list-keys" => super::wasmcloud::KEYS_PER_PAGE.saturating_mul(MAX_KEY_BYTES),
            _ => limits.batch_bytes,
        };
        Self { arguments: call.copied, result }
    }
}
