//! `run`: runs a component with its storage.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use storage_host::guest::{self, ComponentState};
use storage_host::wasmtime::component::{Component, Linker, ResourceTable};
use storage_host::wasmtime::{Engine, Trap};
use storage_host::wasmtime_wasi::p2::bindings::sync::CommandPre;
use storage_host::wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView, p2};
use storage_host::{ComponentChain, ComponentId, StorageHost};
use tokio::runtime::Runtime;

use super::compiled::Compiler;
use super::ending::{self, OnSignal};
use super::failure::Failure;
use super::guest_output::{GuestOutput, OutputGone};
use super::imports::Purpose;
use super::link;
use super::progress::when_late;
use super::serving::Serving;
use super::{resources, stdio};

/// The data of a wasmtime store.
struct State {
    storage: ComponentState,
    wasi: WasiCtx,
    resources: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}

/// The maximum number of random bytes per call; wasmtime's default allows 64 MiB of the
/// host's memory.
const MAX_RANDOM_BYTES: u64 = 1 << 20;

/// How long a component may stay in a call to the host after its timeout.
const GRACE: Duration = Duration::from_secs(1);

/// A component to run, and how.
pub(super) struct Job<'a> {
    pub(super) id: &'a ComponentId,
    pub(super) component: &'a Path,
    /// The component's arguments.
    pub(super) args: &'a [String],
    /// Keys to set before the start, in this order.
    pub(super) presets: Vec<(String, String)>,
    pub(super) instances: u16,
    pub(super) timeout: Option<Duration>,
    /// Whether errors are written as JSON.
    pub(super) json: bool,
}

impl Job<'_> {
    /// Runs the component, and returns the highest status of its instances. `open` is
    /// called once the component is known to be runnable, so that no store is created for
    /// one that is not.
    pub(super) fn run(
        &self,
        open: impl FnOnce() -> Result<(StorageHost, Serving), Failure>,
    ) -> Result<ExitCode, Failure> {
        stdio::check_output().map_err(|error| Failure::of_output(&error))?;
        let compiler = Compiler::new(self.timeout.is_some())?;
        let component = compiler.load(self.component)?;
        let engine = compiler.engine;
        let command = link(&engine, &component, self.component)?;
        let runtime = resources::runtime(self.instances)?;
        let (host, serving) = open()?;
        let _on_signal = OnSignal::shut_down(&host);
        let storage = host.component(self.id);
        for (key, value) in &self.presets {
            storage
                .for_operator()
                .set(key, value.as_str().into())
                .map_err(|error| Failure::of_preset(key, error))?;
        }
        let ended = match self.timeout {
            None => self.run_instances(&engine, &command, &storage, &runtime),
            Some(timeout) => {
                guest::start_clock(&engine).map_err(|error| {
                    Failure::new(
                        "internal",
                        format!("cannot start the clock of the timeout: {error}"),
                    )
                })?;
                let ended = || self.run_instances(&engine, &command, &storage, &runtime);
                self.within(timeout, (&host, &serving), ended)
            }
        };
        // Before the store is closed, so that no other process finds it open and no one there.
        drop(serving);
        // A thread of the runtime may still wait for input.
        runtime.shutdown_background();
        // Also after a trap: earlier writes must survive it.
        host.store().flush()?;
        ended
    }

    /// Ends the process if `run` has not returned some time after the timeout. Epochs do
    /// not interrupt a component that waits for input or sleeps.
    fn within<R>(
        &self,
        timeout: Duration,
        (host, serving): (&StorageHost, &Serving),
        run: impl FnOnce() -> R,
    ) -> R {
        let end = || {
            if ending::is_ending() {
                return;
            }
            if let Err(error) = host.store().flush() {
                tracing::error!(%error, "cannot flush the store");
            }
            serving.stop();
            self.timed_out(timeout).report(self.json);
            std::process::exit(1);
        };
        when_late(timeout.saturating_add(GRACE), end, run)
    }

    fn timed_out(&self, timeout: Duration) -> Failure {
        let seconds = timeout.as_secs();
        Failure::new(
            "timeout",
            format!("{} was stopped: it ran longer than its timeout of {seconds} s", self.id),
        )
    }

    /// Runs all instances at once, each on its own thread.
    fn run_instances(
        &self,
        engine: &Engine,
        command: &CommandPre<State>,
        storage: &Arc<ComponentChain>,
        runtime: &Runtime,
    ) -> Result<ExitCode, Failure> {
        let call = || {
            let _entered = runtime.enter();
            self.call(engine, command, Arc::clone(storage))
        };
        let ended: Vec<Result<u8, Failure>> = if self.instances <= 1 {
            vec![call()]
        } else {
            thread::scope(|scope| {
                let start = |_| thread::Builder::new().spawn_scoped(scope, call);
                let instances: Vec<_> = (0..self.instances).map(start).collect();
                let panicked =
                    |_| Err(Failure::new("internal", "an instance panicked in the host"));
                let end = |instance: io::Result<thread::ScopedJoinHandle<'_, _>>| match instance {
                    Ok(instance) => instance.join().unwrap_or_else(panicked),
                    Err(error) => Err(Failure::new(
                        "internal",
                        format!("cannot start a thread for an instance: {error}"),
                    )),
                };
                instances.into_iter().map(end).collect()
            })
        };
        if ending::is_ending() {
            return Ok(ExitCode::SUCCESS);
        }
        match worst(ended) {
            // The exit code of a failure is 1.
            (0..=1, Some(failure)) => Err(failure),
            (worst, Some(failure)) => Ok(failure.report_with_status(worst, self.json)),
            (worst, None) => Ok(ExitCode::from(worst)),
        }
    }

    /// Runs one instance, and returns its status.
    fn call(
        &self,
        engine: &Engine,
        command: &CommandPre<State>,
        storage: Arc<ComponentChain>,
    ) -> Result<u8, Failure> {
        let name = self.component.file_name().unwrap_or_default().to_string_lossy();
        let limits = storage.limits();
        let state = State {
            storage: ComponentState::new(storage),
            wasi: WasiCtx::builder()
                .inherit_stdin()
                .stdout(GuestOutput::output(io::stdout()))
                .stderr(GuestOutput::error(io::stderr()))
                .arg(name)
                .args(self.args)
                .allow_blocking_current_thread(true)
                .max_random_size(MAX_RANDOM_BYTES)
                .build(),
            resources: ResourceTable::new(),
        };
        let mut store = guest::new_store(engine, state, |state| &mut state.storage);
        if let Some(timeout) = self.timeout {
            guest::set_timeout(&mut store, timeout);
        }
        let instance = match command.instantiate(&mut store) {
            Err(error) if let Some(reason) = resources::refused_by_limit(&error) => {
                return Err(Failure::new("limit", format!("cannot run {}: {reason}", self.id)));
            }
            instance => instance,
        };
        let ended = instance.and_then(|command| command.wasi_cli_run().call_run(&mut store));
        let refused = store
            .data()
            .storage
            .refused_memory()
            .map(|max| format!("; the host refused to grow its memory above {max} bytes"));
        let refused = refused.unwrap_or_default();
        match ended {
            Ok(Ok(())) => Ok(0),
            // The component reports a failure, and usually has printed the reason itself.
            Ok(Err(())) => {
                tracing::info!("{} returned an error without a status{refused}", self.id);
                Ok(1)
            }
            Err(error) => {
                if let Some(I32Exit(status)) = error.downcast_ref() {
                    return Ok(u8::try_from(*status).unwrap_or(1));
                }
                if let Some(OutputGone { exit_code }) = error.downcast_ref() {
                    return Ok(*exit_code);
                }
                tracing::debug!("{error:?}");
                if let (Some(timeout), Some(Trap::Interrupt)) = (self.timeout, error.downcast_ref())
                {
                    return Err(self.timed_out(timeout));
                }
                let reason = guest::describe_failure(&error, &limits);
                Err(Failure::new("trap", format!("{} trapped: {reason}{refused}", self.id)))
            }
        }
    }
}

