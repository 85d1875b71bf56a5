//! What the command takes, and what each part of it does.

mod args;
mod compiled;
mod config;
mod copy;
mod data;
mod demo;
mod doctor;
mod ending;
mod environment;
mod escape;
mod failure;
mod guest_output;
mod imports;
mod inspect;
mod listing;
mod logging;
mod output;
mod progress;
mod resources;
mod run;
mod stderr;
mod stdio;
mod target;
mod unreadable;
mod value;
mod verify;
mod wait;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, value_parser};
use storage_host::{ComponentId, StoreUrl};

use self::failure::Failure;
use self::output::Output;
use self::target::{ChosenBy, Target};
use self::value::Given;
use self::wait::Wait;

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
        env = target::VARIABLE,
        hide_env_values = true,
        display_order = 100,
        default_value = target::DEFAULT_STORE
    )]
    // Parsed only if it is used, so that an overridden value may be invalid.
    store: OsString,

    /// A manifest, in TOML: its store, quotas, limits and cache apply
    ///
    /// --store overrides the manifest's store, which overrides STORAGE_HOST_STORE. A
    /// component that the manifest does not name gets the manifest's defaults.
    /// docs/operators.md lists the fields; the command check finds mistakes.
    #[arg(long, global = true, value_name = "FILE", display_order = 101)]
    config: Option<PathBuf>,

    /// Wait up to SECONDS for a store that another process has locked
    ///
    /// The default is 5 for components, keys, get, put, delete and usage, and 0 for
    /// the other commands: a locked store is then an error at once.
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        display_order = 102,
        allow_negative_numbers = true
    )]
    wait: Option<u32>,

    /// Write results and errors as JSON
    ///
    /// A result goes to standard output, an error to standard error as
    /// {"error":{"kind":...,"message":...,"exit_code":...}} on one line. Everything
    /// else that the command writes to standard error is a line of JSON too: a
    /// note is {"note":{"message":...}}, and a log line has a "level". Output of
    /// a component is passed on unchanged.
    #[arg(long, global = true, display_order = 103)]
    json: bool,

    /// Write no notes to standard error, only errors
    ///
    /// Notes say that a store was created and where, that more keys follow, and the
    /// like.
    #[arg(short, long, global = true, display_order = 104)]
    quiet: bool,

    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  not found, or failed
  2  invalid usage: an unknown option, or an invalid id or key
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
        #[arg(long, value_name = "ID", value_parser = args::id())]
        id: Option<ComponentId>,

        /// Set a key before the component starts; may be repeated
        #[arg(long = "preset", value_name = "KEY=VALUE", value_parser = args::preset())]
        presets: Vec<(String, String)>,

        /// Run so many instances at once, each on a thread of its own
        ///
        /// They share the component's storage and standard output. run ends with
        /// the worst of their statuses.
        #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = value_parser!(u16).range(1..=1_000))]
        instances: u16,

        /// End the component if it has not ended after so many seconds
        ///
        /// With exit code 1; what it has written stays. Without it, or a timeout in
        /// the manifest, a component runs for as long as it likes.
        #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..))]
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
        command: Vec<OsString>,
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
        #[arg(value_parser = args::id())]
        id: ComponentId,

        /// Only keys that begin with this
        #[arg(
            long,
            default_value = "",
            hide_default_value = true,
            allow_hyphen_values = true,
            value_parser = args::key()
        )]
        prefix: String,

        /// Only keys behind this one, which need not exist
        #[arg(long, value_name = "KEY", allow_hyphen_values = true, value_parser = args::key())]
        after: Option<String>,

        /// The most keys to list
        #[arg(long, value_name = "N", default_value_t = 1_000, allow_negative_numbers = true, value_parser = value_parser!(u32).range(1..))]
        limit: u32,
    },

    /// Write the value of a key to standard output: its bytes, nothing else
    ///
    /// In JSON it is "value_utf8" where the bytes are UTF-8, and "value_base64"
    /// where they are not. A missing key is exit code 1.
    Get {
        /// Whose key: NAMESPACE/NAME/INSTANCE
        #[arg(value_parser = args::id())]
        id: ComponentId,

        /// The key, as the component names it
        #[arg(value_parser = args::key())]
        key: String,
    },

    /// Store a value under a key
    ///
    /// The value is an argument or, byte for byte, standard input. A closed standard
    /// input is an error. A key that begins with a hyphen follows --; such a value is
    /// given as --value=VALUE.
    Put {
        /// Whose key: NAMESPACE/NAME/INSTANCE
        #[arg(value_parser = args::id())]
        id: ComponentId,

        /// The key, as the component names it
        #[arg(value_parser = args::key())]
        key: String,

        /// The value; standard input if it is omitted or -
        #[arg(allow_negative_numbers = true)]
        value: Option<OsString>,

        /// The value, taken literally, even - or one that begins with a hyphen
        #[arg(
            id = "literal",
            long = "value",
            value_name = "VALUE",
            allow_hyphen_values = true,
            conflicts_with = "value"
        )]
        literal: Option<OsString>,

        /// Decode the value, or standard input, from base64
        ///
        /// Takes the "value_base64" that get --json prints. White space is ignored;
        /// invalid base64 is an error and stores nothing.
        #[arg(long)]
        base64: bool,
    },

    /// Delete a key; a missing one is no error
    Delete {
        /// Whose key: NAMESPACE/NAME/INSTANCE
        #[arg(value_parser = args::id())]
        id: ComponentId,

        /// The key, as the component names it
        #[arg(value_parser = args::key())]
        key: String,
    },

    /// Tell how much a component keeps
    ///
    /// Bytes are those of its keys, as it names them, and of their values.
    Usage {
        /// Which component: NAMESPACE/NAME/INSTANCE
        #[arg(value_parser = args::id())]
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
        #[arg(long, value_name = "URL", value_parser = args::store_url())]
        from: StoreUrl,

        /// The store to copy to
        #[arg(long, value_name = "URL", value_parser = args::store_url())]
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
    /// there is any. Foreign files, and modes that give other users access, are
    /// warnings.
    Verify {
        /// Exit with 1 on warnings too
        #[arg(long)]
        strict: bool,
    },

    /// Read a manifest and see whether everything in it could be run
    ///
    /// Every field, the ids, the quotas and grants, and each component's file:
    /// whether it is a component, and imports nothing that this host does not have.
    /// Warns of grants that allow more than they seem to, and of presets above the
    /// quota. Opens no store and changes nothing.
    Check {
        /// The manifest, in TOML
        #[arg(value_name = "FILE")]
        manifest: PathBuf,

        /// Exit with 1 on warnings too
        #[arg(long)]
        strict: bool,
    },

    /// Show versions, the state of the store, and problems of its environment
    ///
    /// Versions and features; the store's path, format, durability, size and free
    /// space, and who has it open; and what can go wrong: a file system that does
    /// not keep data or that cannot lock, a disk that is nearly full, a directory
    /// that cannot be written. Changes nothing, and works before a store exists.
    /// Exit code 1 only if the store cannot be used at all.
    Doctor,
}

