//! `demo`: runs bundled components in separate processes and checks the result.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;
use serde_json::Value;
use storage_host::{Mode, StoreUrl};

use super::ending::OnSignal;
use super::escape::shell_quoted;
use super::failure::Failure;
use super::output::Output;
use super::progress::counted;
use super::target::{self, Target};

const NOTES: (&str, &[u8]) = ("notes.wasm", include_bytes!("../../guests/notes.wasm"));
const COUNTER: (&str, &[u8]) = ("counter.wasm", include_bytes!("../../guests/counter.wasm"));

const HOME: &str = "app/notes/home";
const WORK: &str = "app/notes/work";
const COUNT: &str = "app/counter/001";

/// How many files of a component are shown.
const SHOWN_FILES: usize = 4;

/// Runs the demo. Fails if one of its checks fails.
pub(super) fn demo(target: &Target, output: &mut Output) -> Result<(), Failure> {
    let store = target.url();
    if !store.is_persistent() {
        return Err(Failure::new(
            "usage",
            format!(
                "cannot run the demo on the store \"{store}\": its components run in separate \
                 processes, which cannot share it; use a persistent store, such as --store {}",
                target::DEFAULT_STORE
            ),
        ));
    }
    // Creates the store, or fails before the child processes would.
    drop(target.open(Mode::ReadWrite)?);

    let mut demo = Demo::new(target, output)?;
    let before = demo.state()?;
    demo.introduce(store, &before)?;
    demo.add_and_count()?;
    let after = demo.look_again()?;
    demo.check_isolation(&before, &after)?;
    match (store.scheme(), store.path()) {
        ("file", Some(path)) => demo.check_files(path)?,
        (_, path) => demo.check_engine(path)?,
    }
    demo.conclude(store)
}

struct Demo<'a> {
    store: String,
    /// The variable with the password of a store on a server, and the password.
    password: Option<(&'static str, String)>,
    /// How long each process waits for the store, in seconds.
    wait: String,
    output: &'a mut Output,
    style: Style,
    program: PathBuf,
    /// Holds the components' files while the demo runs.
    files: tempfile::TempDir,
    /// Removes `files` if a signal ends the demo.
    _on_signal: OnSignal,
    claims: Vec<Claim>,
    /// Whether the output was closed.
    output_closed: bool,
}

#[derive(Serialize)]
struct Claim {
    claim: String,
    holds: bool,
    /// What was found, if the claim does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
}

/// What the store holds for the demo's components.
struct State {
    /// The notes of each notebook, in order.
    notes: BTreeMap<&'static str, Vec<String>>,
    runs: u64,
}

/// The output and exit code of a child process.
struct Ended {
    stdout: String,
    stderr: String,
    code: Option<i32>,
}

impl<'a> Demo<'a> {
    fn new(target: &Target, output: &'a mut Output) -> Result<Self, Failure> {
        let cannot =
            |what: &str, error: io::Error| Failure::new("io", format!("cannot {what}: {error}"));
        let files =
            tempfile::tempdir().map_err(|error| cannot("create a temporary directory", error))?;
        let on_signal = OnSignal::remove(files.path().to_owned());
        for (name, bytes) in [NOTES, COUNTER] {
            fs::write(files.path().join(name), bytes)
                .map_err(|error| cannot("write to the temporary directory", error))?;
        }
        Ok(Self {
            store: target.url().to_string(),
            password: target.url().password().map(|(name, password)| (name, password.to_owned())),
            wait: target.wait().as_seconds().to_string(),
            style: Style { on: !output.json() && wants_colours() },
            output,
            program: env::current_exe().map_err(|error| cannot("find this program", error))?,
            files,
            _on_signal: on_signal,
            claims: Vec::new(),
            output_closed: false,
        })
    }

