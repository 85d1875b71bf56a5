//! `run --config`, and `check` of a manifest.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use storage_host::{ComponentId, Manifest, ManifestComponent, ManifestWarning};

use super::check::check_for;
use super::failure::Failure;
use super::imports::Purpose;
use super::output::{Output, exact_path, json_path, note, printable};
use super::progress::counted;
use super::run::Job;
use super::stderr;
use super::target::Target;

/// The command line of `run --config`.
pub(super) struct Run<'a> {
    pub(super) target: &'a Target,
    pub(super) id: &'a str,
    pub(super) args: &'a [String],
    pub(super) presets: Vec<(String, String)>,
    pub(super) instances: u16,
    /// Overrides the manifest's.
    pub(super) timeout: Option<Duration>,
    pub(super) json: bool,
}

impl Run<'_> {
    /// Runs a component of `manifest`, which was read from `config`.
    pub(super) fn run(self, config: &Path, manifest: &Manifest) -> Result<ExitCode, Failure> {
        let id: ComponentId = self.id.parse().map_err(|error| {
            Failure::new("usage", format!("invalid component id for run --config: {error}"))
        })?;
        let Some(component) = manifest.component(&id) else {
            let known: Vec<&str> =
                manifest.components.iter().map(|component| component.id.as_str()).collect();
            return Err(Failure::new(
                "manifest",
                format!(
                    "{} has no component {id}; its components are: {}",
                    config.display(),
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                ),
            ));
        };
        let Some(wasm) = &component.wasm else {
            return Err(Failure::new(
                "manifest",
                format!(
                    "{} names no file for component {id}: add wasm = \"PATH\"",
                    config.display()
                ),
            ));
        };
        let presets = component.presets.iter().map(|(key, value)| (key.clone(), value.clone()));
        let job = Job {
            id: &id,
            component: wasm,
            args: self.args,
            // Those of the command line come last and win.
            presets: presets.chain(self.presets).collect(),
            instances: self.instances,
            timeout: self.timeout.or(component.timeout),
            json: self.json,
        };
        job.run(|| self.target.open_to_run())
    }
}

#[derive(Serialize)]
struct Checked<'a> {
    manifest: String,
    /// The bytes of a path that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest_base64: Option<String>,
    store: String,
    components: usize,
    runnable: usize,
    /// How many of those are for `serve`.
    #[serde(skip)]
    served: usize,
    /// The components that this host cannot run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failures: Vec<CannotRun<'a>>,
    grants: usize,
    warnings: Vec<Warning<'a>>,
}

#[derive(Serialize)]
struct Warning<'a> {
    kind: &'static str,
    component: &'a str,
    message: String,
}

#[derive(Serialize)]
struct CannotRun<'a> {
    component: &'a str,
    kind: &'static str,
    message: String,
}

impl<'a> From<&'a ManifestWarning> for Warning<'a> {
    fn from(warning: &'a ManifestWarning) -> Self {
        Self {
            kind: warning.kind(),
            component: warning.component().as_str(),
            message: warning.to_string(),
        }
    }
}

/// What a component with routes must have.
pub(super) const NO_FILE: &str = "it has routes, but no file: add wasm = \"PATH\"";

/// The command that a component of a manifest is for: `serve` if it has routes.
fn purpose_of(component: &ManifestComponent) -> Purpose {
    if component.routes.is_empty() { Purpose::Run } else { Purpose::Serve }
}

/// Compiles the components of a manifest, and reports the errors of all of them, and warnings.
/// Creates nothing. With `strict` a warning is a failure.
pub(super) fn check(target: &Target, strict: bool, output: &mut Output) -> Result<(), Failure> {
    let Some((path, manifest)) = target.config() else { return Ok(()) };
    let (mut runnable, mut served) = (0, 0);
    let mut failures = Vec::new();
    for component in &manifest.components {
        let Some(wasm) = &component.wasm else {
            if !component.routes.is_empty() {
                let message = NO_FILE.to_owned();
                let component = component.id.as_str();
                failures.push(CannotRun { component, kind: "manifest", message });
            }
            continue;
        };
        let purpose = purpose_of(component);
        match check_for(purpose, wasm) {
            Ok(()) => {
                runnable += 1;
                served += usize::from(purpose == Purpose::Serve);
            }
            Err(Failure::Error { kind, message }) => {
                failures.push(CannotRun { component: component.id.as_str(), kind, message });
            }
            Err(Failure::OutputClosed) => return Err(Failure::OutputClosed),
        }
    }
    let warnings = manifest.warnings();
    let failed = match (failures.len() as u64, warnings.len() as u64) {
        (0, warnings) if strict && warnings > 0 => Some(("warnings", counted(warnings, "warning"))),
        (0, _) => None,
        (failed, _) => {
            Some(("component", format!("{} cannot be used", counted(failed, "component"))))
        }
    };
    let checked = Checked {
        manifest: json_path(path),
        manifest_base64: exact_path(path),
        store: target.url().to_string(),
        components: manifest.components.len(),
        runnable,
        served,
        failures,
        grants: manifest.components.iter().map(|component| component.grants.len()).sum(),
        warnings: warnings.iter().map(Warning::from).collect(),
    };
    let written = show(&checked, path, output).and_then(|()| output.finish());
    let outcome = failed.map_or(Ok(()), |(kind, what)| {
        Err(Failure::new(kind, format!("{}: {what}", path.display())))
    });
    Failure::outcome_of(written, outcome)
}

fn show(checked: &Checked<'_>, path: &Path, output: &mut Output) -> Result<(), Failure> {
    if output.json() {
        return output.document(checked);
    }
    for warning in &checked.warnings {
        note(format_args!("warning: {}", printable(&warning.message)));
    }
    for CannotRun { component, message, .. } in &checked.failures {
        stderr::line(format_args!("error: {component}: {message}"));
    }
    if !checked.failures.is_empty() {
        return Ok(());
    }
    output.line(format_args!(
        "{}: ok: store {}, {} ({} for run, {} for serve), {}",
        path.display(),
        checked.store,
        counted(checked.components as u64, "component"),
        checked.runnable.saturating_sub(checked.served),
        checked.served,
        counted(checked.grants as u64, "grant")
    ))
}
