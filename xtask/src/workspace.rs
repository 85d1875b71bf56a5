//! What cargo says about the workspace: its manifests as declared, and the
//! graph that a choice of features resolves to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// The platform that graphs are resolved for, so that a check and a table say
/// the same on every machine. Its standard library need not be installed.
pub(crate) const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// A cargo command in `folder`: the cargo that runs this program.
pub(crate) fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs `command` and returns what it wrote to its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", line(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed with {}:\n{}", line(command), output.status, stderr.trim_end());
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} wrote text that is not UTF-8", line(command)))
}

/// Runs `command` to its end, its output beside ours.
///
/// # Errors
/// That `what` ended with the status that it ended with, if it failed.
pub(crate) fn succeed(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", line(command)))?;
    if !status.success() {
        bail!("{what} ended with {status}");
    }
    Ok(())
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The workspace's root folder, found from the current folder upwards.
pub(crate) fn root() -> Result<PathBuf> {
    let manifest = output(cargo(Path::new(".")).args([
        "locate-project",
        "--workspace",
        "--message-format",
        "plain",
    ]))?;
    Path::new(manifest.trim_end())
        .parent()
        .map(Path::to_path_buf)
        .with_context(|| format!("{} is in no folder", manifest.trim_end()))
}

/// The workspace's members as their manifests declare them.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Workspace {
    pub(crate) packages: Vec<Package>,
    workspace_default_members: BTreeSet<String>,
    pub(crate) target_directory: PathBuf,
}

/// One member's manifest.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    id: String,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
}

/// A dependency as declared: for every platform, switched on or not.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Option<Kind>,
    pub(crate) optional: bool,
}

/// The section that a dependency stands in, when it is not `[dependencies]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Build,
    Dev,
}

impl Workspace {
    /// Reads the manifests; needs no network.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let json = output(cargo(root).args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--locked",
        ]))?;
        serde_json::from_str(&json).context("cannot read the output of cargo metadata")
    }

    /// The members that a plain `cargo build` builds.
    pub(crate) fn default_members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_default_members.contains(&package.id))
    }

    /// The member of this name.
    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    #[cfg(test)]
    pub(crate) fn of(packages: Vec<Package>) -> Self {
        Self {
            workspace_default_members: packages.iter().map(|p| p.id.clone()).collect(),
            packages,
            ..Self::default()
        }
    }
}

impl Package {
    /// The feature sets that are worth checking one at a time: none, each
    /// feature alone, and the default ones.
    pub(crate) fn feature_sets(&self) -> Vec<FeatureSet> {
        let set = |default_features, features: &[&String]| FeatureSet {
            package: self.name.clone(),
            default_features,
            features: features.iter().map(ToString::to_string).collect(),
        };
        let mut sets = vec![set(false, &[])];
        for feature in self.features.keys().filter(|name| *name != "default") {
            sets.push(set(false, &[feature]));
        }
        if self.features.get("default").is_some_and(|on| !on.is_empty()) {
            sets.push(set(true, &[]));
        }
        sets
    }

    #[cfg(test)]
    pub(crate) fn of(name: &str, dependencies: Vec<Dependency>) -> Self {
        Self { name: name.to_owned(), id: name.to_owned(), dependencies, features: BTreeMap::new() }
    }
}

/// A package and the features to build it with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FeatureSet {
    pub(crate) package: String,
    pub(crate) default_features: bool,
    pub(crate) features: Vec<String>,
}

impl FeatureSet {
    /// The arguments that choose this package and these features.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--package".to_owned(), self.package.clone()];
        if !self.default_features {
            arguments.push("--no-default-features".to_owned());
        }
        if !self.features.is_empty() {
            arguments.push("--features".to_owned());
            arguments.push(self.features.join(","));
        }
        arguments
    }
}

impl fmt::Display for FeatureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.default_features, self.features.as_slice()) {
            (true, []) => write!(f, "{} (default)", self.package),
            (true, features) => write!(f, "{} (default, {})", self.package, features.join(", ")),
            (false, []) => write!(f, "{} (no features)", self.package),
            (false, features) => write!(f, "{} ({})", self.package, features.join(", ")),
        }
    }
}

/// A crate in a graph: two versions of one name are two crates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Crate {
    pub(crate) name: String,
    version: String,
}