    fn introduce(&mut self, store: &StoreUrl, before: &State) -> Result<(), Failure> {
        let shown = match store.path() {
            Some(path) => {
                let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
                whole.display().to_string()
            }
            None => store.to_string(),
        };
        self.say(format_args!("Three components, one store: {shown}"))?;
        let count = before.notes.values().map(Vec::len).sum::<usize>();
        if count > 0 || before.runs > 0 {
            self.say(format_args!(
                "It already holds {} and {}; this demo continues with them.",
                counted(count as u64, "note"),
                counted(before.runs, "run")
            ))?;
        }
        self.say("")
    }

    fn add_and_count(&mut self) -> Result<(), Failure> {
        self.heading("Each call runs in a new process")?;
        self.show_run(HOME, NOTES.0, &["add", "buy milk"])?;
        self.show_run(WORK, NOTES.0, &["add", "call the bank"])?;
        self.show_run(WORK, NOTES.0, &["add", "write the report"])?;
        self.show_run(COUNT, COUNTER.0, &[])?;
        self.show_run(COUNT, COUNTER.0, &[])?;
        Ok(())
    }

    fn look_again(&mut self) -> Result<State, Failure> {
        self.say("")?;
        self.heading("New processes read the data back")?;
        self.show_run(HOME, NOTES.0, &["list"])?;
        self.show_run(WORK, NOTES.0, &["list"])?;
        self.state()
    }

    fn check_isolation(&mut self, before: &State, after: &State) -> Result<(), Failure> {
        for (id, added) in
            [(HOME, &["buy milk"][..]), (WORK, &["call the bank", "write the report"])]
        {
            let mut expected = before.notes.get(id).cloned().unwrap_or_default();
            expected.extend(added.iter().map(ToString::to_string));
            let found = after.notes.get(id).cloned().unwrap_or_default();
            self.claim(
                format!("{id} has exactly what was written as {id}"),
                found == expected,
                || format!("[{}], not [{}]", found.join(", "), expected.join(", ")),
            )?;
        }
        self.claim(
            format!("{COUNT} counted from {} to {}", before.runs, before.runs + 2),
            after.runs == before.runs + 2,
            || format!("{} runs", after.runs),
        )?;
        let components = self.json(&["components"])?;
        let listed = strings(&components, "components");
        self.claim(
            "the store lists all three components".to_owned(),
            [HOME, WORK, COUNT].iter().all(|id| listed.iter().any(|listed| listed == id)),
            || listed.join(", "),
        )
    }

    /// Shows the files of an engine, if they are on this machine, and verifies the store.
    fn check_engine(&mut self, path: Option<&Path>) -> Result<(), Failure> {
        self.say("")?;
        self.heading(if path.is_some() { "On disk" } else { "On the server" })?;
        if let Some(path) = path {
            let (files, bytes) = match path.metadata() {
                Ok(found) if found.is_file() => (1, found.len()),
                _ => files_in(path).iter().fold((0, 0), |(n, sum), (_, len)| (n + 1, sum + len)),
            };
            let files = counted(files, "file");
            self.say(format_args!("  {}  {files}, {bytes} bytes", path.display()))?;
        }
        let mut command = self.child();
        command.arg("verify");
        let checked = Self::end(command)?;
        self.claim(
            "verify reads every record and finds no problem".to_owned(),
            checked.code == Some(0),
            || [checked.stdout.trim_end(), checked.stderr.trim_end()].join("; "),
        )
    }

    /// Shows the files of a file store: a directory for each component, a file for each key.
    fn check_files(&mut self, path: &Path) -> Result<(), Failure> {
        self.say("")?;
        self.heading("On disk")?;
        for id in [HOME, WORK, COUNT] {
            let keys = strings(&self.json(&["keys", "--limit", "1000000", id])?, "keys");
            let directory = path.join("components").join(id);
            let files = files_in(&directory);
            for (name, bytes) in files.iter().take(SHOWN_FILES) {
                self.say(format_args!("  {}  {bytes} bytes", directory.join(name).display()))?;
            }
            if files.len() > SHOWN_FILES {
                self.say(format_args!("  and {} more", files.len() - SHOWN_FILES))?;
            }
            self.claim(
                format!(
                    "{id} has {} in {}",
                    counted(keys.len() as u64, "key"),
                    counted(keys.len() as u64, "file")
                ),
                !keys.is_empty() && files.len() == keys.len(),
                || format!("{} files in {}", files.len(), directory.display()),
            )?;
        }
        Ok(())
    }

