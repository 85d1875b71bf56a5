//! Links a compiled component to what this host provides.

use std::path::Path;

use storage_host::wasmtime::component::types::ComponentItem;
use storage_host::wasmtime::component::{Component, InstancePre, Linker, ResourceType};
use storage_host::wasmtime::{self, Engine};

use super::failure::Failure;
use super::imports::{Import, Purpose, describe_exports, describe_missing};
use super::provided::{is_http, provides};

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

/// Links the component of a file for a purpose. `prepare` fails if the component does not
/// export what the purpose needs.
pub(super) fn link_for<T: 'static, P>(
    purpose: Purpose,
    component: &Component,
    path: &Path,
    linker: &mut Linker<T>,
    prepare: impl FnOnce(InstancePre<T>) -> wasmtime::Result<P>,
) -> Result<P, Failure> {
    let engine = component.engine();
    let wrong = |message| Failure::new("component", format!("{}{message}", path.display()));
    let linked = link(engine, component, linker).map_err(wrong)?;
    prepare(linked).map_err(|_| {
        let exports = component.component_type();
        let names = exports.exports(engine).map(|(name, _)| name.to_owned());
        wrong(describe_exports(&names.collect::<Vec<_>>(), purpose))
    })
}

/// Why the linker of a purpose could not be set up, before the component is linked.
pub(super) fn no_linker(error: &wasmtime::Error) -> Failure {
    Failure::new("internal", format!("cannot set up the linker: {error:#}"))
}

/// Links a component, or lists all imports that are missing.
fn link<T: 'static>(
    engine: &Engine,
    component: &Component,
    linker: &mut Linker<T>,
) -> Result<InstancePre<T>, String> {
    let mut missing: Vec<String> = Vec::new();
    let mut passed: Vec<String> = Vec::new();
    loop {
        let error = match linker.instantiate_pre(component) {
            Ok(linked) if missing.is_empty() => return Ok(linked),
            Ok(_) => break,
            Err(error) => error,
        };
        let shown = error.to_string();
        let imports = component.component_type();
        let mut names = imports.imports(engine).map(|(name, _)| name);
        // wasmtime names one missing import at a time. Define it to learn of the next.
        let Some(name) = names.find(|name| shown.contains(&format!("`{name}`"))) else {
            missing.push(format!("{error:#}"));
            break;
        };
        if passed.iter().any(|passed| passed == name) {
            break;
        }
        missing.push(match provides(name) {
            // The interface lacks something that the component needs.
            true => format!("{name} ({})", causes(&error)),
            false => Import::of_interface(name, true).described(),
        });
        linker.allow_shadowing(true);
        if define_stub(engine, component, linker, name).is_err() {
            break;
        }
        passed.push(name.to_owned());
    }
    Err(describe_missing(&missing))
}

/// What follows the first sentence of an error, which names the import.
fn causes(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
    causes.join(": ")
}

/// Defines an import with functions of the required types, which are never called.
fn define_stub<T: 'static>(
    engine: &Engine,
    component: &Component,
    linker: &mut Linker<T>,
    name: &str,
) -> wasmtime::Result<()> {
    let imports = component.component_type();
    let Some(import) = imports.get_import(engine, name) else { return Ok(()) };
    match import.ty {
        ComponentItem::ComponentFunc(_) => linker.root().func_new(name, |_, _, _, _| never()),
        ComponentItem::ComponentInstance(instance) => {
            let mut root = linker.root();
            let mut stub = root.instance(name)?;
            for (item_name, item) in instance.exports(engine) {
                if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                    stub.func_new(item_name, |_, _, _, _| never())?;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn never() -> wasmtime::Result<()> {
    Err(wasmtime::Error::msg("not provided"))
}
