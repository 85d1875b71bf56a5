//! `doctor`: reports versions, the state of the store, and problems of its environment.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Serialize, Serializer};
use storage_host::{Inspection, Mode, StorageError, StoreProperties, StoreRegistry, StoreUrl};

use super::beside;
use super::compiled::CacheDirectory;
use super::environment::{self, FileSystem};
use super::failure::Failure;
use super::output::{Output, exact_path, json_path, printable};
use super::progress::{Progress, counted, human_bytes};
use super::target::{self, ChosenBy, Target, VARIABLE};

/// The versions of the engines. A test compares them with Cargo.lock.
const WASMTIME: &str = "48.0.8";
const REDB: &str = "4.6.0";
const ROCKSDB: &str = "0.25.0";

/// Less free space than these bytes, or than this part of the total, is a warning.
const LOW_BYTES: u64 = 1 << 30;
const LOW_PART: u64 = 20;
/// Fewer free inodes are a warning for a store that needs one for each key.
const LOW_FILES: u64 = 10_000;
/// How many files are checked for access, and how many of the unreadable are named.
const MAX_CHECKED: u64 = 10_000;
const MAX_NAMED: usize = 3;

#[derive(Serialize)]
struct Report {
    version: &'static str,
    engines: Vec<Engine>,
    stores: Vec<Feature>,
    store: Store,
    /// The cache of compiled components.
    #[serde(serialize_with = "lossy")]
    cache: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_base64: Option<String>,
    findings: Vec<Finding>,
    /// Whether the store can at least be read.
    usable: bool,
}

#[derive(Serialize)]
struct Engine {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Feature {
    name: &'static str,
    compiled_in: bool,
}

#[derive(Serialize, Default)]
struct Store {
    url: String,
    /// What named it: `option`, `manifest`, `environment` or `default`.
    chosen_by: &'static str,
    kind: &'static str,
    #[serde(serialize_with = "lossy")]
    path: Option<PathBuf>,
    /// The bytes of a path that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    exists: bool,
    /// Whether the server would create it.
    #[serde(skip)]
    is_missing: bool,
    format: Option<u32>,
    id: Option<String>,
    durability: Option<String>,
    /// The durability in words, if the server's settings decide it.
    #[serde(skip)]
    survives: Option<String>,
    /// What a failover can lose.
    #[serde(skip_serializing_if = "Option::is_none")]
    failover_loss: Option<&'static str>,
    /// Which process has it open, if one has.
    locked: Option<String>,
    /// The process of the host that has it open and answers other commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    host_process: Option<u32>,
    writable: Option<bool>,
    bytes: Option<u64>,
    files: Option<u64>,
    file_system: Option<String>,
    read_only_file_system: Option<bool>,
    free_bytes: Option<u64>,
    total_bytes: Option<u64>,
    free_files: Option<u64>,
    /// The length of the longest file name.
    name_bytes: Option<u64>,
    /// The largest file that this process may write, if limited.
    file_size_limit: Option<u64>,
    /// What a store on a server says of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    facts: Vec<Fact>,
}

#[derive(Serialize)]
struct Fact {
    name: &'static str,
    text: String,
}

/// A problem or a warning.
#[derive(Serialize)]
struct Finding {
    /// `problem` if it makes the store unusable, else `warning`.
    level: &'static str,
    code: &'static str,
    text: String,
}

impl Report {
    fn warn(&mut self, code: &'static str, text: impl Into<String>) {
        self.findings.push(Finding { level: "warning", code, text: text.into() });
    }

    fn problem(&mut self, code: &'static str, text: impl Into<String>) {
        self.usable = false;
        self.findings.push(Finding { level: "problem", code, text: text.into() });
    }
}

pub(super) fn doctor(target: &Target, output: &mut Output) -> Result<ExitCode, Failure> {
    let store = target.url();
    let progress = Progress::new("inspecting");
    let cache = CacheDirectory::find();
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        engines: engines(),
        stores: StoreRegistry::features()
            .map(|(name, compiled_in)| Feature { name, compiled_in })
            .collect(),
        store: Store::default(),
        cache_base64: cache.path().and_then(exact_path),
        cache: cache.path().map(Path::to_owned),
        findings: Vec::new(),
        usable: true,
    };
    check_choice(target, &mut report);
    match store.path() {
        Some(path) if path.is_relative() && std::env::current_dir().is_err() => report.problem(
            "working_directory",
            "the working directory was deleted, and the store's path is relative to it",
        ),
        Some(path) => check_path(store, path, &mut report),
        None if store.is_on_server() => check_server(store, &mut report),
        None => report.warn(
            "memory",
            "a memory: store starts empty, and its data is lost when the process ends",
        ),
    }
    check_process(store, &mut report);
    check_cache(&cache, &mut report);
    drop(progress);

