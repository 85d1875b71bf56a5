//! `deny`: cargo-deny checks licences, sources and duplicates, and advisories if
//! their database can be reached.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::workspace::{Workspace, cargo, succeed, works};

/// Checks every dependency against `deny.toml`.
///
/// # Errors
/// If `deny.toml` does not allow a dependency.
pub(crate) fn check(root: &Path) -> Result<()> {
    let tools = Workspace::load(root)?.target_directory.join("tools");
    let deny = || {
        let own = tools.join("bin/cargo-deny");
        let mut command = Command::new(if own.exists() { own } else { "cargo-deny".into() });
        command.current_dir(root).stdin(Stdio::null());
        command
    };
    if !works(deny().arg("--version")) {
        println!("installing cargo-deny in {}, which takes some minutes", tools.display());
        // Unoptimized: it builds in half of the time and runs for a second.
        let mut install = cargo(root);
        install.args(["install", "--quiet", "--locked", "--debug", "cargo-deny", "--root"]);
        if install.arg(&tools).status().is_ok_and(|status| !status.success()) {
            println!("SKIPPED cargo deny: it cannot be installed: cargo install cargo-deny");
            return Ok(());
        }
    }
    let check = ["check", "--hide-inclusion-graph"];
    succeed(deny().args(check).args(["bans", "licenses", "sources"]), "cargo deny")?;
    let fetch = deny().args(["fetch", "db"]).output()?;
    if !fetch.status.success() {
        println!("SKIPPED cargo deny check advisories: cannot download the advisory database");
        return Ok(());
    }
    match deny().args(check).args(["advisories", "--disable-fetch"]).status()?.success() {
        true => Ok(()),
        false => bail!("a dependency has an advisory"),
    }
}
