//! Damaged files: the right value, or an error that says so; never a wrong one,
//! never a dead process.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use storage_core::{Commit, ComponentStorage, Store};

use crate::content::content;
use crate::engine::{Engine, Mode};
use crate::place::{Place, copy_tree};
use crate::probe::{self, Expected, ProbeArguments, Told};
use crate::random::Random;
use crate::report::{Fault, Findings, Outcome};

/// How a run is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Corruption {
    pub(crate) engine: Engine,
    pub(crate) seed: u64,
    /// How many random flips where not every byte is tried.
    pub(crate) flips: u64,
    /// Every so many-th byte of the files, where each is tried.
    pub(crate) every: usize,
}

/// What is done to the files of a store.
#[derive(Debug, Clone)]
enum Damage {
    /// A byte is changed by these bits.
    Flip { file: PathBuf, at: usize, bits: u8 },
    /// Some bytes are lost.
    Zero { file: PathBuf, at: usize, len: usize },
    /// The end is lost.
    Cut { file: PathBuf, len: usize },
    /// Two files have each other's bytes.
    Swap { one: PathBuf, other: PathBuf },
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flip { file, at, bits } => {
                write!(f, "byte {at} of {} changed by {bits:#04x}", file.display())
            }
            Self::Zero { file, at, len } => {
                write!(f, "{len} bytes from {at} of {} zeroed", file.display())
            }
            Self::Cut { file, len } => write!(f, "{} cut to {len} bytes", file.display()),
            Self::Swap { one, other } => {
                write!(f, "{} and {} swapped", one.display(), other.display())
            }
        }
    }
}

impl Corruption {
    /// Damages copies of a store, one damage a copy, and looks at each.
    pub(crate) fn run(self, place: &Place) -> Result<Outcome> {
        let whole = place.fresh_folder("whole")?;
        let mut outcome = Outcome::Passed;
        let file = matches!(self.engine, Engine::File);
        let expected = if file { small_file_store(&whole)? } else { self.large_store(&whole)? };
        let expected_path = place.path("expected");
        expected.write(&expected_path)?;
        let damages = if file { self.every_damage(&whole)? } else { self.sample(&whole)? };
        let start = Instant::now();
        let mut all = Findings::default();
        let mut findings = Findings::default();
        let mut told = Told::default();
        let folder = place.fresh_folder("damaged")?;
        let (mut harmless, count) = (0_u64, damages.len());
        for damage in &damages {
            fs::remove_dir_all(&folder)?;
            copy_tree(&whole, &folder)?;
            damage.apply(&folder)?;
            findings.place = damage.to_string();
            let store = folder.join("store");
            let now = if file {
                guarded_look(self.engine, &store, &expected, &mut findings)
            } else {
                let arguments =
                    ProbeArguments { engine: self.engine, store, expected: expected_path.clone() };
                probe::in_another_process(&arguments, &mut findings)?
            };
            harmless += u64::from(now.refused == 0 && now.corrupt == 0);
            told += now;
            all.merge(std::mem::take(&mut findings));
        }
        println!(
            "  {}: {count} damages to a store of {} keys: {} did not open, {} keys told corrupt, {} values right; {harmless} touched no value; {all}; {:.0} s",
            self.engine,
            expected.keys.len(),
            told.refused,
            told.corrupt,
            told.right,
            start.elapsed().as_secs_f64()
        );
        if told.refused + told.corrupt == 0 {
            println!("    FAILED: VOID: no damage was noticed");
            outcome = Outcome::Failed;
        }
        if all.total() > 0 {
            all.texts().iter().for_each(|text| println!("    {text}"));
            println!("    FAILED: damage must be told, and hurt nothing else");
            outcome = Outcome::Failed;
        }
        Ok(outcome)
    }

    /// A store of some hundred keys, closed in good order and opened again, so
    /// that not all of it is where the last writes go.
    fn large_store(self, whole: &Path) -> Result<Expected> {
        let path = whole.join("store");
        let mut expected = Expected::default();
        for round in 0..3 {
            let storage = self.engine.open(Mode::Sync, &path)?;
            for number in 0..60 {
                let op = round * 1000 + number + 1;
                let key = format!("dur/damage/c{}/{round}-{}", number % 4, number / 2);
                let len = 1 << (number % 13);
                let revision = storage_core::put(&storage, &key, content(&key, op, len).into())?;
                expected.keys.insert(key, (op, len));
                expected.largest_revision = revision.get();
            }
            storage.flush()?;
        }
        Ok(expected)
    }

    /// Every byte of every file, every length, and every two files.
    fn every_damage(self, whole: &Path) -> Result<Vec<Damage>> {
        let mut damages = Vec::new();
        let files = files_below(whole)?;
        let mut random = Random::new(self.seed);
        for (file, len) in &files {
            for at in (0..*len).step_by(self.every) {
                let bits = 1 << random.below(8);
                damages.push(Damage::Flip { file: file.clone(), at, bits });
                damages.push(Damage::Flip { file: file.clone(), at, bits: 0xff });
                damages.push(Damage::Cut { file: file.clone(), len: at });
            }
        }
        for (index, (one, _)) in files.iter().enumerate() {
            for (other, _) in files.iter().skip(index + 1) {
                damages.push(Damage::Swap { one: one.clone(), other: other.clone() });
            }
        }
        Ok(damages)
    }

