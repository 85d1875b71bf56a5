//! Keeps notes in the store that the host gives this component.
//!
//! Each note is one key, named in `note.rs`. There is no key for the list as a
//! whole: such a key would be read, changed and written back, and two instances
//! doing so at once would lose a note.

#![forbid(unsafe_code)]

mod note;

use std::io::Write;

use storage_guest::command::{self, Failure};
use storage_guest::{StorageError, storage};

use crate::note::{Name, NoteKey, labels, on_one_line};

const USAGE: &str = "\
usage: notes COMMAND

  add TEXT...  add a note
  list         show all notes, each behind its number
  remove N     remove the note with number N
  clear        remove all notes
  help         show this text";

fn main() {
    command::run("notes", |args, out| match args {
        ["add", text @ ..] => {
            let text = text.join(" ");
            if text.trim().is_empty() {
                return Err(wrong("a note needs a text: notes add TEXT..."));
            }
            let number = add(&text)?;
            Ok(writeln!(out, "added note {number}")?)
        }
        ["list"] => list(out),
        ["remove", name] => match Name::parse(name) {
            Some(name) => {
                remove(name)?;
                Ok(writeln!(out, "removed note {}", name.number)?)
            }
            None => Err(wrong(&format!("{name:?} is no note's number"))),
        },
        ["remove", ..] => Err(wrong("remove takes one number")),
        ["clear"] => {
            let notes = all_notes()?;
            for note in &notes {
                storage::delete(&note.to_key())?;
            }
            let plural = if notes.len() == 1 { "" } else { "s" };
            Ok(writeln!(out, "removed {} note{plural}", notes.len())?)
        }
        ["help" | "--help" | "-h"] => Ok(writeln!(out, "{USAGE}")?),
        [] => Err(wrong("a command is missing")),
        [command @ ("list" | "clear" | "help"), ..] => {
            Err(wrong(&format!("{command} takes nothing behind it")))
        }
        [command, ..] => Err(wrong(&format!("there is no command {command:?}"))),
    })
}

fn wrong(message: &str) -> Failure {
    Failure::usage(format!("{message}\n{USAGE}"))
}

/// Adds a note and returns its number, one more than the highest there is.
///
/// The store has no call that takes a number only if it is free, so this one
/// looks again after writing: of two instances that took one number, each sees
/// the other's key, unless it looked before the other wrote; then that one sees
/// it. An instance that sees another moves on. So no two get the same number, and an
/// acknowledged note stays where it is.
///
/// The number of a removed note comes back only if it was the highest.
fn add(text: &str) -> Result<u32, Failure> {
    let mut steps = 1;
    loop {
        let highest = all_notes()?.last().map_or(0, |note| note.number);
        let Some(number) = highest.checked_add(steps) else {
            return Err(Failure::failed("there is no higher number left: clear the notes"));
        };
        let token = wasip2::random::random::get_random_u64();
        let mine = NoteKey { number, token };
        storage::set(&mine.to_key(), text.as_bytes())?;

        let same = notes_under(&NoteKey::prefix_of(number))?;
        if same.iter().all(|note| *note == mine) {
            return Ok(number);
        }
        // Removed before it is written again: killing this instance in
        // between loses a note that was not acknowledged, and leaves none twice.
        storage::delete(&mine.to_key())?;
        // All who met here go different distances, so that they part.
        let before_mine = same.iter().take_while(|note| **note != mine).count();
        steps = u32::try_from(before_mine).unwrap_or(u32::MAX).saturating_add(1);
    }
}

fn list(out: &mut dyn Write) -> Result<(), Failure> {
    let notes = all_notes()?;
    for (note, label) in notes.iter().zip(labels(&notes)) {
        // None: another instance has removed it since.
        if let Some(text) = storage::get(&note.to_key())? {
            writeln!(out, "{label}  {}", on_one_line(&String::from_utf8_lossy(&text)))?;
        }
    }
    Ok(())
}

fn remove(name: Name) -> Result<(), Failure> {
    let number = name.number;
    let mut named = notes_under(&NoteKey::prefix_of(number))?;
    named.retain(|note| name.is_of(*note));
    match named.as_slice() {
        [] => Err(Failure::failed(format!("there is no note {number}"))),
        [note] => Ok(storage::delete(&note.to_key())?),
        // Two adds at the same moment, and one was killed in it.
        _ => Err(Failure::failed(format!(
            "several notes have the number {number}: name one as list shows it"
        ))),
    }
}

/// All notes, by ascending number.
fn all_notes() -> Result<Vec<NoteKey>, StorageError> {
    notes_under(note::PREFIX)
}

/// The notes whose keys begin with `prefix`. Keys that are no notes, which an
/// operator may have put there, are left alone.
fn notes_under(prefix: &str) -> Result<Vec<NoteKey>, StorageError> {
    let keys = storage::list_keys(Some(prefix))?;
    Ok(keys.iter().filter_map(|key| NoteKey::parse(key)).collect())
}
