//! The `storage-host` command: its arguments, and a module for each part.

#[cfg(all(feature = "serve", unix))]
mod admin_page;
mod args;
mod beside;
mod check;
mod compact;
mod compiled;
mod completions;
mod config;
mod copy;
mod data;
mod demo;
mod doctor;
mod ending;
mod environment;
mod escape;
mod export;
mod extent;
mod failure;
mod guest_output;
mod host_store;
mod import;
mod imports;
mod inspect;
#[cfg(unix)]
mod keyboard;
mod link;
mod listing;
mod logging;
#[cfg(not(unix))]
mod no_client;
mod output;
mod progress;
mod provided;
mod quota_usage;
#[cfg(unix)]
mod reload;
mod resources;
mod run;
#[cfg(feature = "serve")]
mod serve;
mod serving;
mod stderr;
mod stdio;
mod target;
#[cfg(unix)]
mod top;
mod unreadable;
mod usage_error;
mod value;
mod verify;
mod wait;
mod wipe;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use storage_host::{ComponentId, CopyOptions};
use tracing_subscriber::filter::LevelFilter;

use self::failure::Failure;
use self::output::Output;
use self::target::{ChosenBy, Target};
use self::value::Given;
use self::wait::Wait;

/// Run WebAssembly components with key-value storage, and inspect what they store
///
/// All components share one store, and none sees the keys of another.
#[derive(Debug, Parser)]
#[command(name = "storage-host", version, after_long_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    /// The store: redb:PATH, file:PATH, rocksdb:PATH, postgres://USER@HOST/DATABASE,
    /// redis://HOST or memory:
    ///
    /// A path is relative to the working directory. The data of a memory: store is lost
    /// when the command ends. Settings follow a question mark: file:PATH?durability=os is
    /// faster and survives a killed process, but not a power cut. rediss:// is redis:// with
    /// TLS; redis+cluster://HOST,HOST and redis+sentinel://HOST,HOST/MASTER name some of several
    /// servers.
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

    /// A manifest in TOML with the store, quotas, limits, rates, caches and grants
    ///
    /// --store overrides the manifest's store, which overrides STORAGE_HOST_STORE. The
    /// manifest's defaults apply to components that it does not name.
    /// docs/operators.md lists the fields; the command check finds mistakes.
    #[arg(long, global = true, value_name = "FILE", display_order = 101)]
    config: Option<PathBuf>,

    /// Wait up to SECONDS for a store that another process has locked
    ///
    /// A host that has it open is asked first, and nothing waits if it answers. The default
    /// is 5 for components, keys, get, put, delete and usage, and 0 for the other commands,
    /// which then fail at once.
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        display_order = 102,
        allow_negative_numbers = true,
        value_parser = args::number::<u32>(0..=u32::MAX.into())
    )]
    wait: Option<u32>,

    /// Write results and errors as JSON
    ///
    /// Results go to standard output. Each line of standard error is an object too:
    /// an error is {"error":{"kind":...,"message":...,"exit_code":...}}, a note is
    /// {"note":{"message":...}}, and a log line has a "level". The output of a
    /// component is passed through unchanged.
    #[arg(long, global = true, display_order = 103)]
    json: bool,

    /// Write only errors to standard error, no notes
    ///
    /// Notes report, for example, that a store was created or that more keys follow.
    #[arg(short, long, global = true, display_order = 104)]
    quiet: bool,

    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0  success
  1  not found, or failed
  2  invalid usage: an unknown option, or an invalid id or key
  run exits with the component's own status, or with 1 after a trap.

Environment:
  STORAGE_HOST_STORE        the store, if --store is not given
  STORAGE_HOST_LOG          what is logged to standard error: off, error (default),
                            warn (default of serve), info, debug or trace; of the
                            libraries of other projects at most info
  STORAGE_HOST_ADMIN_TOKEN  the token of serve --admin-listen