/// Checks that a component, which was read from `path`, can be run if it is compiled.
pub(super) fn check(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let compiler = Compiler::new(false)?;
    let component = compiler.compiled(path, bytes)?;
    link(&compiler.engine, &component, path).map(drop)
}

/// Links a component to this host.
fn link(engine: &Engine, component: &Component, path: &Path) -> Result<CommandPre<State>, Failure> {
    let mut linker = Linker::<State>::new(engine);
    p2::add_to_linker_sync(&mut linker)
        .and_then(|()| {
            guest::add_to_linker_for(component, &mut linker, |state: &mut State| &mut state.storage)
        })
        .and_then(|()| link::add_http(engine, component, &mut linker))
        .map_err(|error| link::no_linker(&error))?;
    link::link_for(Purpose::Run, component, path, &mut linker, CommandPre::new)
}

/// The highest of the statuses, and the first of the failures.
fn worst(ended: Vec<Result<u8, Failure>>) -> (u8, Option<Failure>) {
    let mut worst = 0;
    let mut first_failure = None;
    for end in ended {
        match end {
            Ok(status) => worst = worst.max(status),
            Err(failure) => first_failure = first_failure.or(Some(failure)),
        }
    }
    (worst, first_failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_status_and_the_first_failure_count() {
        let trap = |message: &str| Err(Failure::new("trap", message.to_owned()));
        assert!(matches!(worst(vec![]), (0, None)));
        assert!(matches!(worst(vec![Ok(1), Ok(7), Ok(0)]), (7, None)));
        let (status, failure) = worst(vec![Ok(0), trap("one"), Ok(7), trap("another")]);
        assert_eq!(status, 7);
        assert!(matches!(failure, Some(Failure::Error { message, .. }) if message == "one"));
    }
}