    if output.json() {
        output.document(&report)?;
    } else {
        show(&report, output)?;
    }
    output.finish()?;
    if report.usable {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new("unusable", format!("the store \"{store}\" cannot be used")))
}

fn engines() -> Vec<Engine> {
    [
        ("wasmtime", WASMTIME, true),
        ("redb", REDB, cfg!(feature = "redb")),
        ("rocksdb", ROCKSDB, cfg!(feature = "rocksdb")),
    ]
    .into_iter()
    .filter(|(_, _, is_compiled_in)| *is_compiled_in)
    .map(|(name, version, _)| Engine { name, version })
    .collect()
}

/// Which store is used, and what else could name one.
fn check_choice(target: &Target, report: &mut Report) {
    let store = target.url();
    let (name, option) = match target.chosen_by() {
        ChosenBy::Option => ("option", Some("--store")),
        ChosenBy::Manifest => ("manifest", Some("--config")),
        ChosenBy::Environment => ("environment", None),
        ChosenBy::Default => ("default", None),
    };
    report.store.chosen_by = name;
    let same = |text: &OsString| StoreUrl::from_os_str(text).as_ref() == Ok(store);
    if let (Some(option), Some(other)) = (option, target::in_environment())
        && !same(&other)
    {
        let text = match StoreUrl::from_os_str(&other) {
            Ok(other) => format!(
                "{VARIABLE} names another store, \"{other}\", which commands without {option} use"
            ),
            Err(error) => {
                format!("commands without {option} fail, because {VARIABLE} is invalid: {error}")
            }
        };
        report.warn("overridden", text);
    }
    if target.overlooks_earlier_default() {
        report.warn(
            "earlier_default",
            format!(
                "there is also the store {}, which was the default before; to use it, add --store",
                target::EARLIER_DEFAULT
            ),
        );
    }
    report.store.url = store.to_string();
    report.store.kind = store.scheme();
    report.store.durability = store.durability().map(str::to_owned);
}

/// A store on a server.
fn check_server(store: &StoreUrl, report: &mut Report) {
    let opened = match store.exists() {
        Ok(true) => store.open(Mode::ReadOnly),
        // As a path without a store.
        Ok(false) => {
            report.store.is_missing = true;
            return show_inspection(store.inspect_server(), report);
        }
        Err(error) => Err(error),
    };
    match opened {
        Ok(opened) => {
            report.store.exists = true;
            show_properties(opened.properties(), report);
        }
        Err(StorageError::IoError(detail)) => return report.problem("does_not_open", detail),
        Err(error) => return report.problem("does_not_open", error.to_string()),
    }
    show_inspection(store.inspect(), report);
}

fn show_properties(properties: StoreProperties, report: &mut Report) {
    report.store.failover_loss = properties.failover_loss();
    report.store.id = properties.store_id;
    report.store.format = properties.format;
    if report.store.durability.is_none() {
        report.store.durability = properties.durability.map(|one| one.to_string());
    }
}

fn show_inspection(inspection: Result<Inspection, StorageError>, report: &mut Report) {
    let inspection = match inspection {
        Ok(inspection) => inspection,
        Err(error) => return report.warn("not_inspected", error.to_string()),
    };
    report.store.survives = inspection.durability;
    report.store.bytes = inspection.bytes;
    report.store.writable = inspection.writable;
    report.store.facts =
        inspection.facts.into_iter().map(|(name, text)| Fact { name, text }).collect();
    if let Some(properties) = inspection.properties {
        show_properties(properties, report);
    }
    for (code, text) in inspection.problems {
        report.problem(code, text);
    }
    for (code, text) in inspection.warnings {
        report.warn(code, text);
    }
}

