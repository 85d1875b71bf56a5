//! The workspace as cargo describes it: the manifests, and the dependency graph of
//! a feature set.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// The platform that graphs are resolved for, so that results do not depend on the
/// machine. Its standard library need not be installed.
pub(crate) const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// The cargo that runs this program, in `directory`.
pub(crate) fn cargo(directory: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(directory).stdin(Stdio::null());
    command
}

/// A git command in `directory`, which works even if a git hook started this program or
/// the directory belongs to another user.
pub(crate) fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command.args(["-c", "safe.directory=*"]).current_dir(directory).stdin(Stdio::null());
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(variable);
    }
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

/// Runs `command`, which shares this program's output.
///
/// # Errors
/// If it fails: the message names `what` and the exit status.
pub(crate) fn succeed(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", line(command)))?;
    if !status.success() {
        bail!("{what} ended with {status}");
    }
    Ok(())
}

/// The command as a user types it.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The workspace's root, found from the current directory upwards.
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
        .with_context(|| format!("{} has no parent directory", manifest.trim_end()))
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
    pub(crate) rust_version: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
}

/// A dependency as declared, for every platform and whether enabled or not.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Option<Kind>,
    pub(crate) optional: bool,
}

/// The section of a dependency other than `[dependencies]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Build,
    Dev,
}

impl Workspace {
    /// Reads the manifests. Needs no network.
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

    /// The member with this name.
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
    /// The feature sets to check: none, each feature alone, and the default ones.
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
        let (name, id) = (name.to_owned(), name.to_owned());
        Self { name, id, rust_version: None, dependencies, features: BTreeMap::new() }
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

/// A crate in a graph. Two versions of one name are two crates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Crate {
    pub(crate) name: String,
    version: String,
}

/// The crates that a feature set builds on [`PLATFORM`], connected by normal and
/// build dependencies.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) set: FeatureSet,
    root: Crate,
    features: BTreeMap<Crate, BTreeSet<String>>,
    edges: BTreeMap<Crate, BTreeSet<Crate>>,
}

impl Graph {
    /// Resolves `set`. Downloads crates that are missing from cargo's cache.
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

    /// Parses lines of `depth|name version ...|feature,feature`, an ancestor before
    /// its descendants. A repeated crate ends in `(*)` and omits its dependencies.
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

    /// The direct dependencies of the root.
    pub(crate) fn direct(&self) -> impl Iterator<Item = &Crate> {
        self.edges.get(&self.root).into_iter().flatten()
    }

    /// The number of crates built, without the root.
    pub(crate) fn dependency_count(&self) -> usize {
        self.features.len().saturating_sub(1)
    }

    /// Whether a crate with this name is built.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.crates().any(|node| node.name == name)
    }

    /// Every crate in the graph, including the root.
    pub(crate) fn crates(&self) -> impl Iterator<Item = &Crate> {
        self.features.keys()
    }

    /// Every edge of the graph.
    pub(crate) fn edges(&self) -> impl Iterator<Item = (&Crate, &Crate)> {
        self.edges.iter().flat_map(|(from, targets)| targets.iter().map(move |to| (from, to)))
    }

    /// The features that a crate is built with. Empty if it is not built.
    pub(crate) fn features_of(&self, name: &str) -> BTreeSet<&str> {
        self.features
            .iter()
            .filter(|(node, _)| node.name == name)
            .flat_map(|(_, on)| on.iter().map(String::as_str))
            .collect()
    }

    /// The shortest path from the root to `target`, as `a -> b -> c`.
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

/// Splits a command line at white space.
pub(crate) fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Whether a command succeeds.
pub(crate) fn works(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}