Ids:
  NAMESPACE/NAME/INSTANCE, each of 1 to 128 of A-Z a-z 0-9 . _ - : @ +";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a component with its own storage
    ///
    /// Use run --id ID COMPONENT.wasm, or run --config storage.toml ID, which takes
    /// the component's file, store, quota, limits, cache and grants from a manifest.
    ///
    /// The component must be a command: it exports wasi:cli/run. It gets standard
    /// input, output and error, its arguments, and the storage of its id, but no
    /// environment variables, files or network. Everything after the file or id is
    /// passed to the component, including options, so the options of run come first.
    /// A -- directly after an id is ignored. run exits with the component's own
    /// status, or with 1 after a trap.
    ///
    /// The compiled component is cached in the user's cache directory, so that the
    /// next run starts at once.
    Run {
        /// The component's id: NAMESPACE/NAME/INSTANCE
        #[arg(long, value_name = "ID", value_parser = args::id())]
        id: Option<ComponentId>,

        /// Set a key before the component starts; may be repeated
        #[arg(long = "preset", value_name = "KEY=VALUE", value_parser = args::preset())]
        presets: Vec<(String, String)>,

        /// Run N instances at once, each on its own thread
        ///
        /// They share the component's storage and standard output. run exits with
        /// the highest of their statuses.
        #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = args::number::<u16>(1..=1_000))]
        instances: u16,

        /// Stop the component if it runs longer than SECONDS
        ///
        /// The exit code is then 1, and what the component has written is kept. Without
        /// this option or a timeout in the manifest, its run time is not limited.
        #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = args::number::<u32>(1..=u32::MAX.into()))]
        timeout: Option<u32>,

        /// The component's file, or its ID with --config; then its arguments
        // One argument, so that everything after the file belongs to the component,
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

    /// Serve components over HTTP, each with its own storage
    ///
    /// Use serve --id ID COMPONENT.wasm for one component, which gets all requests, or serve
    /// --config storage.toml for all components of a manifest that have routes.
    ///
    /// The components export wasi:http/incoming-handler. Each request runs in an instance
    /// of its own, with the storage of its component. Prints the routes and where the data
    /// is once it listens. docs/serve.md lists the limits and timeouts.
    ///
    /// SIGTERM and SIGINT end it after the requests that it has accepted are answered;
    /// a second signal ends it at once. SIGHUP reads the manifest again, as reload does.
    #[cfg(feature = "serve")]
    Serve(serve::ServeArgs),

    /// Run a demonstration: two notebooks and a counter in one store
    ///
    /// Runs bundled components as app/notes/home, app/notes/work and app/counter/001,
    /// each call in a new process. Checks that each component sees only its own data
    /// and that the data persists, and shows where it is stored. Exits with 1 if a
    /// check fails. The data is kept, and the next demo continues with it.
    Demo,

    /// List the components that have keys
    Components,

    /// List the keys of a component in byte order
    ///
    /// If more keys follow, standard error says so and gives the next --after; in
    /// JSON they are "more" and "next_after". An unknown component has no keys.
    Keys {
        /// The component: NAMESPACE/NAME/INSTANCE
        #[arg(value_parser = args::id())]
        id: ComponentId,

        /// List only keys that begin with PREFIX
        #[arg(
            long,
            default_value = "",
            hide_default_value = true,
            allow_hyphen_values = true,
            value_parser = args::key()
        )]
        prefix: String,

        /// List only keys after this one, which need not exist
        #[arg(long, value_name = "KEY", allow_hyphen_values = true, value_parser = args::key())]
        after: Option<String>,

        /// List at most N keys
        #[arg(long, value_name = "N", default_value_t = 1_000, allow_negative_numbers = true, value_parser = args::number::<u32>(1..=u32::MAX.into()))]
        limit: u32,
    },

    /// Write the value of a key to standard output, byte for byte
    ///
    /// With --json it is "value_utf8" if it is valid UTF-8, else "value_base64". A missing
    /// key is exit code 1.
    Get {
        /// The component: NAMESPACE/NAME/INSTANCE
        #[arg(value_parser = args::id())]
        id: ComponentId,

        /// The key, as the component names it
        #[arg(value_parser = args::key())]
        key: String,
    },

    /// Store a value under a key
    ///
    /// The value is an argument or, byte for byte, standard input. A closed standard
    /// input is an error. Write -- before a key that begins with a hyphen, and
    /// --value=VALUE for such a value.
    Put {
        /// The component: NAMESPACE/NAME/INSTANCE
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

    /// Delete a key; deleting a missing key is not an error
    Delete {
        /// The component: NAMESPACE/NAME/INSTANCE
        #[arg(value_parser = args::id())]
        id: ComponentId,

        /// The key, as the component names it
        #[arg(value_parser = args::key())]
        key: String,
    },

    /// Show how much a component stores
    ///
    /// Counts the bytes of its keys, as the component names them, and of its values. The
    /// quota is that of a host that has the store open, else that of --config.
    Usage {
        /// The component: NAMESPACE/NAME/INSTANCE
        #[arg(value_parser = args::id())]
        id: ComponentId,
    },

    #[cfg(unix)]
    Top(top::Args),

    #[cfg(unix)]
    Reload(reload::Args),

    /// Copy a whole store into another one, of any kind
    ///
    /// Copies all keys and values of one snapshot. A host that has the source open is
    /// asked for it. During the copy no process may write to the target, nor, without
    /// such a host, to a file: or redb: source. A missing target is created. A target
    /// with keys that the source lacks, or with other values, is refused. Equal values
    /// are skipped, so an interrupted copy continues when you run it again.
    ///
    /// With --config, the store of the manifest replaces --from or --to. As the target
    /// it gets only components that fit in the manifest's quotas and limits.
    Copy {
        /// The store to copy from, such as redb:./data.redb
        // Parsed later, because clap would show a password.
        #[arg(long, value_name = "URL")]
        from: Option<OsString>,

        /// The store to copy to, such as file:./backup
        #[arg(long, value_name = "URL")]
        to: Option<OsString>,

        /// Copy even if the target holds other data
        ///
        /// The source's values overwrite the target's. Other keys of the target are kept.
        #[arg(long)]
        merge: bool,

        /// Copy each component as of its own point in time
        ///
        /// For a source without a snapshot of the whole store, such as a cluster of Redis.
        #[arg(long)]
        by_component: bool,
    },

    Export(export::Args),

    Import(import::Args),

    Wipe(wipe::Args),

    Compact(compact::Args),

    Verify(verify::Args),

    Check(check::Args),

    /// Show versions, the state of the store, and problems of its environment
    ///
    /// Shows versions and features; the store's path, format, durability, size and
    /// free space, and which process has it open; and possible problems: a file system
    /// that loses data or cannot lock, a disk that is nearly full, a directory that is
    /// not writable. Changes nothing, and works before a store exists. Exits with 1
    /// only if the store cannot be used.
    Doctor,

    Completions(completions::CompletionsArgs),

    Man(completions::ManArgs),
}