/// The store's directory or file, and its file system.
fn check_path(store: &StoreUrl, path: &Path, report: &mut Report) {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    report.store.path = Some(path.clone());
    report.store.path_base64 = exact_path(&path);
    // A missing store will be created below the nearest directory that exists.
    let nearest = path.ancestors().find(|above| above.symlink_metadata().is_ok());
    let Some(nearest) = nearest else { return };
    report.store.exists = nearest == path && !is_empty_directory(&path);
    let disk = environment::file_system(nearest);
    check_file_system(store, &disk, report);
    if report.store.exists {
        check_store(store, &path, report);
        return;
    }
    report.store.writable = environment::may_write(nearest);
    if !nearest.is_dir() {
        report.problem("no_folder", format!("{} is not a directory", shown(nearest)));
    } else if report.store.writable == Some(false) {
        let why = if report.store.read_only_file_system == Some(true) {
            "the file system is mounted read-only".to_owned()
        } else {
            format!("no permission to write: {}", access_in_words(nearest))
        };
        report.problem("not_writable", format!("the store cannot be created: {why}"));
    }
}

fn check_file_system(url: &StoreUrl, disk: &FileSystem, report: &mut Report) {
    let (scheme, needs) = (url.scheme(), url.needs());
    if let Some(text) = disk.kind.as_deref().and_then(environment::caution) {
        let kind = disk.kind.as_deref().unwrap_or_default();
        report.warn("file_system", format!("the file system ({kind}) {text}"));
    }
    if let (Some(free), Some(total)) = (disk.free_bytes, disk.total_bytes)
        && (free < LOW_BYTES || free < total / LOW_PART)
    {
        report.warn(
            "disk_space",
            format!(
                "only {} of {} are free; if the disk is full, writes fail, but stored data is kept",
                human_bytes(free),
                human_bytes(total)
            ),
        );
    }
    match disk.free_files {
        Some(0) => report.warn(
            "free_files",
            "the file system has no free inodes: no file can be created, even if space is free; \
             delete files",
        ),
        Some(files) if needs.file_per_key && files < LOW_FILES => report.warn(
            "free_files",
            format!(
                "the file system has room for only {} more, and a {scheme}: store needs one per key",
                counted(files, "file")
            ),
        ),
        _ => {}
    }
    if let Some(bytes) = disk.name_bytes
        && bytes < needs.file_name_bytes
    {
        report.warn(
            "name_bytes",
            format!(
                "the file system allows file names of {bytes} bytes, and a {scheme}: store uses up to \
                 {}: some long keys cannot be set; a redb: store has no such limit",
                needs.file_name_bytes
            ),
        );
    }
    let store = &mut report.store;
    store.file_system = disk.kind.clone();
    store.read_only_file_system = disk.read_only;
    store.free_bytes = disk.free_bytes;
    store.total_bytes = disk.total_bytes;
    store.free_files = disk.free_files;
    store.name_bytes = disk.name_bytes;
}

/// An existing store, or what else exists at its path.
fn check_store(store: &StoreUrl, path: &Path, report: &mut Report) {
    let size = Size::of(path);
    report.store.bytes = Some(size.bytes);
    report.store.files = Some(size.files);
    // If the store's own path is unreadable, opening it reports that.
    if size.unreadable.first().is_some_and(|(first, _)| first != path) {
        report.warn("unreadable", size.unreadable_text());
    }
    report.store.writable = environment::may_write(path);
    match store.open(Mode::ReadOnly) {
        Ok(opened) => {
            let properties = opened.properties();
            report.store.id = properties.store_id;
            report.store.format = properties.format;
        }
        Err(StorageError::Locked(detail)) => report.store.locked = Some(detail),
        Err(StorageError::IoError(detail)) => report.problem("does_not_open", detail),
        Err(error) => report.problem("does_not_open", error.to_string()),
    }
    match unlocked(path) {
        Err(StorageError::Locked(detail)) => report.store.locked = Some(detail),
        // A store that does not open has already been reported.
        Err(StorageError::IoError(detail)) if report.usable => {
            report.warn("locks", format!("only reading works: {detail}"));
        }
        _ => {}
    }
    if report.store.locked.is_some() {
        report.store.host_process = beside::host_process(store);
    }
    if report.store.read_only_file_system == Some(true) {
        report.warn("read_only", "only reading works: the file system is mounted read-only");
    } else if report.store.writable == Some(false) {
        report.warn(
            "not_writable",
            format!("only reading works, without permission to write: {}", access_in_words(path)),
        );
    }
}

