//! `import`: writes the keys of an archive to a store.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use serde::Serialize;
use storage_host::{
    ComponentId, CopyOptions, Imported, Mode, StorageHost, Store, check_archive, import_archive,
};

use super::beside;
use super::ending::OnSignal;
use super::failure::Failure;
use super::output::Output;
use super::progress::{Progress, counted};
use super::stdio;
use super::target::Target;

/// Write the keys and values of an archive into a store
///
/// A missing store is created. Components of the archive that hold other data in the store
/// are refused; other components stay as they are. Equal values are skipped, so an
/// interrupted import continues when you run it again. With --config, a component that does
/// not fit in its quota or limits is refused.
///
/// A file is checked before anything is written. Standard input, or a pipe, is checked in
/// parts of up to 1,000 keys, each before it is written. A changed or incomplete archive is
/// refused with the number of the line. Decompress in a pipe: zstd -dc FILE | storage-host
/// import -
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The archive; standard input if it is -
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Import even if components hold other data
    ///
    /// The archive's values overwrite the store's. Other keys are kept.
    #[arg(long)]
    merge: bool,
}

pub(super) fn import(target: &Target, args: &Args, output: &mut Output) -> Result<(), Failure> {
    if !target.url().is_persistent() {
        return Err(Failure::new(
            "usage",
            "cannot import into a memory: store: its data is lost when the command ends; use a \
             persistent store, such as redb:PATH",
        ));
    }
    let manifest = target.config().map(|(_, manifest)| manifest);
    let settings = manifest.map(|manifest| move |id: &ComponentId| manifest.settings(id).clone());
    let mut options = CopyOptions::new().with_merge(args.merge);
    if let Some(settings) = &settings {
        options = options.with_settings(settings);
    }
    let imported = read_and_import(target, &options, &args.file);
    let imported = imported.map_err(|failure| beside_host(target, failure))?;
    show(target, &imported, output)
}

/// Says that a running host is the reason, if it is.
fn beside_host(target: &Target, failure: Failure) -> Failure {
    let is_open_in_host = failure.is_of_kind("locked")
        && matches!(beside::connect(target.url(), &failure), Ok(Some(_)));
    match is_open_in_host {
        true => failure.with("; an import cannot be done by the host that has the store open"),
        false => failure,
    }
}

fn read_and_import(
    target: &Target,
    options: &CopyOptions<'_>,
    path: &Path,
) -> Result<Imported, Failure> {
    if path == Path::new("-") {
        let input = stdio::input("name a file")?;
        import_stream(target, options, &mut BufReader::new(input))
    } else {
        let failed = |error: &io::Error| not_read(path, error);
        let mut file = File::open(path).map_err(|error| failed(&error))?;
        let found = file.metadata().map_err(|error| failed(&error))?;
        if found.is_dir() {
            return Err(failed(&io::ErrorKind::IsADirectory.into()));
        }
        match found.is_file() {
            true => import_file(target, options, (&mut file, found.len()), path),
            false => import_stream(target, options, &mut BufReader::new(file)),
        }
    }
}

fn not_read(path: &Path, error: &io::Error) -> Failure {
    Failure::new("io", format!("cannot read {}: {error}", path.display()))
}

/// Checks all of the archive before it writes.
fn import_file(
    target: &Target,
    options: &CopyOptions<'_>,
    (file, length): (&mut File, u64),
    path: &Path,
) -> Result<Imported, Failure> {
    // A wrong archive must not create a store.
    let mut host = target.open_existing_relaxed()?;
    let mut on_signal = host.as_ref().map(OnSignal::shut_down);
    let mut progress = Progress::of("checking", Some(length));
    let store = host.as_ref().map(|host| host.store() as &dyn Store);
    check_archive(&mut BufReader::new(&mut *file), store, options, &mut |key, imported| {
        progress.moved(imported.archive_bytes, imported.total(), key);
    })
    .map_err(|error| Failure::of_import(&error).with("; nothing was imported"))?;
    drop(progress);
    file.rewind().map_err(|error| not_read(path, &error))?;
    let host = match host.take() {
        Some(host) => host,
        None => {
            let host = target.open_relaxed(Mode::ReadWrite)?;
            on_signal = Some(OnSignal::shut_down(&host));
            host
        }
    };
    let imported = run(&host, options, &mut BufReader::new(file), Some(length));
    drop(on_signal);
    imported
}

/// How every archive begins.
const ARCHIVE_START: &[u8] = b"{\"format\":";

fn import_stream(
    target: &Target,
    options: &CopyOptions<'_>,
    input: &mut dyn BufRead,
) -> Result<Imported, Failure> {
    let mut start = Vec::new();
    let read = (&mut *input).take(ARCHIVE_START.len() as u64).read_to_end(&mut start);
    read.map_err(|error| stdio::not_read(&error))?;
    let input = &mut start.as_slice().chain(input);
    if start != ARCHIVE_START {
        // What is no archive must not create a store.
        check_archive(input, None, options, &mut |_, _| {})
            .map_err(|error| Failure::of_import(&error))?;
    }
    let host = target.open_relaxed(Mode::ReadWrite)?;
    let _on_signal = OnSignal::shut_down(&host);
    run(&host, options, input, None)
}

fn run(
    host: &StorageHost,
    options: &CopyOptions<'_>,
    input: &mut dyn BufRead,
    length: Option<u64>,
) -> Result<Imported, Failure> {
    let mut progress = Progress::of("importing", length);
    let mut has_begun = false;
    let imported = import_archive(input, host.store(), options, &mut |key, imported| {
        has_begun = true;
        progress.moved(imported.archive_bytes, imported.total(), key);
    });
    drop(progress);
    imported.map_err(|error| match has_begun {
        true => Failure::of_import(&error)
            .with("; keys before it may have been imported: fix this and import again to continue"),
        false => Failure::of_import(&error).with("; nothing was imported"),
    })
}

fn show(target: &Target, imported: &Imported, output: &mut Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Document<'a> {
        store: &'a str,
        written_keys: u64,
        written_bytes: u64,
        unchanged_keys: u64,
        unchanged_bytes: u64,
        components: u64,
    }

    let Imported { written, unchanged, components, .. } = *imported;
    if output.json() {
        return output.document(&Document {
            store: &target.url().to_string(),
            written_keys: written.keys,
            written_bytes: written.bytes,
            unchanged_keys: unchanged.keys,
            unchanged_bytes: unchanged.bytes,
            components,
        });
    }
    let skipped = match unchanged.keys {
        0 => String::new(),
        keys => format!("; {} ({} bytes) unchanged", counted(keys, "key"), unchanged.bytes),
    };
    output.line(format_args!(
        "imported {} ({} bytes) of {}{skipped}",
        counted(written.keys, "key"),
        written.bytes,
        counted(components, "component")
    ))
}
