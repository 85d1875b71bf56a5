//! A disk that is full: what is there stays, errors say why, and once there is
//! room writes go on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use storage_core::{Budget, Commit, StorageError, Store};

use crate::content::content;
use crate::engine::{Engine, Mode};
use crate::place::{Place, mount, run, umount};
use crate::report::{Fault, Findings, Outcome};

/// More writes than fit on any of the disks here.
const FAR_TOO_MANY: u64 = 200_000;

/// How a run is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FullDisk {
    pub(crate) engine: Engine,
}

/// A disk of so much room.
#[derive(Debug, Clone, Copy)]
struct Room {
    name: &'static str,
    /// Options of tmpfs.
    options: &'static str,
    /// The same with more of it.
    more: &'static str,
    /// The length of the values that fill it, longest first.
    lens: &'static [usize],
}

impl FullDisk {
    fn rooms(self) -> &'static [Room] {
        match self.engine {
            Engine::File => &[
                Room {
                    name: "1 MiB",
                    options: "size=1m",
                    more: "remount,size=4m",
                    lens: &[16 << 10, 100],
                },
                Room {
                    name: "100 files",
                    options: "size=16m,nr_inodes=100",
                    more: "remount,nr_inodes=400",
                    lens: &[100],
                },
            ],
            #[cfg(feature = "redb")]
            Engine::Redb => &[
                Room {
                    name: "4 MiB",
                    options: "size=4m",
                    more: "remount,size=64m",
                    lens: &[16 << 10, 100],
                },
                Room {
                    name: "3 MiB, small values",
                    options: "size=3m",
                    more: "remount,size=64m",
                    lens: &[300],
                },
            ],
            #[cfg(feature = "rocksdb")]
            Engine::RocksDb => &[
                Room {
                    name: "8 MiB",
                    options: "size=8m",
                    more: "remount,size=128m",
                    lens: &[16 << 10, 100],
                },
                Room {
                    name: "4 MiB, small values",
                    options: "size=4m",
                    more: "remount,size=128m",
                    lens: &[300],
                },
            ],
        }
    }

    /// Fills each disk.
    pub(crate) fn run(self, place: &Place) -> Result<Outcome> {
        let mut outcome = Outcome::Passed;
        for room in self.rooms() {
            let start = Instant::now();
            let root = place.fresh_folder("full")?;
            let options = format!("{},mode=700", room.options);
            mount(["-t", "tmpfs", "-o", options.as_str(), "tmpfs"], &root)?;
            let mut findings = Findings::default();
            room.name.clone_into(&mut findings.place);
            let told = self.fill(&root, room, &mut findings);
            umount(&root)?;
            println!(
                "  {} on {}: {}; {findings}; {:.1} s",
                self.engine,
                room.name,
                told?,
                start.elapsed().as_secs_f64()
            );
            if findings.total() > 0 {
                findings.texts().iter().for_each(|text| println!("    {text}"));
                println!("    FAILED: a full disk may refuse writes, no more");
                outcome = Outcome::Failed;
            }
        }
        Ok(outcome)
    }

    fn open(self, store: &Path) -> Result<Arc<dyn Store>, StorageError> {
        self.engine.open(Mode::Sync, store)
    }

    fn fill(self, root: &Path, room: &Room, findings: &mut Findings) -> Result<String> {
        let store = root.join("store");
        let mut filled = Filled {
            open: Some(self.open(&store)?),
            kept: BTreeMap::new(),
            op: 0,
            doubts: Vec::new(),
        };
        for number in 0..20 {
            filled.set(&format!("dur/full/a/old-{number}"), 1000)?;
        }
        let before = filled.certain();
        let mut errors = 0;
        for len in room.lens {
            errors += filled.fill_up(*len, findings)?;
        }
        let written = filled.certain() - before;

        filled.look("on the full disk", false, findings);
        // An overwrite and a commit that find no room.
        let refused = filled.refusals(findings);
        filled.look("after writes that were refused", false, findings);
        let deletes = self.deletes(&mut filled, findings)?;
        filled.look("after deletes", false, findings);

        run(std::process::Command::new("mount").args(["-o", room.more]).arg(root))?;
        let resumed = self.resume(&mut filled, &store, findings)?;
        filled.look("once there is room", false, findings);
        filled.reopen(|| self.open(&store))?;
        filled.look("after a reopen", true, findings);
        let doubts = filled.doubts.iter().max().copied().unwrap_or(0);
        self.open_without_room(root, room, filled, findings)?;
        Ok(format!(
            "{written} writes until {errors} found it full, {refused} others were refused, {deletes}, {doubts} keys in doubt until the reopen, with room writes went on {resumed}"
        ))
    }

    /// Deletes on the full disk: files must do them, engines that write to
    /// delete may say that the disk is full.
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
            // What they freed is room for others.
            for number in 0..3 {
                let key = format!("dur/full/a/freed-{number}");
                if let Err(error) = filled.set(&key, 100) {
                    findings.add(Fault::Contract, format!("a write in freed room: {error}"));
                }
            }
        }
        Ok(format!("{done} deletes done and {refused} refused"))
    }

    /// Writes once there is room, after a reopen at most.
    fn resume(
        self,
        filled: &mut Filled,
        store: &Path,
        findings: &mut Findings,
    ) -> Result<&'static str> {
        let go_on = |filled: &mut Filled| -> Result<(), StorageError> {
            filled.set("dur/full/a/resumed", 20_000)?;
            filled.set("dur/full/a/old-1", 2000)?;
            filled.delete("dur/full/a/old-2")?;
            let keys: Vec<String> = (0..10).map(|n| format!("dur/full/b/commit-{n}")).collect();
            filled.commit(&keys, 300)
        };
        let Err(first) = go_on(filled) else { return Ok("at once") };
        if matches!(self.engine, Engine::File) {
            findings.add(Fault::Contract, format!("with room again: {first}"));
        }
        filled.reopen(|| self.open(store))?;
        if let Err(error) = go_on(filled) {
            findings.add(Fault::Contract, format!("with room again, after a reopen: {error}"));
        }
        Ok("after a reopen")
    }

    /// A store that is closed, opened where there is no room at all, and again
    /// where there is.
    fn open_without_room(
        self,
        root: &Path,
        room: &Room,
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
                filled.look("opened on a full disk", true, findings);
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
                findings.add(Fault::Unreadable, format!("{}: {error}", room.name));
                return Ok(());
            }
        };
        filled.look("opened with room", true, findings);
        if let Err(error) = self.open(&new).and_then(|other| other.set("a", "b".into())) {
            findings.add(Fault::Contract, format!("a new store once there is room: {error}"));
        }
        Ok(())
    }
}

