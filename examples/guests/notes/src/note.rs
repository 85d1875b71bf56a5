//! How a note is named in the store and shown to a person.

/// What the keys of all notes begin with.
pub(crate) const PREFIX: &str = "note/";

/// The name of one note: `note/0000000007-c0ffee0123456789`.
///
/// The number is what a person uses. It is padded, so that the store's order of
/// bytes is the order of numbers. The token is random: two instances that take
/// the same number at the same moment write two keys, and neither note is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NoteKey {
    pub(crate) number: u32,
    pub(crate) token: u64,
}

impl NoteKey {
    /// The key in the store.
    pub(crate) fn to_key(self) -> String {
        format!("{}{:016x}", Self::prefix_of(self.number), self.token)
    }

    /// What the keys of all notes with this number begin with.
    pub(crate) fn prefix_of(number: u32) -> String {
        format!("{PREFIX}{number:010}-")
    }

    /// Reads a key back; none where it is no note's.
    pub(crate) fn parse(key: &str) -> Option<Self> {
        let (number, token) = key.strip_prefix(PREFIX)?.split_once('-')?;
        let note = Self { number: number.parse().ok()?, token: parse_token(token)? };
        // Parsing is more lenient than writing: `+7` is a number too.
        (note.to_key() == key).then_some(note)
    }
}

/// What a person types to name a note: its number, and its token as well where
/// `list` shows one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) number: u32,
    pub(crate) token: Option<u64>,
}

impl Name {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (number, token) = match text.split_once('-') {
            Some((number, token)) => (number, Some(parse_token(token)?)),
            None => (text, None),
        };
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Self { number: number.parse().ok()?, token })
    }

    pub(crate) fn is_of(self, note: NoteKey) -> bool {
        self.number == note.number && self.token.is_none_or(|token| token == note.token)
    }
}

fn parse_token(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// The names under which `notes`, in ascending order, are shown: the number
/// alone, except where several notes have it.
pub(crate) fn labels(notes: &[NoteKey]) -> Vec<String> {
    notes
        .chunk_by(|a, b| a.number == b.number)
        .flat_map(|same| {
            same.iter().map(|note| match same.len() {
                1 => note.number.to_string(),
                _ => format!("{}-{:016x}", note.number, note.token),
            })
        })
        .collect()
}

/// The text of a note on one line: what would break the line, or reach the
/// terminal as a command, is shown as an escape such as `\n` or `\u{1b}`.
pub(crate) fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            // Both break lines, and are no control characters.
            '\u{2028}' | '\u{2029}' => line.extend(character.escape_unicode()),
            _ if character.is_control() => line.extend(character.escape_default()),
            _ => line.push(character),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(number: u32, token: u64) -> NoteKey {
        NoteKey { number, token }
    }

    #[test]
    fn a_key_is_read_back_as_it_was_written() {
        for note in [note(1, 0), note(7, 0xc0ff_ee01_2345_6789), note(u32::MAX, u64::MAX)] {
            let key = note.to_key();
            assert!(key.starts_with(&NoteKey::prefix_of(note.number)));
            assert_eq!(NoteKey::parse(&key), Some(note));
        }
    }

    #[test]
    fn the_stores_order_is_the_order_of_numbers() {
        let mut notes = [note(10, 1), note(9, 2), note(2, 3), note(100, 0), note(2, 1)];
        let mut keys = notes.map(NoteKey::to_key);
        notes.sort();
        keys.sort();
        assert_eq!(keys, notes.map(NoteKey::to_key));
    }

    #[test]
    fn a_key_that_is_no_notes_is_left_alone() {
        for key in [
            "",
            "note/",
            "note/0000000001",
            "note/1-0000000000000001",
            "note/+000000001-0000000000000001",
            "note/0000000001-1",
            "note/0000000001-00000000000000AB",
            "note/9999999999-0000000000000001",
            "other/0000000001-0000000000000001",
        ] {
            assert_eq!(NoteKey::parse(key), None, "{key}");
        }
    }

    #[test]
    fn a_number_names_a_note_until_two_have_it() {
        let notes = [note(1, 5), note(2, 6), note(2, 7), note(3, 8)];
        let labels = labels(&notes);
        assert_eq!(labels, ["1", "2-0000000000000006", "2-0000000000000007", "3"]);
        for (label, note) in labels.iter().zip(notes) {
            let name = Name::parse(label).unwrap();
            let named: Vec<_> = notes.into_iter().filter(|n| name.is_of(*n)).collect();
            assert_eq!(named, [note]);
        }
        assert_eq!(Name::parse("2").unwrap().token, None);
    }

    #[test]
    fn what_is_no_number_names_nothing() {
        for text in ["", "one", "+1", "-1", "1-", "1-x", "4294967296", " 1"] {
            assert_eq!(Name::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_note_takes_one_line_whatever_is_in_it() {
        assert_eq!(on_one_line("a\nb\r\tc\u{1b}[2J\u{85}"), r"a\nb\r\tc\u{1b}[2J\u{85}");
        assert_eq!(on_one_line("a\u{2028}b"), r"a\u{2028}b");
        assert_eq!(on_one_line(r#"C:\new "café" 🦀"#), r#"C:\new "café" 🦀"#);
    }
}
