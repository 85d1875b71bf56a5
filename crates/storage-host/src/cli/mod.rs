//! What the command takes, and what each part of it does.

mod compiled;
mod config;
mod copy;
mod data;
mod demo;
mod doctor;
mod environment;
mod failure;
mod imports;
mod inspect;
mod logging;
mod output;
mod progress;
mod run;
mod stderr;
mod verify;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, value_parser};
use storage_host::{ComponentId, Mode, StoreUrl, validate_key};

use self::config::Given;
use self::failure::Failure;
use self::output::Output;

/// Run WebAssembly components that keep data, and look at what they keep
///
/// Every component has storage of its own in one store: it sees its own keys and
/// nobody else's.
#[derive(Debug, Parser)]
#[command(name = "storage-host", version, after_long_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    /// The store: file:PATH, redb:PATH, rocksdb:PATH, or memory: for one that ends
    /// with the command
    ///
    /// A path is relative to the folder that the command runs in. Stores take
    /// settings: file:PATH?durability=os is faster and survives a killed process,
    /// but not a power cut.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "STORAGE_HOST_STORE",
        hide_env_values = true,
        display_order = 100,
        default_value = "file:./storage-data"
    )]
    store: StoreUrl,

    /// Write results and errors as JSON
    ///
    /// A result goes to standard output, an error to standard error as
    /// {"error":{"kind":...,"message":...,"exit_code":...}} on one line.
    #[arg(long, global = true, display_order = 101)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  not found, or failed
  2  wrong usage: an option, an id or a key that cannot be
  run ends with the component's own status, and with 1 after a trap.

Environment:
  STORAGE_HOST_STORE  the store, where --store is not given
  STORAGE_HOST_LOG    how much is logged to standard error: off, error
                      (default), warn, info, debug or trace

Ids:
  NAMESPACE/NAME/INSTANCE, each of 1 to 128 of A-Z a-z 0-9 . _ - : @ +";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a component, with storage of its own
    ///
    /// Either run --id ID COMPONENT.wasm, or run --config storage.toml ID, which
    /// takes the file, the store, quota, limits, cache and grants from a manifest.
    ///
    /// The component is a command: it exports wasi:cli/run. It gets standard
    /// input, output and error, the arguments behind its file or id, and the
    /// storage of its id; no environment variables, files or network. Whatever
    /// stands behind the file or id goes to the component, hyphens included, so
    /// the options of run stand before it; a -- right behind an id is left out.
    /// run ends with the component's own status, and with 1 after a trap.
    ///
    /// What it is compiled to is kept in the user's cache folder, where there is
    /// one, so that the next run starts at once.
    Run {
        /// Whose storage it is: NAMESPACE/NAME/INSTANCE
        #[arg(long, value_name = "ID", required_unless_present = "config")]
        id: Option<ComponentId>,

        /// A manifest, in TOML; an ID stands in place of the component's file
        ///
        /// Its store counts unless --store is given, and before
        /// STORAGE_HOST_STORE. docs/operators.md has the fields; the command check
        /// looks whether all is well.
        #[arg(long, value_name = "FILE", conflicts_with = "id")]
        config: Option<PathBuf>,

        /// Set a key before the component starts; may be repeated
        #[arg(long = "preset", value_name = "KEY=VALUE", value_parser = preset)]
        presets: Vec<(String, String)>,

        /// Run so many instances at once, each on a thread of its own
        ///
        /// They share the component's storage and standard output. run ends with
        /// the worst of their statuses.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=1_000))]
        instances: u16,

        /// End the component if it has not ended after so many seconds
        ///
        /// With exit code 1; what it has written stays. Without it, or a timeout in
        /// the manifest, a component runs for as long as it likes.
        #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u32).range(1..))]
        timeout: Option<u32>,

        /// The component's file, or with --config its ID; and what the component
        /// gets as its arguments
        // One argument, so that whatever stands behind the file is the component's,
        // even what looks like an option of run.
        #[arg(
            value_names = ["COMPONENT.wasm|ID", "ARGS"],
            num_args = 1..,
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        command: Vec<String>,
    },

    /// See it work: two notebooks and a counter on one store
    ///
    /// Runs the components that come with the command as app/notes/home,
    /// app/notes/work and app/counter/001, each call in a process of its own,
    /// and checks that each sees its own data only, that it lasts, and where it
    /// lies. Ends with 1 if anything is not as it should be. The data stays, and
    /// the next demo goes on from it.
    Demo,

    /// List the components that keep something
    Components,

    /// List the keys of a component, in the order of their bytes
    ///
    /// Where more keys follow, standard error says so, with the next --after; in
    /// JSON they are "more" and "next_after". A component that was never seen
    /// has no keys.
    Keys {
        /// Whose keys: NAMESPACE/NAME/INSTANCE
        id: ComponentId,

        /// Only keys that begin with this
        #[arg(long, default_value = "", hide_default_value = true)]
        prefix: String,

        /// Only keys behind this one, which need not exist
        #[arg(long, value_name = "KEY")]
        after: Option<String>,

        /// The most keys to list
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..))]
        limit: u32,
    },

    /// Write the value of a key to standard output: its bytes, nothing else
    ///
    /// In JSON it is "value_utf8" where the bytes are UTF-8, and "value_base64"
    /// where they are not. A missing key is exit code 1.
    Get {
        /// Whose key: NAMESPACE/NAME/INSTANCE
        id: ComponentId,

        /// The key, as the component names it
        key: String,
    },

    /// Store a value under a key
    Put {
        /// Whose key: NAMESPACE/NAME/INSTANCE
        id: ComponentId,

        /// The key, as the component names it
        key: String,

        /// The value; standard input, byte for byte, where it is left out or -
        #[arg(allow_negative_numbers = true)]
        value: Option<OsString>,
    },

    /// Delete a key; a missing one is no error
    Delete {
        /// Whose key: NAMESPACE/NAME/INSTANCE
        id: ComponentId,

        /// The key, as the component names it
        key: String,
    },

    /// Tell how much a component keeps
    ///
    /// Bytes are those of its keys, as it names them, and of their values.
    Usage {
        /// Which component: NAMESPACE/NAME/INSTANCE
        id: ComponentId,
    },

    /// Copy a whole store into another one, of any kind
    ///
    /// Keys and values go over byte for byte, as of one moment. No process may
    /// write to a file: or redb: source meanwhile, and none to the target. A
    /// target that is not there is made. One that holds keys which the source
    /// lacks, or has with another value, is refused; what is equal is left alone,
    /// so that a copy which was interrupted goes on when it is made again.
    Copy {
        /// The store to copy from
        #[arg(long, value_name = "URL")]
        from: StoreUrl,

        /// The store to copy to
        #[arg(long, value_name = "URL")]
        to: StoreUrl,

        /// Copy also where the target holds other data
        ///
        /// The source's values win, and the target's other keys stay.
        #[arg(long)]
        merge: bool,
    },

    /// Read everything in the store and check what can be checked
    ///
    /// Checksums, names against keys, commits that are not finished, counters,
    /// and the store's own count of its keys. Changes nothing, and prints a line
    /// for each problem: the place, the key and what is wrong. Exit code 1 if
    /// there is any.
    Verify,

    /// Read a manifest and see whether everything in it could be run
    ///
    /// Every field, the ids, the quotas and grants, and each component's file:
    /// whether it is a component, and imports nothing that this host does not have.
    /// Opens no store and changes nothing.
    Check {
        /// The manifest, in TOML
        #[arg(value_name = "FILE")]
        manifest: PathBuf,
    },

    /// Tell what this command is, how the store is, and what could go wrong
    ///
    /// Versions and features; where the store lies, its format, durability and
    /// size, the room that is left, and who has it open; and whatever in this
    /// environment will bite: a file system that forgets or that cannot lock, a
    /// disk that is nearly full, a folder that cannot be written. Changes
    /// nothing, and works before there is a store. Exit code 1 only if the store
    /// cannot be used at all.
    Doctor,
}

