//! A full disk: existing data stays, errors name the reason, and writes resume once there is
//! space.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use storage_core::{Budget, Commit, StorageError, Store};

use crate::content::content;
use crate::engine::{Engine, Mode};
use crate::report::{Fault, Findings, Outcome};
use crate::scratch::{Scratch, mount, run, umount};

/// More writes than fit on any of the disks.
const FAR_TOO_MANY: u64 = 200_000;

#[derive(Debug, Clone, Copy)]
pub(crate) struct FullDisk {
    pub(crate) engine: Engine,
}

/// A small disk.
#[derive(Debug, Clone, Copy)]
struct SmallDisk {
    name: &'static str,
    /// Options of tmpfs.
    options: &'static str,
    /// Options that give it more space.
    more: &'static str,
    /// The lengths of the values that fill it, longest first.
    lens: &'static [usize],
}

impl FullDisk {
    fn disks(self) -> &'static [SmallDisk] {
        match self.engine {
            Engine::File => &[
                SmallDisk {
                    name: "1 MiB",
                    options: "size=1m",
                    more: "remount,size=4m",
                    lens: &[16 << 10, 100],
                },
                SmallDisk {
                    name: "100 files",
                    options: "size=16m,nr_inodes=100",
                    more: "remount,nr_inodes=400",
                    lens: &[100],
                },
            ],
            Engine::Redb => &[
                SmallDisk {
                    name: "4 MiB",
                    options: "size=4m",
                    more: "remount,size=64m",
                    lens: &[16 << 10, 100],
                },
                SmallDisk {
                    name: "3 MiB, small values",
                    options: "size=3m",
                    more: "remount,size=64m",
                    lens: &[300],
                },
            ],
            Engine::RocksDb => &[
                SmallDisk {
                    name: "8 MiB",
                    options: "size=8m",
                    more: "remount,size=128m",
                    lens: &[16 << 10, 100],
                },
                SmallDisk {
                    name: "4 MiB, small values",
                    options: "size=4m",
                    more: "remount,size=128m",
                    lens: &[300],
                },
            ],
            #[cfg(feature = "postgres")]
            Engine::Postgres => &[],
            #[cfg(feature = "redis")]
            Engine::Redis => &[],
        }
    }

    /// Fills each disk.
    pub(crate) fn run(self, scratch: &Scratch) -> Result<Outcome> {
        let mut outcome = Outcome::Passed;
        for disk in self.disks() {
            let start = Instant::now();
            let root = scratch.fresh_directory("full")?;
            let options = format!("{},mode=700", disk.options);
            mount(["-t", "tmpfs", "-o", options.as_str(), "tmpfs"], &root)?;
            let mut findings = Findings::default();
            disk.name.clone_into(&mut findings.context);
            let summary = self.fill(&root, disk, &mut findings);
            umount(&root)?;
            println!(
                "  {} on {}: {}; {findings}; {:.1} s",
                self.engine,
                disk.name,
                summary?,
                start.elapsed().as_secs_f64()
            );
            if findings.total() > 0 {
                outcome = findings.fail("a full disk may only refuse writes");
            }
        }
        Ok(outcome)
    }

    fn open(self, store: &Path) -> Result<Arc<dyn Store>, StorageError> {
        self.engine.open(Mode::Sync, store)
    }

    fn fill(self, root: &Path, disk: &SmallDisk, findings: &mut Findings) -> Result<String> {
        let store = root.join("store");
        let mut filled = Filled {
            open: Some(self.open(&store)?),
            kept: BTreeMap::new(),
            op: 0,
            indeterminate: Vec::new(),
        };
        for number in 0..20 {
            filled.set(&format!("dur/full/a/old-{number}"), 1000)?;
        }
        let before = filled.certain();
        let mut errors = 0;
        for len in disk.lens {
            errors += filled.fill_up(*len, findings)?;
        }
        let written = filled.certain() - before;

        filled.check("on the full disk", false, findings);
        let refused = filled.refusals(findings);
        filled.check("after refused writes", false, findings);
        let deletes = self.deletes(&mut filled, findings)?;
        filled.check("after deletes", false, findings);

        run(std::process::Command::new("mount").args(["-o", disk.more]).arg(root))?;
        let resumed = self.resume(&mut filled, &store, findings)?;
        filled.check("with space again", false, findings);
        filled.reopen(|| self.open(&store))?;
        filled.check("after a reopen", true, findings);
        let indeterminate = filled.indeterminate.iter().max().copied().unwrap_or(0);
        self.open_without_space(root, disk, filled, findings)?;
        Ok(format!(
            "{written} writes until {errors} were refused, {refused} others refused, {deletes}, at most {indeterminate} keys indeterminate, writes resumed {resumed}"
        ))
    }

    /// Deletes on the full disk. They must succeed in a file store. Engines that write in
    /// order to delete may report a full disk.
    fn deletes(self, filled: &mut Filled, findings: &mut Findings) -> Result<String> {
        let keys: Vec<String> = filled.kept.keys().step_by(3).cloned().collect();
        let (mut done, mut refused) = (0, 0);
        for key in keys {
            match filled.delete(&key) {
                Ok(()) => done += 1,
                Err(error) => {
                    refused += 1;
                    if matches!(self.engine, Engine::File) || !says_full(&error) {
                        findings.add(Fault::Contract, format!("the delete of {key}: {error}"));
                    }
                }
            }
        }
        if matches!(self.engine, Engine::File) {
            // The space that they freed is used.
            for number in 0..3 {
                let key = format!("dur/full/a/freed-{number}");
                if let Err(error) = filled.set(&key, 100) {
                    findings.add(Fault::Contract, format!("a write into freed space: {error}"));
                }
            }
        }
        Ok(format!("{done} deletes done, {refused} refused"))
    }

    /// Writes once there is space, at the latest after a reopen.
    fn resume(
        self,
        filled: &mut Filled,
        store: &Path,
        findings: &mut Findings,
    ) -> Result<&'static str> {
        let resume = |filled: &mut Filled| -> Result<(), StorageError> {
            filled.set("dur/full/a/resumed", 20_000)?;
            filled.set("dur/full/a/old-1", 2000)?;
            filled.delete("dur/full/a/old-2")?;
            let keys: Vec<String> = (0..10).map(|n| format!("dur/full/b/commit-{n}")).collect();
            filled.commit(&keys, 300)
        };
        let Err(first) = resume(filled) else { return Ok("at once") };
        if matches!(self.engine, Engine::File) {
            findings.add(Fault::Contract, format!("with space again: {first}"));
        }
        filled.reopen(|| self.open(store))?;
        if let Err(error) = resume(filled) {
            findings.add(Fault::Contract, format!("with space again, after a reopen: {error}"));
        }
        Ok("after a reopen")
    }

    /// Opens the store on a disk without any space, and once there is space again.
    fn open_without_space(
        self,
        root: &Path,
        disk: &SmallDisk,
        mut filled: Filled,
        findings: &mut Findings,
    ) -> Result<()> {
        let store = root.join("store");
        filled.open = None;
        let ballast = root.join("ballast");
        let full = fill_with_zeros(&ballast);
        match self.open(&store) {
            Ok(storage) => {
                filled.open = Some(storage);
                filled.check("opened on a full disk", true, findings);
                filled.open = None;
            }
            Err(error) if says_full(&error) => {}
            Err(error) => {
                findings.add(Fault::Contract, format!("opened on a full disk: {error}"));
            }
        }
        let new = root.join("another");
        if let Err(error) = self.open(&new)
            && !says_full(&error)
        {
            findings.add(Fault::Contract, format!("a new store on a full disk: {error}"));
        }
        if full {
            std::fs::remove_file(&ballast)?;
        }
        filled.open = match self.open(&store) {
            Ok(storage) => Some(storage),
            Err(error) => {
                findings.add(Fault::Unreadable, format!("{}: {error}", disk.name));
                return Ok(());
            }
        };
        filled.check("opened with space", true, findings);
        if let Err(error) = self.open(&new).and_then(|other| other.set("a", "b".into())) {
            findings.add(Fault::Contract, format!("a new store with space again: {error}"));
        }
        Ok(())
    }
}