    fn conclude(self, store: &StoreUrl) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Findings<'a> {
            store: &'a str,
            claims: &'a [Claim],
            all_hold: bool,
        }

        let wrong = self.claims.iter().filter(|claim| !claim.holds).count();
        if self.output.json() {
            self.output.document(&Findings {
                store: &self.store,
                claims: &self.claims,
                all_hold: wrong == 0,
            })?;
            self.output.finish()?;
        }
        if wrong > 0 {
            return Err(Failure::new(
                "demo",
                format!("{wrong} of {} checks failed", self.claims.len()),
            ));
        }
        if !self.output.json() && !self.output_closed {
            let typed = typed_command(store);
            self.output.line("")?;
            self.output.styled(self.style.bold("Inspect the data"))?;
            for command in [
                "components",
                &format!("keys {HOME}"),
                &format!("usage {WORK}"),
                &format!("get {COUNT} runs"),
            ] {
                self.output.line(format_args!("  {typed} {command}"))?;
            }
            if store.scheme() == "redb" && cfg!(feature = "file") {
                self.output.line("")?;
                self.output.styled(self.style.bold("Or keep each key in its own file"))?;
                self.output.line(format_args!("  {} --store file:./demo-data demo", program()))?;
            }
            self.output.finish()?;
        }
        Ok(())
    }

    /// Asks the notebooks and the counter what they hold, each in a new process.
    fn state(&mut self) -> Result<State, Failure> {
        let mut notes = BTreeMap::new();
        for id in [HOME, WORK] {
            let list = self.run_component(id, NOTES.0, &["list"])?;
            // A line is a number, two spaces and the text.
            let texts = list.lines().filter_map(|line| Some(line.split_once("  ")?.1.to_owned()));
            notes.insert(id, texts.collect());
        }
        let keys = strings(&self.json(&["keys", COUNT, "--prefix", "runs"])?, "keys");
        let runs = if keys.is_empty() {
            0
        } else {
            let value = self.json(&["get", COUNT, "runs"])?;
            let text = value.get("value_utf8").and_then(Value::as_str).unwrap_or_default();
            text.parse().map_err(|_| {
                Failure::new(
                    "demo",
                    format!("the value of runs in {COUNT} is not a number: {text:?}"),
                )
            })?
        };
        Ok(State { notes, runs })
    }

    /// Shows a run of a component and what it printed.
    fn show_run(&mut self, id: &str, component: &str, args: &[&str]) -> Result<(), Failure> {
        let quoted: Vec<String> = args
            .iter()
            .map(|arg| if arg.contains(' ') { format!("\"{arg}\"") } else { (*arg).to_owned() })
            .collect();
        let command = format!("run --id {id} {component} {}", quoted.join(" "));
        let line = format!("  $ storage-host {}", command.trim_end());
        self.say(self.style.dim(&line))?;
        let printed = self.run_component(id, component, args)?;
        for line in printed.lines() {
            let line = self.output.shown(line).into_owned();
            self.say(format_args!("  {line}"))?;
        }
        Ok(())
    }

    fn run_component(&self, id: &str, component: &str, args: &[&str]) -> Result<String, Failure> {
        let file = self.files.path().join(component);
        let mut command = self.child();
        command.args(["run", "--id", id]).arg(file).args(args);
        let ended = Self::end(command)?;
        match ended.code {
            Some(0) => Ok(ended.stdout),
            _ => Err(Failure::new(
                "demo",
                format!("{component} as {id} failed: {}", ended.stderr.trim_end()),
            )),
        }
    }

    /// Runs a command of this program, and returns its JSON output.
    fn json(&self, args: &[&str]) -> Result<Value, Failure> {
        let mut command = self.child();
        command.arg("--json").args(args);
        let ended = Self::end(command)?;
        match serde_json::from_str(&ended.stdout) {
            Ok(value) if ended.code == Some(0) => Ok(value),
            _ => Err(Failure::new(
                "demo",
                format!("{} failed: {}", args.join(" "), ended.stderr.trim_end()),
            )),
        }
    }

    fn child(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--store", &self.store, "--wait", &self.wait]).stdin(Stdio::null());
        // The text of a URL has no password.
        command.envs(self.password.iter().map(|(name, password)| (name, password)));
        command
    }

    fn end(mut command: Command) -> Result<Ended, Failure> {
        let output = command.output().map_err(|error| {
            Failure::new("io", format!("cannot start {}: {error}", command.get_program().display()))
        })?;
        Ok(Ended {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        })
    }

    fn claim(
        &mut self,
        claim: String,
        holds: bool,
        found: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let found = (!holds).then(found);
        let shown = found.as_deref().map(|found| self.output.shown(found).into_owned());
        match shown {
            None => self.say(format_args!("  {} {claim}", self.style.good("ok")))?,
            Some(found) => {
                self.say(format_args!("  {} {claim}: found {found}", self.style.bad("FAILED")))?;
            }
        }
        self.claims.push(Claim { claim, holds, found });
        Ok(())
    }

    fn heading(&mut self, text: &str) -> Result<(), Failure> {
        self.say(self.style.bold(text))
    }

    /// Shows a line at once. With JSON only the result is shown.
    fn say(&mut self, text: impl Display) -> Result<(), Failure> {
        if self.output.json() || self.output_closed {
            return Ok(());
        }
        let said = match self.style.on {
            true => self.output.styled(text),
            false => self.output.line(text),
        };
        match said.and_then(|()| self.output.finish()) {
            // The output was closed (`demo | head`), but the checks go on.
            Err(Failure::OutputClosed) => {
                self.output_closed = true;
                Ok(())
            }
            other => other,
        }
    }
}