pub(crate) fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let parsed = Cli::command().try_get_matches_from(&args).and_then(|matches| {
        let source = matches.value_source("store");
        // A global option may stand behind the command too.
        let behind = matches.subcommand().and_then(|(_, sub)| sub.value_source("store"));
        let sources = [source, behind];
        let mut cli = Cli::from_arg_matches(&matches)?;
        cli.check()?;
        let chosen_by = if sources.contains(&Some(ValueSource::CommandLine)) {
            ChosenBy::Option
        } else if sources.contains(&Some(ValueSource::EnvVariable)) && !cli.store.is_empty() {
            ChosenBy::Environment
        } else {
            cli.store = target::DEFAULT_STORE.into();
            ChosenBy::Default
        };
        Ok((cli, chosen_by))
    });
    let (cli, chosen_by) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return failure::usage(&error, &args),
    };
    stderr::start(cli.json, cli.quiet);
    logging::start(cli.json);
    ending::handle_signals(cli.json);
    let mut output = Output::new(cli.json);
    let done = dispatch(cli, chosen_by, &mut output);
    ending::wait_if_ending();
    match done {
        Ok(code) => code,
        Err(failure) => failure.report(output.json()),
    }
}

/// What a component gets as its arguments.
fn guest_arguments(args: &[OsString]) -> Result<Vec<String>, Failure> {
    let texts = args.iter().enumerate().map(|(number, arg)| {
        arg.to_str().map(str::to_owned).ok_or_else(|| {
            let message = format!(
                "cannot pass argument {} to the component: {:?} is not UTF-8, which WASI \
                 requires",
                number.saturating_add(1),
                arg.to_string_lossy()
            );
            Failure::new("usage", message)
        })
    });
    texts.collect()
}

impl Cli {
    /// Checks that clap cannot make, because `--config` may precede the command.
    fn check(&self) -> Result<(), clap::Error> {
        let error = |command, kind, message: &str| {
            let mut cli = Self::command();
            cli.build();
            let mut found = cli.find_subcommand(command).cloned().unwrap_or(cli);
            Err(found.error(kind, message))
        };
        let config = self.config.is_some();
        match &self.command {
            Command::Run { id: Some(_), .. } if config => error(
                "run",
                ErrorKind::ArgumentConflict,
                "--id cannot be used with --config, which takes the id of one of the manifest's \
                 components in place of a file",
            ),
            Command::Run { id: None, .. } if !config => error(
                "run",
                ErrorKind::MissingRequiredArgument,
                "run needs --id ID and a component's file, or --config FILE and an id",
            ),
            Command::Demo if config => error(
                "demo",
                ErrorKind::ArgumentConflict,
                "--config cannot be used with demo, which runs components of its own; --store \
                 chooses its store",
            ),
            Command::Copy { .. } if config => error(
                "copy",
                ErrorKind::ArgumentConflict,
                "--config cannot be used with copy, which takes its stores from --from and --to \
                 and copies everything, whatever the quotas and limits are",
            ),
            Command::Check { .. } if config => error(
                "check",
                ErrorKind::ArgumentConflict,
                "check takes the manifest as its argument, without --config",
            ),
            _ => Ok(()),
        }
    }

