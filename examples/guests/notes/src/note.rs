//! How a note is named in the store and shown to a person.

/// The prefix of the keys of all notes.
pub(crate) const PREFIX: &str = "note/";

/// The key of a note: `note/0000000007-c0ffee0123456789`.
///
/// The number is padded, so that the order of keys is the order of numbers. The
/// token is random: two instances that take the same number at the same time write
/// two keys, and neither note is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NoteKey {
    pub(crate) number: u32,
    pub(crate) token: u64,
}

impl NoteKey {
    pub(crate) fn to_key(self) -> String {
        format!("{}{:016x}", Self::prefix_of(self.number), self.token)
    }

    /// The prefix of the keys of all notes with this number.
    pub(crate) fn prefix_of(number: u32) -> String {
        format!("{PREFIX}{number:010}-")
    }

    /// `None` if it is not the key of a note.
    pub(crate) fn parse(key: &str) -> Option<Self> {
        let (number, token) = key.strip_prefix(PREFIX)?.split_once('-')?;
        let note = Self { number: number.parse().ok()?, token: parse_token(token)? };
        // `parse` also accepts `+7`.
        (note.to_key() == key).then_some(note)
    }
}

/// How a person names a note: by its number, and by its token if `list` shows it.
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

/// The names of `notes`, which are in ascending order: the number, and also the token
/// if several notes have the same number.
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

/// The text of a note on one line. Line breaks and control characters are escaped,
/// as in `\n` or `\u{1b}`.
pub(crate) fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            // Line breaks that are not control characters.
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
    fn keys_round_trip() {
        for note in [note(1, 0), note(7, 0xc0ff_ee01_2345_6789), note(u32::MAX, u64::MAX)] {
            let key = note.to_key();
            assert!(key.starts_with(&NoteKey::prefix_of(note.number)));
            assert_eq!(NoteKey::parse(&key), Some(note));
        }
    }

    #[test]
    fn keys_sort_by_number() {
        let mut notes = [note(10, 1), note(9, 2), note(2, 3), note(100, 0), note(2, 1)];
        let mut keys = notes.map(NoteKey::to_key);
        notes.sort();
        keys.sort();
        assert_eq!(keys, notes.map(NoteKey::to_key));
    }

    #[test]
    fn other_keys_are_not_notes() {
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
    fn labels_are_unique() {
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
    fn invalid_names_are_refused() {
        for text in ["", "one", "+1", "-1", "1-", "1-x", "4294967296", " 1"] {
            assert_eq!(Name::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn notes_are_shown_on_one_line() {
        assert_eq!(on_one_line("a\nb\r\tc\u{1b}[2J\u{85}"), r"a\nb\r\tc\u{1b}[2J\u{85}");
        assert_eq!(on_one_line("a\u{2028}b"), r"a\u{2028}b");
        assert_eq!(on_one_line(r#"C:\new "café" 🦀"#), r#"C:\new "café" 🦀"#);
    }
}
