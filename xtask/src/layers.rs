//! `check-layers`: which of our crates may depend on which, and which crates require
//! a feature.
//!
//! Dependencies between our crates are checked in the manifests, so optional ones and
//! those for other platforms count. Features are checked on the resolved graph, one
//! feature set at a time.

use std::path::Path;

use anyhow::{Result, bail};

use crate::workspace::{Graph, Kind, Package, Workspace};

/// Our crates, lowest first. A crate may depend only on lower layers. storage-guest runs
/// in components and knows no other crate.
const LAYERS: [(&str, u8); 5] =
    [(CORE, 0), ("storage-guest", 0), (CACHE, 1), (BACKENDS, 1), (HOST, 2)];
const CORE: &str = "storage-core";
const CACHE: &str = "storage-cache";
const BACKENDS: &str = "storage-backends";
const HOST: &str = "storage-host";

/// A crate that may be a dependency only with these features of one of our crates.
struct Gate {
    owner: &'static str,
    features: &'static [&'static str],
    /// The crate; `name-*` and `name_*` belong to it.
    name: &'static str,
    /// Whether no other dependency may need the crate. Otherwise only dependencies
    /// that our crates declare are checked, as for checksum and hash crates.
    exclusive: bool,
    /// The other crates of ours that may depend on it too.
    also: &'static [&'static str],
}

const GATES: [Gate; 23] = [
    gate(BACKENDS, &["memory"], "dashmap", true),
    gate(BACKENDS, &["memory"], "foldhash", false),
    Gate {
        also: &[HOST],
        ..gate(BACKENDS, &["file", "redb", "redis", "rocksdb"], "crc32fast", false)
    },
    Gate { also: &[HOST, CACHE], ..gate(BACKENDS, &["file", "redb", "rocksdb"], "rustix", false) },
    Gate { also: &[HOST], ..gate(BACKENDS, &["file"], "sha2", false) },
    gate(BACKENDS, &["redb"], "redb", true),
    Gate { also: &[HOST], ..gate(BACKENDS, &["redb"], "tempfile", false) },
    gate(BACKENDS, &["rocksdb"], "rocksdb", true),
    // Before tokio, whose gate would cover them.
    gate(BACKENDS, &["postgres"], "tokio-postgres", true),
    gate(HOST, &["serve"], "tokio-rustls", false),
    gate(BACKENDS, &["postgres"], "futures-util", false),
    Gate { also: &[HOST], ..gate(BACKENDS, &["postgres", "redis"], "rustls", false) },
    Gate { also: &[HOST], ..gate(BACKENDS, &["postgres"], "tokio", false) },
    gate(BACKENDS, &["redis"], "redis", true),
    gate(HOST, &["wasmtime"], "wasmtime", true),
    gate(HOST, &["metrics"], "prometheus-client", true),
    gate(HOST, &["signals"], "signal-hook", true),
    gate(HOST, &["cli"], "clap", true),
    Gate { also: &[BACKENDS], ..gate(HOST, &["admin", "async", "cli"], "tokio", false) },
    gate(HOST, &["admin", "cli", "serve"], "bytes", false),
    gate(HOST, &["admin", "serve"], "hyper", true),
    gate(HOST, &["admin", "serve"], "http-body-util", false),
    gate(HOST, &["serve"], "wasmtime-wasi-http", true),
];

const fn gate(
    owner: &'static str,
    features: &'static [&'static str],
    name: &'static str,
    exclusive: bool,
) -> Gate {
    Gate { owner, features, name, exclusive, also: &[] }
}

impl Gate {
    /// `feature file` or `features file, redb`.
    fn features(&self) -> String {
        let plural = if self.features.len() == 1 { "" } else { "s" };
        format!("feature{plural} {}", self.features.join(", "))
    }

    /// Whether one of our crates may depend on it.
    fn is_open_to(&self, package: &str) -> bool {
        self.owner == package || self.also.contains(&package)
    }

    fn covers(&self, name: &str) -> bool {
        name.strip_prefix(self.name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
    }
}

/// Checks the workspace under `root`.
///
/// # Errors
/// If a rule is broken. The message lists every dependency that breaks one.
pub(crate) fn check(root: &Path) -> Result<()> {
    let workspace = Workspace::load(root)?;
    let mut graphs = Vec::new();
    for package in workspace.packages.iter().filter(|p| layer(&p.name).is_some()) {
        for set in package.feature_sets() {
            graphs.push(Graph::resolve(root, set)?);
        }
    }
    let violations = violations(&workspace, &graphs);
    if !violations.is_empty() {
        bail!(
            "dependencies break the layers:\n  {}\nsee the rules in xtask/src/layers.rs",
            violations.join("\n  ")
        );
    }
    Ok(())
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(layered, _)| *layered == name).map(|(_, layer)| *layer)
}