pub(crate) fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let parsed = Cli::command().try_get_matches_from(&args).and_then(|matches| {
        let source = matches.value_source("store");
        // A global option may follow the command too.
        let after = matches.subcommand().and_then(|(_, sub)| sub.value_source("store"));
        let sources = [source, after];
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
        Err(error) => return usage_error::report(&error, &args),
    };
    stderr::start(cli.json, cli.quiet);
    let level = match &cli.command {
        // No one waits for its output.
        #[cfg(feature = "serve")]
        Command::Serve(_) => LevelFilter::WARN,
        _ => LevelFilter::ERROR,
    };
    if let Err(failure) = logging::start(cli.json, level) {
        return failure.report(cli.json);
    }
    ending::handle_signals(cli.json, cli.config.is_some() && cli.is_host());
    let mut output = Output::new(cli.json);
    let done = dispatch(cli, chosen_by, &mut output);
    ending::wait_if_ending();
    match done {
        Ok(code) => code,
        Err(failure) => failure.report(output.json()),
    }
}

/// The arguments of a component, which WASI requires to be UTF-8.
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
    /// Checks the combinations with `--config`, which clap cannot: it may precede the command.
    fn check(&self) -> Result<(), clap::Error> {
        let error = |command, kind, message: &str| {
            let mut cli = Self::command();
            cli.build();
            let mut found = cli.find_subcommand(command).cloned().unwrap_or(cli);
            Err(found.error(kind, message))
        };
        let incomplete_copy = || {
            error(
                "copy",
                ErrorKind::MissingRequiredArgument,
                "copy needs --from URL and --to URL; with --config, the manifest's store replaces \
                 one of them",
            )
        };
        let config = self.config.is_some();
        match &self.command {
            Command::Run { id: Some(_), .. } if config => error(
                "run",
                ErrorKind::ArgumentConflict,
                "--id cannot be used with --config: give the id of a component of the manifest \
                 instead of a file",
            ),
            Command::Run { id: None, .. } if !config => error(
                "run",
                ErrorKind::MissingRequiredArgument,
                "run needs --id ID and a component's file, or --config FILE and an id",
            ),
            #[cfg(feature = "serve")]
            Command::Serve(args) if args.id.is_some() && config => error(
                "serve",
                ErrorKind::ArgumentConflict,
                "--id cannot be used with --config, whose components with routes are served",
            ),
            #[cfg(feature = "serve")]
            Command::Serve(args) if args.component.is_none() && !config => error(
                "serve",
                ErrorKind::MissingRequiredArgument,
                "serve needs --id ID and a component's file, or --config FILE",
            ),
            Command::Demo if config => error(
                "demo",
                ErrorKind::ArgumentConflict,
                "--config cannot be used with demo, which runs bundled components; choose its store \
                 with --store",
            ),
            Command::Copy { from: Some(_), to: Some(_), .. } if config => error(
                "copy",
                ErrorKind::ArgumentConflict,
                "--config cannot be used with both --from and --to: omit the one that is the \
                 manifest's store",
            ),
            Command::Copy { from: None, to: None, .. } => incomplete_copy(),
            Command::Copy { from: None, .. } | Command::Copy { to: None, .. } if !config => {
                incomplete_copy()
            }
            Command::Check(_) if config => error(
                "check",
                ErrorKind::ArgumentConflict,
                "--config cannot be used with check: give the manifest or the component as its \
                 argument",
            ),
            _ => Ok(()),
        }
    }

    /// Whether the command runs components, and so reloads its manifest.
    fn is_host(&self) -> bool {
        match &self.command {
            Command::Run { .. } => true,
            #[cfg(feature = "serve")]
            Command::Serve(_) => true,
            _ => false,
        }
    }

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

