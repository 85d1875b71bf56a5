//! The path in a store's URL: parsing and escaping.

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

/// Parses the path of a URL with this scheme: the text between the colon and the
/// question mark.
///
/// # Errors
/// What is wrong with the path, as a message that follows the URL: `has no path: ...`.
pub(crate) fn read(scheme: &str, bytes: &[u8]) -> Result<PathBuf, String> {
    let bytes = match bytes.strip_prefix(b"//") {
        None => bytes,
        Some(after) => match after.strip_prefix(b"localhost").unwrap_or(after) {
            absolute if absolute.starts_with(b"/") => absolute,
            _ => {
                return Err(format!(
                    "names a host after {scheme}://: write {scheme}:PATH, or {scheme}:///PATH for \
                     an absolute path"
                ));
            }
        },
    };
    if bytes.is_empty() {
        return Err(format!("has no path: write {scheme}:PATH"));
    }
    let shown = String::from_utf8_lossy(bytes);
    if let Some((blank, c)) = find_blank(&shown) {
        let mut escape = String::new();
        // Writing to a String cannot fail.
        let _ = escape_char(&mut escape, c);
        return Err(format!(
            "has a path that {blank}: remove it, or write {escape} if it is part of the path"
        ));
    }
    refuse_shell_words(&shown)?;
    let path = literal_or_decoded(bytes)?;
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err("has a NUL in its path".to_owned());
    }
    Ok(path)
}

/// Finds white space at either end of a text, or a control character anywhere, which
/// copied text often has. Returns a description, such as `ends with a line break`.
pub(crate) fn find_blank(text: &str) -> Option<(String, char)> {
    let is_blank = |c: &char| c.is_whitespace() || c.is_control();
    let at_end = text.chars().next_back().filter(is_blank).map(|c| ("ends with", c));
    let at_start = || text.chars().next().filter(is_blank).map(|c| ("begins with", c));
    let inside = || text.chars().find(|c| c.is_control()).map(|c| ("has", c));
    let (has, c) = at_end.or_else(at_start).or_else(inside)?;
    let name = match c {
        ' ' => "a space".to_owned(),
        '\n' => "a line break".to_owned(),
        '\r' => "a carriage return".to_owned(),
        '\t' => "a tab".to_owned(),
        c => format!("the character U+{:04X}", u32::from(c)),
    };
    Some((format!("{has} {name}"), c))
}

/// Refuses text that a shell should have expanded. Shells do not expand it after a
/// scheme or in single quotes, and unit files and manifests never do.
fn refuse_shell_words(path: &str) -> Result<(), String> {
    if path.starts_with('~') {
        let first = path.split('/').next().unwrap_or_default();
        return Err(format!(
            "begins with {first}, which the shell did not expand: write the whole path, or \
             ./{first} for a directory of that name"
        ));
    }
    if let Some(variable) = variable_in(path) {
        return Err(format!(
            "contains {variable}, which the shell did not expand: write its value, or %24 for a $ \
             that is part of the path"
        ));
    }
    Ok(())
}

/// The first `$NAME`, `${...}` or `$(...)` in a text.
fn variable_in(text: &str) -> Option<&str> {
    text.match_indices('$').find_map(|(at, _)| {
        let from = text.get(at..)?;
        let after = from.get(1..)?;
        let length = match after.chars().next()? {
            '{' => after.find('}').map_or(after.len(), |end| end + 1),
            '(' => after.find(')').map_or(after.len(), |end| end + 1),
            c if starts_variable(c) => {
                after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len())
            }
            _ => return None,
        };
        from.get(..=length)
    })
}

fn starts_variable(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '_' | '{' | '(')
}

/// Converts the bytes of a URL to a path. If they contain a `%`, a literal name that
/// exists takes precedence over the decoded one.
fn literal_or_decoded(bytes: &[u8]) -> Result<PathBuf, String> {
    let Some(percent) = bytes.iter().position(|byte| *byte == b'%') else {
        return path_of(bytes).ok_or_else(|| "is not valid UTF-8, as a path must be".to_owned());
    };
    // A path below a literal directory is literal too.
    let end = bytes.iter().skip(percent).position(|byte| is_separator(*byte));
    let first = end.and_then(|end| bytes.get(..percent + end)).unwrap_or(bytes);
    let exists = |path: &PathBuf| path.symlink_metadata().is_ok();
    let literal = path_of(first).filter(exists);
    let decoded = decode_percent(first).and_then(|first| path_of(&first)).filter(exists);
    match (literal, decoded) {
        (Some(literal), Some(decoded)) => Err(format!(
            "can mean {literal:?} or {decoded:?}, and both exist: write %25 for each % that is \
             part of the name, or rename one of them"
        )),
        (Some(_), None) => {
            path_of(bytes).ok_or_else(|| "is not valid UTF-8, as a path must be".to_owned())
        }
        (None, _) => {
            let decoded = decode_percent(bytes).ok_or_else(|| {
                "has a % that is not followed by two hexadecimal digits: write %25 for a literal %"
                    .to_owned()
            })?;
            path_of(&decoded)
                .ok_or_else(|| "has escapes that are not UTF-8, as a path must be".to_owned())
        }
    }
}

fn is_separator(byte: u8) -> bool {
    std::path::is_separator(char::from(byte))
}

pub(crate) fn decode_percent(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems do not take all bytes")]
fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    Some(OsStr::from_bytes(bytes).into())
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(bytes).ok().map(PathBuf::from)
}

/// Displays a path as in a URL. Parsing the text returns the same path.
pub(crate) struct Escaped<'a>(pub(crate) &'a Path);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.as_os_str().as_encoded_bytes();
        // A path that begins with two slashes would be parsed as a host.
        if bytes.starts_with(b"//") {
            f.write_str("//")?;
        }
        let lossy = String::from_utf8_lossy(bytes);
        let (last, mut at) = (lossy.chars().count().saturating_sub(1), 0);
        for chunk in bytes.utf8_chunks() {
            for (offset, c) in chunk.valid().char_indices() {
                let next =
                    chunk.valid().get(offset + c.len_utf8()..).and_then(|s| s.chars().next());
                let special = match c {
                    '%' | '?' => true,
                    '~' => at == 0,
                    '$' => next.is_some_and(starts_variable),
                    c => c.is_control() || ((at == 0 || at == last) && c.is_whitespace()),
                };
                match special {
                    true => escape_char(f, c)?,
                    false => f.write_char(c)?,
                }
                at += 1;
            }
            if !chunk.invalid().is_empty() {
                escape_bytes(f, chunk.invalid())?;
                at += 1;
            }
        }
        Ok(())
    }
}

fn escape_char(to: &mut impl Write, c: char) -> fmt::Result {
    escape_bytes(to, c.encode_utf8(&mut [0; 4]).as_bytes())
}

fn escape_bytes(to: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(to, "%{byte:02X}"))
}
