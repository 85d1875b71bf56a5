//! `models`: runs the models of the cache, which are tests of storage-cache.

use std::path::Path;

use anyhow::Result;

use crate::workspace::{cargo, succeed};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only models that contain all of these operations: get, tryget, exists, set,
    /// delete, commit, expire, clear, evict, fail, panic.
    operations: Vec<String>,
    /// How long to run; the models take turns.
    #[arg(long, default_value_t = 900)]
    seconds: u64,
    /// The same as --seconds 60.
    #[arg(long, conflicts_with = "seconds")]
    short: bool,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Repeat the schedule of this seed for exactly the named operations, and print
    /// what happens in it.
    #[arg(long, value_name = "SEED", requires = "operations")]
    replay: Option<u64>,
}

impl Arguments {
    /// `--short`.
    pub(crate) fn short() -> Self {
        Self { operations: Vec::new(), seconds: 60, short: true, seed: 1, replay: None }
    }
}

/// Runs the models.
///
/// The flag puts the cache and quick_cache on shuttle's threads. Nothing else may
/// be built with it, hence the target directory.
///
/// # Errors
/// If they do not build, or one fails.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let seconds = if arguments.short { 60 } else { arguments.seconds };
    let mut command = cargo(root);
    command
        .args(["test", "--quiet", "--package", "storage-cache", "--test", "models"])
        .args(["--profile", "models", "--target-dir", "target/models", "--", "--nocapture"])
        .env("RUSTFLAGS", "--cfg shuttle")
        .env("MODELS_OPERATIONS", arguments.operations.join(" "))
        .env("MODELS_SECONDS", seconds.to_string())
        .env("MODELS_SEED", arguments.seed.to_string());
    if let Some(seed) = arguments.replay {
        // The other tests are not about this schedule.
        command.arg("concurrent").env("MODELS_REPLAY", seed.to_string());
    }
    succeed(&mut command, "the models")
}