fn dispatch(cli: Cli, chosen_by: ChosenBy, output: &mut Output) -> Result<ExitCode, Failure> {
    let wait = cli.wait();
    let with_config = |config: Option<&Path>| Target::choose(&cli.store, chosen_by, config, wait);
    let target = || -> Result<Target, Failure> {
        let target = with_config(cli.config.as_deref())?;
        target.check_earlier_default()?;
        Ok(target)
    };
    match cli.command {
        Command::Run { id, presets, instances, timeout, command } => {
            let target = &target()?;
            let json = output.json();
            let timeout = timeout.map(|seconds| Duration::from_secs(seconds.into()));
            // clap requires at least one.
            let Some((first, args)) = command.split_first() else { return Ok(ExitCode::SUCCESS) };
            let Some((config, manifest)) = target.config() else {
                // `check` requires it.
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
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::serve(&target()?, &args, output)?,
        Command::Check(check::Args { file, strict }) => {
            // Once: a pipe cannot be read again.
            let bytes = fs::read(&file);
            if check::is_component(&file, &bytes) {
                if chosen_by == ChosenBy::Option {
                    return Err(Failure::new(
                        "usage",
                        "--store cannot be used with check COMPONENT.wasm, which opens no store",
                    ));
                }
                check::check(&file, bytes, output)?;
            } else {
                let manifest = target::parse_manifest(&file, bytes)?;
                let target = Target::of_manifest(&cli.store, chosen_by, (file, manifest), wait)?;
                config::check(&target, strict, output)?;
            }
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
                (None, _) => Given::StandardInput,
            };
            data::put(&target()?, &id, &key, given, base64, output)?;
        }
        Command::Delete { id, key } => data::delete(&target()?, &id, &key, output)?,
        Command::Usage { id } => inspect::usage(&target()?, &id, output)?,
        #[cfg(unix)]
        Command::Top(args) => top::top(&target()?, &args, output)?,
        #[cfg(unix)]
        Command::Reload(_) => reload::reload(&target()?, output)?,
        Command::Copy { .. } if chosen_by == ChosenBy::Option => {
            return Err(Failure::new(
                "usage",
                "--store cannot be used with copy, which takes its stores from --from and --to",
            ));
        }
        Command::Copy { from, to, merge, by_component } => {
            let options = CopyOptions::new().with_merge(merge).with_by_component(by_component);
            let parse = |url: Option<OsString>, option: &str| {
                url.map(|url| target::parse_value(&url, option)).transpose()
            };
            let (from, to) = (parse(from, "--from")?, parse(to, "--to")?);
            match (from, to) {
                (Some(from), Some(to)) => copy::copy((&from, &to), options, None, wait, output)?,
                // `check` requires --config.
                (from, to) => {
                    let target = with_config(cli.config.as_deref())?;
                    let manifest = target.config().map(|(_, manifest)| manifest);
                    let quotas = manifest.filter(|_| to.is_none());
                    let own = target.url();
                    let stores = (from.as_ref().unwrap_or(own), to.as_ref().unwrap_or(own));
                    copy::copy(stores, options, quotas, wait, output)?;
                }
            }
        }
        Command::Export(args) => export::export(&target()?, &args, output)?,
        Command::Import(args) => import::import(&target()?, &args, output)?,
        Command::Wipe(args) => wipe::wipe(&target()?, &args, output)?,
        Command::Compact(_) => compact::compact(&target()?, output)?,
        Command::Verify(args) => verify::verify(&target()?, args.strict, output)?,
        Command::Doctor => {
            return doctor::doctor(&with_config(cli.config.as_deref())?, output);
        }
        Command::Completions(args) => completions::completions(&args, output)?,
        Command::Man(args) => completions::man(&args, output)?,
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
    fn only_short_commands_wait_by_default() {
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
    fn wait_applies_before_and_after_the_command() {
        assert_eq!(wait_of("storage-host --wait 7 put a/b/c k v"), Wait::seconds(7));
        assert_eq!(wait_of("storage-host put --wait 0 a/b/c k v"), Wait::seconds(0));
        assert_eq!(wait_of("storage-host run --wait 9 --id a/b/c x.wasm"), Wait::seconds(9));
    }
}
