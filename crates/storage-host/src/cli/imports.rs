//! What a component imports and exports, as far as its bytes say without compiling them.

use serde::Serialize;
use storage_host::wasmtime::wasmparser::component_types::ComponentEntityType;
use storage_host::wasmtime::wasmparser::{Parser, Payload, Validator};

use super::output::printable;
use super::provided;

/// How many names a message lists.
const MAX_LISTED: usize = 20;

/// The command that a component is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Run,
    Serve,
}

impl Purpose {
    /// Whether an export is the one that the command calls.
    pub(super) fn is_export(self, name: &str) -> bool {
        match self {
            Self::Run => provided::is_run(name),
            Self::Serve => provided::is_incoming_handler(name),
        }
    }

    /// Whether the command's host lacks an import. `serve` is an asynchronous host.
    fn lacks(self, import: &Import) -> bool {
        #[cfg(feature = "serve")]
        if self == Self::Serve && storage_host::guest::provides_async(&import.name) {
            return false;
        }
        import.status == Status::Missing
    }
}

/// The imports and exports of a component.
pub(super) struct Contents {
    pub(super) imports: Vec<Import>,
    /// `None` if the file is not complete.
    pub(super) exports: Option<Vec<String>>,
}

#[derive(Serialize)]
pub(super) struct Import {
    /// The name of the interface or the function, or a label.
    pub(super) name: String,
    pub(super) status: Status,
    /// The interface of a labelled import.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) implements: Option<String>,
    /// The nearest version that this host has of a missing interface; at most one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) nearest: Vec<String>,
    /// What the component needs instead of this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) needs: Option<&'static str>,
}

/// What the commands do with an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Provided,
    /// An interface without functions, which a host need not provide.
    TypesOnly,
    /// Provided, but a call ends the component.
    NoNetwork,
    /// Under a label of the component's choice instead of the interface's name.
    Labelled,
    Missing,
}

impl Contents {
    /// Reads the imports up to the first code, before which tools write them, and all exports.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let (mut imports, exports) = (imports(bytes), exports(bytes));
        if exports.iter().flatten().any(|name| provided::is_incoming_handler(name)) {
            for import in imports.iter_mut().filter(|one| one.status == Status::NoNetwork) {
                import.status = Status::Provided;
            }
        }
        Self { imports, exports }
    }

    /// Whether it exports what a command calls.
    pub(super) fn is_for(&self, purpose: Purpose) -> bool {
        self.exports.iter().flatten().any(|name| purpose.is_export(name))
    }

    /// Why the component cannot be run, as far as this is known: all missing imports, or the
    /// missing export. Incomplete and invalid components are left to the compiler.
    pub(super) fn obstacle(&self, purpose: Purpose) -> Option<String> {
        let exports = self.exports.as_ref()?;
        let with = |status| self.imports.iter().filter(move |import| import.status == status);
        let labelled: Vec<String> = with(Status::Labelled).map(Import::described).collect();
        if !labelled.is_empty() {
            return Some(format!(
                " has labelled imports, which this host does not support: {}; build it to import \
                 each interface by its name",
                listed(&labelled)
            ));
        }
        let (asynchronous, others): (Vec<&Import>, _) = self
            .imports
            .iter()
            .filter(|import| purpose.lacks(import))
            .partition(|import| import.needs.is_some());
        let names = asynchronous.iter().map(|import| import.name.clone());
        let missing: Vec<String> = names.chain(others.into_iter().map(Import::described)).collect();
        if !missing.is_empty() {
            let needs = match asynchronous.first() {
                Some(Import { name, needs: Some(needs), .. }) => {
                    format!("; the async functions of {} need {needs}", printable(name))
                }
                _ => String::new(),
            };
            return Some(format!("{}{needs}", describe_missing(&missing)));
        }
        (!self.is_for(purpose)).then(|| describe_exports(exports, purpose))
    }

    /// What to add to an obstacle of `run`.
    pub(super) fn hint(&self) -> &'static str {
        let has = |status| self.imports.iter().any(|import| import.status == status);
        match has(Status::Missing) && !has(Status::Labelled) {
            true => "; to see what it provides, run: storage-host check COMPONENT.wasm",
            false => "",
        }
    }
}