/// A store and what must be in it.
struct Filled {
    /// `None` while it is closed.
    open: Option<Arc<dyn Store>>,
    /// What each key may have, oldest first: one thing, or after writes that
    /// failed several.
    kept: BTreeMap<String, Vec<Kept>>,
    op: u64,
    /// Keys that were refused to readers, being in doubt, by look.
    doubts: Vec<usize>,
}

/// The operation and the length of a value; `None` for none.
type Kept = Option<(u64, usize)>;

impl Filled {
    fn storage(&self) -> Result<&dyn Store, StorageError> {
        self.open.as_deref().ok_or_else(|| StorageError::Unsupported("it is closed".to_owned()))
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

    /// Remembers a write that was done, or may have been.
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

    /// Writes values of a length until several find no room.
    fn fill_up(&mut self, len: usize, findings: &mut Findings) -> Result<u64> {
        let mut errors = 0;
        for number in 0..FAR_TOO_MANY {
            let key = format!("dur/full/c{}/{len}-{number}", number % 3);
            let Err(error) = self.set(&key, len) else { continue };
            errors += 1;
            if !says_full(&error) {
                findings.add(Fault::Contract, format!("a write that found no room: {error}"));
            }
            if errors == 5 {
                return Ok(errors);
            }
        }
        bail!("the disk does not get full")
    }

    /// Overwrites and commits that need more room than there is.
    fn refusals(&mut self, findings: &mut Findings) -> u64 {
        let mut refused = 0;
        for number in 0..5 {
            let key = format!("dur/full/a/old-{number}");
            if let Err(error) = self.set(&key, 60_000) {
                refused += 1;
                if !says_full(&error) {
                    findings.add(Fault::Contract, format!("an overwrite without room: {error}"));
                }
            }
        }
        let keys: Vec<String> = (0..10).map(|n| format!("dur/full/a/old-{}", n + 5)).collect();
        if let Err(error) = self.commit(&keys, 60_000) {
            refused += 1;
            if !says_full(&error) {
                findings.add(Fault::Contract, format!("a commit without room: {error}"));
            }
        }
        refused
    }

    /// Compares everything. What a key in doubt shows now it must go on to show;
    /// it may be refused, but not by a store that was opened since.
    fn look(&mut self, when: &str, opened_since: bool, findings: &mut Findings) {
        let Some(storage) = self.open.as_deref() else { return };
        let mut expected = Vec::new();
        let mut doubts = Vec::new();
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
                    doubts.push(key.clone());
                }
                Err(error) => findings.add(Fault::Unreadable, format!("{when}: {key}: {error}")),
            }
        }
        match storage.list_keys(None) {
            Ok(mut listed) => {
                listed.retain(|key| !doubts.contains(key));
                if listed != expected {
                    findings.add(
                        Fault::Listing,
                        format!(
                            "{when}: {} keys are listed, {} are there",
                            listed.len(),
                            expected.len()
                        ),
                    );
                }
            }
            Err(error) => findings.add(Fault::Unreadable, format!("{when}: {error}")),
        }
        self.doubts.push(doubts.len());
    }
}

/// Whether an error tells a person that the disk is full.
fn says_full(error: &StorageError) -> bool {
    let text = error.to_string().to_lowercase();
    matches!(error, StorageError::IoError(_) | StorageError::Unavailable { .. })
        && ["no space left", "disk is full", "disk full"].iter().any(|words| text.contains(words))
}

/// Fills what room there is with a file; false if that cannot even be made.
fn fill_with_zeros(path: &Path) -> bool {
    let Ok(mut file) = std::fs::File::create(path) else { return false };
    for len in [1 << 16, 1 << 12, 1] {
        while std::io::Write::write_all(&mut file, &vec![0; len]).is_ok() {}
    }
    true
}
