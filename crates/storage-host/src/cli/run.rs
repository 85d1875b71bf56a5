//! `run`: a component with storage of its own.

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use storage_host::guest::{self, ComponentState};
use storage_host::wasmtime::component::{Component, Linker, ResourceTable};
use storage_host::wasmtime::{self, Engine, Trap};
use storage_host::wasmtime_wasi::p2::bindings::sync::CommandPre;
use storage_host::wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView, p2};
use storage_host::{ComponentChain, ComponentId, ComponentStorage, StorageHost};

use super::compiled;
use super::failure::Failure;

/// What a component runs with: its storage, and what WASI lends it.
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

/// The most random bytes that a component gets in one call.
const MAX_RANDOM_BYTES: u64 = 1 << 20;

/// How long after its timeout a component may still be in a call to the host.
const GRACE: Duration = Duration::from_secs(1);

/// A component that is to be run, and how.
pub(super) struct Job<'a> {
    pub(super) id: &'a ComponentId,
    /// Its file.
    pub(super) component: &'a Path,
    pub(super) args: &'a [String],
    /// Keys that are set first, in this order.
    pub(super) presets: Vec<(String, String)>,
    /// How many instances run at a time.
    pub(super) instances: u16,
    /// How long they may run.
    pub(super) timeout: Option<Duration>,
    /// Whether an error is told in JSON.
    pub(super) json: bool,
}

impl Job<'_> {
    /// Runs the component to its end and gives the worst status of its instances.
    /// `open` makes the host once it is known that the component can run: one that
    /// cannot must not leave a new store behind.
    pub(super) fn run(
        &self,
        open: impl FnOnce() -> Result<StorageHost, Failure>,
    ) -> Result<ExitCode, Failure> {
        let engine = compiled::engine(self.timeout.is_some())?;
        let component = compiled::load(&engine, self.component)?;
        let command = link(&engine, &component, self.component)?;
        let host = open()?;
        let storage = host.component(self.id);
        for (key, value) in &self.presets {
            storage
                .set(key, value.as_str().into())
                .map_err(|error| Failure::of_preset(key, error))?;
        }
        let ended = match self.timeout {
            None => self.run_instances(&engine, &command, &storage),
            Some(timeout) => {
                guest::start_clock(&engine).map_err(|error| {
                    Failure::new("internal", format!("cannot start a clock: {error}"))
                })?;
                let ended = || self.run_instances(&engine, &command, &storage);
                self.within(timeout, &host, ended)
            }
        };
        // Also after a trap: what was written before it stays.
        host.backend().flush()?;
        ended
    }

    /// Ends the command if what it runs has not ended some time after the timeout: a
    /// component that waits for input or sleeps is not running, and so no epoch
    /// ends it.
    fn within<R>(&self, timeout: Duration, host: &StorageHost, run: impl FnOnce() -> R) -> R {
        let (done, is_done) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                let waited = is_done.recv_timeout(timeout.saturating_add(GRACE));
                if waited == Err(mpsc::RecvTimeoutError::Timeout) {
                    // What was written is kept, as after every other end.
                    if let Err(error) = host.backend().flush() {
                        tracing::error!(%error, "the store could not be flushed");
                    }
                    self.timed_out(timeout).report(self.json);
                    std::process::exit(1);
                }
            });
            let ended = run();
            drop(done);
            ended
        })
    }

    fn timed_out(&self, timeout: Duration) -> Failure {
        let seconds = timeout.as_secs();
        Failure::new(
            "timeout",
            format!("{} was ended: it ran for more than the {seconds} s of its timeout", self.id),
        )
    }

    /// Runs all instances at once, each on a thread of its own.
    fn run_instances(
        &self,
        engine: &Engine,
        command: &CommandPre<State>,
        storage: &Arc<ComponentChain>,
    ) -> Result<ExitCode, Failure> {
        let call = || self.call(engine, command, Arc::clone(storage));
        let ended: Vec<Result<u8, Failure>> = if self.instances <= 1 {
            vec![call()]
        } else {
            thread::scope(|scope| {
                let instances: Vec<_> = (0..self.instances).map(|_| scope.spawn(call)).collect();
                let join = |instance: thread::ScopedJoinHandle<'_, _>| instance.join();
                let panicked =
                    |_| Err(Failure::new("internal", "an instance panicked in the host"));
                instances.into_iter().map(|one| join(one).unwrap_or_else(panicked)).collect()
            })
        };
        let mut worst = 0;
        let mut first_failure = None;
        for end in ended {
            match end {
                Ok(status) => worst = worst.max(status),
                Err(failure) => first_failure = first_failure.or(Some(failure)),
            }
        }
        match first_failure {
            // A trap is 1; a status above it is worse.
            Some(failure) if worst <= 1 => Err(failure),
            Some(failure) => {
                failure.report(self.json);
                Ok(ExitCode::from(worst))
            }
            None => Ok(ExitCode::from(worst)),
        }
    }

    /// Runs one instance and gives its status.
    fn call(
        &self,
        engine: &Engine,
        command: &CommandPre<State>,
        storage: Arc<ComponentChain>,
    ) -> Result<u8, Failure> {
        let name = self.component.file_name().unwrap_or_default().to_string_lossy();
        let limits = *storage.limits();
        let state = State {
            storage: ComponentState::new(storage),
            wasi: WasiCtx::builder()
                .inherit_stdio()
                .arg(name)
                .args(self.args)
                .allow_blocking_current_thread(true)
                // By default 64 MiB of the host's memory a call.
                .max_random_size(MAX_RANDOM_BYTES)
                .build(),
            resources: ResourceTable::new(),
        };
        let mut store = guest::new_store(engine, state, |state| &mut state.storage);
        if let Some(timeout) = self.timeout {
            guest::set_timeout(&mut store, timeout);
        }
        let ended = command
            .instantiate(&mut store)
            .and_then(|command| command.wasi_cli_run().call_run(&mut store));
        match ended {
            Ok(Ok(())) => Ok(0),
            // The component says that it failed, and has said why itself.
            Ok(Err(())) => Ok(1),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(status)) => Ok(u8::try_from(*status).unwrap_or(1)),
                None => {
                    tracing::debug!("{error:?}");
                    if let (Some(timeout), Some(Trap::Interrupt)) =
                        (self.timeout, error.downcast_ref())
                    {
                        return Err(self.timed_out(timeout));
                    }
                    let reason = guest::describe_failure(&error, &limits);
                    Err(Failure::new("trap", format!("{} trapped: {reason}", self.id)))
                }
            },
        }
    }
}