/// Every broken rule, one line for each.
fn violations(workspace: &Workspace, graphs: &[Graph]) -> Vec<String> {
    let mut found = Vec::new();
    for package in workspace.default_members() {
        match layer(&package.name) {
            Some(own) => check_manifest(workspace, package, own, &mut found),
            None => found.push(format!(
                "{} is a default member without a layer: add it to LAYERS",
                package.name
            )),
        }
    }
    for graph in graphs {
        check_graph(graph, &mut found);
    }
    found
}

fn check_manifest(workspace: &Workspace, package: &Package, own: u8, found: &mut Vec<String>) {
    for dependency in &package.dependencies {
        let section = match dependency.kind {
            None => "[dependencies]",
            Some(Kind::Build) => "[build-dependencies]",
            Some(Kind::Dev) => "[dev-dependencies]",
        };
        let edge = format!("{} -> {} in {section}", package.name, dependency.name);
        let dev = dependency.kind == Some(Kind::Dev);
        if package.name == CORE && !dev {
            found.push(format!("{edge}: {CORE} must not have dependencies"));
        }
        if let Some(gate) = GATES.iter().find(|gate| gate.covers(&dependency.name)) {
            if !dev && !gate.is_open_to(&package.name) {
                found.push(format!(
                    "{edge}: it requires the {} of {}",
                    gate.features(),
                    gate.owner
                ));
            }
        } else if package.name == BACKENDS && dependency.optional {
            found.push(format!(
                "{edge}: an optional dependency must belong to a backend: add it to GATES"
            ));
        }
        // A crate may enable its own features for its tests.
        let itself = dev && dependency.name == package.name;
        if workspace.package(&dependency.name).is_none() || itself {
            continue;
        }
        match layer(&dependency.name) {
            // A tool of tests.
            None if dev => {}
            None => found.push(format!("{edge}: {} is in no layer", dependency.name)),
            Some(below) if below < own => {}
            Some(other) if other == own => found.push(format!("{edge}: both are in layer {own}")),
            Some(above) => {
                found.push(format!("{edge}: layer {own} must not depend on layer {above}"))
            }
        }
    }
}