/// Fails if a process has the store open for writing, or if locks do not work.
#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
fn unlocked(path: &Path) -> Result<(), StorageError> {
    storage_backends::look_for_writer(path)
}

#[cfg(not(any(feature = "file", feature = "redb", feature = "rocksdb")))]
fn unlocked(_path: &Path) -> Result<(), StorageError> {
    Ok(())
}

/// The size of the files below a path.
#[derive(Default)]
pub(super) struct Size {
    pub(super) bytes: u64,
    files: u64,
    /// Unreadable paths, with the reason, among those that were checked.
    unreadable: Vec<(PathBuf, String)>,
}

impl Size {
    pub(super) fn of(path: &Path) -> Self {
        let mut size = Self::default();
        let mut pending = vec![path.to_owned()];
        while let Some(path) = pending.pop() {
            // Deleted or inaccessible entries are not counted.
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() {
                match fs::read_dir(&path) {
                    Ok(entries) => pending.extend(entries.flatten().map(|entry| entry.path())),
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => {
                        let why = match error.kind() {
                            ErrorKind::PermissionDenied => access_in_words(&path),
                            _ => format!("{}: {error}", shown(&path)),
                        };
                        size.unreadable.push((path, why));
                    }
                }
                continue;
            }
            size.bytes = size.bytes.saturating_add(metadata.len());
            size.files += 1;
            let checked = size.files <= MAX_CHECKED;
            if checked && environment::may_read(&path) == Some(false) && path.exists() {
                let why = access_in_words(&path);
                size.unreadable.push((path, why));
            }
        }
        size.unreadable.sort_unstable();
        size
    }

    fn unreadable_text(&self) -> String {
        let named: Vec<String> =
            self.unreadable.iter().take(MAX_NAMED).map(|(_, why)| why.clone()).collect();
        let more = match self.unreadable.len().saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let all = match self.files > MAX_CHECKED {
            true => "; not all files were checked: verify reads all",
            false => "",
        };
        format!("part of the store cannot be read: {}{more}{all}", named.join("; "))
    }
}

/// A path with its owner and permissions, and this user; or the path alone.
fn access_in_words(path: &Path) -> String {
    #[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
    let text = storage_backends::describe_access(path);
    #[cfg(not(any(feature = "file", feature = "redb", feature = "rocksdb")))]
    let text: Option<String> = {
        let _ = path;
        None
    };
    text.map_or_else(|| shown(path), |text| printable(&text))
}

