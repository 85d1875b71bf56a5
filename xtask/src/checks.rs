//! `test`: every check that must pass before a push, the cheapest first.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::rocksdb::Variables;
use crate::servers::{ENGINES, Engine};
use crate::workspace::{FeatureSet, Graph, Package, Workspace, cargo, words, works};
use crate::{
    deny, dependencies, guests, layers, limit, models, packages, platforms, rocksdb, tidy,
};

/// Features that need more than Rust and a C compiler to build, or minutes.
const HEAVY_FEATURES: [&str; 1] = ["rocksdb"];

/// The time limit of one step in CI, where no one can interrupt a step that hangs.
/// Every step takes less on 2 cores once the dependencies are built.
const MINUTES_IN_CI: u64 = 25;

/// A check, and the command that repeats it.
struct Step {
    command: String,
    action: Action,
}

enum Action {
    /// A check of this program.
    Own(fn(&Path) -> Result<()>),
    /// Cargo with these arguments and environment variables.
    Cargo(Vec<String>, Variables),
}

impl Step {
    fn own(command: &str, check: fn(&Path) -> Result<()>) -> Self {
        Self { command: command.to_owned(), action: Action::Own(check) }
    }

    fn cargo(arguments: &str) -> Self {
        Self {
            command: format!("cargo {arguments}"),
            action: Action::Cargo(words(arguments), Vec::new()),
        }
    }

    fn run(&self, root: &Path) -> Result<()> {
        let (arguments, variables) = match &self.action {
            Action::Own(check) => return check(root),
            Action::Cargo(arguments, variables) => (arguments, variables),
        };
        let mut command = cargo(root);
        command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
        match limit::status(&mut command, step_limit())? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("it ended with {status}"),
            None => bail!("it hung: it was killed after {MINUTES_IN_CI} minutes"),
        }
    }
}

fn step_limit() -> Option<Duration> {
    std::env::var_os("CI").map(|_| Duration::from_secs(60 * MINUTES_IN_CI))
}

/// Runs every step and prints how long each took. `fast` omits the steps that need
/// RocksDB.
///
/// # Errors
/// If a step fails. The message contains the command that repeats it.
pub(crate) fn run(root: &Path, fast: bool) -> Result<()> {
    require_tools(root)?;
    packages::install_durability_programs();
    let engines = ENGINES.map(|engine| (engine, engine.install().err()));
    let mut times: Vec<(String, Duration)> = Vec::new();
    run_steps(root, &plan(root)?, &mut times)?;
    // Servers run on beside those of the next engine, for the tests that copy between both.
    let mut servers = Vec::new();
    let mut variables = Variables::new();
    for (engine, _) in engines.iter().filter(|(_, missing)| missing.is_none()) {
        println!("\n== {}", engine.name);
        let started = engine.start(root)?;
        variables.extend(started.variables());
        servers.push(started);
        run_steps(root, &with_servers(engine, &variables), &mut times)?;
    }
    drop(servers);
    let without_rocksdb = match fast {
        true => Some("--fast".to_owned()),
        false => rocksdb::require_libclang().err().map(|error| error.to_string()),
    };
    if without_rocksdb.is_none() {
        println!("\n== RocksDB's C++");
        let start = Instant::now();
        let variables = rocksdb::build(root)?;
        times.push(("RocksDB's C++".to_owned(), start.elapsed()));
        run_steps(root, &with_rocksdb(&variables), &mut times)?;
    }
    summary(&times, "ok");
    let mut all = "all";
    for (engine, reason) in engines {
        if let Some(reason) = reason {
            println!("SKIPPED all tests with {}: {reason}", engine.name);
            all = "all other";
        }
    }
    if let Some(reason) = without_rocksdb {
        println!("SKIPPED all checks of RocksDB: {reason}");
        all = "all other";
    }
    println!("{all} checks passed");
    Ok(())
}

fn run_steps(root: &Path, steps: &[Step], times: &mut Vec<(String, Duration)>) -> Result<()> {
    for (index, step) in steps.iter().enumerate() {
        println!("\n== {} of {}: {}", index + 1, steps.len(), step.command);
        std::io::stdout().flush()?;
        let start = Instant::now();
        let result = step.run(root);
        times.push((step.command.clone(), start.elapsed()));
        if let Err(error) = result {
            summary(times, "FAILED");
            bail!("{error:#}\nrepeat this step with: {}", step.command);
        }
    }
    Ok(())
}

