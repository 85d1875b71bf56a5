//! The commands that the store sends, as the server sees them.

use anyhow::{Context as _, Result, bail, ensure};
use redis::{Cmd, Connection, Value};
use test_servers::Redis;

use crate::raw;

/// A command that the store sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded(Vec<Vec<u8>>);

impl Recorded {
    /// The command, built as a user of the crate builds it.
    pub(crate) fn command(&self) -> Cmd {
        let mut command = Cmd::new();
        for argument in &self.0 {
            command.arg(argument.as_slice());
        }
        command
    }

    /// The argument at this position, from 0, where the name of the command is.
    pub(crate) fn argument(&self, position: usize) -> Result<&[u8]> {
        self.0.get(position).map(Vec::as_slice).context("the command has too few arguments")
    }
}

/// Records the commands with this name, one for each of the operations.
pub(crate) fn record(
    server: &Redis,
    name: &str,
    operations: usize,
    operate: impl Fn(usize) -> Result<()>,
) -> Result<Vec<Recorded>> {
    let mut monitor = raw::connect(server)?;
    monitor.send_packed_command(&redis::cmd("MONITOR").get_packed_command())?;
    ensure!(monitor.recv_response()? == Value::Okay, "the server has no MONITOR");
    (0..operations)
        .map(|number| {
            operate(number)?;
            next(&mut monitor, name)
        })
        .collect()
}

/// The next command with this name. Those of scripts are shown too.
fn next(monitor: &mut Connection, name: &str) -> Result<Recorded> {
    loop {
        let Value::SimpleString(line) = monitor.recv_response()? else {
            bail!("MONITOR sends something else than commands")
        };
        let arguments = arguments(&line).context("MONITOR shows a command in another way")?;
        if arguments.first().is_some_and(|first| first.eq_ignore_ascii_case(name.as_bytes())) {
            return Ok(Recorded(arguments));
        }
    }
}

/// The arguments in a line such as `1.2 [0 127.0.0.1:1] "GET" "\x00"`.
fn arguments(line: &str) -> Option<Vec<Vec<u8>>> {
    let (_, mut rest) = line.split_once("] ")?;
    let mut arguments = Vec::new();
    while let Some(quoted) = rest.trim_start().strip_prefix('"') {
        let (argument, after) = unquote(quoted)?;
        arguments.push(argument);
        rest = after;
    }
    rest.is_empty().then_some(arguments)
}

/// The bytes up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(Vec<u8>, &str)> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    loop {
        let mut chars = rest.chars();
        let next = chars.next()?;
        rest = chars.as_str();
        if next == '"' {
            return Some((bytes, rest));
        }
        if next != '\\' {
            bytes.extend(next.to_string().bytes());
            continue;
        }
        let escaped = chars.next()?;
        rest = chars.as_str();
        bytes.push(match escaped {
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'a' => 7,
            'b' => 8,
            'x' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                u8::from_str_radix(digits, 16).ok()?
            }
            other => u8::try_from(other).ok()?,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_bytes_of_commands() {
        let line = r#"1.2 [0 127.0.0.1:1] "SET" "a \"b\" \\ \n\r\t\a\b" "" "\x00\xff}""#;
        let expected: [&[u8]; 4] = [b"SET", b"a \"b\" \\ \n\r\t\x07\x08", b"", b"\x00\xff}"];
        assert_eq!(arguments(line).unwrap(), expected);
        assert_eq!(arguments(r#"1.2 [0 lua] "GET" "open"#), None);
        assert_eq!(arguments("OK"), None);
    }
}
