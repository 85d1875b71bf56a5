//! `check-layers`: which of our crates may know which, and what a feature that
//! is off must not bring.
//!
//! Edges between our own crates are judged as the manifests declare them, so
//! an optional one and one for another platform count too. What a feature
//! brings is judged on the resolved graph, a feature set at a time.

use std::path::Path;

use anyhow::{Result, bail};

use crate::workspace::{Graph, Kind, Package, Workspace};

/// Our crates, lowest first. A crate may depend on crates of a lower layer.
const LAYERS: [(&str, u8); 4] = [(CORE, 0), ("storage-cache", 1), (BACKENDS, 1), (HOST, 2)];
const CORE: &str = "storage-core";
const BACKENDS: &str = "storage-backends";
const HOST: &str = "storage-host";

/// A crate that only these features of one of our crates may bring.
struct Gate {
    owner: &'static str,
    features: &'static [&'static str],
    /// The name of the crate; `name-*` and `name_*` belong to it.
    name: &'static str,
    /// Whether nothing else in the world has a good reason to bring it. A
    /// checksum or hash crate stands in many graphs by other ways; there, only
    /// a dependency that one of our own crates declares is judged.
    exclusive: bool,
    /// Whether our other crates may use it too, for something of their own.
    shared: bool,
}

const GATES: [Gate; 13] = [
    gate(BACKENDS, &["memory"], "dashmap", true),
    gate(BACKENDS, &["file", "redb", "rocksdb"], "crc32fast", false),
    Gate { shared: true, ..gate(BACKENDS, &["file", "redb", "rocksdb"], "rustix", false) },
    Gate { shared: true, ..gate(BACKENDS, &["file"], "sha2", false) },
    gate(BACKENDS, &["redb"], "redb", true),
    Gate { shared: true, ..gate(BACKENDS, &["redb"], "tempfile", false) },
    gate(BACKENDS, &["rocksdb"], "rocksdb", true),
    gate(BACKENDS, &["redis"], "redis", true),
    gate(HOST, &["wasmtime"], "wasmtime", true),
    gate(HOST, &["signals"], "signal-hook", true),
    gate(HOST, &["cli"], "clap", true),
    gate(HOST, &["cli"], "tokio", false),
    gate(HOST, &["cli"], "bytes", false),
];

const fn gate(
    owner: &'static str,
    features: &'static [&'static str],
    name: &'static str,
    exclusive: bool,
) -> Gate {
    Gate { owner, features, name, exclusive, shared: false }
}

impl Gate {
    /// The features in words: `feature file`, `features file, redb`.
    fn features(&self) -> String {
        let plural = if self.features.len() == 1 { "" } else { "s" };
        format!("feature{plural} {}", self.features.join(", "))
    }

    /// Whether one of our crates may depend on it.
    fn is_open_to(&self, package: &str) -> bool {
        self.shared || self.owner == package
    }

    fn covers(&self, name: &str) -> bool {
        name.strip_prefix(self.name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
    }
}

/// Judges the workspace under `root`.
///
/// # Errors
/// Every rule that is broken, with the edge that breaks it.
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
            "the layers are broken:\n  {}\nthe rules stand in xtask/src/layers.rs",
            violations.join("\n  ")
        );
    }
    Ok(())
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(layered, _)| *layered == name).map(|(_, layer)| *layer)
}

/// Every broken rule, one line each.
fn violations(workspace: &Workspace, graphs: &[Graph]) -> Vec<String> {
    let mut found = Vec::new();
    for package in workspace.default_members() {
        match layer(&package.name) {
            Some(own) => judge_manifest(workspace, package, own, &mut found),
            None => found
                .push(format!("{} is a default member without a layer: give it one", package.name)),
        }
    }
    for graph in graphs {
        judge_graph(graph, &mut found);
    }
    found
}

