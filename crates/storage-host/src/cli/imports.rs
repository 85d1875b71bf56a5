//! What a component imports, and which of it this host provides.

use storage_host::guest;
use storage_host::wasmtime::component::types::ComponentItem;
use storage_host::wasmtime::component::{Component, InstancePre, Linker, ResourceType};
use storage_host::wasmtime::wasmparser::component_types::ComponentEntityType;
use storage_host::wasmtime::wasmparser::{Parser, Payload, Validator};
use storage_host::wasmtime::{self, Engine};

use super::output::printable;

/// The interfaces of WASI 0.2 that this host provides, by package.
const WASI: [(&str, &[&str]); 6] = [
    (
        "wasi:cli",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    ("wasi:clocks", &["monotonic-clock", "wall-clock"]),
    ("wasi:filesystem", &["types", "preopens"]),
    ("wasi:io", &["error", "poll", "streams"]),
    ("wasi:random", &["random", "insecure", "insecure-seed"]),
    (
        "wasi:sockets",
        &[
            "network",
            "instance-network",
            "ip-name-lookup",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
    ),
];

/// How many names a message lists.
const MAX_LISTED: usize = 20;

/// Why a component cannot be run, as far as this is known without compiling it. Lists all
/// missing imports at once. Invalid components are left to the compiler.
pub(super) fn find_obstacle(bytes: &[u8]) -> Option<String> {
    let Imports { called, labelled } = imports(bytes);
    if !labelled.is_empty() {
        return Some(format!(
            " has labelled imports, which this host does not support: {}; build it to import each \
             interface by its name",
            listed(&labelled)
        ));
    }
    let unknown: Vec<String> = called.into_iter().filter(|name| !is_known(name)).collect();
    if !unknown.is_empty() {
        return Some(describe_unknown(&unknown));
    }
    let exports = exports(bytes)?;
    (!exports.iter().any(|name| is_run(name))).then(|| describe_exports(&exports))
}

/// Whether a core module imports WASI 0.1.
pub(super) fn needs_preview1(bytes: &[u8]) -> bool {
    Parser::new(0)
        .parse_all(bytes)
        .map_while(Result::ok)
        .filter_map(|payload| match payload {
            Payload::ImportSection(imports) => Some(imports),
            _ => None,
        })
        .flat_map(|imports| imports.into_imports().map_while(Result::ok))
        .any(|import| import.module == "wasi_snapshot_preview1")
}

/// The imports of a component.
#[derive(Default)]
struct Imports {
    /// Imports with functions. The host need not provide imports of types alone.
    called: Vec<String>,
    /// Interfaces that are imported under a label of the component's choice.
    labelled: Vec<String>,
}

/// Reads the imports of a component up to its first code, before which tools write them.
fn imports(bytes: &[u8]) -> Imports {
    let mut validator = Validator::new();
    let mut found = Imports::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let Ok(payload) = payload else { break };
        match &payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } | Payload::End(_) => {
                break;
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone().into_iter().flatten() {
                    let name = import.name.name;
                    let by_option = import.name.implements.map(|interface| (interface, name));
                    match by_option.or_else(|| label_in_name(name)) {
                        Some((interface, label)) => {
                            found.labelled.push(format!("{label} (implements {interface})"));
                        }
                        None => found.called.push(name.to_owned()),
                    }
                }
            }
            _ => {}
        }
        // The validator does not support labels.
        if found.labelled.is_empty() && validator.payload(&payload).is_err() {
            break;
        }
    }
    let Some(types) = validator.types(0) else { return found };
    found.called.retain(|name| match types.component_item_for_import(name).map(|item| item.ty) {
        Some(ComponentEntityType::Func(_)) => true,
        Some(ComponentEntityType::Instance(instance)) => types
            .get(instance)
            .is_some_and(|instance| instance.exports.values().any(|item| is_func(item.ty))),
        _ => false,
    });
    found
}

/// The interface and the label of `[implements=<wasi:keyvalue/store>]label`, as a draft
/// of the component model wrote them.
fn label_in_name(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("[implements=<")?.split_once(">]")
}

fn is_func(item: ComponentEntityType) -> bool {
    matches!(item, ComponentEntityType::Func(_))
}

