//! Checks that enough threads and file descriptors are left before a component runs:
//! neither wasmtime-wasi nor the component reports their lack in a useful way.

use std::fs::File;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread;

use tokio::runtime::{Builder, Runtime};

use super::failure::Failure;

/// Descriptors for the store, the runtime, the admin socket and a few calls at a time.
const FILES: usize = 28;

/// Threads besides those of the instances: the runtime's, and those that wait for
/// standard input, for a timeout, for the next flush of the store and at the admin socket.
const THREADS: usize = 5;

const NULL_DEVICE: &str = if cfg!(windows) { "NUL" } else { "/dev/null" };

/// The runtime for WASI. Fails if too few threads or descriptors are left for this many
/// instances.
pub(super) fn runtime(instances: u16) -> Result<Runtime, Failure> {
    check_files(FILES.saturating_add(instances.into()))?;
    // A single instance runs on the main thread.
    let own = if instances > 1 { usize::from(instances) } else { 0 };
    check_threads(THREADS.saturating_add(own))?;
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_io().enable_time();
    build(&mut builder)
}

/// The runtime of a server, with a thread for each processor.
#[cfg(feature = "serve")]
pub(super) fn server_runtime() -> Result<Runtime, Failure> {
    check_files(FILES)?;
    let processors = thread::available_parallelism().map_or(1, usize::from);
    check_threads(THREADS.saturating_add(processors))?;
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(processors).enable_io().enable_time();
    build(&mut builder)
}

/// Descriptors of a server besides those of its connections.
#[cfg(all(feature = "serve", unix))]
const SERVER_FILES: u64 = 256;

/// Raises the limit on open files as far as this many connections need it and this process
/// may. Returns how many connections it allows.
#[cfg(all(feature = "serve", unix))]
pub(super) fn connections_allowed(wanted: usize) -> Result<usize, Failure> {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let needed = (wanted as u64).saturating_add(SERVER_FILES);
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = Some(needed.min(most));
        // If this fails, the old limit counts.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if current >= needed {
        return Ok(wanted);
    }
    match usize::try_from(current.saturating_sub(SERVER_FILES)) {
        Ok(allowed) if allowed > 0 => Ok(allowed),
        _ => Err(Failure::new(
            "limit",
            format!(
                "cannot serve: the limit on open files is {current}, and a server needs more than \
                 {SERVER_FILES}; raise it (ulimit -n)"
            ),
        )),
    }
}

#[cfg(all(feature = "serve", not(unix)))]
pub(super) fn connections_allowed(wanted: usize) -> Result<usize, Failure> {
    Ok(wanted)
}

fn build(builder: &mut Builder) -> Result<Runtime, Failure> {
    // tokio panics if its thread cannot be started, which can fail despite the check.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let built = panic::catch_unwind(AssertUnwindSafe(|| builder.build()));
    panic::set_hook(hook);
    match built {
        Ok(Ok(runtime)) => Ok(runtime),
        Ok(Err(error)) => Err(no_files(FILES, &error)),
        Err(_) => Err(no_threads(THREADS, &io::ErrorKind::WouldBlock.into())),
    }
}

/// Opens this many files at once, and closes them.
fn check_files(needed: usize) -> Result<(), Failure> {
    let mut files = Vec::new();
    for _ in 0..needed {
        match File::open(NULL_DEVICE) {
            Ok(file) => files.push(file),
            // Without the null device the check is not possible.
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(no_files(needed, &error)),
        }
    }
    Ok(())
}

/// Starts this many threads at once, and ends them.
fn check_threads(needed: usize) -> Result<(), Failure> {
    let mut held = Vec::new();
    let started = (0..needed).try_for_each(|_| {
        let (hold, until) = mpsc::channel::<()>();
        let wait = move || until.recv().is_ok();
        held.push((hold, thread::Builder::new().spawn(wait)?));
        Ok(())
    });
    for (hold, thread) in held {
        drop(hold);
        // It cannot panic.
        let _ = thread.join();
    }
    started.map_err(|error: io::Error| no_threads(needed, &error))
}

fn no_files(needed: usize, error: &io::Error) -> Failure {
    Failure::new(
        "limit",
        format!(
            "cannot run the component: it may need {needed} open files, more than the limit leaves \
             ({error}); raise the limit on open files (ulimit -n)"
        ),
    )
}

fn no_threads(needed: usize, error: &io::Error) -> Failure {
    Failure::new(
        "limit",
        format!(
            "cannot run the component: it needs {needed} threads, more than can be started \
             ({error}); raise the limit on threads and processes (ulimit -u, or the container's), \
             or end other processes of this user"
        ),
    )
}

/// Which limit of this process kept a component from being instantiated, if one did.
pub(super) fn refused_by_limit(error: &wasmtime::Error) -> Option<String> {
    let cause = error.root_cause().downcast_ref::<io::Error>()?;
    let limit = match cause.kind() {
        io::ErrorKind::OutOfMemory => "address space (ulimit -v)",
        io::ErrorKind::FileTooLarge => "the size of a file (ulimit -f)",
        _ => return None,
    };
    Some(format!("cannot reserve its memory ({cause}); raise the limit on {limit}"))
}