/// What `--preset` takes: everything before the first equals sign is the key.
fn preset(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    validate_key(key).map_err(|error| error.to_string())?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let parsed = Cli::command().try_get_matches_from(&args).and_then(|matches| {
        let source = matches.value_source("store");
        // A global option may stand behind the command too.
        let behind = matches.subcommand().and_then(|(_, sub)| sub.value_source("store"));
        let sources = [source, behind];
        let source = [ValueSource::CommandLine, ValueSource::EnvVariable]
            .into_iter()
            .find(|source| sources.contains(&Some(*source)));
        Ok((Cli::from_arg_matches(&matches)?, source))
    });
    let (cli, store_source) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return failure::usage(&error, &args),
    };
    stderr::start(cli.json);
    logging::start(cli.json);
    let mut output = Output::new(cli.json);
    match dispatch(cli, store_source, &mut output) {
        Ok(code) => code,
        Err(failure) => failure.report(output.json()),
    }
}

/// `store_source` tells where the store was named, if it was.
fn dispatch(
    cli: Cli,
    store_source: Option<ValueSource>,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let store = &cli.store;
    let given = match store_source {
        Some(ValueSource::CommandLine) => Given::OnLine(store),
        Some(_) => Given::InEnvironment(store),
        None => Given::Nowhere,
    };
    match cli.command {
        Command::Run { id, config, presets, instances, timeout, command } => {
            let json = output.json();
            let timeout = timeout.map(|seconds| Duration::from_secs(seconds.into()));
            // There is at least one, or the command line was refused.
            let Some((first, args)) = command.split_first() else { return Ok(ExitCode::SUCCESS) };
            if let Some(id) = id {
                let component = Path::new(first);
                let job = run::Job { id: &id, component, args, presets, instances, timeout, json };
                return job.run(|| inspect::open(store, Mode::ReadWrite));
            }
            let run = config::Run {
                config: &config.unwrap_or_default(),
                id: first,
                args: args.strip_prefix(&["--".to_owned()]).unwrap_or(args),
                presets,
                instances,
                timeout,
                json,
                store: given,
            };
            return run.run();
        }
        Command::Check { manifest } => config::check(&manifest, given, output)?,
        Command::Demo => demo::demo(store, output)?,
        Command::Components => inspect::components(store, output)?,
        Command::Keys { id, prefix, after, limit } => {
            inspect::keys(store, &id, &prefix, after.as_deref(), limit, output)?;
        }
        Command::Get { id, key } => data::get(store, &id, &key, output)?,
        Command::Put { id, key, value } => data::put(store, &id, &key, value, output)?,
        Command::Delete { id, key } => data::delete(store, &id, &key, output)?,
        Command::Usage { id } => inspect::usage(store, &id, output)?,
        Command::Copy { from, to, merge } => copy::copy(&from, &to, merge, output)?,
        Command::Verify => verify::verify(store, output)?,
        Command::Doctor => return doctor::doctor(store, output),
    }
    output.finish()?;
    Ok(ExitCode::SUCCESS)
}
