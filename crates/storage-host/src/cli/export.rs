//! `export`: writes keys and values as an archive.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use storage_host::{ComponentId, ExportError, Exported, Mode, Store, export_store};
use tempfile::NamedTempFile;

use super::args;
use super::copy::check_snapshot;
use super::ending::OnSignal;
use super::extent::Extent;
use super::failure::Failure;
use super::host_store::HostStore;
use super::output::{Output, exact_path, json_path, note};
use super::progress::{Progress, counted};
use super::stdio;
use super::target::Target;
use super::unreadable::Pages;

/// Write keys and values as an archive, to back up or move data
///
/// An archive is a line of JSON for each key, with checksums (docs/formats.md), as of one
/// point in time. It goes to standard output, or with -o to a file that appears when it is
/// complete. import reads it. Compress it with a pipe: export | zstd > FILE.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The components: NAMESPACE/NAME/INSTANCE; without any, the whole store
    #[arg(value_name = "ID", value_parser = args::id())]
    ids: Vec<ComponentId>,

    /// Write the archive to FILE
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace FILE if it exists
    #[arg(long, requires = "output")]
    force: bool,
}

pub(super) fn export(target: &Target, args: &Args, output: &mut Output) -> Result<(), Failure> {
    match args.output.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => to_file(target, args, path, output),
        None => to_output(target, args),
    }
}

fn to_output(target: &Target, args: &Args) -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        return Err(Failure::new(
            "usage",
            "an archive is not written to a terminal: add -o FILE, or redirect the output",
        ));
    }
    let store = open(target, args)?;
    let exported = run(&*store, args, &mut stdio::output()).map_err(|error| match error {
        ExportError::Archive(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Failure::new("output", "standard output was closed before the archive was complete")
        }
        ExportError::Archive(error) => Failure::of_output(&error),
        error => Failure::of_export(error),
    })?;
    note(summary(&exported));
    Ok(())
}

fn to_file(target: &Target, args: &Args, path: &Path, output: &mut Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Document {
        file: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_base64: Option<String>,
        keys: u64,
        bytes: u64,
        components: u64,
        file_bytes: u64,
    }

    let real = &replaceable(path, args.force)?;
    let store = open(target, args)?;
    let failed = |error: &io::Error| not_written(path, error);
    let directory = match real.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    // Removed unless it is complete.
    let mut builder = tempfile::Builder::new();
    let created = builder.prefix(".storage-host-export-").make_in(directory, create_private);
    let mut file = created.map_err(|error| failed(&error))?;
    let _on_signal = OnSignal::remove(file.path().to_owned());
    // Not to `file`, whose errors have the path of the temporary file.
    let exported = run(&*store, args, file.as_file_mut()).map_err(|error| match error {
        ExportError::Archive(error) => failed(&error),
        error => Failure::of_export(error),
    })?;
    publish(file, real, directory, args.force).map_err(|error| failed(&error))?;
    if output.json() {
        return output.document(&Document {
            file: json_path(path),
            file_base64: exact_path(path),
            keys: exported.usage.keys,
            bytes: exported.usage.bytes,
            components: exported.components,
            file_bytes: exported.archive_bytes,
        });
    }
    output.line(format_args!(
        "{} to {} ({} bytes)",
        summary(&exported),
        path.display(),
        exported.archive_bytes
    ))
}

fn summary(exported: &Exported) -> String {
    format!(
        "exported {} ({} bytes) of {}",
        counted(exported.usage.keys, "key"),
        exported.usage.bytes,
        counted(exported.components, "component")
    )
}

/// Opens the store, or that of a host which has it locked.
fn open(target: &Target, args: &Args) -> Result<Arc<dyn Store>, Failure> {
    let checked = |store: Arc<dyn Store>| {
        if args.ids.is_empty() {
            let mut components = Pages::new(&*store);
            while components.next()?.is_some() {}
            components.refuse("cannot export the store")?;
        }
        // Fails here if the store is locked, before anything is written.
        let prefix = match args.ids.as_slice() {
            [one] => one.key_prefix(),
            _ => "",
        };
        check_snapshot(&*store, prefix)?;
        Ok(store)
    };
    target.here_or_there(
        Mode::ReadOnly,
        |host| checked(Arc::clone(host.store())),
        |client| checked(Arc::new(HostStore::new(client))),
    )
}

fn run(store: &dyn Store, args: &Args, out: &mut dyn Write) -> Result<Exported, ExportError> {
    let chosen = Some(args.ids.as_slice()).filter(|ids| !ids.is_empty());
    let mut extent = Extent::of(store, chosen);
    let mut progress = Progress::of("exporting", extent.total());
    let exported = export_store(store, chosen, out, &mut |key, exported| {
        progress.moved(extent.position(exported.usage.keys, key), exported.usage, key);
    })?;
    drop(progress);
    for id in &exported.empty {
        note(format_args!("component {id} has no keys"));
    }
    Ok(exported)
}

/// The path of the file to write, which must not exist unless it may be replaced.
fn replaceable(path: &Path, force: bool) -> Result<PathBuf, Failure> {
    let refused = |problem: &str| Failure::new("exists", format!("{} {problem}", path.display()));
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.is_symlink() {
            true => Err(refused("is a symbolic link to a missing file; remove it")),
            false => Ok(path.to_owned()),
        },
        Err(error) => Err(not_written(path, &error)),
        Ok(found) if found.is_dir() => Err(refused("is a directory; give the path of a file")),
        // Replacing it would remove a device or a pipe.
        Ok(found) if !found.is_file() => {
            Err(refused("is not a regular file; redirect standard output to it instead"))
        }
        Ok(_) if !force => Err(refused("exists; to replace it, add --force")),
        Ok(_) => fs::canonicalize(path).map_err(|error| not_written(path, &error)),
    }
}

/// Creates a file that only its owner may read: it will have the data of all components. The
/// error is the system's own, without the path that `tempfile` would add.
fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes the file durable and gives it its name.
fn publish(
    file: NamedTempFile<File>,
    path: &Path,
    directory: &Path,
    force: bool,
) -> io::Result<()> {
    file.as_file().sync_all()?;
    let named = if force { file.persist(path) } else { file.persist_noclobber(path) };
    named.map_err(|error| error.error)?;
    // Only Unix can open a directory as a file.
    if cfg!(unix) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::new("output", format!("cannot write {}: {error}", path.display()))
}