impl Import {
    pub(super) fn of_interface(name: &str, has_functions: bool) -> Self {
        let status = match () {
            () if !has_functions => Status::TypesOnly,
            () if provided::provides(name) => Status::Provided,
            () if provided::is_http(name) => Status::NoNetwork,
            () => Status::Missing,
        };
        let nearest = match status {
            Status::Missing => provided::nearest(name),
            _ => Vec::new(),
        };
        let needs = provided::needs_async(name).then_some(provided::ASYNC_HOST);
        let needs = needs.filter(|_| status == Status::Missing);
        Self { name: name.to_owned(), status, implements: None, nearest, needs }
    }

    fn labelled(label: &str, interface: &str) -> Self {
        Self {
            name: label.to_owned(),
            status: Status::Labelled,
            implements: Some(interface.to_owned()),
            nearest: Vec::new(),
            needs: None,
        }
    }

    /// The name with what explains the status.
    pub(super) fn described(&self) -> String {
        match (&self.implements, self.needs, self.nearest.as_slice()) {
            (Some(interface), ..) => format!("{} (implements {interface})", self.name),
            (None, Some(needs), _) => format!("{} (needs {needs})", self.name),
            (None, None, []) => self.name.clone(),
            (None, None, nearest) => format!("{} (nearest: {})", self.name, nearest.join(", ")),
        }
    }
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

fn imports(bytes: &[u8]) -> Vec<Import> {
    let mut validator = Validator::new();
    // The names with the interfaces of labels.
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    let mut has_labels = false;
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
                    found.push(match by_option.or_else(|| label_in_name(name)) {
                        Some((interface, label)) => {
                            has_labels = true;
                            (label.to_owned(), Some(interface.to_owned()))
                        }
                        None => (name.to_owned(), None),
                    });
                }
            }
            _ => {}
        }
        // The validator does not support labels.
        if !has_labels && validator.payload(&payload).is_err() {
            break;
        }
    }
    let types = validator.types(0);
    let has_functions = |name: &str| {
        let Some(types) = types else { return has_labels };
        match types.component_item_for_import(name).map(|item| item.ty) {
            Some(ComponentEntityType::Func(_)) => true,
            // The validator did not get that far.
            None => has_labels,
            Some(ComponentEntityType::Instance(instance)) => types
                .get(instance)
                .is_some_and(|instance| instance.exports.values().any(|item| is_func(item.ty))),
            _ => false,
        }
    };
    let import = |(name, implements): (String, Option<String>)| match implements {
        Some(interface) => Import::labelled(&name, &interface),
        None => Import::of_interface(&name, has_functions(&name)),
    };
    found.into_iter().map(import).collect()
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

/// Why a component with these exports cannot be run, and what to do.
pub(super) fn describe_exports(exports: &[String], purpose: Purpose) -> String {
    let needs = match purpose {
        Purpose::Run => "run needs a component that exports wasi:cli/run@0.2",
        Purpose::Serve => return describe_exports_to_serve(exports),
    };
    if exports.is_empty() {
        return format!(
            " exports nothing, and {needs}, such as a Rust program built for wasm32-wasip2"
        );
    }
    let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    let advice = if has("wasi:cli/run@") {
        "build it for WASI 0.2, for instance for wasm32-wasip2"
    } else if cfg!(feature = "serve") && has("wasi:http/incoming-handler@0.2") {
        "it handles HTTP requests: use storage-host serve"
    } else if has("wasi:http/incoming-handler@") || has("wasi:http/handler@") {
        "run does not serve HTTP; use a host that does"
    } else {
        "compose it with a command that calls it, such as a Rust program built for wasm32-wasip2"
    };
    format!(" exports {}, but {needs}: {advice}", listed(exports))
}

/// The same for a component that is to be served.
fn describe_exports_to_serve(exports: &[String]) -> String {
    let needs = "serve needs a component that exports wasi:http/incoming-handler@0.2";
    if exports.is_empty() {
        return format!(" exports nothing, and {needs}");
    }
    let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    let advice = if has("wasi:http/incoming-handler@") || has("wasi:http/handler@") {
        ": build it for WASI 0.2"
    } else if has("wasi:cli/run@0.2") {
        ": it is a command, which storage-host run runs"
    } else {
        ""
    };
    format!(" exports {}, but {needs}{advice}", listed(exports))
}

/// Why a component cannot be run that lacks these imports.
pub(super) fn describe_missing(imports: &[String]) -> String {
    format!(" imports {}, which this host does not provide", listed(imports))
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
