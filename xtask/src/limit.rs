//! Commands with a time limit.

use std::process::{Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// Runs a command. Returns `None` if it exceeded `limit` and was killed with its
/// children. With a limit, the command does not receive the terminal's interrupt.
///
/// # Errors
/// If it cannot be started, waited for or killed.
pub(crate) fn status(command: &mut Command, limit: Option<Duration>) -> Result<Option<ExitStatus>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let cannot = |what: &str| format!("cannot {what} {program}");
    let Some(limit) = limit else {
        return Ok(Some(command.status().with_context(|| cannot("start"))?));
    };
    own_group(command);
    let mut child = command.spawn().with_context(|| cannot("start"))?;
    let group = child.id();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait()));
    match receiver.recv_timeout(limit) {
        Ok(status) => Ok(Some(status.with_context(|| cannot("wait for"))?)),
        Err(RecvTimeoutError::Timeout) => {
            kill_group(group)?;
            receiver.recv()?.with_context(|| cannot("wait for"))?;
            Ok(None)
        }
        Err(RecvTimeoutError::Disconnected) => bail!("the wait for {program} ended early"),
    }
}

#[cfg(unix)]
fn own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
}

#[cfg(unix)]
fn kill_group(group: u32) -> Result<()> {
    // The builtin of the shell: not every system has the program `kill`.
    let script = format!("kill -s KILL -- -{group}");
    kill(Command::new("sh").args(["-c", &script]))
}

#[cfg(windows)]
fn own_group(_: &mut Command) {}

#[cfg(windows)]
fn kill_group(group: u32) -> Result<()> {
    kill(Command::new("taskkill").args(["/F", "/T", "/PID", &group.to_string()]))
}

/// Runs a command that kills. It fails if all processes have just ended, which is fine.
fn kill(command: &mut Command) -> Result<()> {
    command.output().context("cannot kill a command that exceeded its limit")?;
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_in_time_returns_its_status() {
        for limit in [None, Some(Duration::from_secs(600))] {
            let ended = status(&mut shell("exit 3"), limit).unwrap();
            assert_eq!(ended.unwrap().code(), Some(3));
        }
    }

    #[test]
    fn a_command_over_its_limit_ends_with_its_children() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut hangs = shell("sleep 600 & sleep 600");
        hangs.stdout(writer);
        assert!(status(&mut hangs, Some(Duration::from_millis(200))).unwrap().is_none());
        drop(hangs);
        // The pipe ends when the last process that can write to it has ended.
        assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}