/// Prints a line for each step that ran. `last` is the result of the last one.
fn summary(times: &[(String, Duration)], last: &str) {
    println!("\n== summary");
    for (index, (command, time)) in times.iter().enumerate() {
        let end = if index + 1 == times.len() { last } else { "ok" };
        println!("{end:6} {:7.1} s  {command}", time.as_secs_f64());
    }
    let total: Duration = times.iter().map(|(_, time)| *time).sum();
    println!("{:14.1} s  total", total.as_secs_f64());
}

/// The steps in order.
fn plan(root: &Path) -> Result<Vec<Step>> {
    let workspace = Workspace::load(root)?;
    let mut steps = vec![
        Step::cargo("fmt --all --check"),
        Step::cargo("fmt --all --check --manifest-path examples/guests/Cargo.toml"),
        Step::own("cargo xtask check-layers", layers::check),
        Step::own("cargo xtask dependencies --check", dependencies::check),
        Step::own("cargo xtask guests --check", guests::check),
        Step::own("cargo xtask tidy", |root| tidy::run(root, false)),
        Step::own("cargo xtask deny", deny::check),
        Step::own("cargo xtask package", platforms::package),
    ];
    let mut with_wasmtime = Vec::new();
    for set in feature_sets(&workspace) {
        let arguments = set.arguments().join(" ");
        if !Graph::resolve(root, set.clone())?.contains("wasmtime") {
            // First without dev-dependencies, which may enable a feature that the crate
            // itself forgot to request.
            steps.push(clippy(&arguments, Targets::Users));
            steps.push(clippy(&arguments, Targets::All));
            steps.push(doc(&arguments));
        } else if !set.default_features {
            with_wasmtime.push(clippy(&among_all(&workspace, &set), Targets::All));
        }
    }
    steps.push(Step::own("cargo xtask msrv", platforms::msrv));
    steps.push(Step::own("cargo xtask platforms", platforms::check));
    steps.push(clippy("--package xtask", Targets::All));
    steps.push(clippy("", Targets::All));
    steps.extend(with_wasmtime);
    steps.push(clippy("", Targets::Users));
    steps.push(doc(""));
    // Includes doctests.
    steps.push(Step::cargo("test"));
    steps.push(Step::cargo(
        "test --package storage-host --features p3 --lib --test guest -- guest::p3 overlapping",
    ));
    steps.push(Step::cargo("test --package xtask"));
    for package in ["durability", "drill", BENCHES, "fuzz", "test-servers", "sqlite-store"] {
        steps.push(clippy(&format!("--package {package}"), Targets::All));
    }
    // With the host, so that its dependencies have the features that are checked already.
    let guests = "--package storage-host --package benches \
                  --features benches/guests,benches/async,benches/serve";
    steps.push(clippy(guests, Targets::All));
    steps.push(Step::cargo("test --package test-servers"));
    steps.push(Step::cargo("test --package durability"));
    steps.push(Step::cargo(&format!("test --package {BENCHES}")));
    steps.push(Step::cargo(PEER));
    steps.push(Step::cargo("test --package sqlite-store"));
    // The committed inputs only: libFuzzer needs a C++ compiler.
    steps.push(Step::cargo("test --package fuzz"));
    steps.push(Step::cargo(&format!("run --package durability -- {DURABILITY_IN_SHORT}")));
    steps.push(Step::own("cargo xtask models --short", |root| {
        models::run(root, &models::Arguments::short())
    }));
    Ok(steps)
}

/// The benchmarks that need neither wasmtime nor C++.
const BENCHES: &str = "benches --features postgres,redis";

/// The test of the interface of wasmtime-wasi-keyvalue, with ours and with that crate.
const PEER: &str =
    "test --package storage-host --package benches --features benches/peer --test drop_in";

/// Every part of the durability suite, with few rounds.
const DURABILITY_IN_SHORT: &str = "--short";

/// The steps with RocksDB, once its C++ is compiled.
fn with_rocksdb(variables: &Variables) -> Vec<Step> {
    // The tests that depend on the store, and two files whose tests use every store.
    let host = "--features rocksdb -- rocksdb archive:: transfer::";
    let lints = "-- -D warnings";
    [
        format!(
            "clippy --package storage-backends --no-default-features --features rocksdb {lints}"
        ),
        format!("clippy --package storage-backends --features rocksdb --all-targets {lints}"),
        "test --package storage-backends --features rocksdb --lib rocksdb".to_owned(),
        "test --package storage-backends --features rocksdb --test rocksdb".to_owned(),
        "test --package storage-backends --features rocksdb --test stores rocksdb".to_owned(),
        // The code for this store does not depend on wasmtime.
        format!("clippy --package storage-host --no-default-features --features rocksdb --all-targets {lints}"),
        format!("test --package storage-host {host}"),
        format!("clippy --package durability --features rocksdb --all-targets {lints}"),
        format!("clippy --package benches --features rocksdb --all-targets {lints}"),
        format!(
            "run --package durability --features rocksdb -- {DURABILITY_IN_SHORT} --engine rocksdb"
        ),
    ]
    .iter()
    .map(|arguments| {
        let mut step = Step::cargo(arguments);
        step.action = Action::Cargo(words(arguments), variables.clone());
        step
    })
    .collect()
}

