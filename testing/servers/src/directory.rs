//! The files of a server, and the process that ends a server whose test process has ended.
//!
//! That process, a shell, reads from a pipe whose other end the test process has. The pipe
//! ends when the test process does, however it ended. Then the shell kills what still runs
//! and removes the files. Each line that it reads replaces what it knows.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::user::User;

/// The arguments are the directories to remove. A line has the id of the server's process
/// and that of its shared memory, each of which may be empty.
///
/// The server is stopped first, so that it starts no other children, and a paused one does
/// not stay. The memory of a killed server stays otherwise; that of a server that was starting
/// is named in its file. The data may be on a file system of its own. A process may still write
/// for a short time after it was killed, so removing the files is repeated.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
server= memory=
while IFS='|' read -r first second; do server=$first memory=$second; done
if [ -n "$server" ]; then
    kill -s STOP "$server"
    children=$(grep -ls "^PPid:[[:space:]]*$server\$" /proc/[0-9]*/status | cut -d / -f 3)
    kill -s KILL $children "$server"
fi
for id in $memory $(sed -n '7s/.* //p' "$2/postmaster.pid"); do ipcrm -m "$id"; done
umount --lazy "$2"
tries=0
until rm -rf "$@" || [ $tries = 100 ]; do sleep 0.05; tries=$((tries + 1)); done
"#;

/// The directory of a server, which disappears with this value.
#[derive(Debug)]
pub(crate) struct ServerDirectory {
    path: PathBuf,
    data: PathBuf,
    shell: Child,
    /// `None` once it is closed.
    pipe: Option<ChildStdin>,
}

impl ServerDirectory {
    /// Creates a directory that belongs to `user`, and names one for data: in it, or below
    /// `parent` with the same name.
    pub(crate) fn create(prefix: &str, user: User, parent: Option<&Path>) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix(prefix).tempdir()?;
        user.own_alone(directory.path())?;
        let name = directory.path().file_name().unwrap_or_default();
        let data = parent.map_or_else(|| directory.path().join("data"), |parent| parent.join(name));
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .args([directory.path(), &data])
            // A terminal's interrupt must not end it before the test process.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a shell")?;
        let pipe = shell.stdin.take();
        // From here on the shell removes it.
        Ok(Self { path: directory.keep(), data, shell, pipe })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory for data, which does not exist yet.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Names the process that must not outlive this one, and its shared memory.
    pub(crate) fn guard(&mut self, process: Option<u32>, memory: Option<&str>) -> Result<()> {
        let process = process.map(|id| id.to_string()).unwrap_or_default();
        let line = format!("{process}|{}\n", memory.unwrap_or_default());
        let pipe = self.pipe.as_mut().context("the directory is being removed")?;
        pipe.write_all(line.as_bytes()).context("the shell that guards a server has ended")
    }
}

impl Drop for ServerDirectory {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.shell.wait();
    }
}