/// Sees whether a component could be run.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let engine = compiled::engine(false)?;
    let component = compiled::load(&engine, path)?;
    link(&engine, &component, path).map(drop)
}

/// Finds everything that the component imports.
fn link(engine: &Engine, component: &Component, path: &Path) -> Result<CommandPre<State>, Failure> {
    let mut linker = Linker::<State>::new(engine);
    p2::add_to_linker_sync(&mut linker)
        .and_then(|()| {
            guest::add_to_linker_for(component, &mut linker, |state: &mut State| &mut state.storage)
        })
        .map_err(|error| {
            Failure::new("internal", format!("cannot set up the linker: {error:#}"))
        })?;
    let wrong = |message| Failure::new("component", format!("{}{message}", path.display()));
    let linked = linker
        .instantiate_pre(component)
        .map_err(|error| wrong(describe_missing(engine, component, &error)))?;
    CommandPre::new(linked).map_err(|_| {
        wrong(
            " exports no wasi:cli/run: run takes a command, such as a Rust program built for \
             wasm32-wasip2"
                .to_owned(),
        )
    })
}

/// What the interfaces of WASI that this host has begin with.
const WASI: [&str; 6] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// Whether an interface is here, if not in the version or with all that is asked.
fn is_known(import: &str) -> bool {
    let storage = ["airssys:core/storage@1.", "airssys:storage/extended@0.1."];
    guest::provides(import) || WASI.iter().chain(&storage).any(|prefix| import.starts_with(prefix))
}

/// Names the import that the linker did not find.
fn describe_missing(engine: &Engine, component: &Component, error: &wasmtime::Error) -> String {
    let here = format!(
        "this host has {}, {}, wasi:keyvalue (store, atomics and batch in 0.2.0-draft and \
         0.2.0-draft2) and WASI 0.2 (cli, clocks, filesystem, io, random and sockets)",
        guest::INTERFACE,
        guest::EXTENDED
    );
    let shown = format!("{error:#}");
    let imports = component.component_type();
    let mut names = imports.imports(engine).map(|(name, _)| name);
    match names.find(|name| shown.contains(&format!("`{name}`"))) {
        Some(name) if !is_known(name) => {
            format!(" imports {name}, which this host does not have; {here}")
        }
        // The interface is here, but not with all that the component asks of it.
        _ => format!(" asks for something that this host does not have: {shown}; {here}"),
    }
}
