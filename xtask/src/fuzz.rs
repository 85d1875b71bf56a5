//! `fuzz`: runs the fuzz targets with cargo-fuzz on stable Rust.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::workspace::{Workspace, cargo, output, succeed};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The targets to run; all if none is given.
    targets: Vec<String>,
    /// How long to run each target, in seconds.
    #[arg(long, default_value_t = 600, conflicts_with = "smoke")]
    seconds: u64,
    /// Run each target for 20 seconds.
    #[arg(long)]
    smoke: bool,
}

/// Runs the targets one after the other, and stops at the first finding.
///
/// # Errors
/// If a target does not exist, finds a bug or does not build.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    require_cargo_fuzz(root)?;
    let package = ["--fuzz-dir", "testing/fuzz"];
    let list = output(cargo(root).args(["fuzz", "list"]).args(package))?;
    let known: Vec<&str> = list.lines().collect();
    let mut targets: Vec<&str> = arguments.targets.iter().map(String::as_str).collect();
    if let Some(unknown) = targets.iter().find(|target| !known.contains(target)) {
        bail!("unknown fuzz target {unknown}; the targets are {}", known.join(", "));
    }
    if targets.is_empty() {
        targets = known;
    }
    let build = Workspace::load(root)?.target_directory.join("fuzz");
    let seconds = if arguments.smoke { 20 } else { arguments.seconds };
    for target in targets {
        println!("\nfuzzing {target} for {seconds} seconds");
        let found = build.join("found").join(target);
        fs::create_dir_all(&found).with_context(|| format!("cannot create {}", found.display()))?;
        // The three `calls` targets read the same inputs.
        let corpus = if target.starts_with("calls") { "calls" } else { target };
        let mut command = cargo(root);
        // ThinLTO and fewer codegen units slow the build down, and do not make instrumented
        // code faster.
        command.env("CARGO_PROFILE_RELEASE_LTO", "off").args(["fuzz", "run"]).args(package);
        command.args(["--sanitizer", "none", "--features", "libfuzzer", "--codegen-units", "16"]);
        command.arg("--target-dir").arg(&build).arg(target);
        // libFuzzer adds new inputs to the first directory.
        command.arg(&found).arg(root.join("testing/fuzz/corpus").join(corpus)).arg("--");
        command.arg(format!("-max_total_time={seconds}"));
        // Targets read at most 4 KiB. The limit on memory is for the whole process: the
        // targets themselves count what one input takes.
        command.args(["-max_len=4096", "-rss_limit_mb=1024", "-timeout=20"]);
        command.args(["-print_final_stats=1", "-verbosity=0"]);
        succeed(&mut command, &format!("fuzz target {target}"))?;
    }
    Ok(())
}

/// Installs cargo-fuzz if it is missing: about a minute of one core.
fn require_cargo_fuzz(root: &Path) -> Result<()> {
    if output(cargo(root).args(["fuzz", "--version"])).is_ok() {
        return Ok(());
    }
    println!("installing cargo-fuzz");
    let mut install = cargo(root);
    install.args(["install", "--quiet", "--locked", "cargo-fuzz"]);
    succeed(&mut install, "installing cargo-fuzz (cargo install --locked cargo-fuzz)")
}