/// The strings in a field of a document.
fn strings(document: &Value, field: &str) -> Vec<String> {
    let items = document.get(field).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| Some(item.as_str()?.to_owned())).collect()
}

/// The names and sizes of the files in a directory, without temporary ones.
fn files_in(directory: &Path) -> Vec<(String, u64)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<(String, u64)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((entry.file_name().to_string_lossy().into_owned(), metadata.len()))
        })
        .filter(|(name, _)| !name.starts_with('.'))
        .collect();
    files.sort();
    files
}

/// This program, as the user can type it.
fn program() -> String {
    if env::var_os("CARGO_PKG_NAME").is_some_and(|name| name == "storage-host") {
        return "cargo run --quiet --".to_owned();
    }
    // A name that is not UTF-8 cannot be written for every shell.
    match env::args_os().next().map(OsString::into_string) {
        Some(Ok(name)) => shell_quoted(&name, io::stdout().is_terminal()),
        _ => "storage-host".to_owned(),
    }
}

/// This program with the options for the same store.
fn typed_command(store: &StoreUrl) -> String {
    let implied = target::in_environment().unwrap_or_else(|| target::DEFAULT_STORE.into());
    if StoreUrl::from_os_str(&implied).as_ref() == Ok(store) {
        return program();
    }
    let store = shell_quoted(&store.to_string(), io::stdout().is_terminal());
    format!("{} --store {store}", program())
}

fn wants_colours() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

struct Style {
    on: bool,
}

impl Style {
    fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn good(&self, text: &str) -> String {
        self.paint("32", text)
    }

    fn bad(&self, text: &str) -> String {
        self.paint("31", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
