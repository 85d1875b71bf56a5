//! A value as text, JSON or hexadecimal numbers.

use std::fmt::Write;

use hyper::StatusCode;
use storage_core::{ComponentId, StorageError};

use super::super::routes::Answer;
use super::super::wire::{Refusal, usage};
use super::html::{Attribute, Escaped, EscapedLines};
use super::{html, link};
use crate::host::StorageHost;

/// How many bytes of a value are shown.
const SHOWN: usize = 64 << 10;

/// The bytes of a line of a dump.
const DUMP: usize = 16;

/// How a value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
    Hex,
}

impl Form {
    const ALL: [Self; 3] = [Self::Text, Self::Json, Self::Hex];

    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Hex => "hex",
        }
    }

    /// JSON if it is, else text if it is, else hexadecimal numbers.
    fn best(shown: &Shown<'_>) -> Self {
        match std::str::from_utf8(shown.bytes) {
            Ok(_) if shown.is_whole && pretty(shown.bytes).is_some() => Self::Json,
            Ok(_) => Self::Text,
            Err(_) => Self::Hex,
        }
    }

    pub(super) fn parse(name: Option<&str>) -> Result<Option<Self>, Refusal> {
        let Some(name) = name else { return Ok(None) };
        match Self::ALL.into_iter().find(|form| form.name() == name) {
            Some(form) => Ok(Some(form)),
            None => Err(usage("as is text, json or hex".to_owned())),
        }
    }
}

/// The beginning of a value.
struct Shown<'a> {
    bytes: &'a [u8],
    is_whole: bool,
}

impl<'a> Shown<'a> {
    fn of(value: &'a [u8]) -> Self {
        let Some(bytes) = value.get(..SHOWN) else { return Self { bytes: value, is_whole: true } };
        let bytes = match std::str::from_utf8(bytes) {
            // Text that is cut in a character.
            Err(error) if error.error_len().is_none() => {
                bytes.get(..error.valid_up_to()).unwrap_or(bytes)
            }
            _ => bytes,
        };
        Self { bytes, is_whole: bytes.len() == value.len() }
    }
}

pub(super) fn page(
    host: &StorageHost,
    id: &ComponentId,
    key: &str,
    form: Option<Form>,
) -> Result<Answer, Refusal> {
    let Some(value) = host.component(id).for_operator().get(key)? else {
        return Err(StorageError::NotFound(key.to_owned()).into());
    };
    let whole = value.as_bytes();
    let shown = Shown::of(whole);
    let form = form.unwrap_or_else(|| Form::best(&shown));
    let component = link("/component", &[("component", id.as_str())]);
    let mut content = format!(
        "<p>Key of <a href=\"{}\">{}</a>, {} bytes; as",
        Attribute(&component),
        Escaped(id.as_str()),
        whole.len()
    );
    for one in Form::ALL {
        let name = one.name();
        let target = link("/value", &[("component", id.as_str()), ("key", key), ("as", name)]);
        // Writing to a String cannot fail.
        let _ = match one == form {
            true => write!(content, " <strong>{name}</strong>"),
            false => write!(content, " <a href=\"{}\">{name}</a>", Attribute(&target)),
        };
    }
    content += "</p>\n";
    let text = match form {
        Form::Text => Ok(String::from_utf8_lossy(shown.bytes).into_owned()),
        Form::Json if !shown.is_whole => {
            Err(format!("More than {SHOWN} bytes are not shown as JSON."))
        }
        Form::Json => pretty(shown.bytes).ok_or_else(|| "This is not JSON.".to_owned()),
        Form::Hex => Ok(dump(shown.bytes)),
    };
    match text {
        Ok(text) => {
            if !shown.is_whole {
                let _ = writeln!(content, "<p>The first {} bytes:</p>", shown.bytes.len());
            }
            let class = if form == Form::Hex { " class=\"hex\"" } else { "" };
            let _ = writeln!(content, "<pre{class}>{}</pre>", EscapedLines(&text));
        }
        Err(why) => {
            let _ = writeln!(content, "<p>{why}</p>");
        }
    }
    Ok(html(StatusCode::OK, &Escaped(key).to_string(), &content))
}

/// JSON with line breaks; `None` for what is not JSON, or nested deeper than 127 levels. Names,
/// numbers and their order stay as they are stored, which a parser and writer would change.
fn pretty(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    serde_json::from_str::<serde_json::Value>(text).ok()?;
    let mut shown = String::with_capacity(text.len());
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    let mut is_open = false;
    let line = |shown: &mut String, depth: usize| {
        shown.push('\n');
        (0..depth).for_each(|_| shown.push_str("  "));
    };
    for c in text.chars() {
        if in_string {
            in_string = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            shown.push(c);
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let is_close = matches!(c, ']' | '}');
        if is_close {
            depth = depth.saturating_sub(1);
        }
        // Empty lists and objects stay on their line.
        if is_open != is_close {
            line(&mut shown, depth);
        }
        is_open = matches!(c, '[' | '{');
        shown.push(c);
        match c {
            '[' | '{' => depth = depth.saturating_add(1),
            ',' => line(&mut shown, depth),
            ':' => shown.push(' '),
            '"' => in_string = true,
            _ => {}
        }
    }
    Some(shown)
}

/// The bytes as hexadecimal numbers and as characters.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (number, line) in bytes.chunks(DUMP).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = |byte: &u8| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        };
        let characters: String = line.iter().map(shown).collect();
        let (at, hex) = (number.saturating_mul(DUMP), hex.join(" "));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{at:08x}  {hex:47}  {characters}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_gets_line_breaks_and_stays_what_it_was() {
        let stored =
            r#" {"z":[1.10,12345678901234567890123,{"\\":"a\"}, ]"}] , "a":{},"z":[ ],"":null} "#;
        let shown = "{\n  \"z\": [\n    1.10,\n    12345678901234567890123,\n    {\n      \"\\\\\": \
                     \"a\\\"}, ]\"\n    }\n  ],\n  \"a\": {},\n  \"z\": [],\n  \"\": null\n}";
        assert_eq!(pretty(stored.as_bytes()).unwrap(), shown);
        assert_eq!(pretty(shown.as_bytes()).unwrap(), shown);
        assert_eq!(pretty(b" \"a b\" ").unwrap(), "\"a b\"");
        for wrong in [&b"{"[..], b"[1,]", b"\xff", b"", b"1 2"] {
            assert_eq!(pretty(wrong), None);
        }
        assert_eq!(pretty("[".repeat(SHOWN).as_bytes()), None);
    }

    #[test]
    fn large_values_are_cut_between_characters() {
        let text = format!("x{}", "\u{e9}".repeat(SHOWN));
        let shown = Shown::of(text.as_bytes());
        assert_eq!((shown.bytes.len(), shown.is_whole), (SHOWN - 1, false));
        assert_eq!(Form::best(&shown), Form::Text);
        let bytes = vec![0xff; SHOWN + 1];
        let shown = Shown::of(&bytes);
        assert_eq!((shown.bytes.len(), shown.is_whole), (SHOWN, false));
        assert_eq!(Form::best(&shown), Form::Hex);
        let number = "1".repeat(SHOWN + 1);
        assert_eq!(Form::best(&Shown::of(number.as_bytes())), Form::Text);
        assert!(Shown::of(&bytes[..SHOWN]).is_whole);
    }
}