    /// How long to wait for a locked store.
    fn wait(&self) -> Wait {
        match (self.wait, &self.command) {
            (Some(seconds), _) => Wait::seconds(seconds),
            (
                None,
                Command::Components
                | Command::Keys { .. }
                | Command::Get { .. }
                | Command::Put { .. }
                | Command::Delete { .. }
                | Command::Usage { .. },
            ) => Wait::seconds(5),
            (None, _) => Wait::seconds(0),
        }
    }
}

/// `chosen_by` is where the store was named.
fn dispatch(cli: Cli, chosen_by: ChosenBy, output: &mut Output) -> Result<ExitCode, Failure> {
    let wait = cli.wait();
    let with_config = |config: Option<&Path>| Target::choose(&cli.store, chosen_by, config, wait);
    let target = || with_config(cli.config.as_deref());
    match cli.command {
        Command::Run { id, presets, instances, timeout, command } => {
            let target = &target()?;
            let json = output.json();
            let timeout = timeout.map(|seconds| Duration::from_secs(seconds.into()));
            // There is at least one, or the command line was refused.
            let Some((first, args)) = command.split_first() else { return Ok(ExitCode::SUCCESS) };
            let Some((config, manifest)) = target.config() else {
                // One of the two is given, or the command line was refused.
                let Some(id) = id else { return Ok(ExitCode::SUCCESS) };
                let component = Path::new(first);
                let args = &guest_arguments(args)?;
                let job = run::Job { id: &id, component, args, presets, instances, timeout, json };
                return job.run(|| target.open_to_run());
            };
            let run = config::Run {
                target,
                id: &first.to_string_lossy(),
                args: &guest_arguments(args.strip_prefix(&["--".into()]).unwrap_or(args))?,
                presets,
                instances,
                timeout,
                json,
            };
            return run.run(config, manifest);
        }
        Command::Check { manifest, strict } => {
            config::check(&with_config(Some(&manifest))?, strict, output)?
        }
        Command::Demo => demo::demo(&target()?, output)?,
        Command::Components => inspect::components(&target()?, output)?,
        Command::Keys { id, prefix, after, limit } => {
            inspect::keys(&target()?, &id, &prefix, after.as_deref(), limit, output)?;
        }
        Command::Get { id, key } => data::get(&target()?, &id, &key, output)?,
        Command::Put { id, key, value, literal, base64 } => {
            let given = match (literal, value) {
                (Some(literal), _) => Given::Argument(literal),
                (None, Some(value)) if value != "-" => Given::Argument(value),
                (None, _) => Given::Input,
            };
            data::put(&target()?, &id, &key, given, base64, output)?;
        }
        Command::Delete { id, key } => data::delete(&target()?, &id, &key, output)?,
        Command::Usage { id } => inspect::usage(&target()?, &id, output)?,
        Command::Copy { .. } if chosen_by == ChosenBy::Option => {
            return Err(Failure::new(
                "usage",
                "--store cannot be used with copy, which takes its stores from --from and --to",
            ));
        }
        Command::Copy { from, to, merge } => {
            copy::copy(&from, &to, merge, wait, output)?;
        }
        Command::Verify { strict } => verify::verify(&target()?, strict, output)?,
        Command::Doctor => return doctor::doctor(&target()?, output),
    }
    output.finish()?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_of(args: &str) -> Wait {
        Cli::try_parse_from(args.split(' ')).unwrap().wait()
    }

    #[test]
    fn short_commands_wait_five_seconds_and_the_others_do_not_wait() {
        for command in ["components", "keys a/b/c", "get a/b/c k", "put a/b/c k v", "usage a/b/c"] {
            assert_eq!(wait_of(&format!("storage-host {command}")), Wait::seconds(5), "{command}");
        }
        assert_eq!(wait_of("storage-host delete a/b/c k"), Wait::seconds(5));
        for command in
            ["run --id a/b/c x.wasm", "demo", "verify", "doctor", "copy --from file:a --to file:b"]
        {
            assert_eq!(wait_of(&format!("storage-host {command}")), Wait::seconds(0), "{command}");
        }
    }

    #[test]
    fn a_wait_that_is_given_counts_wherever_it_stands() {
        assert_eq!(wait_of("storage-host --wait 7 put a/b/c k v"), Wait::seconds(7));
        assert_eq!(wait_of("storage-host put --wait 0 a/b/c k v"), Wait::seconds(0));
        assert_eq!(wait_of("storage-host run --wait 9 --id a/b/c x.wasm"), Wait::seconds(9));
    }
}
