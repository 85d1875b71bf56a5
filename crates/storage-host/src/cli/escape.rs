//! Escapes text for terminals and for commands to paste.

use std::borrow::Cow;
use std::fmt::Write;

use crate::hidden::is_hidden;

/// Whether [`visible`] changes a text.
pub(super) fn has_hidden(text: &str) -> bool {
    text.contains(is_hidden)
}

/// A text with its hidden characters escaped, as in `\u{202e}`.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !has_hidden(text) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_hidden(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown.into()
}

/// Like [`visible`], but keeps line breaks.
pub(super) fn visible_lines(text: &str) -> Cow<'_, str> {
    if !has_hidden(text) {
        return text.into();
    }
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n").into()
}

/// A text as a word of a shell, quoted if necessary. For a terminal, hidden characters are
/// written as `$'\342\200\256'`, which bash, zsh, ksh and POSIX since 2024 understand; the
/// other form is for every shell.
pub(super) fn shell_quoted(text: &str, for_terminal: bool) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    if !for_terminal || !has_hidden(text) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut quoted = "$'".to_owned();
    for c in text.chars() {
        match c {
            '\'' | '\\' => quoted.extend(['\\', c]),
            c if is_hidden(c) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    // Writing to a String cannot fail.
                    let _ = write!(quoted, "\\{byte:03o}");
                }
            }
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const ODD: &str = "a\u{202e}7'\\b\u{2028}c\u{200b}\u{85}\u{e0041}e\u{301} \u{e9}$x`";

    #[test]
    fn hidden_characters_are_escaped() {
        assert_eq!(visible("caf\u{e9}/a b"), "caf\u{e9}/a b");
        assert_eq!(visible("a\n\u{1b}[2Jb"), r"a\n\u{1b}[2Jb");
        let shown = "a\\u{202e}7'\\b\\u{2028}c\\u{200b}\\u{85}\\u{e0041}e\u{301} \u{e9}$x`";
        assert_eq!(visible(ODD), shown);
        assert_eq!(visible_lines("a\u{202e}\nb\n"), "a\\u{202e}\nb\n");
    }

    #[test]
    fn only_special_characters_are_quoted() {
        assert_eq!(shell_quoted("note/0000000001-c0ffee", true), "note/0000000001-c0ffee");
        assert_eq!(shell_quoted("file:./storage-data", true), "file:./storage-data");
        for (text, quoted) in [
            ("", "''"),
            ("my data", "'my data'"),
            ("it's", r"'it'\''s'"),
            ("a?b*", "'a?b*'"),
            ("~", "'~'"),
        ] {
            assert_eq!(shell_quoted(text, true), quoted);
            assert_eq!(shell_quoted(text, false), quoted);
        }
        assert_eq!(shell_quoted("a\u{202e}7'", true), r"$'a\342\200\2567\''");
    }

    #[test]
    fn shells_read_quoted_text_unchanged() {
        for (shell, for_terminal) in [("bash", true), ("zsh", true), ("bash", false), ("sh", false)]
        {
            let script = format!("printf %s {}", shell_quoted(ODD, for_terminal));
            match Command::new(shell).args(["-c", &script]).output() {
                Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout), ODD, "{shell}"),
                Err(error) => println!("SKIPPED {shell}: {error}"),
            }
        }
    }
}
