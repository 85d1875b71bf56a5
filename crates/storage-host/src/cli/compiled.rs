//! From a component's file to machine code.

use std::fs;
use std::path::{Path, PathBuf};

use storage_host::guest;
use storage_host::wasmtime::component::Component;
use storage_host::wasmtime::{Cache, CacheConfig, Engine};

use super::failure::Failure;

/// The engine, with a cache of compiled components where there is a place for
/// one. With deadlines, guests run a little slower and are compiled anew.
pub(super) fn engine(has_deadlines: bool) -> Result<Engine, Failure> {
    let mut config = guest::engine_config();
    config.epoch_interruption(has_deadlines);
    config.cache(cache());
    Engine::new(&config)
        .map_err(|error| Failure::new("internal", format!("cannot start wasmtime: {error:#}")))
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

/// Reads and compiles a component.
pub(super) fn load(engine: &Engine, path: &Path) -> Result<Component, Failure> {
    let shown = path.display();
    let wrong = |message| Failure::new("component", message);
    let bytes = fs::read(path)
        .map_err(|error| wrong(format!("cannot read the component {shown}: {error}")))?;
    match kind_of(&bytes) {
        Kind::Component => {}
        Kind::CoreModule => {
            return Err(wrong(format!(
                "{shown} is a core WebAssembly module, not a component: build it for \
                 wasm32-wasip2, or make a component of it with `wasm-tools component new`"
            )));
        }
        Kind::Other => {
            return Err(wrong(format!("{shown} is no WebAssembly component")));
        }
    }
    Component::new(engine, &bytes)
        .map_err(|error| wrong(format!("{shown} is no valid component: {}", error.root_cause())))
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
