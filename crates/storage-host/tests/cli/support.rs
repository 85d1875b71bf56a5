//! A temporary directory for each test, and the command in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::{env, fs, iter};

use storage_host::{Mode, Store, StoreUrl};

/// A directory in which the command runs.
pub(crate) struct TestDir {
    dir: tempfile::TempDir,
    /// The value of `STORAGE_HOST_STORE`.
    store: Option<&'static str>,
}

/// The outcome of a command.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl TestDir {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), store: None }
    }

    /// Uses a file store in `storage-data` if a command names no other, for tests that
    /// change its files.
    pub(crate) fn with_file_store() -> Self {
        Self::with_store("file:./storage-data")
    }

    /// Uses this store if a command names no other.
    pub(crate) fn with_store(store: &'static str) -> Self {
        Self { store: Some(store), ..Self::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The command, in this directory and without the user's settings.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_storage-host"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        for name in ["STORAGE_HOST_STORE", "STORAGE_HOST_LOG", "CARGO_PKG_NAME", "COLUMNS"] {
            command.env_remove(name);
        }
        command.envs(self.store.map(|store| ("STORAGE_HOST_STORE", store)));
        // All tests share the cache of compiled components.
        command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).output().unwrap())
    }

    /// The output of a command, which must succeed without a message.
    pub(crate) fn printed(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{args:?}");
        done.stdout
    }

    /// Runs the commands of a snapshot and compares what they print. `sh` runs the lines that
    /// begin with `$ `; `> ` continues a command, as on a terminal.
    pub(crate) fn assert_transcript(&self, name: &str) {
        self.assert_transcript_of(name, |script| self.shell(script));
    }

    /// Like [`assert_transcript`](Self::assert_transcript), with another shell.
    pub(crate) fn assert_transcript_of(&self, name: &str, shell: impl Fn(&str) -> Command) {
        let path = format!("{}/tests/cli/snapshots/{name}.snap", env!("CARGO_MANIFEST_DIR"));
        let written = fs::read_to_string(path).unwrap();
        let mut lines = written.lines().peekable();
        let mut text = String::new();
        while let Some(line) = lines.next() {
            let Some(first) = line.strip_prefix("$ ") else { continue };
            let mut script = first.to_owned();
            text += if text.is_empty() { "" } else { "\n" };
            text += &format!("{line}\n");
            while let Some(more) = lines.next_if(|line| line.starts_with('>')) {
                script += &format!("\n{}", more.trim_start_matches('>').trim_start_matches(' '));
                text += &format!("{more}\n");
            }
            text += &Done::of(shell(&script).output().unwrap()).shown();
        }
        assert!(!text.is_empty(), "{name} has no commands");
        self.assert_snapshot(name, &text);
    }

    /// A script that finds the command as `storage-host`, the committed guests in `$GUESTS`
    /// and the manifests of these tests in `$DATA`.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_storage-host"));
        let path = env::var_os("PATH").unwrap();
        let path = iter::once(program.parent().unwrap().into()).chain(env::split_paths(&path));
        // Words are split where the script is written, and not within a path.
        let script = format!("IFS=\n{script}");
        let mut shell = started_by(&["sh", "-c", &script], &self.command(&[]));
        shell.env("PATH", env::join_paths(path).unwrap()).env("LC_ALL", "C");
        shell.env("SHELL", "/bin/sh").env("TERM", "dumb");
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/data");
        shell.env("GUESTS", guests()).env("DATA", data);
        shell
    }

    /// Opens a store in this directory for writing.
    pub(crate) fn hold(&self, store: &str) -> Arc<dyn Store> {
        let url = store.replace(':', &format!(":{}/", self.path().display()));
        url.parse::<StoreUrl>().unwrap().open(Mode::ReadWrite).unwrap()
    }

    /// Whether a store was created at the default path.
    pub(crate) fn has_store(&self) -> bool {
        ["storage-data", "storage-data.redb"].iter().any(|path| self.path().join(path).exists())
    }

    /// Every file below a path, with its bytes.
    pub(crate) fn tree(&self, below: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut left = vec![self.path().join(below)];
        while let Some(path) = left.pop() {
            if path.is_dir() {
                left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.exists() {
                let bytes = fs::read(&path).unwrap();
                files.insert(path, bytes);
            }
        }
        files
    }

    /// Writes a file and gives its path.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Writes a component whose text is in `data`.
    pub(crate) fn component(&self, name: &str) -> String {
        let text = format!("{}/tests/cli/data/{name}.wat", env!("CARGO_MANIFEST_DIR"));
        self.file(&format!("{name}.wasm"), &wat::parse_file(text).unwrap())
    }

    /// Compares with a snapshot after replacing what differs between machines and runs.
    pub(crate) fn assert_snapshot(&self, name: &str, text: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        let dir = fs::canonicalize(self.path()).unwrap();
        settings.add_filter(&escaped(&dir), "[DIR]");
        settings.add_filter(&escaped(self.path()), "[DIR]");
        settings.add_filter(&escaped(&guests()), "[GUESTS]");
        settings.add_filter(&escaped(Path::new(env!("CARGO_BIN_EXE_storage-host"))), "[PROGRAM]");
        settings.add_filter("-[0-9a-f]{16}", "-[TOKEN]");
        settings.add_filter("process [0-9]+", "process [PID]");
        settings.add_filter("1 file, [0-9]+ bytes", "1 file, [SIZE] bytes");
        // The snapshots are of a build with the default stores alone.
        let others = r"(, rocksdb:)?(, postgres:)?(, redis(s|\+cluster|\+sentinel)?:)*";
        settings.add_filter(&format!("redb:{others} and memory:"), "redb: and memory:");
        settings.add_filter(r"section range \d+\.\.\d+", "section range [RANGE]");
        settings.bind(|| insta::assert_snapshot!(name, text));
    }
}