/// What a feature set resolves to: every crate that it builds, by its normal
/// and build dependencies, on [`PLATFORM`].
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) set: FeatureSet,
    root: Crate,
    features: BTreeMap<Crate, BTreeSet<String>>,
    edges: BTreeMap<Crate, BTreeSet<Crate>>,
}

impl Graph {
    /// Resolves `set`. Downloads what is not in cargo's cache yet.
    pub(crate) fn resolve(root: &Path, set: FeatureSet) -> Result<Self> {
        let tree = output(
            cargo(root)
                .args(["tree", "--locked", "--quiet", "--edges", "normal,build"])
                .args(["--target", PLATFORM])
                .args(["--prefix", "depth", "--format", "|{p}|{f}"])
                .args(set.arguments()),
        )?;
        Self::parse(set, &tree)
    }

    /// Reads lines of `depth|name version ...|feature,feature`, an ancestor
    /// before its descendants; a crate that was shown before ends in `(*)` and
    /// leaves out what it depends on.
    pub(crate) fn parse(set: FeatureSet, tree: &str) -> Result<Self> {
        let mut features: BTreeMap<Crate, BTreeSet<String>> = BTreeMap::new();
        let mut edges: BTreeMap<Crate, BTreeSet<Crate>> = BTreeMap::new();
        let mut path: Vec<Crate> = Vec::new();
        for line in tree.lines() {
            let parsed = (|| {
                let (depth, rest) = line.split_once('|')?;
                let (package, on) = rest.rsplit_once('|')?;
                let mut words = package.split_whitespace();
                let node =
                    Crate { name: words.next()?.to_owned(), version: words.next()?.to_owned() };
                let on = on.trim_end_matches("(*)").trim_end();
                Some((depth.parse::<usize>().ok()?, node, on))
            })();
            let Some((depth, node, on)) = parsed else {
                bail!("cannot read this line of cargo tree: {line:?}");
            };
            path.truncate(depth);
            if let Some(parent) = path.last() {
                edges.entry(parent.clone()).or_default().insert(node.clone());
            }
            let on = on.split(',').filter(|name| !name.is_empty());
            features.entry(node.clone()).or_default().extend(on.map(str::to_owned));
            path.push(node);
        }
        let root = path.into_iter().next();
        let root = root.with_context(|| format!("cargo tree shows nothing for {set}"))?;
        Ok(Self { set, root, features, edges })
    }

    /// The crates that the root itself names.
    pub(crate) fn direct(&self) -> impl Iterator<Item = &Crate> {
        self.edges.get(&self.root).into_iter().flatten()
    }

    /// How many crates are built, not counting the root.
    pub(crate) fn dependency_count(&self) -> usize {
        self.features.len().saturating_sub(1)
    }

    /// Whether a crate of this name is built.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.crates().any(|node| node.name == name)
    }

    /// Every crate in the graph, the root too.
    pub(crate) fn crates(&self) -> impl Iterator<Item = &Crate> {
        self.features.keys()
    }

    /// Every edge of the graph.
    pub(crate) fn edges(&self) -> impl Iterator<Item = (&Crate, &Crate)> {
        self.edges.iter().flat_map(|(from, targets)| targets.iter().map(move |to| (from, to)))
    }

    /// The features that a crate is built with; empty if it is not built.
    pub(crate) fn features_of(&self, name: &str) -> BTreeSet<&str> {
        self.features
            .iter()
            .filter(|(node, _)| node.name == name)
            .flat_map(|(_, on)| on.iter().map(String::as_str))
            .collect()
    }

    /// The shortest way from the root to `target`, as `a -> b -> c`.
    pub(crate) fn path_to(&self, target: &Crate) -> String {
        let mut before: BTreeMap<&Crate, &Crate> = BTreeMap::new();
        let mut queue = VecDeque::from([&self.root]);
        while let Some(node) = queue.pop_front() {
            for next in self.edges.get(node).into_iter().flatten() {
                if *next != self.root && !before.contains_key(next) {
                    before.insert(next, node);
                    queue.push_back(next);
                }
            }
        }
        let mut names = vec![target.name.as_str()];
        let mut node = target;
        while let Some(previous) = before.get(node) {
            names.push(&previous.name);
            node = previous;
        }
        names.reverse();
        names.join(" -> ")
    }
}
