//! The threads and descriptors that a component needs, seen to before it runs: neither
//! wasmtime-wasi nor the component can say what is wrong when they run out.

use std::fs::File;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread;

use tokio::runtime::{Builder, Runtime};

use super::failure::Failure;

/// Descriptors for the store, the runtime and what a few calls have open at a time.
const FILES: usize = 20;

/// Threads beside those of the instances: the runtime's, and those that wait for
/// standard input, for a timeout and for a store that flushes itself.
const THREADS: usize = 4;

const NULL_DEVICE: &str = if cfg!(windows) { "NUL" } else { "/dev/null" };

/// What WASI runs on.
///
/// # Errors
/// If a limit of the process leaves too few threads or descriptors for so many
/// instances.
pub(super) fn runtime(instances: u16) -> Result<Runtime, Failure> {
    check_files(FILES.saturating_add(instances.into()))?;
    // A single instance runs on the main thread.
    let own = if instances > 1 { usize::from(instances) } else { 0 };
    check_threads(THREADS.saturating_add(own))?;
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_io().enable_time();
    // tokio panics where its thread cannot be started. There may be none left although
    // there were just now.
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

/// Opens so many files at once, and closes them.
fn check_files(needed: usize) -> Result<(), Failure> {
    let mut files = Vec::new();
    for _ in 0..needed {
        match File::open(NULL_DEVICE) {
            Ok(file) => files.push(file),
            // Without that file nothing is known.
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(no_files(needed, &error)),
        }
    }
    Ok(())
}

/// Starts so many threads at once, and ends them.
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
        // It does nothing that could panic.
        let _ = thread.join();
    }
    started.map_err(|error: io::Error| no_threads(needed, &error))
}

fn no_files(needed: usize, error: &io::Error) -> Failure {
    Failure::new(
        "limit",
        format!(
            "cannot run the component: it may need {needed} more open files, which the limit does \
             not allow ({error}); raise the limit (ulimit -n)"
        ),
    )
}

fn no_threads(needed: usize, error: &io::Error) -> Failure {
    Failure::new(
        "limit",
        format!(
            "cannot run the component: not all of the {needed} threads that it needs can be \
             started ({error}); raise the limit on processes and threads (ulimit -u, or that of \
             the container), or end other processes of this user"
        ),
    )
}

/// Why a component was not instantiated, if a limit of this process keeps its memory
/// from being reserved, or the file behind that from being written.
pub(super) fn refused_by_limit(error: &wasmtime::Error) -> Option<String> {
    let cause = error.root_cause().downcast_ref::<io::Error>()?;
    let limit = match cause.kind() {
        io::ErrorKind::OutOfMemory => "address space (ulimit -v)",
        io::ErrorKind::FileTooLarge => "the size of a file (ulimit -f)",
        _ => return None,
    };
    Some(format!("its memory cannot be reserved ({cause}); raise the limit on {limit}"))
}