fn is_empty_directory(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// The cache of compiled components.
fn check_cache(cache: &CacheDirectory, report: &mut Report) {
    match cache {
        CacheDirectory::None => report.warn(
            "no_cache",
            "run compiles its component each time: neither HOME nor XDG_CACHE_HOME is an absolute \
             path",
        ),
        CacheDirectory::Refused { path, reason } => {
            let text = format!(
                "run compiles its component each time, because {} is not a safe cache: {reason}",
                shown(path)
            );
            report.warn("unsafe_cache", text);
        }
        CacheDirectory::Trusted(_) => {
            if let Some(reason) = cache.not_writable() {
                report.warn("no_cache", format!("run compiles its component each time: {reason}"));
            }
        }
    }
}

/// The limits and the environment of this process.
fn check_process(store: &StoreUrl, report: &mut Report) {
    report.store.file_size_limit = environment::file_size_limit();
    if let Some(bytes) = report.store.file_size_limit
        && report.store.path.is_some()
    {
        report.warn(
            "file_size",
            format!(
                "this process cannot write files larger than {} (ulimit -f): a write that needs a \
                 larger file fails",
                human_bytes(bytes)
            ),
        );
    }
    if let Some(files) = environment::open_files_limit()
        && files < store.needs().open_files
    {
        report.warn(
            "open_files",
            format!(
                "this process can open only {}, and a {}: store may need more: raise the limit \
                 with ulimit -n {}",
                counted(files, "file"),
                store.scheme(),
                store.needs().open_files
            ),
        );
    }
}

fn show(report: &Report, output: &mut Output) -> Result<(), Failure> {
    let mut row = |name: &str, text: String| output.line(format_args!("{name:14} {text}"));
    let store = &report.store;
    row("storage-host", report.version.to_owned())?;
    for engine in &report.engines {
        row(engine.name, engine.version.to_owned())?;
    }
    let named = |wanted: bool| -> Vec<String> {
        let some = report.stores.iter().filter(|one| one.compiled_in == wanted);
        some.map(|one| format!("{}:", one.name)).collect()
    };
    let missing = match named(false) {
        names if names.is_empty() => String::new(),
        names => format!("; not in this build: {}", names.join(" ")),
    };
    row("stores", format!("{}{missing}", named(true).join(" ")))?;
    if let Some(directory) = &report.cache {
        row("cache", format!("compiled components, in {}", shown(directory)))?;
    }

    let by = match store.chosen_by {
        "option" => "by --store",
        "manifest" => "by the manifest",
        "environment" => "by STORAGE_HOST_STORE",
        _ => "by default",
    };
    row("store", format!("{}, {by}", printable(&store.url)))?;
    if let Some(path) = &store.path {
        row("path", shown(path))?;
    }
    if store.is_missing || store.path.is_some() && !store.exists {
        row("state", "does not exist yet; the first write creates it".to_owned())?;
    }
    if let (Some(format), Some(id)) = (store.format, &store.id) {
        row("format", format!("{format}, id {id}"))?;
    }
    let survives = match (&store.survives, store.durability.as_deref()) {
        (Some(words), _) => Some(&**words),
        (None, Some("sync")) => Some("sync: writes survive a power cut"),
        (None, Some("os")) => Some("os: writes survive a killed process, but not a power cut"),
        (None, Some("relaxed")) => {
            Some("relaxed: a killed process or a power cut can lose the last 100 ms")
        }
        (None, other) => other,
    };
    if let Some(survives) = survives {
        row("durability", printable(survives))?;
    }
    if let Some(loss) = store.failover_loss {
        row("failover", loss.to_owned())?;
    }
    for Fact { name, text } in &store.facts {
        row(name, printable(text))?;
    }
    if store.exists && store.path.is_some() {
        row("in use", in_use(store))?;
    }
    if let (Some(bytes), Some(files)) = (store.bytes, store.files) {
        row("size", format!("{} in {}", human_bytes(bytes), counted(files, "file")))?;
    } else if let Some(bytes) = store.bytes {
        row("size", human_bytes(bytes))?;
    }
    if store.path.is_some() {
        let unknown = || "unknown".to_owned();
        let read_only = if store.read_only_file_system == Some(true) { ", read-only" } else { "" };
        row(
            "file system",
            format!("{}{read_only}", store.file_system.clone().unwrap_or_else(unknown)),
        )?;
        let free = store.free_bytes.zip(store.total_bytes).map_or_else(unknown, |(free, total)| {
            format!("{} of {}", human_bytes(free), human_bytes(total))
        });
        row("free", free)?;
    }

    output.line("")?;
    for finding in &report.findings {
        output.line(format_args!("{}: {}", finding.level, printable(&finding.text)))?;
    }
    if report.findings.is_empty() {
        output.line("no problems found")?;
    }
    Ok(())
}

/// Which process has the store open, and whether commands can be used meanwhile.
fn in_use(store: &Store) -> String {
    let Some(locked) = &store.locked else { return "no".to_owned() };
    match store.host_process {
        Some(process) => format!("by the host of process {process}; other commands work beside it"),
        None => printable(locked),
    }
}

fn lossy<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_deref().map(json_path).serialize(serializer)
}

fn shown(path: &Path) -> String {
    printable(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shown_versions_are_those_of_the_lock_file() {
        let lock = include_str!("../../../../Cargo.lock");
        for (name, version) in [("wasmtime", WASMTIME), ("redb", REDB), ("rocksdb", ROCKSDB)] {
            let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&entry), "{name} is not {version}");
        }
    }

    #[test]
    fn sizes_include_nested_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/1"), "123").unwrap();
        fs::write(dir.path().join("a/2"), "45").unwrap();
        let size = |path: &Path| {
            let size = Size::of(path);
            (size.bytes, size.files)
        };
        assert_eq!(size(dir.path()), (5, 2));
        assert_eq!(size(&dir.path().join("a/2")), (2, 1));
        assert_eq!(size(&dir.path().join("missing")), (0, 0));
    }
}
