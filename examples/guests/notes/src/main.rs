//! Keeps notes.
//!
//! Each note has a key of its own (`note.rs`). A single key for the whole list would
//! lose a note when two instances read it, change it and write it back.

#![forbid(unsafe_code)]

mod note;

use std::io::Write;

use command::{Failure, StorageError, storage};

use crate::note::{Name, NoteKey, labels, on_one_line};

const USAGE: &str = "\
usage: notes COMMAND

  add TEXT...  add a note
  list         show all notes with their numbers
  remove N     remove the note with number N
  clear        remove all notes
  help         show this text";

fn main() {
    command::run("notes", |args, out| match args {
        ["add", text @ ..] => {
            let text = text.join(" ");
            if text.trim().is_empty() {
                return Err(wrong("a note needs text: notes add TEXT..."));
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
            None => Err(wrong(&format!("{name:?} is not the number of a note"))),
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
            Err(wrong(&format!("{command} takes no arguments")))
        }
        [command, ..] => Err(wrong(&format!("unknown command {command:?}"))),
    })
}

fn wrong(message: &str) -> Failure {
    Failure::usage(format!("{message}\n{USAGE}"))
}

/// Adds a note and returns its number, one more than the highest there is.
///
/// `airssys:core/storage` cannot write a key only if it is absent, so this function
/// lists the keys again after its write. If two instances use the same number, the
/// one that lists last sees both keys and takes another number. So no two notes are
/// acknowledged with the same number, and an acknowledged note keeps its number.
///
/// The number of a removed note is used again only if it was the highest.
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
        // Delete before the next write: if this instance is killed in between, a note
        // that was not acknowledged is lost, but none is stored twice.
        storage::delete(&mine.to_key())?;
        // Each instance takes a different step, so that they do not collide again.
        let before_mine = same.iter().take_while(|note| **note != mine).count();
        steps = u32::try_from(before_mine).unwrap_or(u32::MAX).saturating_add(1);
    }
}

fn list(out: &mut dyn Write) -> Result<(), Failure> {
    let notes = all_notes()?;
    for (note, label) in notes.iter().zip(labels(&notes)) {
        // Another instance may have removed it since.
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
        // An instance was killed during a simultaneous `add`.
        _ => Err(Failure::failed(format!(
            "several notes have the number {number}: use the name that list shows"
        ))),
    }
}

/// All notes, by ascending number.
fn all_notes() -> Result<Vec<NoteKey>, StorageError> {
    notes_under(note::PREFIX)
}

/// The notes whose keys begin with `prefix`. Other keys, which an operator may have
/// stored, are ignored.
fn notes_under(prefix: &str) -> Result<Vec<NoteKey>, StorageError> {
    let keys = storage::list_keys(Some(prefix))?;
    Ok(keys.iter().filter_map(|key| NoteKey::parse(key)).collect())
}
