//! What a component asks of the host, and what of it is here.

use storage_host::guest;
use storage_host::wasmtime::component::types::ComponentItem;
use storage_host::wasmtime::component::{Component, Linker, ResourceType};
use storage_host::wasmtime::wasmparser::component_types::ComponentEntityType;
use storage_host::wasmtime::wasmparser::{Parser, Payload, Validator};
use storage_host::wasmtime::{self, Engine};

/// What the interfaces of WASI 0.2 that this host has begin with.
const WASI: [&str; 6] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// Why a component without it cannot be run.
pub(super) const NO_COMMAND: &str = " exports no wasi:cli/run@0.2: run takes a command, such as a \
                                     Rust program built for wasm32-wasip2";

/// What a component that cannot be run lacks, as far as it is seen without compiling
/// it. What is invalid is left to the compiler.
pub(super) fn look(bytes: &[u8]) -> Option<String> {
    if let Some(name) = called_imports(bytes).into_iter().find(|name| !is_known(name)) {
        return Some(describe_unknown(&name));
    }
    let is_command = exports(bytes)?.iter().any(|name| name.starts_with("wasi:cli/run@0.2."));
    (!is_command).then(|| NO_COMMAND.to_owned())
}

/// The imports with functions. Those that are nothing but types need nothing of a
/// host. Imports behind the first code are not looked at: tools write them before.
fn called_imports(bytes: &[u8]) -> Vec<String> {
    let mut validator = Validator::new();
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let Ok(payload) = payload else { break };
        match &payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } | Payload::End(_) => {
                break;
            }
            Payload::ComponentImportSection(imports) => {
                let imports = imports.clone().into_iter().flatten();
                names.extend(imports.map(|import| import.name.name.to_owned()));
            }
            _ => {}
        }
        if validator.payload(&payload).is_err() {
            break;
        }
    }
    let Some(types) = validator.types(0) else { return Vec::new() };
    names.retain(|name| match types.component_item_for_import(name).map(|item| item.ty) {
        Some(ComponentEntityType::Func(_)) => true,
        Some(ComponentEntityType::Instance(instance)) => types
            .get(instance)
            .is_some_and(|instance| instance.exports.values().any(|item| is_func(item.ty))),
        _ => false,
    });
    names
}

fn is_func(item: ComponentEntityType) -> bool {
    matches!(item, ComponentEntityType::Func(_))
}

/// The names that a component exports, if the file is whole.
fn exports(bytes: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    // How many modules and components one is in.
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.ok()? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentExportSection(exports) if depth == 0 => {
                let exports = exports.into_iter().flatten();
                names.extend(exports.map(|export| export.name.name.to_owned()));
            }
            _ => {}
        }
    }
    Some(names)
}

/// Whether an interface is here, if not in the version or with all that is asked.
fn is_known(import: &str) -> bool {
    let storage = ["airssys:core/storage@1.", "airssys:storage/extended@0.1."];
    let is_wasi = import.contains("@0.2.") && WASI.iter().any(|prefix| import.starts_with(prefix));
    guest::provides(import)
        || is_wasi
        || is_http(import)
        || storage.iter().any(|prefix| import.starts_with(prefix))
}

fn is_http(import: &str) -> bool {
    import.starts_with("wasi:http/") && import.contains("@0.2.")
}

/// What stands in the place of a resource of HTTP, of which there are none.
struct NoResource;

/// Lets components that import `wasi:http` run: JavaScript's tools add it to every
/// one. Whoever calls it traps.
///
/// Not by [`Linker::define_unknown_imports_as_traps`]: that one looks for names in
/// exactly the component's versions, and so hides what WASI has in others, and
/// takes each resource for a new one, which those that HTTP shares with
/// `wasi:io` are not.
pub(super) fn add_http<T: 'static>(
    engine: &Engine,
    component: &Component,
    linker: &mut Linker<T>,
) -> wasmtime::Result<()> {
    let mut resources = Vec::new();
    let component = component.component_type();
    for (name, import) in component.imports(engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else { continue };
        let mut http = if is_http(name) { Some(linker.instance(name)?) } else { None };
        for (item_name, item) in instance.exports(engine) {
            match (item.ty, &mut http) {
                (ComponentItem::Resource(resource), http) if !resources.contains(&resource) => {
                    resources.push(resource);
                    if let Some(http) = http {
                        let nothing = ResourceType::host::<NoResource>();
                        http.resource(item_name, nothing, |_, _| Ok(()))?;
                    }
                }
                (ComponentItem::ComponentFunc(_), Some(http)) => {
                    let called = format!("it called {name}#{item_name}, and has no network here");
                    http.func_new(item_name, move |_, _, _, _| {
                        Err(wasmtime::Error::msg(called.clone()))
                    })?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// What this host has, for those who asked for something else.
fn here() -> String {
    format!(
        "this host has {}, {}, wasi:keyvalue (store, atomics and batch in 0.2.0-draft and \
         0.2.0-draft2) and WASI 0.2 (cli, clocks, filesystem, io, random and sockets)",
        guest::INTERFACE,
        guest::EXTENDED
    )
}

fn describe_unknown(import: &str) -> String {
    format!(" imports {import}, which this host does not have; {}", here())
}

/// Names the import that the linker did not find.
pub(super) fn describe_missing(
    engine: &Engine,
    component: &Component,
    error: &wasmtime::Error,
) -> String {
    let shown = format!("{error:#}");
    let imports = component.component_type();
    let mut names = imports.imports(engine).map(|(name, _)| name);
    match names.find(|name| shown.contains(&format!("`{name}`"))) {
        Some(name) if !is_known(name) => describe_unknown(name),
        // The interface is here, but not with all that the component asks of it.
        _ => format!(" asks for something that this host does not have: {shown}; {}", here()),
    }
}
