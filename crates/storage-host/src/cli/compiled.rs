//! From a component's file to machine code.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use storage_host::guest;
use storage_host::wasmtime::component::Component;
use storage_host::wasmtime::{self, Cache, CacheConfig, Engine};

use super::failure::Failure;
use super::imports;
use super::progress::when_late;

/// How long a component is compiled without a word.
const QUIET: Duration = Duration::from_secs(2);

/// What compiles components.
pub(super) struct Compiler {
    pub(super) engine: Engine,
    /// Whether what comes of it is kept.
    keeps: bool,
    /// Whether nothing but JSON may be written.
    json: bool,
}

impl Compiler {
    /// An engine with a cache of compiled components where there is a place for
    /// one. With deadlines, guests run a little slower and are compiled anew.
    pub(super) fn new(has_deadlines: bool, json: bool) -> Result<Self, Failure> {
        let mut config = guest::engine_config();
        config.epoch_interruption(has_deadlines);
        let cache = cache();
        let keeps = cache.is_some();
        config.cache(cache);
        let engine = Engine::new(&config).map_err(|error| {
            Failure::new("internal", format!("cannot start wasmtime: {error:#}"))
        })?;
        Ok(Self { engine, keeps, json })
    }

    /// Reads a component and compiles it, unless it is seen before that it cannot
    /// be run.
    pub(super) fn load(&self, path: &Path) -> Result<Component, Failure> {
        let bytes = read(path)?;
        if let Some(missing) = imports::look(&bytes) {
            return Err(wrong(format!("{}{missing}", path.display())));
        }
        let tell = || {
            if !self.json {
                let kept =
                    if self.keeps { "; what comes of it is kept for the next run" } else { "" };
                // If nobody listens, nobody wonders.
                let _ = writeln!(io::stderr(), "compiling {}{kept}", path.display());
            }
        };
        when_late(QUIET, tell, || Component::new(&self.engine, &bytes))
            .map_err(|error| wrong(format!("{}{}", path.display(), describe_invalid(&error))))
    }
}

fn wrong(message: String) -> Failure {
    Failure::new("component", message)
}

/// Why wasmtime does not take a component.
fn describe_invalid(error: &wasmtime::Error) -> String {
    let cause = error.root_cause().to_string();
    // wasmtime keeps the kinds of these errors to itself.
    if cause.contains("component model async") || cause.contains("component model more async") {
        return format!(
            " uses async functions of the component model, which this host does not have: build it \
             without them ({cause})"
        );
    }
    format!(" is no valid component: {cause}")
}

/// A cache in the user's cache folder. Where there is none, or it cannot be
/// written, a component is compiled at each run.
fn cache() -> Option<Cache> {
    let mut config = CacheConfig::new();
    config.with_directory(cache_folder()?.join("storage-host"));
    Cache::new(config).inspect_err(|error| tracing::debug!("no cache: {error:#}")).ok()
}

/// The user's cache folder, if it is told.
pub(super) fn cache_folder() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))
}

/// Reads a file that begins as a component does.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    let bytes = fs::read(path)
        .map_err(|error| wrong(format!("cannot read the component {shown}: {error}")))?;
    match kind_of(&bytes) {
        Kind::Component => Ok(bytes),
        Kind::CoreModule => Err(wrong(format!(
            "{shown} is a core WebAssembly module, not a component: build it for wasm32-wasip2, \
             or make a component of it with `wasm-tools component new`"
        ))),
        Kind::Other => Err(wrong(format!("{shown} is no WebAssembly component"))),
    }
}

/// What a file is by its first eight bytes.
enum Kind {
    Component,
    CoreModule,
    Other,
}

fn kind_of(bytes: &[u8]) -> Kind {
    // Behind the magic number stand the version and the layer: 0 for a core
    // module, 1 for a component.
    match bytes {
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => Kind::Component,
        [b'\0', b'a', b's', b'm', _, _, 0, 0, ..] => Kind::CoreModule,
        _ => Kind::Other,
    }
}