/// The steps with servers, which `variables` name.
fn with_servers(engine: &Engine, variables: &Variables) -> Vec<Step> {
    let step = |arguments: &&str| Step {
        command: engine.repeat(arguments),
        action: Action::Cargo(words(arguments), variables.clone()),
    };
    engine.steps.iter().map(step).collect()
}

/// Arguments that select every default member: the package of `set` with its
/// features, and the others with their default features.
///
/// Cargo unifies the features of a dependency over all selected packages. With one
/// package selected, a hash crate would lack a feature, and cargo would check
/// wasmtime and its compiler again.
fn among_all(workspace: &Workspace, set: &FeatureSet) -> String {
    let mut features: Vec<String> = workspace
        .default_members()
        .filter(|other| other.name != set.package && other.features.contains_key("default"))
        .map(|other| format!("{}/default", other.name))
        .collect();
    features.extend(set.features.iter().map(|feature| format!("{}/{feature}", set.package)));
    format!("--no-default-features --features {}", features.join(","))
}

/// Every feature set of our crates that needs only Rust and a C compiler.
fn feature_sets(workspace: &Workspace) -> impl Iterator<Item = FeatureSet> {
    let heavy = |name: &String| HEAVY_FEATURES.contains(&name.as_str());
    workspace
        .default_members()
        .flat_map(Package::feature_sets)
        .filter(move |set| !set.features.iter().any(heavy))
}

/// Which targets of a crate to check.
enum Targets {
    /// The library and the programs, as users build them.
    Users,
    /// Also tests, examples and benchmarks.
    All,
}

fn clippy(arguments: &str, targets: Targets) -> Step {
    let targets = match targets {
        Targets::Users => "",
        Targets::All => "--all-targets",
    };
    Step::cargo(&line(&["clippy", arguments, targets, "-- -D warnings"]))
}

/// Builds the documentation and denies warnings.
fn doc(arguments: &str) -> Step {
    let arguments = line(&["doc --no-deps", arguments]);
    Step {
        command: format!("RUSTDOCFLAGS=\"-D warnings\" cargo {arguments}"),
        action: Action::Cargo(words(&arguments), vec![("RUSTDOCFLAGS", "-D warnings".to_owned())]),
    }
}

/// Joins the parts that are not empty.
fn line(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

/// Fails if a tool is missing, and says how to install it.
fn require_tools(root: &Path) -> Result<()> {
    let mut missing = Vec::new();
    for (arguments, advice) in [
        ("fmt", "rustfmt is missing: rustup component add rustfmt"),
        ("clippy", "clippy is missing: rustup component add clippy"),
    ] {
        if !works(cargo(root).args([arguments, "--version"])) {
            missing.push(advice);
        }
    }
    if !works(Command::new("git").arg("--version")) {
        missing.push("git is missing: install the package git");
    }
    // On Windows rustc finds the linker of Visual Studio.
    if cfg!(unix) {
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        if !works(Command::new(compiler).arg("--version")) {
            missing.push("a C compiler is missing: install gcc or clang, as the package gcc");
        }
    }
    if !missing.is_empty() {
        bail!("{}", missing.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_checked() {
        let root = crate::workspace::root().unwrap();
        let commands: Vec<String> =
            plan(&root).unwrap().into_iter().map(|step| step.command).collect();
        let workspace = Workspace::load(&root).unwrap();
        for set in feature_sets(&workspace).filter(|set| !set.default_features) {
            let alone = clippy(&set.arguments().join(" "), Targets::All).command;
            let together = clippy(&among_all(&workspace, &set), Targets::All).command;
            assert!(
                commands.iter().any(|command| [&alone, &together].contains(&command)),
                "no step checks {set}"
            );
        }
    }

    #[test]
    fn a_command_that_fails_fails_its_step() {
        let root = crate::workspace::root().unwrap();
        assert!(Step::cargo("--version").run(&root).is_ok());
        let error = Step::cargo("no-such-command").run(&root).unwrap_err();
        assert!(error.to_string().starts_with("it ended with exit status"), "{error}");
    }
}