fn judge_manifest(workspace: &Workspace, package: &Package, own: u8, found: &mut Vec<String>) {
    for dependency in &package.dependencies {
        let section = match dependency.kind {
            None => "[dependencies]",
            Some(Kind::Build) => "[build-dependencies]",
            Some(Kind::Dev) => "[dev-dependencies]",
        };
        let edge = format!("{} -> {} in {section}", package.name, dependency.name);
        let dev = dependency.kind == Some(Kind::Dev);
        if package.name == CORE && !dev {
            found.push(format!("{edge}: {CORE} has no dependencies"));
        }
        if let Some(gate) = GATES.iter().find(|gate| gate.covers(&dependency.name)) {
            if !dev && !gate.is_open_to(&package.name) {
                found.push(format!(
                    "{edge}: only the {} of {} may bring it",
                    gate.features(),
                    gate.owner
                ));
            }
        } else if package.name == BACKENDS && dependency.optional {
            found.push(format!(
                "{edge}: an optional dependency belongs to one backend: add it to GATES"
            ));
        }
        // A crate may switch on a feature of its own for its tests.
        let itself = dev && dependency.name == package.name;
        if workspace.package(&dependency.name).is_none() || itself {
            continue;
        }
        match layer(&dependency.name) {
            None => found.push(format!("{edge}: {} is in no layer", dependency.name)),
            Some(below) if below < own => {}
            Some(other) if other == own => {
                found.push(format!("{edge}: they are siblings, both of layer {own}"))
            }
            Some(above) => {
                found.push(format!("{edge}: it points up, from layer {own} to layer {above}"))
            }
        }
    }
}