    /// Random damages to the files, by their size.
    fn sample(self, whole: &Path) -> Result<Vec<Damage>> {
        let files: Vec<(PathBuf, usize)> =
            files_below(whole)?.into_iter().filter(|(_, len)| *len > 0).collect();
        let total: usize = files.iter().map(|(_, len)| len).sum();
        let mut random = Random::new(self.seed);
        let mut damages = Vec::new();
        for number in 0..self.flips {
            // Half of them by bytes, so that large files get more; half by files.
            let mut at = random.index(total);
            let mut chosen = files.get(random.index(files.len())).context("there is no file")?;
            if number % 2 == 0 {
                for candidate in &files {
                    if at < candidate.1 {
                        chosen = candidate;
                        break;
                    }
                    at -= candidate.1;
                }
            } else {
                at = random.index(chosen.1);
            }
            let file = chosen.0.clone();
            damages.push(match random.below(8) {
                0 => Damage::Zero { at, len: 1 + random.index(4096.min(chosen.1 - at)), file },
                1 => Damage::Cut { len: at, file },
                _ => Damage::Flip { at, bits: 1 << random.below(8), file },
            });
        }
        Ok(damages)
    }
}

impl Damage {
    fn apply(&self, folder: &Path) -> Result<()> {
        let edit = |file: &Path, change: &dyn Fn(&mut Vec<u8>)| -> Result<()> {
            let path = folder.join(file);
            let mut bytes = fs::read(&path)?;
            change(&mut bytes);
            Ok(fs::write(&path, bytes)?)
        };
        match self {
            Self::Flip { file, at, bits } => edit(file, &|bytes| {
                if let Some(byte) = bytes.get_mut(*at) {
                    *byte ^= bits;
                }
            }),
            Self::Zero { file, at, len } => edit(file, &|bytes| {
                bytes.iter_mut().skip(*at).take(*len).for_each(|byte| *byte = 0);
            }),
            Self::Cut { file, len } => edit(file, &|bytes| bytes.truncate(*len)),
            Self::Swap { one, other } => {
                let (one, other) = (folder.join(one), folder.join(other));
                let bytes = fs::read(&one)?;
                fs::copy(&other, &one)?;
                Ok(fs::write(&other, bytes)?)
            }
        }
    }
}

/// Looks in this process, which survives a panic.
fn guarded_look(
    engine: Engine,
    store: &Path,
    expected: &Expected,
    findings: &mut Findings,
) -> Told {
    let mut wrong = Vec::new();
    let looked =
        catch_unwind(AssertUnwindSafe(|| probe::look(engine, store, expected, &mut wrong)));
    for what in wrong {
        findings.add(Fault::Contract, what);
    }
    looked.unwrap_or_else(|_| {
        findings.add(Fault::Died, "it panicked".to_owned());
        Told::default()
    })
}

/// A file store with values of several lengths, and a commit that a killed
/// process left in the journal.
fn small_file_store(whole: &Path) -> Result<Expected> {
    let path = whole.join("store");
    let storage = Engine::File.open(Mode::Sync, &path)?;
    let mut expected = Expected::default();
    let long = format!("dur/damage/a/{}", "long".repeat(70));
    let keys = [("loose", 1), ("dur/damage/a/one", 0), ("dur/damage/a/two", 40), (&long, 30)];
    for (op, (key, len)) in (1..).zip(keys) {
        let revision = storage_core::put(&storage, key, content(key, op, len).into())?;
        expected.keys.insert(key.to_owned(), (op, len));
        expected.largest_revision = revision.get();
    }
    let folder = path.join("journal");
    leave_in_journal(&*storage, &folder, &mut expected)?;
    Ok(expected)
}

/// Makes a commit, and puts its journal file back as a process that was killed
/// before the end would have left it.
fn leave_in_journal(
    storage: &dyn ComponentStorage,
    folder: &Path,
    expected: &mut Expected,
) -> Result<()> {
    let keys = ["dur/damage/a/first", "dur/damage/b/second"];
    let commit = keys
        .iter()
        .fold(Commit::new(), |commit, key| commit.set(*key, content(key, 100, 50).into()));
    let revision = storage.commit(commit)?;
    for key in keys {
        expected.keys.insert(key.to_owned(), (100, 50));
    }
    expected.largest_revision = revision.get();
    // The format of a journal, as the file store documents it.
    let mut bytes = vec![1];
    bytes.extend_from_slice(&revision.get().to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(keys.len())?.to_le_bytes());
    for key in keys {
        bytes.push(1);
        bytes.extend_from_slice(&u16::try_from(key.len())?.to_le_bytes());
        bytes.extend_from_slice(key.as_bytes());
    }
    let checksum = crc32(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    Ok(fs::write(folder.join(format!("{:016x}.commit", revision.get())), bytes)?)
}

/// CRC-32 (IEEE), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

/// Every file below a folder, from there, with its length.
fn files_below(folder: &Path) -> Result<Vec<(PathBuf, usize)>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let len = usize::try_from(fs::metadata(&path)?.len())?;
                files.push((path.strip_prefix(folder)?.to_owned(), len));
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
