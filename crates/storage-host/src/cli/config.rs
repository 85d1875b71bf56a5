//! `run --config` and `check`: a manifest.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use storage_host::{ComponentId, Manifest, ManifestError, StoreUrl};

use super::failure::Failure;
use super::output::Output;
use super::progress::counted;
use super::run::{self, Job};

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        Self::new("manifest", error.to_string())
    }
}

/// Reads a manifest; its errors name the file.
fn read(path: &Path) -> Result<Manifest, Failure> {
    Manifest::from_file(path).map_err(|error| match error {
        error @ ManifestError::Read { .. } => error.into(),
        error => Failure::new("manifest", format!("{}: {error}", path.display())),
    })
}

/// What stands on the command line of `run --config`.
pub(super) struct Run<'a> {
    pub(super) config: &'a Path,
    pub(super) id: &'a str,
    pub(super) args: &'a [String],
    pub(super) presets: Vec<(String, String)>,
    pub(super) instances: u16,
    /// In place of the manifest's.
    pub(super) timeout: Option<Duration>,
    pub(super) json: bool,
    pub(super) store: Given<'a>,
}

/// The store that was named beside the manifest.
pub(super) enum Given<'a> {
    /// On the command line: it counts before the manifest's.
    OnLine(&'a StoreUrl),
    /// In the environment: it counts where the manifest names none.
    InEnvironment(&'a StoreUrl),
    Nowhere,
}

impl<'a> Given<'a> {
    /// The store that counts.
    fn or_of(self, manifest: &'a Manifest, path: &Path) -> Result<&'a StoreUrl, Failure> {
        match (self, &manifest.store) {
            (Self::OnLine(store), _) | (_, Some(store)) | (Self::InEnvironment(store), None) => {
                Ok(store)
            }
            (Self::Nowhere, None) => Err(Failure::new(
                "manifest",
                format!(
                    "{} names no store: add store = \"file:PATH\", or give one with --store or \
                     STORAGE_HOST_STORE",
                    path.display()
                ),
            )),
        }
    }
}

impl Run<'_> {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let manifest = read(self.config)?;
        let id: ComponentId = self.id.parse().map_err(|error| {
            Failure::new("usage", format!("with --config, run takes an id: {error}"))
        })?;
        let Some(component) = manifest.component(&id) else {
            let known: Vec<&str> =
                manifest.components.iter().map(|component| component.id.as_str()).collect();
            return Err(Failure::new(
                "manifest",
                format!(
                    "{} has no component {id}; it has {}",
                    self.config.display(),
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                ),
            ));
        };
        let Some(wasm) = &component.wasm else {
            return Err(Failure::new(
                "manifest",
                format!(
                    "{} names no file for the component {id}: add wasm = \"...\"",
                    self.config.display()
                ),
            ));
        };
        let presets = component.presets.iter().map(|(key, value)| (key.clone(), value.clone()));
        let job = Job {
            id: &id,
            component: wasm,
            args: self.args,
            // The command line's come later and win.
            presets: presets.chain(self.presets).collect(),
            instances: self.instances,
            timeout: self.timeout.or(component.timeout),
            json: self.json,
        };
        let store = self.store.or_of(&manifest, self.config)?;
        job.run(|| Ok(manifest.host(run::open_store(store, self.json)?)))
    }
}

#[derive(Serialize)]
struct Checked {
    /// With replacement characters where the path is not UTF-8.
    manifest: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    manifest_is_lossy: bool,
    store: String,
    components: usize,
    runnable: usize,
    grants: usize,
}

/// Reads a manifest, compiles what it names, and says whether all of it could be
/// run. Creates nothing.
pub(super) fn check(path: &Path, given: Given<'_>, output: &mut Output) -> Result<(), Failure> {
    let manifest = read(path)?;
    let store = given.or_of(&manifest, path)?;
    let mut runnable = 0;
    for component in &manifest.components {
        if let Some(wasm) = &component.wasm {
            run::check(wasm, output.json())
                .map_err(|failure| failure.of_component(&component.id))?;
            runnable += 1;
        }
    }
    let checked = Checked {
        manifest: path.to_string_lossy().into_owned(),
        manifest_is_lossy: path.to_str().is_none(),
        store: store.to_string(),
        components: manifest.components.len(),
        runnable,
        grants: manifest.components.iter().map(|component| component.grants.len()).sum(),
    };
    if output.json() {
        return output.document(&checked);
    }
    output.line(format_args!(
        "{}: ok: store {}, {}, {} of them with a file that can be run, {}",
        path.display(),
        checked.store,
        counted(checked.components as u64, "component"),
        checked.runnable,
        counted(checked.grants as u64, "grant")
    ))
}