fn check_graph(graph: &Graph, found: &mut Vec<String>) {
    let set = &graph.set;
    if set.package == CORE {
        for dependency in graph.direct() {
            let edge = format!("{set}: {CORE} -> {}", dependency.name);
            found.push(format!("{edge}: {CORE} must not have dependencies"));
        }
    }
    for gate in &GATES {
        let on = graph.features_of(gate.owner);
        let mut is_on = false;
        for feature in gate.features.iter().copied().filter(|feature| on.contains(*feature)) {
            is_on = true;
            // A higher crate forwards a feature under the same name.
            let is_requested = graph.features_of(&set.package).contains(feature);
            let leak = format!(
                "{set}: {} -> {}: enables {feature}, which was not requested",
                set.package, gate.owner
            );
            if !is_requested && !found.contains(&leak) {
                found.push(leak);
            }
        }
        if is_on {
            continue;
        }
        let bare = set.package == gate.owner && !set.default_features && set.features.is_empty();
        if gate.exclusive || bare {
            for node in graph.crates().filter(|node| gate.covers(&node.name)) {
                found.push(format!(
                    "{set}: {}: it requires the {} of {}",
                    graph.path_to(node),
                    gate.features(),
                    gate.owner
                ));
            }
        } else {
            for (from, to) in graph.edges() {
                let ours = layer(&from.name).is_some();
                let own_use = gate.also.contains(&from.name.as_str());
                if ours && !own_use && gate.covers(&to.name) {
                    found.push(format!(
                        "{set}: {} -> {}: it requires the {} of {}",
                        from.name,
                        to.name,
                        gate.features(),
                        gate.owner
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Dependency, FeatureSet};

    fn dependency(name: &str, kind: Option<Kind>, optional: bool) -> Dependency {
        Dependency { name: name.to_owned(), kind, optional }
    }

    fn normal(name: &str) -> Dependency {
        dependency(name, None, false)
    }

    /// A workspace that keeps all rules, with `extra` added to `package`.
    fn manifests(package: &str, extra: Option<Dependency>) -> Workspace {
        let mut packages = vec![
            Package::of(CORE, vec![dependency(CORE, Some(Kind::Dev), false)]),
            Package::of("storage-cache", vec![normal(CORE), normal("quick_cache")]),
            Package::of(BACKENDS, vec![normal(CORE), dependency("dashmap", None, true)]),
            Package::of(HOST, vec![normal(CORE), normal("storage-cache"), normal(BACKENDS)]),
        ];
        for known in packages.iter_mut().filter(|known| known.name == package) {
            known.dependencies.extend(extra.clone());
        }
        Workspace::of(packages)
    }

    #[test]
    fn the_workspace_keeps_its_layers() {
        // Without the backtrace that `unwrap` would show.
        if let Err(error) = check(&crate::workspace::root().unwrap()) {
            panic!("{error:#}");
        }
    }

    #[test]
    fn manifests_that_break_a_rule_are_reported() {
        assert_eq!(violations(&manifests("", None), &[]), Vec::<String>::new());
        let dev = |name| dependency(name, Some(Kind::Dev), false);
        for (package, extra, expected) in [
            (CORE, normal("thiserror"), "storage-core must not have dependencies"),
            (
                CORE,
                dependency("cc", Some(Kind::Build), false),
                "storage-core must not have dependencies",
            ),
            (CORE, dev(BACKENDS), "layer 0 must not depend on layer 1"),
            ("storage-cache", normal(HOST), "layer 1 must not depend on layer 2"),
            ("storage-cache", normal(BACKENDS), "both are in layer 1"),
            (BACKENDS, dev("storage-cache"), "both are in layer 1"),
            (HOST, normal("rocksdb"), "it requires the feature rocksdb of storage-backends"),
            (
                "storage-cache",
                normal("tokio"),
                "it requires the feature postgres of storage-backends",
            ),
            (
                "storage-cache",
                normal("tokio-util"),
                "it requires the feature postgres of storage-backends",
            ),
            ("storage-cache", normal("sha2"), "it requires the feature file of storage-backends"),
            (
                BACKENDS,
                dependency("sled", None, true),
                "an optional dependency must belong to a backend: add it to GATES",
            ),
        ] {
            let edge = format!("{package} -> {}", extra.name);
            let found = violations(&manifests(package, Some(extra)), &[]);
            let [violation] = found.as_slice() else { panic!("{edge}: {found:?}") };
            assert!(violation.starts_with(&edge) && violation.ends_with(expected), "{violation}");
        }
        // The host has a gate of its own for tokio.
        assert!(violations(&manifests(HOST, Some(normal("tokio"))), &[]).is_empty());
        // Other dev-dependencies are free.
        assert!(violations(&manifests(CORE, Some(dev("wasmtime"))), &[]).is_empty());
    }

    #[test]
    fn every_default_member_has_a_layer() {
        let mut packages = manifests("", None).packages;
        packages.push(Package::of("storage-extras", vec![]));
        assert_eq!(
            violations(&Workspace::of(packages), &[]),
            ["storage-extras is a default member without a layer: add it to LAYERS"]
        );
    }

    #[test]
    fn graphs_that_break_a_rule_are_reported() {
        let backends = "0|storage-backends v0.1.0 (/ws)|file\n1|storage-core v0.1.0 (/ws)|\n";
        let host = "0|storage-host v0.1.0 (/ws)|file\n";
        for (package, features, tree, expected) in [
            (BACKENDS, vec!["file"], backends.to_owned(), vec![]),
            (
                BACKENDS,
                vec!["file"],
                format!("{backends}1|dashmap v6.2.1|"),
                vec![
                    "storage-backends -> dashmap: it requires the feature memory of storage-backends",
                ],
            ),
            // A hash crate is checked where our crates declare it, and in a bare build.
            (
                HOST,
                vec!["file"],
                format!("{host}1|wasmtime-x v1.0.0|\n2|sha2 v0.11.0|\n1|tempfile v3.0.0|"),
                vec![
                    "storage-host -> wasmtime-x: it requires the feature wasmtime of storage-host",
                ],
            ),
            (
                BACKENDS,
                vec![],
                "0|storage-backends v0.1.0 (/ws)|\n1|helper v1.0.0|\n2|sha2 v0.11.0|".to_owned(),
                vec![
                    "storage-backends -> helper -> sha2: it requires the feature file of storage-backends",
                ],
            ),
            (
                HOST,
                vec!["file"],
                format!("{host}1|storage-backends v0.1.0 (/ws)|default,file,memory"),
                vec!["storage-host -> storage-backends: enables memory, which was not requested"],
            ),
        ] {
            let features = features.iter().map(ToString::to_string).collect();
            let set = FeatureSet { package: package.to_owned(), default_features: false, features };
            let expected: Vec<String> =
                expected.iter().map(|line| format!("{set}: {line}")).collect();
            let graph = Graph::parse(set, &tree).unwrap();
            assert_eq!(violations(&manifests("", None), &[graph]), expected);
        }
    }
}
