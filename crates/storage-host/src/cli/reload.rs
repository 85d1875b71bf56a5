//! `reload`, and SIGHUP: the changed settings of a manifest.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use storage_host::{Applied, Manifest, SettingChange, StorageHost};

use super::beside::require_host;
use super::failure::Failure;
use super::output::{Output, note, printable};
use super::stderr;
use super::target::{Target, parse_manifest};

/// Have a running host read its manifest again
///
/// Applies changed quotas, limits, rates and grants without a restart, as SIGHUP does,
/// and lists what changed and what needs a restart. The manifest is the one that run or
/// serve was started with. An invalid one changes nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// Applies a manifest to a host again.
pub(super) struct Reloader {
    path: PathBuf,
    started_with: Manifest,
    host: StorageHost,
    /// So that the manifest that was read last is the one that counts.
    applying: Mutex<()>,
}

impl Reloader {
    /// Of a host that was started with this manifest.
    pub(super) fn new(path: PathBuf, started_with: Manifest, host: StorageHost) -> Self {
        Self { path, started_with, host, applying: Mutex::new(()) }
    }

    /// Reads the manifest and applies it. An invalid one changes nothing.
    pub(super) fn reload(&self) -> Result<Applied, Failure> {
        let _ordered = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let manifest = parse_manifest(&self.path, fs::read(&self.path));
        let manifest = manifest.map_err(|failure| failure.with("; nothing was changed"))?;
        Ok(manifest.apply_to(&self.host, &self.started_with))
    }

    /// The same, and reports the result.
    pub(super) fn reload_and_report(&self) {
        match self.reload() {
            Ok(applied) => {
                let path = printable(&self.path.to_string_lossy());
                lines(&applied).for_each(|line| note(format_args!("reloaded {path}: {line}")));
            }
            Err(failure) => {
                // The host continues, so there is no exit code.
                let _ = failure.report(stderr::is_json());
            }
        }
    }
}

/// What a reload did, in lines.
fn lines(applied: &Applied) -> impl Iterator<Item = String> {
    let none = applied.changed.is_empty().then(|| "nothing changed".to_owned());
    let changed = applied.changed.iter().map(|change| format!("changed: {change}"));
    let rest = applied.needs_restart.iter().map(|change| format!("needs a restart: {change}"));
    let lines = none.into_iter().chain(changed).chain(rest);
    lines.map(|line| printable(&line))
}

/// Has the host of a store read its manifest again.
pub(super) fn reload(target: &Target, output: &mut Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Document<'a> {
        changed: Vec<Change<'a>>,
        needs_restart: Vec<Change<'a>>,
    }

    let url = target.url();
    let no_host = || match url.path() {
        Some(_) => format!(
            "no running host has the store \"{url}\" open: name the host's store with --store or \
             --config"
        ),
        None => format!(
            "a host of the store \"{url}\" has no admin socket: send it SIGHUP to reload its \
                 manifest"
        ),
    };
    let applied = require_host(url, no_host)?.reload()?;
    if !output.json() {
        return lines(&applied).try_for_each(|line| output.line(line));
    }
    output.document(&Document {
        changed: applied.changed.iter().map(Change::from).collect(),
        needs_restart: applied.needs_restart.iter().map(Change::from).collect(),
    })
}

#[derive(Serialize)]
struct Change<'a> {
    /// `None` for a setting of the host, or of components without their own.
    component: Option<&'a str>,
    field: &'a str,
    old: &'a str,
    new: &'a str,
}

impl<'a> From<&'a SettingChange> for Change<'a> {
    fn from(change: &'a SettingChange) -> Self {
        let SettingChange { component, field, old, new } = change;
        Self { component: component.as_ref().map(|id| id.as_str()), field, old, new }
    }
}