impl Done {
    /// As a transcript shows it: standard output, standard error behind `! `, and the exit
    /// code if it is not 0.
    pub(crate) fn shown(&self) -> String {
        let mut text = String::new();
        for (stream, content) in [("", &self.stdout), ("! ", &self.stderr)] {
            for line in content.lines() {
                text += &format!("{}\n", format!("{stream}{line}").trim_end());
            }
        }
        if self.code != 0 {
            text += &format!("-> {}\n", self.code);
        }
        text
    }

    pub(crate) fn of(output: Output) -> Self {
        // A busy machine may show any of these notes, or none.
        let said = String::from_utf8_lossy(&output.stderr);
        let lines = said.split_inclusive('\n').filter(|line| {
            !line.starts_with("compiling ")
                && !line.starts_with("created the store ")
                && !line.starts_with("{\"note\":{\"message\":\"created the store ")
        });
        Self {
            // A command that a signal ended has no exit code.
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: lines.collect(),
        }
    }
}

/// A command in the directory and environment of another one, which it starts.
pub(crate) fn started_by(starter: &[&str], inner: &Command) -> Command {
    let mut command = Command::new(starter[0]);
    command.args(&starter[1..]).arg(inner.get_program()).args(inner.get_args());
    command.current_dir(inner.get_current_dir().unwrap()).stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn escaped(path: &Path) -> String {
    path.to_str().unwrap().replace('.', r"\.").replace('+', r"\+")
}

fn guests() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/guests");
    fs::canonicalize(dir).unwrap()
}

/// The file of a committed guest.
pub(crate) fn guest(name: &str) -> String {
    guests().join(format!("{name}.wasm")).to_str().unwrap().to_owned()
}

/// A small file system in memory, for as long as it is held.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// `None`, and prints the reason, if this machine cannot mount.
    pub(crate) fn new(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "storage-host-test"])
            .arg(at)
            .output();
        match done {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            Ok(output) => {
                let reason = String::from_utf8_lossy(&output.stderr).into_owned();
                println!("SKIPPED a small file system: {}", reason.trim());
                None
            }
            Err(error) => {
                println!("SKIPPED a small file system: there is no mount: {error}");
                None
            }
        }
    }

    pub(crate) fn make_read_only(&self) {
        let done = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