fn judge_graph(graph: &Graph, found: &mut Vec<String>) {
    let set = &graph.set;
    if set.package == CORE {
        for dependency in graph.direct() {
            found.push(format!("{set}: {CORE} -> {}: {CORE} has no dependencies", dependency.name));
        }
    }
    for gate in &GATES {
        let on = graph.features_of(gate.owner);
        let mut brought = false;
        for feature in gate.features.iter().copied().filter(|feature| on.contains(*feature)) {
            brought = true;
            // A crate above forwards a feature under the same name.
            let asked = graph.features_of(&set.package).contains(feature);
            let leak =
                format!("{set}: {} -> {}: switches on {feature} unasked", set.package, gate.owner);
            if !asked && !found.contains(&leak) {
                found.push(leak);
            }
        }
        if brought {
            continue;
        }
        let bare = set.package == gate.owner && !set.default_features && set.features.is_empty();
        if gate.exclusive || bare {
            for node in graph.crates().filter(|node| gate.covers(&node.name)) {
                found.push(format!(
                    "{set}: {}: only the {} of {} may bring it",
                    graph.path_to(node),
                    gate.features(),
                    gate.owner
                ));
            }
        } else {
            for (from, to) in graph.edges() {
                let ours = layer(&from.name).is_some();
                let own_use = gate.shared && from.name != gate.owner;
                if ours && !own_use && gate.covers(&to.name) {
                    found.push(format!(
                        "{set}: {} -> {}: only the {} of {} may bring it",
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

    fn normal(name: &str) -> Dependency {
        Dependency { name: name.to_owned(), kind: None, optional: false }
    }

    fn optional(name: &str) -> Dependency {
        Dependency { optional: true, ..normal(name) }
    }

    fn build(name: &str) -> Dependency {
        Dependency { kind: Some(Kind::Build), ..normal(name) }
    }

    fn dev(name: &str) -> Dependency {
        Dependency { kind: Some(Kind::Dev), ..normal(name) }
    }

    /// A workspace in which nothing is wrong, with `extra` added to `package`.
    fn manifests(package: &str, extra: Option<Dependency>) -> Workspace {
        let mut packages = vec![
            Package::of(CORE, vec![dev(CORE), dev("proptest")]),
            Package::of("storage-cache", vec![normal(CORE), normal("quick_cache")]),
            Package::of(
                BACKENDS,
                vec![normal(CORE), optional("dashmap"), optional("rustix"), optional("sha2")],
            ),
            Package::of(
                HOST,
                vec![
                    normal(CORE),
                    normal("storage-cache"),
                    normal(BACKENDS),
                    optional("wasmtime"),
                    optional("clap"),
                ],
            ),
        ];
        for known in packages.iter_mut().filter(|known| known.name == package) {
            known.dependencies.extend(extra.clone());
        }
        Workspace::of(packages)
    }

    #[track_caller]
    fn breaks(package: &str, extra: Dependency, expected: &str) {
        let found = violations(&manifests(package, Some(extra)), &[]);
        assert_eq!(found, [expected]);
    }

    fn graph(package: &str, features: &[&str], tree: &str) -> Graph {
        let set = FeatureSet {
            package: package.to_owned(),
            default_features: false,
            features: features.iter().map(ToString::to_string).collect(),
        };
        Graph::parse(set, tree).unwrap()
    }

    #[track_caller]
    fn judged(package: &str, features: &[&str], tree: &str, expected: &[&str]) {
        let found = violations(&manifests("", None), &[graph(package, features, tree)]);
        assert_eq!(found, expected);
    }

    #[test]
    fn the_workspace_keeps_its_layers() {
        // Without the backtrace that `unwrap` would show.
        if let Err(error) = check(&crate::workspace::root().unwrap()) {
            panic!("{error:#}");
        }
    }

    #[test]
    fn sound_manifests_pass() {
        assert_eq!(violations(&manifests("", None), &[]), Vec::<String>::new());
    }

    #[test]
    fn core_may_depend_on_nothing() {
        breaks(
            CORE,
            normal("thiserror"),
            "storage-core -> thiserror in [dependencies]: storage-core has no dependencies",
        );
        breaks(
            CORE,
            optional("serde"),
            "storage-core -> serde in [dependencies]: storage-core has no dependencies",
        );
        breaks(
            CORE,
            build("cc"),
            "storage-core -> cc in [build-dependencies]: storage-core has no dependencies",
        );
        judged(
            CORE,
            &["conformance"],
            "0|storage-core v0.1.0 (/ws)|conformance\n1|libc v0.2.0|",
            &["storage-core (conformance): storage-core -> libc: storage-core has no dependencies"],
        );
    }

    #[test]
    fn no_layer_knows_a_higher_one() {
        breaks(
            "storage-cache",
            normal(HOST),
            "storage-cache -> storage-host in [dependencies]: \
             it points up, from layer 1 to layer 2",
        );
        breaks(
            BACKENDS,
            build(HOST),
            "storage-backends -> storage-host in [build-dependencies]: \
             it points up, from layer 1 to layer 2",
        );
    }

    #[test]
    fn siblings_do_not_know_each_other() {
        breaks(
            "storage-cache",
            normal(BACKENDS),
            "storage-cache -> storage-backends in [dependencies]: \
             they are siblings, both of layer 1",
        );
    }

    #[test]
    fn dev_dependencies_point_down_too() {
        breaks(
            BACKENDS,
            dev("storage-cache"),
            "storage-backends -> storage-cache in [dev-dependencies]: \
             they are siblings, both of layer 1",
        );
        breaks(
            CORE,
            dev(BACKENDS),
            "storage-core -> storage-backends in [dev-dependencies]: \
             it points up, from layer 0 to layer 1",
        );
    }

    #[test]
    fn other_dev_dependencies_are_free() {
        for name in ["dashmap", "wasmtime", "clap"] {
            let workspace = manifests(CORE, Some(dev(name)));
            assert_eq!(violations(&workspace, &[]), Vec::<String>::new());
        }
    }

    #[test]
    fn every_default_member_has_a_layer() {
        let mut packages = manifests("", None).packages;
        packages.push(Package::of("storage-extras", vec![]));
        assert_eq!(
            violations(&Workspace::of(packages), &[]),
            ["storage-extras is a default member without a layer: give it one"]
        );
    }

    #[test]
    fn no_crate_depends_on_one_outside_the_layers() {
        let mut packages = manifests(HOST, Some(dev("xtask"))).packages;
        packages.push(Package::of("xtask", vec![]));
        let found = violations(&Workspace::of(packages), &[]);
        assert_eq!(
            found.first().map(String::as_str),
            Some("storage-host -> xtask in [dev-dependencies]: xtask is in no layer")
        );
    }

    #[test]
    fn a_backends_crate_belongs_to_storage_backends() {
        breaks(
            "storage-cache",
            normal("dashmap"),
            "storage-cache -> dashmap in [dependencies]: \
             only the feature memory of storage-backends may bring it",
        );
        breaks(
            HOST,
            optional("rocksdb"),
            "storage-host -> rocksdb in [dependencies]: \
             only the feature rocksdb of storage-backends may bring it",
        );
        breaks(
            BACKENDS,
            optional("sled"),
            "storage-backends -> sled in [dependencies]: \
             an optional dependency belongs to one backend: add it to GATES",
        );
    }

    #[test]
    fn a_shared_crate_is_judged_where_its_owner_brings_it() {
        let own_use = manifests(HOST, Some(optional("tempfile")));
        assert_eq!(violations(&own_use, &[]), Vec::<String>::new());
        judged(
            BACKENDS,
            &["file"],
            "0|storage-backends v0.1.0 (/ws)|file\n\
             1|storage-core v0.1.0 (/ws)|\n\
             1|tempfile v3.27.0|",
            &["storage-backends (file): storage-backends -> tempfile: \
               only the feature redb of storage-backends may bring it"],
        );
    }

    #[test]
    fn a_backends_crate_comes_with_its_feature() {
        judged(
            BACKENDS,
            &["memory"],
            "0|storage-backends v0.1.0 (/ws)|memory\n\
             1|dashmap v6.2.1|\n\
             1|storage-core v0.1.0 (/ws)|",
            &[],
        );
        judged(
            BACKENDS,
            &["file"],
            "0|storage-backends v0.1.0 (/ws)|file\n\
             1|dashmap v6.2.1|\n\
             1|storage-core v0.1.0 (/ws)|",
            &["storage-backends (file): storage-backends -> dashmap: \
               only the feature memory of storage-backends may bring it"],
        );
    }

    #[test]
    fn storage_backends_without_features_brings_no_backends_crate() {
        judged(
            BACKENDS,
            &[],
            "0|storage-backends v0.1.0 (/ws)|\n\
             1|helper v1.0.0|\n\
             2|sha2 v0.11.0|",
            &["storage-backends (no features): storage-backends -> helper -> sha2: \
               only the feature file of storage-backends may bring it"],
        );
    }

    #[test]
    fn a_backends_crate_behind_another_crate_is_found() {
        judged(
            HOST,
            &["file"],
            "0|storage-host v0.1.0 (/ws)|file\n\
             1|helper v1.0.0|\n\
             2|other v1.0.0|\n\
             3|redb v4.0.0|\n\
             1|redb v4.0.0| (*)\n\
             1|storage-backends v0.1.0 (/ws)|file",
            &["storage-host (file): storage-host -> redb: \
               only the feature redb of storage-backends may bring it"],
        );
    }

    #[test]
    fn a_hash_crate_is_judged_where_our_crates_name_it() {
        judged(
            HOST,
            &["wasmtime"],
            "0|storage-host v0.1.0 (/ws)|wasmtime\n\
             1|wasmtime v48.0.0|\n\
             2|sha2 v0.11.0|\n\
             1|storage-backends v0.1.0 (/ws)|\n\
             2|crc32fast v1.5.0|",
            &["storage-host (wasmtime): storage-backends -> crc32fast: \
               only the features file, redb, rocksdb of storage-backends may bring it"],
        );
    }

    #[test]
    fn the_bare_host_has_neither_wasmtime_nor_clap() {
        judged(
            HOST,
            &[],
            "0|storage-host v0.1.0 (/ws)|\n\
             1|wasmtime-wasi v48.0.0|\n\
             1|clap_builder v4.0.0|",
            &[
                "storage-host (no features): storage-host -> wasmtime-wasi: \
                 only the feature wasmtime of storage-host may bring it",
                "storage-host (no features): storage-host -> clap_builder: \
                 only the feature cli of storage-host may bring it",
            ],
        );
    }

    #[test]
    fn a_crate_above_switches_no_backend_on_unasked() {
        judged(
            HOST,
            &[],
            "0|storage-host v0.1.0 (/ws)|\n\
             1|storage-backends v0.1.0 (/ws)|default,file,memory\n\
             2|dashmap v6.2.1|",
            &[
                "storage-host (no features): storage-host -> storage-backends: \
                 switches on memory unasked",
                "storage-host (no features): storage-host -> storage-backends: \
                 switches on file unasked",
            ],
        );
    }
}