/// A store and its expected content.
struct Filled {
    /// `None` while the store is closed.
    open: Option<Arc<dyn Store>>,
    /// The possible values of each key, oldest first: several after failed writes.
    kept: BTreeMap<String, Vec<Kept>>,
    op: u64,
    /// The number of indeterminate keys that could not be read, for each check.
    indeterminate: Vec<usize>,
}

/// The operation and the length of a value; `None` if there is none.
type Kept = Option<(u64, usize)>;

impl Filled {
    fn storage(&self) -> Result<&dyn Store, StorageError> {
        self.open
            .as_deref()
            .ok_or_else(|| StorageError::Unsupported("the store is closed".to_owned()))
    }

    /// Closes the store and opens it again.
    fn reopen(
        &mut self,
        open: impl FnOnce() -> Result<Arc<dyn Store>, StorageError>,
    ) -> Result<(), StorageError> {
        self.open = None;
        self.open = Some(open()?);
        Ok(())
    }

    fn set(&mut self, key: &str, len: usize) -> Result<(), StorageError> {
        self.op += 1;
        let result = self.storage()?.set(key, content(key, self.op, len).into());
        self.wrote(key, Some((self.op, len)), result)
    }

    fn delete(&mut self, key: &str) -> Result<(), StorageError> {
        let result = self.storage()?.delete(key);
        self.wrote(key, None, result)
    }

