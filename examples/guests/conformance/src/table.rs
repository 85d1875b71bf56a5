//! The table of cases: the call, the expected result, and the actual one.
//!
//! The same behaviour gives the same text. The variants of errors are part of it;
//! their messages, which no specification fixes, only on request.

use std::io::{self, Write};

/// Writes cases as lines and counts them.
pub struct Table<'a> {
    out: &'a mut dyn Write,
    texts: bool,
    fixed: usize,
    as_asked: usize,
    free: usize,
    /// The first error of `out`.
    failed: Option<io::Error>,
}

/// The result of a call in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    words: String,
    /// The message of an error.
    text: Option<String>,
    /// Whether no host may do this.
    wrong: bool,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

/// An error of an interface.
pub trait Failure {
    /// The name of the variant in the interface.
    fn variant(&self) -> &'static str;
    /// The message of the host.
    fn text(&self) -> Option<&str>;
}

/// A result of an interface's function.
pub trait Answer {
    /// The result in a few words.
    fn words(&self) -> String;
}

impl Outcome {
    pub fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), text: None, wrong: false }
    }

    /// An outcome that no specification allows.
    pub fn wrong(words: impl Into<String>) -> Self {
        Self { wrong: true, ..Self::new(words) }
    }

    /// An error that changed nothing.
    pub fn refused(error: &impl Failure) -> Self {
        Self::new(format!("refused with {}", error.variant())).with_text(error)
    }

    /// Adds the message of an error.
    #[must_use]
    pub fn with_text(mut self, error: &impl Failure) -> Self {
        self.text = error.text().map(str::to_owned);
        self
    }

    /// Whether the words are `expected` or only add details to it: `refused`
    /// matches `refused with other`.
    fn is(&self, expected: &str) -> bool {
        let rest = self.words.strip_prefix(expected);
        rest.is_some_and(|rest| {
            rest.is_empty() || rest.starts_with(" with ") || rest.starts_with(": ")
        })
    }
}

impl<T: Answer, E: Failure> From<Result<T, E>> for Outcome {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(answer) => Self::new(answer.words()),
            Err(error) => Self::new(error.variant()).with_text(&error),
        }
    }
}

impl From<&str> for Outcome {
    fn from(words: &str) -> Self {
        Self::new(words)
    }
}

impl From<String> for Outcome {
    fn from(words: String) -> Self {
        Self::new(words)
    }
}

impl From<bool> for Outcome {
    fn from(value: bool) -> Self {
        Self::new(value.to_string())
    }
}

impl Answer for () {
    fn words(&self) -> String {
        "ok".to_owned()
    }
}

impl Answer for bool {
    fn words(&self) -> String {
        self.to_string()
    }
}

impl Answer for [u8] {
    fn words(&self) -> String {
        const SHOWN: usize = 24;
        let plain = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        match std::str::from_utf8(self) {
            Ok(text) if self.len() <= SHOWN && self.iter().all(plain) => format!("{text:?}"),
            _ => format!("{} bytes", crate::grouped(self.len())),
        }
    }
}

impl Answer for Vec<u8> {
    fn words(&self) -> String {
        self.as_slice().words()
    }
}

impl<A: Answer> Answer for Option<A> {
    fn words(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), Answer::words)
    }
}

impl Answer for String {
    fn words(&self) -> String {
        self.clone()
    }
}

impl<'a> Table<'a> {
    /// A table on `out`; `texts` selects whether the messages of errors are shown.
    pub fn new(out: &'a mut dyn Write, texts: bool) -> Self {
        Self { out, texts, fixed: 0, as_asked: 0, free: 0, failed: None }
    }

    /// A case whose result the specification fixes.
    pub fn asks(&mut self, function: &str, what: &str, expected: &str, came: impl Into<Outcome>) {
        let came = came.into();
        self.fixed += 1;
        let right = came.is(expected) && !came.wrong;
        self.as_asked += usize::from(right);
        self.line(function, what, expected, if right { "" } else { "NOT AS ASKED: " }, &came);
    }

    /// A case whose result the specification leaves to the host.
    pub fn leaves(&mut self, function: &str, what: &str, came: impl Into<Outcome>) {
        let came = came.into();
        if came.wrong {
            return self.asks(function, what, "-", came);
        }
        self.free += 1;
        self.line(function, what, "-", "host's choice: ", &came);
    }

