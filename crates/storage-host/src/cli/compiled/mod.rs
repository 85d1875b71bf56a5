//! Compiles components, and caches the machine code for the next run.
//!
//! wasmtime's own cache does not check what it loads. This one verifies all code, and uses
//! only a directory that no other user can write.

mod code;
mod directory;
mod entry;
#[cfg_attr(not(unix), path = "no_store.rs")]
mod store;

use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use storage_host::guest;
use storage_host::wasmtime::component::Component;
use storage_host::wasmtime::{self, Config, Engine};

pub(super) use self::directory::CacheDirectory;
use self::entry::EntryKey;
use self::store::Store;
use super::escape::shell_quoted;
use super::failure::Failure;
use super::imports::{Contents, Purpose, needs_preview1};
use super::output::note;
use super::progress::when_late;

/// How long a compilation takes before a note is written.
const QUIET: Duration = Duration::from_secs(2);

/// Compiles components for a command.
pub(super) struct Compiler {
    pub(super) engine: Engine,
    purpose: Purpose,
    cache: Option<Store>,
}

impl Compiler {
    /// Creates an engine for `run`. With deadlines, guests run a little slower and need other
    /// machine code.
    pub(super) fn new(has_deadlines: bool) -> Result<Self, Failure> {
        let mut config = guest::engine_config();
        config.epoch_interruption(has_deadlines);
        Self::with(&config, Purpose::Run)
    }

    /// Creates an engine for `serve`.
    #[cfg(feature = "serve")]
    pub(super) fn for_server() -> Result<Self, Failure> {
        Self::with(&guest::async_engine_config(), Purpose::Serve)
    }

    /// Creates an engine, with a cache if its directory can be used.
    fn with(config: &Config, purpose: Purpose) -> Result<Self, Failure> {
        let cache = match CacheDirectory::find() {
            CacheDirectory::Trusted(directory) => Some(Store::new(directory)),
            CacheDirectory::None => None,
            CacheDirectory::Refused { path, reason } => {
                tracing::warn!(
                    "compiled components are not cached in {}: {reason}",
                    path.display()
                );
                None
            }
        };
        let engine = Engine::new(config).map_err(|error| {
            Failure::new("internal", format!("cannot start wasmtime: {error:#}"))
        })?;
        Ok(Self { engine, purpose, cache })
    }

    /// Reads a component and compiles it, unless it cannot be run.
    pub(super) fn load(&self, path: &Path) -> Result<Component, Failure> {
        let bytes = component(path, fs::read(path))?;
        let contents = Contents::read(&bytes);
        if let Some(obstacle) = contents.obstacle(self.purpose) {
            return Err(wrong(format!("{}{obstacle}{}", path.display(), contents.hint())));
        }
        self.compiled(path, &bytes)
    }

    /// Compiles a component that was read from `path`, or takes it from the cache.
    pub(super) fn compiled(&self, path: &Path, bytes: &[u8]) -> Result<Component, Failure> {
        let Some(store) = &self.cache else { return self.compile(path, bytes) };
        let key = EntryKey::new(&self.engine, bytes);
        if let Some(code) = store.read(&key) {
            match code::component_of(&self.engine, &code) {
                Ok(component) => return Ok(component),
                Err(error) => tracing::warn!("cannot use a cached component: {error:#}"),
            }
        }
        let component = self.compile(path, bytes)?;
        let cached = component
            .serialize()
            .map_err(io::Error::other)
            .and_then(|code| store.write(&key, &code));
        if let Err(error) = cached {
            tracing::debug!("cannot cache the compiled {}: {error}", path.display());
        }
        Ok(component)
    }

    fn compile(&self, path: &Path, bytes: &[u8]) -> Result<Component, Failure> {
        let announce = || {
            let cached = match self.cache {
                Some(_) if CacheDirectory::find().not_writable().is_none() => {
                    "; the result is cached for the next run"
                }
                _ => "",
            };
            note(format_args!("compiling {}{cached}", path.display()));
        };
        when_late(QUIET, announce, || Component::new(&self.engine, bytes))
            .map_err(|error| wrong(format!("{}{}", path.display(), describe_invalid(&error))))
    }
}

fn wrong(message: String) -> Failure {
    Failure::new("component", message)
}

/// Why wasmtime refuses a component.
fn describe_invalid(error: &wasmtime::Error) -> String {
    let cause = error.root_cause().to_string();
    // wasmtime has no public type for these errors.
    if cause.contains("component model async") || cause.contains("component model more async") {
        return format!(
            " uses async functions of the component model, which this host does not support: build \
             it without them ({cause})"
        );
    }
    // The section that the end of the file cuts off.
    if cause.contains("unexpected end-of-file") || cause.contains("is out of bounds (bound = ") {
        return format!(
            " is not a valid component: {cause}; it may be truncated: copy or download it again"
        );
    }
    format!(" is not a valid component: {cause}")
}

/// Checks that what was read from a file begins like a component.
pub(super) fn component(path: &Path, bytes: io::Result<Vec<u8>>) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    let bytes =
        bytes.map_err(|error| wrong(format!("cannot read the component {shown}: {error}")))?;
    match kind_of(&bytes) {
        Kind::Component => Ok(bytes),
        Kind::CoreModule => Err(wrong(describe_core_module(path, &bytes))),
        Kind::Other => {
            let reason = why_not_a_component(&bytes);
            Err(wrong(format!("{shown} is not a WebAssembly component{reason}")))
        }
    }
}

fn why_not_a_component(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => ": it is empty",
        [b'\0', b'a', b's', b'm', ..] => ": its version is unknown, or it is truncated",
        [b'(', ..] => ": it is text; if it is WebAssembly text, convert it with wasm-tools parse",
        _ if std::str::from_utf8(bytes).is_ok() => ": it is text",
        _ => "",
    }
}

/// What to do with a core module, as commands that can be pasted.
fn describe_core_module(path: &Path, bytes: &[u8]) -> String {
    let shown = path.display();
    // A name with a leading hyphen would be an option.
    let is_like_option = path.as_os_str().as_encoded_bytes().starts_with(b"-");
    let typed = if is_like_option { Path::new(".").join(path) } else { path.to_owned() };
    let for_terminal = io::stderr().is_terminal();
    let module = shell_quoted(&typed.to_string_lossy(), for_terminal);
    let component =
        shell_quoted(&typed.with_extension("component.wasm").to_string_lossy(), for_terminal);
    let what = format!("{shown} is a core WebAssembly module, not a component");
    if needs_preview1(bytes) {
        return format!(
            "{what}, and it imports WASI 0.1 (wasi_snapshot_preview1): build it for wasm32-wasip2, or \
             run: wasm-tools component new {module} --adapt wasi_snapshot_preview1.command.wasm \
             -o {component} (wasi_snapshot_preview1.command.wasm comes with each release of \
             wasmtime: https://github.com/bytecodealliance/wasmtime/releases)"
        );
    }
    format!(
        "{what}: build it for wasm32-wasip2, or, if it was built with bindings for components, \
         run: wasm-tools component new {module} -o {component}"
    )
}

/// The kind of a file, by its first eight bytes.
enum Kind {
    Component,
    CoreModule,
    Other,
}

fn kind_of(bytes: &[u8]) -> Kind {
    // The magic number, the version, and the layer: 0 for a module, 1 for a component.
    match bytes {
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => Kind::Component,
        [b'\0', b'a', b's', b'm', _, _, 0, 0, ..] => Kind::CoreModule,
        _ => Kind::Other,
    }
}
