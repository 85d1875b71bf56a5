//! Damaged files: a read returns the right value or reports corruption. It never returns a
//! wrong value, and the process never dies.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use storage_backends::internals;
use storage_core::{Commit, Store};

use crate::content::content;
use crate::engine::{Engine, Mode};
use crate::probe::{self, Expected, ProbeArguments, Tally};
use crate::report::{Fault, Findings, Outcome};
use crate::scratch::{Scratch, copy_tree};

/// A series of damaged stores.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Corruption {
    pub(crate) engine: Engine,
    pub(crate) seed: u64,
    /// The number of random changes, if not every byte is tried.
    pub(crate) flips: u64,
    /// The step from byte to byte, if every byte is tried.
    pub(crate) every: usize,
}

/// A change to the files of a store.
#[derive(Debug, Clone)]
enum Damage {
    /// Changes these bits of a byte.
    Flip { file: PathBuf, at: usize, bits: u8 },
    /// Zeroes some bytes.
    Zero { file: PathBuf, at: usize, len: usize },
    /// Truncates a file.
    Cut { file: PathBuf, len: usize },
    /// Swaps two files.
    Swap { one: PathBuf, other: PathBuf },
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flip { file, at, bits } => {
                write!(f, "byte {at} of {} flipped by {bits:#04x}", file.display())
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
    /// Applies each damage to a copy of a store, and checks the copy.
    pub(crate) fn run(self, scratch: &Scratch) -> Result<Outcome> {
        let whole = scratch.fresh_directory("whole")?;
        let file = matches!(self.engine, Engine::File);
        let expected = if file { small_file_store(&whole)? } else { self.large_store(&whole)? };
        let expected_path = scratch.path("expected");
        fs::write(&expected_path, serde_json::to_vec(&expected)?)?;
        let damages = if file { self.every_damage(&whole)? } else { self.sample(&whole)? };
        let start = Instant::now();
        let mut findings = Findings::default();
        let mut tally = Tally::default();
        let directory = scratch.fresh_directory("damaged")?;
        let (mut harmless, count) = (0_u64, damages.len());
        for damage in &damages {
            fs::remove_dir_all(&directory)?;
            copy_tree(&whole, &directory)?;
            damage.apply(&directory)?;
            findings.context = damage.to_string();
            let store = directory.join("store");
            let one = if file {
                probe_here(self.engine, &store, &expected, &mut findings)
            } else {
                let arguments =
                    ProbeArguments { engine: self.engine, store, expected: expected_path.clone() };
                probe::in_another_process(&arguments, &mut findings)?
            };
            harmless += u64::from(one.refused == 0 && one.corrupt == 0);
            tally += one;
        }
        println!(
            "  {}: {count} kinds of damage to a store of {} keys: {} did not open, {} keys reported corrupt, {} values right; {harmless} had no effect on a value; {findings}; {:.0} s",
            self.engine,
            expected.keys.len(),
            tally.refused,
            tally.corrupt,
            tally.right,
            start.elapsed().as_secs_f64()
        );
        if tally.refused + tally.corrupt == 0 {
            return Ok(findings.fail("no damage was detected"));
        }
        if findings.total() > 0 {
            return Ok(findings.fail("damage must be reported, and affect nothing else"));
        }
        Ok(Outcome::Passed)
    }

    /// A store of a few hundred keys, opened several times, so that its data is not only where
    /// an engine puts new data.
    fn large_store(self, whole: &Path) -> Result<Expected> {
        let path = whole.join("store");
        let mut expected = Expected::default();
        for round in 0..3 {
            let storage = self.engine.open(Mode::Sync, &path)?;
            for number in 0..60 {
                let op = round * 1000 + number + 1;
                let key = format!("dur/damage/c{}/{round}-{}", number % 4, number / 2);
                let len = 1 << (number % 13);
                let revision = storage_core::put(&*storage, &key, content(&key, op, len).into())?;
                expected.keys.insert(key, (op, len));
                expected.largest_revision = revision.get();
            }
            storage.flush()?;
        }
        Ok(expected)
    }

    /// A flip of every byte, a cut to every length, and a swap of any two files.
    fn every_damage(self, whole: &Path) -> Result<Vec<Damage>> {
        let mut damages = Vec::new();
        let files = files_below(whole)?;
        let mut random = fastrand::Rng::with_seed(self.seed);
        for (file, len) in &files {
            for at in (0..*len).step_by(self.every) {
                let bits = 1 << random.u32(0..8);
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

    /// Random damage.
    fn sample(self, whole: &Path) -> Result<Vec<Damage>> {
        let files: Vec<(PathBuf, usize)> =
            files_below(whole)?.into_iter().filter(|(_, len)| *len > 0).collect();
        let total: usize = files.iter().map(|(_, len)| len).sum();
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut damages = Vec::new();
        for number in 0..self.flips {
            // Half of them by bytes, so that large files get more, and half by files.
            let mut at = random.usize(0..total);
            let mut chosen = random.choice(&files).context("the store has no files")?;
            if number % 2 == 0 {
                for candidate in &files {
                    if at < candidate.1 {
                        chosen = candidate;
                        break;
                    }
                    at -= candidate.1;
                }
            } else {
                at = random.usize(0..chosen.1);
            }
            let file = chosen.0.clone();
            damages.push(match random.u32(0..8) {
                0 => Damage::Zero { at, len: random.usize(1..=4096.min(chosen.1 - at)), file },
                1 => Damage::Cut { len: at, file },
                _ => Damage::Flip { at, bits: 1 << random.u32(0..8), file },
            });
        }
        Ok(damages)
    }
}

impl Damage {
    fn apply(&self, directory: &Path) -> Result<()> {
        let edit = |file: &Path, change: &dyn Fn(&mut Vec<u8>)| -> Result<()> {
            let path = directory.join(file);
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
                let (one, other) = (directory.join(one), directory.join(other));
                let bytes = fs::read(&one)?;
                fs::copy(&other, &one)?;
                Ok(fs::write(&other, bytes)?)
            }
        }
    }
}

/// Probes the store in this process, which survives a panic.
fn probe_here(engine: Engine, store: &Path, expected: &Expected, findings: &mut Findings) -> Tally {
    let mut wrong = Vec::new();
    let result =
        catch_unwind(AssertUnwindSafe(|| probe::probe(engine, store, expected, &mut wrong)));
    for what in wrong {
        findings.add(Fault::Contract, what);
    }
    result.unwrap_or_else(|_| {
        findings.add(Fault::Died, "a panic".to_owned());
        Tally::default()
    })
}

/// A file store with values of several lengths and a pending commit.
fn small_file_store(whole: &Path) -> Result<Expected> {
    let path = whole.join("store");
    let storage = Engine::File.open(Mode::Sync, &path)?;
    let mut expected = Expected::default();
    let long = format!("dur/damage/a/{}", "long".repeat(70));
    let keys = [("unscoped", 1), ("dur/damage/a/one", 0), ("dur/damage/a/two", 40), (&long, 30)];
    for (op, (key, len)) in (1..).zip(keys) {
        let revision = storage_core::put(&*storage, key, content(key, op, len).into())?;
        expected.keys.insert(key.to_owned(), (op, len));
        expected.largest_revision = revision.get();
    }
    leave_journal(&*storage, &path.join("journal"), &mut expected)?;
    Ok(expected)
}

/// Commits, and restores the journal file as a process killed during the commit leaves it.
fn leave_journal(storage: &dyn Store, directory: &Path, expected: &mut Expected) -> Result<()> {
    let keys = ["dur/damage/a/first", "dur/damage/b/second"];
    let commit = keys
        .iter()
        .fold(Commit::new(), |commit, key| commit.set(*key, content(key, 100, 50).into()));
    let revision = storage.commit(commit)?;
    for key in keys {
        expected.keys.insert(key.to_owned(), (100, 50));
    }
    expected.largest_revision = revision.get();
    let writes = keys.map(|key| (key.to_owned(), true));
    let file = directory.join(format!("{:016x}.commit", revision.get()));
    Ok(fs::write(file, internals::journal(revision, &writes))?)
}

/// The relative path and the length of every file below a directory.
fn files_below(directory: &Path) -> Result<Vec<(PathBuf, usize)>> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let len = usize::try_from(fs::metadata(&path)?.len())?;
                files.push((path.strip_prefix(directory)?.to_owned(), len));
            }
        }
    }
    files.sort();
    Ok(files)
}