    /// A case in which the host may choose one of several results.
    pub fn leaves_between(
        &mut self,
        function: &str,
        what: &str,
        may: &[&str],
        came: impl Into<Outcome>,
    ) {
        let came = came.into();
        if !came.wrong && may.iter().any(|may| came.is(may)) {
            self.free += 1;
            self.line(function, what, &may.join(" or "), "host's choice: ", &came);
        } else {
            self.asks(function, what, &may.join(" or "), came);
        }
    }

    /// Runs a group of cases. A failure of a call that they need, but do not
    /// check, is a case of its own.
    pub fn group<E: Failure>(
        &mut self,
        function: &str,
        cases: impl FnOnce(&mut Self) -> Result<(), E>,
    ) {
        let ended = cases(self);
        if ended.is_err() {
            self.asks(function, "a call that the next cases need", "ok", ended);
        }
    }

    fn line(&mut self, function: &str, what: &str, expected: &str, label: &str, came: &Outcome) {
        let mut line = format!("{function:<13} {what:<54} {expected:<31} {label}{}", came.words);
        if let (true, Some(text)) = (self.texts, &came.text) {
            line.push_str(": ");
            for character in text.chars() {
                // Keep the message on one line.
                match character.is_control() {
                    true => line.extend(character.escape_default()),
                    false => line.push(character),
                }
            }
        }
        self.write(&line);
    }

    fn write(&mut self, line: &str) {
        if self.failed.is_none() {
            self.failed = writeln!(self.out, "{line}").and_then(|()| self.out.flush()).err();
        }
    }

    /// Writes the last lines; returns whether all fixed cases were as asked.
    ///
    /// # Errors
    /// If the output could not be written.
    pub fn finish(mut self) -> io::Result<bool> {
        let Self { as_asked, fixed, free, .. } = self;
        self.write(&format!("{free} of {} are the host's choice", free + fixed));
        self.write(&format!("{as_asked} of {fixed} as the specification asks"));
        match self.failed {
            Some(error) => Err(error),
            None => Ok(as_asked == fixed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Full;

    impl Failure for Full {
        fn variant(&self) -> &'static str {
            "other"
        }

        fn text(&self) -> Option<&str> {
            Some("the store\nis full")
        }
    }

    fn written(texts: bool, cases: impl FnOnce(&mut Table<'_>)) -> (String, bool) {
        let mut out = Vec::new();
        let mut table = Table::new(&mut out, texts);
        cases(&mut table);
        let all = table.finish().unwrap();
        let text = String::from_utf8(out).unwrap();
        let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        (text.lines().map(squeeze).collect::<Vec<_>>().join("\n"), all)
    }

    #[test]
    fn an_unexpected_result_fails() {
        let (text, all) = written(false, |table| {
            table.asks("get", "a missing key", "none", Ok::<_, Full>(None::<Vec<u8>>));
            table.asks("get", "a missing key", "none", Err::<(), _>(Full));
        });
        assert_eq!(
            text,
            "get a missing key none none\nget a missing key none NOT AS ASKED: other\n\
             0 of 2 are the host's choice\n1 of 2 as the specification asks"
        );
        assert!(!all);
    }

    #[test]
    fn a_choice_fails_only_outside_its_bounds() {
        let case = |came: Outcome| {
            written(false, |table| {
                table.leaves_between("set", "a long key", &["kept", "refused"], came);
            })
        };
        let (text, all) = case(Outcome::refused(&Full));
        assert!(text.contains("kept or refused host's choice: refused with other\n"), "{text}");
        assert!(all);
        let (text, all) = case(Outcome::new("lost"));
        assert!(text.contains("kept or refused NOT AS ASKED: lost\n"), "{text}");
        assert!(!all);
        let wrong = Outcome::wrong("failed, and changed");
        let (text, all) = written(false, |table| table.leaves("increment", "x", wrong));
        assert!(text.starts_with("increment x - NOT AS ASKED: failed, and changed\n"), "{text}");
        assert!(!all);
    }

    #[test]
    fn messages_are_shown_on_request_on_one_line() {
        let case = |texts| written(texts, |table| table.leaves("get", "x", Err::<(), _>(Full))).0;
        assert!(case(false).starts_with("get x - host's choice: other\n"));
        assert!(case(true).starts_with("get x - host's choice: other: the store\\nis full\n"));
    }
}