/// The exports of a component, if the file is complete.
fn exports(bytes: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    // The depth of nested modules and components.
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

/// Whether an export is the one that `run` calls.
fn is_run(export: &str) -> bool {
    export.strip_prefix("wasi:cli/run@").is_some_and(|version| is_release(version, "0.2."))
}

/// Why a component with these exports cannot be run, and what to do.
pub(super) fn describe_exports(exports: &[String]) -> String {
    let needs = "run needs a component that exports wasi:cli/run@0.2";
    if exports.is_empty() {
        return format!(
            " exports nothing, and {needs}, such as a Rust program built for wasm32-wasip2"
        );
    }
    let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    let advice = if has("wasi:cli/run@") {
        "build it for WASI 0.2, for instance for wasm32-wasip2"
    } else if has("wasi:http/incoming-handler@") || has("wasi:http/handler@") {
        "run does not serve HTTP; use a host that does"
    } else {
        "compose it with a command that calls it, such as a Rust program built for wasm32-wasip2"
    };
    format!(" exports {}, but {needs}: {advice}", listed(exports))
}

/// Whether this host provides an interface, perhaps without all requested functions.
fn is_known(import: &str) -> bool {
    let storage = [("airssys:core/storage", "1."), ("airssys:storage/extended", "0.1.")];
    // One of them has no version.
    let Some((name, version)) = import.split_once('@') else { return guest::provides(import) };
    let is_wasi = || {
        let (package, interface) = name.split_once('/')?;
        let (_, interfaces) = WASI.iter().find(|(known, _)| *known == package)?;
        Some(interfaces.contains(&interface) && is_release(version, "0.2."))
    };
    guest::provides(import)
        || is_wasi().unwrap_or(false)
        || is_http(import)
        || storage.iter().any(|(known, series)| name == *known && is_release(version, series))
}

/// Whether a version is a release of a series, such as `0.2.6` of `0.2.`. Drafts and
/// release candidates have other interfaces.
fn is_release(version: &str, series: &str) -> bool {
    version.strip_prefix(series).is_some_and(|rest| {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        rest.split('.').all(is_number)
    })
}

fn is_http(import: &str) -> bool {
    import.starts_with("wasi:http/")
        && import.split_once('@').is_some_and(|(_, version)| is_release(version, "0.2."))
}

/// A resource of `wasi:http`; none is ever created.
struct NoResource;

/// Provides `wasi:http` with functions that trap, because the tools for JavaScript add its
/// import to every component.
///
/// [`Linker::define_unknown_imports_as_traps`] would not do: it matches exact versions, and
/// so hides other versions of WASI, and it makes a new resource of each one that HTTP
/// shares with `wasi:io`.
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
                    let called =
                        format!("it called {name}#{item_name}, but run provides no network");
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

/// What this host provides, for a message about something else.
fn provided() -> String {
    format!(
        "this host provides {}, {}, {}, wasi:keyvalue (store, atomics and batch in 0.2.0-draft \
         and 0.2.0-draft2), wasi:config/store (0.2.0-draft, 0.2.0-draft-2024-09-27 and \
         0.2.0-rc.1), wasi:config/runtime@0.2.0-draft, wasi:logging/logging (0.1.0-draft and \
         without a version) and WASI 0.2 (cli, clocks, filesystem, io, random and sockets)",
        guest::INTERFACE,
        guest::EXTENDED,
        guest::SPIN
    )
}

fn describe_unknown(imports: &[String]) -> String {
    let of_wasi = |version: &str| {
        let is_of_wasi = |name: &String| WASI.iter().any(|(prefix, _)| name.starts_with(prefix));
        imports.iter().any(|name| name.contains(version) && (is_of_wasi(name) || is_http(name)))
    };
    let hint = if of_wasi("@0.2.0-rc-") {
        "build it with tools that use a release of WASI 0.2, not a release candidate; "
    } else if of_wasi("@0.3.") {
        "build it for WASI 0.2; "
    } else {
        ""
    };
    format!(" imports {}, which this host does not provide; {hint}{}", listed(imports), provided())
}

/// Names of a component for a message. They may contain any character.
fn listed(names: &[String]) -> String {
    let mut shown: Vec<String> =
        names.iter().take(MAX_LISTED).map(|name| printable(name)).collect();
    if let Some(more) = names.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
        shown.push(format!("{more} more"));
    }
    match shown.split_last() {
        Some((last, [_, ..])) => {
            let before = shown.get(..shown.len() - 1).unwrap_or_default();
            format!("{} and {last}", before.join(", "))
        }
        _ => shown.concat(),
    }
}

/// Links a component, or lists all imports that are missing.
pub(super) fn link<T: 'static>(
    engine: &Engine,
    component: &Component,
    linker: &mut Linker<T>,
) -> Result<InstancePre<T>, String> {
    let mut missing: Vec<String> = Vec::new();
    let mut unknown: Vec<String> = Vec::new();
    let mut passed: Vec<String> = Vec::new();
    loop {
        let error = match linker.instantiate_pre(component) {
            Ok(linked) if missing.is_empty() && unknown.is_empty() => return Ok(linked),
            Ok(_) => break,
            Err(error) => error,
        };
        let shown = format!("{error:#}");
        let imports = component.component_type();
        let mut names = imports.imports(engine).map(|(name, _)| name);
        let import = names.find(|name| shown.contains(&format!("`{name}`"))).map(str::to_owned);
        match &import {
            Some(name) if passed.contains(name) => break,
            Some(name) if !is_known(name) => unknown.push(name.clone()),
            // The interface lacks something that the component needs.
            _ => missing.push(shown),
        }
        // wasmtime names one missing import at a time. Define it to learn of the next.
        let Some(name) = import else { break };
        linker.allow_shadowing(true);
        if define_stub(engine, component, linker, &name).is_err() {
            break;
        }
        passed.push(name);
    }
    if !missing.is_empty() {
        missing.extend(unknown);
        return Err(format!(
            " has imports that this host does not provide: {}; {}",
            missing.join("; and "),
            provided()
        ));
    }
    Err(describe_unknown(&unknown))
}

/// Defines an import with functions of the required types, which are never called.
fn define_stub<T: 'static>(
    engine: &Engine,
    component: &Component,
    linker: &mut Linker<T>,
    name: &str,
) -> wasmtime::Result<()> {
    let never = |_: &str| Err(wasmtime::Error::msg("not provided"));
    let imports = component.component_type();
    let Some(import) = imports.get_import(engine, name) else { return Ok(()) };
    match import.ty {
        ComponentItem::ComponentFunc(_) => {
            linker.root().func_new(name, move |_, _, _, _| never(""))
        }
        ComponentItem::ComponentInstance(instance) => {
            let mut root = linker.root();
            let mut stub = root.instance(name)?;
            for (item_name, item) in instance.exports(engine) {
                if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                    stub.func_new(item_name, move |_, _, _, _| never(""))?;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
