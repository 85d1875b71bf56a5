//! `run --config`, and `check` of a manifest.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use storage_host::{ComponentId, Manifest, ManifestWarning};

use super::check::check_runnable;
use super::failure::Failure;
use super::output::{Output, exact_path, json_path, note, printable};
use super::progress::counted;
use super::run::Job;
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
    grants: usize,
    warnings: Vec<Warning<'a>>,
}

#[derive(Serialize)]
struct Warning<'a> {
    kind: &'static str,
    component: &'a str,
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

/// Compiles the components of a manifest, and reports errors and warnings. Creates
/// nothing. With `strict` a warning is a failure.
pub(super) fn check(target: &Target, strict: bool, output: &mut Output) -> Result<(), Failure> {
    let Some((path, manifest)) = target.config() else { return Ok(()) };
    let mut runnable = 0;
    for component in &manifest.components {
        if let Some(wasm) = &component.wasm {
            check_runnable(wasm).map_err(|failure| failure.of_component(&component.id))?;
            runnable += 1;
        }
    }
    let warnings = manifest.warnings();
    let checked = Checked {
        manifest: json_path(path),
        manifest_base64: exact_path(path),
        store: target.url().to_string(),
        components: manifest.components.len(),
        runnable,
        grants: manifest.components.iter().map(|component| component.grants.len()).sum(),
        warnings: warnings.iter().map(Warning::from).collect(),
    };
    let written = show(&checked, path, output).and_then(|()| output.finish());
    let outcome = match warnings.len() {
        number if strict && number > 0 => {
            let number = counted(number as u64, "warning");
            Err(Failure::new("warnings", format!("{}: {number}", path.display())))
        }
        _ => Ok(()),
    };
    Failure::outcome_of(written, outcome)
}

fn show(checked: &Checked<'_>, path: &Path, output: &mut Output) -> Result<(), Failure> {
    if output.json() {
        return output.document(checked);
    }
    for warning in &checked.warnings {
        note(format_args!("warning: {}", printable(&warning.message)));
    }
    output.line(format_args!(
        "{}: ok: store {}, {} ({} runnable), {}",
        path.display(),
        checked.store,
        counted(checked.components as u64, "component"),
        checked.runnable,
        counted(checked.grants as u64, "grant")
    ))
}