    fn commit(&mut self, keys: &[String], len: usize) -> Result<(), StorageError> {
        self.op += 1;
        let budget = Budget { max_bytes: 1 << 40, max_keys: 1 << 30 };
        let commit = keys.iter().fold(Commit::new().with_budget(budget), |commit, key| {
            commit.set(key.as_str(), content(key, self.op, len).into())
        });
        let result = self.storage()?.commit(commit).map(drop);
        let wrote = Some((self.op, len));
        keys.iter().fold(result, |result, key| self.wrote(key, wrote, result))
    }

    /// Records a write that happened, or may have happened.
    fn wrote(
        &mut self,
        key: &str,
        kept: Kept,
        result: Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let possible = self.kept.entry(key.to_owned()).or_insert_with(|| vec![None]);
        if result.is_ok() {
            possible.clear();
        }
        possible.push(kept);
        result
    }

    /// How many keys certainly have a value.
    fn certain(&self) -> usize {
        self.kept.values().filter(|possible| matches!(possible.as_slice(), [Some(_)])).count()
    }

    /// Writes values of a length until several are refused.
    fn fill_up(&mut self, len: usize, findings: &mut Findings) -> Result<u64> {
        let mut errors = 0;
        for number in 0..FAR_TOO_MANY {
            let key = format!("dur/full/c{}/{len}-{number}", number % 3);
            let Err(error) = self.set(&key, len) else { continue };
            errors += 1;
            if !says_full(&error) {
                findings.add(Fault::Contract, format!("a write to the full disk: {error}"));
            }
            if errors == 5 {
                return Ok(errors);
            }
        }
        bail!("the disk does not become full")
    }

    /// Overwrites and commits that need more space than there is.
    fn refusals(&mut self, findings: &mut Findings) -> u64 {
        let mut refused = 0;
        for number in 0..5 {
            let key = format!("dur/full/a/old-{number}");
            if let Err(error) = self.set(&key, 60_000) {
                refused += 1;
                if !says_full(&error) {
                    findings
                        .add(Fault::Contract, format!("an overwrite on the full disk: {error}"));
                }
            }
        }
        let keys: Vec<String> = (0..10).map(|n| format!("dur/full/a/old-{}", n + 5)).collect();
        if let Err(error) = self.commit(&keys, 60_000) {
            refused += 1;
            if !says_full(&error) {
                findings.add(Fault::Contract, format!("a commit on the full disk: {error}"));
            }
        }
        refused
    }

    /// Compares all keys. Once an indeterminate key was read, its value must stay the same.
    /// Reading it may fail, unless the store was opened since.
    fn check(&mut self, when: &str, opened_since: bool, findings: &mut Findings) {
        let Some(storage) = self.open.as_deref() else { return };
        let mut expected = Vec::new();
        let mut unreadable = Vec::new();
        for (key, possible) in &mut self.kept {
            match storage.get(key) {
                Ok(found) => {
                    let found = found.as_ref().map(AsRef::as_ref);
                    let is = |kept: &&Kept| match (kept, found) {
                        (Some((op, len)), Some(value)) => content(key, *op, *len) == value,
                        (None, None) => true,
                        _ => false,
                    };
                    let Some(kept) = possible.iter().rev().find(is).copied() else {
                        let len = found.map(<[u8]>::len);
                        findings.add(
                            Fault::Lost,
                            format!("{when}: {key} has {len:?} bytes instead of {possible:?}"),
                        );
                        continue;
                    };
                    *possible = vec![kept];
                    expected.extend(kept.map(|_| key.clone()));
                }
                Err(StorageError::Unavailable { .. }) if possible.len() > 1 && !opened_since => {
                    unreadable.push(key.clone());
                }
                Err(error) => findings.add(Fault::Unreadable, format!("{when}: {key}: {error}")),
            }
        }
        match storage.list_keys(None) {
            Ok(mut listed) => {
                listed.retain(|key| !unreadable.contains(key));
                if listed != expected {
                    findings.add(
                        Fault::Listing,
                        format!(
                            "{when}: {} keys are listed, {} exist",
                            listed.len(),
                            expected.len()
                        ),
                    );
                }
            }
            Err(error) => findings.add(Fault::Unreadable, format!("{when}: {error}")),
        }
        self.indeterminate.push(unreadable.len());
    }
}

/// Whether an error says that the disk is full.
fn says_full(error: &StorageError) -> bool {
    let text = error.to_string().to_lowercase();
    matches!(error, StorageError::IoError(_) | StorageError::Unavailable { .. })
        && ["no space left", "disk is full", "disk full"].iter().any(|words| text.contains(words))
}

/// Fills the disk with a file; false if the file cannot be created.
fn fill_with_zeros(path: &Path) -> bool {
    let Ok(mut file) = std::fs::File::create(path) else { return false };
    for len in [1 << 16, 1 << 12, 1] {
        while std::io::Write::write_all(&mut file, &vec![0; len]).is_ok() {}
    }
    true
}
