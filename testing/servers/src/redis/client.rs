//! The commands that tests send to a server of their own.

use std::io::{BufRead, BufReader, Read, Write};

use anyhow::{Context as _, Result, bail};

/// Sends a command and returns the values of its reply in order, whatever lists they are in.
/// One that is missing is empty.
///
/// # Errors
/// If the server refuses the command, or does not answer.
pub(super) fn call(
    stream: &mut BufReader<impl Read + Write>,
    arguments: &[impl AsRef<[u8]>],
) -> Result<Vec<Vec<u8>>> {
    let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        let argument = argument.as_ref();
        request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        request.extend_from_slice(argument);
        request.extend_from_slice(b"\r\n");
    }
    stream.get_mut().write_all(&request)?;
    let mut values = Vec::new();
    let mut missing = 1_usize;
    while missing > 0 {
        missing -= 1;
        let header = line(stream)?;
        let Some((kind, text)) = header.split_at_checked(1) else { bail!("an empty reply") };
        match kind {
            "+" | ":" => values.push(text.as_bytes().to_owned()),
            "-" => bail!("{text}"),
            "$" => values.push(bulk(stream, text.parse()?)?),
            // -1 is a list that is missing.
            "*" => missing += usize::try_from(text.parse::<i64>()?).unwrap_or(0),
            _ => bail!("a reply of an unknown kind: {header}"),
        }
    }
    Ok(values)
}

fn line(stream: &mut impl BufRead) -> Result<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).context("no reply")?;
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None => bail!("the connection was closed"),
    }
}

/// A value of this length; -1 is one that is missing.
fn bulk(stream: &mut impl Read, length: i64) -> Result<Vec<u8>> {
    let Ok(length) = usize::try_from(length) else { return Ok(Vec::new()) };
    let mut value = vec![0; length + 2];
    stream.read_exact(&mut value).context("the connection was closed")?;
    value.truncate(length);
    Ok(value)
}
