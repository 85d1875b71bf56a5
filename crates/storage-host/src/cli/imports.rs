//! What a component asks of the host, and what of it is here.

use storage_host::guest;
use storage_host::wasmtime::component::types::ComponentItem;
use storage_host::wasmtime::component::{Component, InstancePre, Linker, ResourceType};
use storage_host::wasmtime::wasmparser::component_types::ComponentEntityType;
use storage_host::wasmtime::wasmparser::{Parser, Payload, Validator};
use storage_host::wasmtime::{self, Engine};

use super::output::printable;

/// The interfaces of WASI 0.2 that this host has, by package.
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

/// The most names that a message lists.
const MAX_LISTED: usize = 20;

/// What a component that cannot be run lacks, as far as it is seen without compiling
/// it: all of it at once. What is invalid is left to the compiler.
pub(super) fn look(bytes: &[u8]) -> Option<String> {
    let Imports { called, labelled } = imports(bytes);
    if !labelled.is_empty() {
        return Some(format!(
            " has labelled imports, which this host does not support: {}; build it to import each \
             interface under its own name",
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

/// What a component asks of its host.
#[derive(Default)]
struct Imports {
    /// The imports with functions. Those that are nothing but types need nothing of a
    /// host.
    called: Vec<String>,
    /// Instances of an interface under a name that the component chose, with the name
    /// of the interface.
    labelled: Vec<String>,
}

/// The imports of a component. Those behind the first code are not looked at: tools
/// write them before.
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
        // The validator does not know labels either.
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

/// Whether an export is what `run` calls.
fn is_run(export: &str) -> bool {
    export.strip_prefix("wasi:cli/run@").is_some_and(|version| is_release(version, "0.2."))
}

/// Why a component with these exports is not run, and what to do.
pub(super) fn describe_exports(exports: &[String]) -> String {
    let needs = "run needs a component that exports wasi:cli/run@0.2";
    if exports.is_empty() {
        return format!(
            " exports nothing, and {needs}, such as a Rust program that was built for wasm32-wasip2"
        );
    }
    let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    let advice = if has("wasi:cli/run@") {
        "build it for WASI 0.2, for instance for wasm32-wasip2"
    } else if has("wasi:http/incoming-handler@") || has("wasi:http/handler@") {
        "this host does not serve HTTP; use a host that does"
    } else {
        "call it from a command, such as a Rust program that was built for wasm32-wasip2, and \
         compose the two"
    };
    format!(" exports {}, and {needs}: {advice}", listed(exports))
}

/// Whether an interface is here, if not with all that is asked.
fn is_known(import: &str) -> bool {
    let storage = [("airssys:core/storage", "1."), ("airssys:storage/extended", "0.1.")];
    let Some((name, version)) = import.split_once('@') else { return false };
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

/// Whether a version is a release of a series, such as `0.2.6` of `0.2.`: neither a
/// draft nor a release candidate, whose interfaces are others.
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

fn describe_unknown(imports: &[String]) -> String {
    let of_wasi = |version: &str| {
        let is_of_wasi = |name: &String| WASI.iter().any(|(prefix, _)| name.starts_with(prefix));
        imports.iter().any(|name| name.contains(version) && (is_of_wasi(name) || is_http(name)))
    };
    let hint = if of_wasi("@0.2.0-rc-") {
        "build it with tools that use the release of WASI 0.2, not one of its candidates; "
    } else if of_wasi("@0.3.") {
        "build it for WASI 0.2; "
    } else {
        ""
    };
    format!(" imports {}, which this host does not have; {hint}{}", listed(imports), here())
}

/// Names, as a message shows them: a component may choose any.
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

/// Links a component, or says what of its imports is missing: all of it at once.
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
            // The interface is here, but not with all that the component asks of it.
            _ => missing.push(shown),
        }
        // wasmtime names one at a time: this one is put there, for the next to be named.
        let Some(name) = import else { break };
        linker.allow_shadowing(true);
        if stand_in(engine, component, linker, &name).is_err() {
            break;
        }
        passed.push(name);
    }
    if !missing.is_empty() {
        missing.extend(unknown);
        return Err(format!(
            " imports what this host does not provide: {}; {}",
            missing.join("; and "),
            here()
        ));
    }
    Err(describe_unknown(&unknown))
}

/// Puts functions of the types that a component asks for under the name of an import.
fn stand_in<T: 'static>(
    engine: &Engine,
    component: &Component,
    linker: &mut Linker<T>,
    name: &str,
) -> wasmtime::Result<()> {
    let never = |_: &str| Err(wasmtime::Error::msg("it is not there"));
    let imports = component.component_type();
    let Some(import) = imports.get_import(engine, name) else { return Ok(()) };
    match import.ty {
        ComponentItem::ComponentFunc(_) => {
            linker.root().func_new(name, move |_, _, _, _| never(""))
        }
        ComponentItem::ComponentInstance(instance) => {
            let mut root = linker.root();
            let mut there = root.instance(name)?;
            for (item_name, item) in instance.exports(engine) {
                if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                    there.func_new(item_name, move |_, _, _, _| never(""))?;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
