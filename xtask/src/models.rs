//! `models`: builds the models of the cache, a program of their own, and runs
//! them.

use std::path::Path;

use anyhow::Result;

use crate::workspace::{cargo, succeed};

/// What chooses the models, and puts the cache in them on shuttle's threads.
pub(crate) const PACKAGE: &str = "--package cache-models --features shuttle";

/// They run millions of executions.
pub(crate) const PROFILE: &str = "--profile models";

/// Runs the models with these arguments.
///
/// # Errors
/// If they do not build, or one fails.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let mut command = cargo(root);
    command.args(["run", "--quiet"]);
    command.args(PROFILE.split(' ')).args(PACKAGE.split(' '));
    succeed(command.arg("--").args(arguments), "the models")
}
