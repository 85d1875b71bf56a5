//! The table of cases: what was called, what must come, and what came.
//!
//! Its text is the same for the same behaviour. It holds the variants of errors;
//! their texts, which no specification fixes, only where they are asked for.

use std::io::{self, Write};

/// Writes cases as lines, and counts them.
pub struct Table<'a> {
    out: &'a mut dyn Write,
    texts: bool,
    fixed: usize,
    as_asked: usize,
    free: usize,
    /// Why the output ends early.
    failed: Option<io::Error>,
}

/// What a call came to, in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    words: String,
    /// What the host says of an error.
    text: Option<String>,
    /// Nothing that any host may do.
    wrong: bool,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

/// An error of an interface.
pub trait Failure {
    /// Its name in the interface.
    fn variant(&self) -> &'static str;
    /// What the host says of it.
    fn text(&self) -> Option<&str>;
}

/// An answer of an interface, in a few words.
pub trait Answer {
    /// The words.
    fn words(&self) -> String;
}

impl Outcome {
    /// An outcome in words.
    pub fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), text: None, wrong: false }
    }

    /// An outcome that no specification allows, in words.
    pub fn wrong(words: impl Into<String>) -> Self {
        Self { words: words.into(), text: None, wrong: true }
    }

    /// The words of an answer, or the variant of an error.
    pub fn of<T: Answer, E: Failure>(result: &Result<T, E>) -> Self {
        match result {
            Ok(answer) => Self::new(answer.words()),
            Err(error) => Self::new(error.variant()).with_text(error),
        }
    }

    /// A refusal that has left everything as it was.
    pub fn refused(error: &impl Failure) -> Self {
        Self::new(format!("refused with {}", error.variant())).with_text(error)
    }

    /// The same with what the host says of an error.
    #[must_use]
    pub fn with_text(mut self, error: &impl Failure) -> Self {
        self.text = error.text().map(str::to_owned);
        self
    }

    /// Whether these are the words, or more of them where the first ones will do:
    /// `refused with other` is `refused`.
    fn is(&self, expected: &str) -> bool {
        let rest = self.words.strip_prefix(expected);
        rest.is_some_and(|rest| [" with ", ": "].iter().any(|more| rest.starts_with(more)))
            || rest == Some("")
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
    /// A table on this output, with the texts of errors or without.
    pub fn new(out: &'a mut dyn Write, texts: bool) -> Self {
        Self { out, texts, fixed: 0, as_asked: 0, free: 0, failed: None }
    }

    /// A case for which the specification says what must come.
    pub fn asks(&mut self, function: &str, what: &str, expected: &str, came: &Outcome) {
        self.fixed += 1;
        let right = came.is(expected) && !came.wrong;
        self.as_asked += usize::from(right);
        self.line(function, what, expected, if right { "" } else { "NOT AS ASKED: " }, came);
    }

    /// A case in which the specification leaves the host free.
    pub fn leaves(&mut self, function: &str, what: &str, came: &Outcome) {
        if came.wrong {
            return self.asks(function, what, "-", came);
        }
        self.free += 1;
        self.line(function, what, "-", "host's choice: ", came);
    }

    /// A case in which the host is free to do one of several things, and nothing
    /// else.
    pub fn leaves_between(&mut self, function: &str, what: &str, may: &[&str], came: &Outcome) {
        if !came.wrong && may.iter().any(|may| came.is(may)) {
            self.free += 1;
            self.line(function, what, &may.join(" or "), "host's choice: ", came);
        } else {
            self.asks(function, what, &may.join(" or "), came);
        }
    }

    fn line(&mut self, function: &str, what: &str, expected: &str, prefix: &str, came: &Outcome) {
        let mut line = format!("{function:<13} {what:<54} {expected:<31} {prefix}{}", came.words);
        if let (true, Some(text)) = (self.texts, &came.text) {
            line.push_str(": ");
            line.extend(text.chars().flat_map(|c| {
                // A host's text is one line, whatever is in it.
                let escaped = c.is_control().then(|| c.escape_default());
                let plain = (!c.is_control()).then_some(c);
                escaped.into_iter().flatten().chain(plain)
            }));
        }
        self.write(&line);
    }

    fn write(&mut self, line: &str) {
        if self.failed.is_none() {
            self.failed = writeln!(self.out, "{line}").and_then(|()| self.out.flush()).err();
        }
    }

    /// Writes the last line; answers whether all is as asked.
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
        // Words alone: columns have spaces between them.
        let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        (text.lines().map(squeeze).collect::<Vec<_>>().join("\n"), all)
    }

    #[test]
    fn what_is_fixed_is_as_asked_or_not() {
        let (text, all) = written(false, |table| {
            table.asks(
                "get",
                "a missing key",
                "none",
                &Outcome::of::<_, Full>(&Ok(None::<Vec<u8>>)),
            );
        });
        assert_eq!(
            text,
            "get a missing key none none\n\
             0 of 1 are the host's choice\n1 of 1 as the specification asks"
        );
        assert!(all);
        let (text, all) = written(false, |table| {
            table.asks("get", "a missing key", "none", &Outcome::of::<(), _>(&Err(Full)));
        });
        assert!(text.starts_with("get a missing key none NOT AS ASKED: other\n"), "{text}");
        assert!(text.ends_with("0 of 1 as the specification asks"), "{text}");
        assert!(!all);
    }

    #[test]
    fn what_is_free_is_told_and_fails_only_outside_of_its_bounds() {
        let case = |came: Outcome| {
            written(false, |table| {
                table.leaves_between("set", "a long key", &["kept", "refused"], &came);
            })
        };
        let (text, all) = case(Outcome::refused(&Full));
        assert!(text.contains("kept or refused host's choice: refused with other\n"), "{text}");
        assert!(text.contains("1 of 1 are the host's choice\n0 of 0 as"), "{text}");
        assert!(all);
        let (text, all) = case(Outcome::new("lost"));
        assert!(text.contains("kept or refused NOT AS ASKED: lost\n"), "{text}");
        assert!(!all);
        let wrong = Outcome::wrong("failed, and changed");
        let (text, all) = written(false, |table| table.leaves("increment", "x", &wrong));
        assert!(text.starts_with("increment x - NOT AS ASKED: failed, and changed\n"), "{text}");
        assert!(!all);
    }

    #[test]
    fn texts_are_shown_where_they_are_asked_for_on_one_line() {
        let case = |texts| {
            written(texts, |table| table.leaves("get", "x", &Outcome::of::<(), _>(&Err(Full)))).0
        };
        assert!(case(false).starts_with("get x - host's choice: other\n"));
        assert!(case(true).starts_with("get x - host's choice: other: the store\\nis full\n"));
    }

    #[test]
    fn a_value_is_shown_if_it_is_short_and_plain() {
        assert_eq!(b"5".as_slice().words(), "\"5\"");
        assert_eq!(b"".as_slice().words(), "\"\"");
        assert_eq!([0; 8].as_slice().words(), "8 bytes");
        assert_eq!([b'x'; 1_025].as_slice().words(), "1,025 bytes");
    }
}
