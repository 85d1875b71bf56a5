//! Crash prefixes: all writes to a disk are recorded, and the disk is rebuilt from
//! prefixes of the record.
//!
//! Unlike a cut by [`power`](crate::power), this covers what a disk may do: in every second
//! prefix, some of the writes since the last flush are missing.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::check::check;
use crate::engine::{Engine, Mode};
use crate::events;
use crate::model::Model;
use crate::report::{Fault, Findings, Outcome};
use crate::scratch::{self as disks, FileSystem, Scratch, missing};
use crate::worker::Worker;
use crate::workload::{Work, WorkArguments};

const DISK_BYTES: u64 = 64 << 20;

/// A recorded run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockLog {
    pub(crate) engine: Engine,
    /// The number of prefixes.
    pub(crate) prefixes: usize,
    /// The number of steps of each of four threads.
    pub(crate) steps: u64,
    pub(crate) seed: u64,
}

/// Why this machine cannot do it, if it cannot.
pub(crate) fn cannot(scratch: &Scratch) -> Option<String> {
    scratch
        .no_mounts()
        .or_else(|| missing(&["mkfs.ext4", "qemu-storage-daemon", "fusermount3", "setpriv"]))
        .or_else(|| {
            (!Path::new("/dev/fuse").exists()).then(|| "/dev/fuse does not exist".to_owned())
        })
}

impl BlockLog {
    /// Records a run, rebuilds the disk from each prefix, and checks the store.
    pub(crate) fn run(self, scratch: &Scratch) -> Result<Outcome> {
        let start = Instant::now();
        let base = scratch.path("base");
        File::create(&base)?.set_len(DISK_BYTES)?;
        disks::format(FileSystem::Ext4, &base)?;
        let record = scratch.path("record");
        let log = scratch.path("log");
        if log.exists() {
            fs::remove_file(&log)?;
        }
        self.work(scratch, &base, &record, &log)?;

        let events = events::read(&log)?;
        let entries = entries(&record)?;
        let mut trials = Trials {
            plan: self,
            scratch,
            record: File::open(&record)?,
            entries: &entries,
            disk: File::options().read(true).write(true).open(&base)?,
            applied: 0,
            random: fastrand::Rng::with_seed(self.seed),
        };
        let mut prefixes: Vec<usize> =
            (0..self.prefixes).map(|_| trials.random.usize(1..=entries.len())).collect();
        prefixes.sort_unstable();
        let mut findings = Findings::default();
        let (mut operations, mut writes) = (0, 0);
        for (number, len) in prefixes.into_iter().enumerate() {
            let shuffled = number % 2 == 1;
            trials.rebuild(len, shuffled)?;
            let until = entries.get(len - 1).map(|entry| entry.end);
            findings.context =
                format!("prefix {len}{}", if shuffled { ", some unflushed" } else { "" });
            let mut model = Model::new();
            let summary = model.replay(&events, until, &mut findings);
            operations += summary.acked_ops;
            writes += summary.acked_writes;
            trials.check(&mut model, &mut findings)?;
        }
        println!(
            "  {} on ext4: {} prefixes of {} disk writes and flushes, half of them without some of the unflushed writes; {operations} acknowledged operations with {writes} writes; {findings}; {:.0} s",
            self.engine,
            self.prefixes,
            entries.len(),
            start.elapsed().as_secs_f64(),
        );
        if operations == 0 {
            return Ok(findings.fail("no operation was acknowledged"));
        }
        if findings.total() == 0 {
            return Ok(Outcome::Passed);
        }
        Ok(findings.fail("writes must be on the disk when they are acknowledged"))
    }

    /// Works on a copy of the base disk, whose writes are recorded.
    fn work(&self, scratch: &Scratch, base: &Path, record: &Path, log: &Path) -> Result<()> {
        let disk = RecordedDisk::start(scratch, base, record)?;
        let arguments = WorkArguments {
            engine: self.engine,
            mode: Mode::Sync,
            store: disk.root.join("store"),
            log: log.to_owned(),
            seed: self.seed,
            run: 1,
            first_op: 1,
            threads: 4,
            work: Work::Steps(Some(self.steps)),
            position: Some(record.to_owned()),
            continues: false,
            ends: false,
        };
        let mut worker = Worker::start(&arguments)?;
        worker.wait_for("done")?;
        worker.kill()
    }
}

/// A mounted disk image whose writes are recorded.
#[derive(Debug)]
struct RecordedDisk {
    daemon: Child,
    root: PathBuf,
    mounted: bool,
}

impl RecordedDisk {
    fn start(scratch: &Scratch, base: &Path, record: &Path) -> Result<Self> {
        let image = scratch.path("recorded");
        fs::copy(base, &image)?;
        let exported = scratch.path("exported");
        for path in [record, &exported] {
            File::create(path)?;
        }
        let root = scratch.path("recorded-mount");
        fs::create_dir_all(&root)?;
        let node = |name: &str, path: &Path| {
            [
                "--blockdev".to_owned(),
                format!("driver=file,node-name={name}-file,filename={}", path.display()),
                "--blockdev".to_owned(),
                format!("driver=raw,node-name={name},file={name}-file"),
            ]
        };
        // It ends with this program.
        let daemon = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-storage-daemon"])
            .args(node("disk", &image))
            .args(node("record", record))
            .args(["--blockdev", "driver=blklogwrites,node-name=both,file=disk,log=record"])
            .arg("--export")
            .arg(format!(
                "type=fuse,id=both,node-name=both,mountpoint={},writable=on",
                exported.display()
            ))
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start qemu-storage-daemon")?;
        let mut disk = Self { daemon, root, mounted: false };
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::metadata(&exported)?.len() != DISK_BYTES {
            if disk.daemon.try_wait()?.is_some() {
                bail!("qemu-storage-daemon ended early");
            }
            if Instant::now() > deadline {
                bail!("qemu-storage-daemon does not export the disk");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        disks::mount_loop("loop", &exported, &disk.root)?;
        disk.mounted = true;
        Ok(disk)
    }
}

impl Drop for RecordedDisk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = disks::umount(&self.root);
        }
        // SIGTERM, so that it removes its export.
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
    }
}

/// A recorded request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    offset: u64,
    bytes: u64,
    flags: u64,
    /// The offset of its data in the record, and that of the next entry.
    data: u64,
    end: u64,
}

const FLUSH: u64 = 1;
const FORCE: u64 = 2;
const DISCARD: u64 = 4;

/// The first bytes of a record.
const MAGIC: u64 = 0x006a_7366_7773_6872;

/// Reads a record, which has the format of dm-log-writes.
fn entries(record: &Path) -> Result<Vec<Entry>> {
    let mut bytes = Vec::new();
    File::open(record)?.read_to_end(&mut bytes)?;
    parse(&bytes).context("cannot read the record of the disk's writes")
}

fn parse(bytes: &[u8]) -> Option<Vec<Entry>> {
    let number = |at: usize| -> Option<u64> {
        bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
    };
    if number(0)? != MAGIC || number(8)? != 1 {
        return None;
    }
    let sector = number(24)? & 0xffff_ffff;
    let mut entries = Vec::new();
    let mut at = sector;
    while at + sector <= bytes.len() as u64 {
        let field = |index: u64| number(usize::try_from(at + index * 8).ok()?);
        let (first, count, flags) = (field(0)?, field(1)?, field(2)?);
        // The rest is allocated but was never written.
        if count == 0 && flags == 0 {
            break;
        }
        let data = at + sector;
        let data_bytes = if flags & DISCARD == 0 { count * sector } else { 0 };
        let (offset, bytes) = (first * sector, count * sector);
        entries.push(Entry { offset, bytes, flags, data, end: data + data_bytes });
        at = data + data_bytes;
    }
    Some(entries)
}

/// Rebuilds the disk from one prefix after the other.
struct Trials<'a> {
    plan: BlockLog,
    scratch: &'a Scratch,
    record: File,
    entries: &'a [Entry],
    /// The disk up to the last flush of the last prefix.
    disk: File,
    applied: usize,
    random: fastrand::Rng,
}

impl Trials<'_> {
    /// Builds the image of a prefix, which is not shorter than the last one. With `shuffled`,
    /// only some of the writes since the last flush are in it.
    fn rebuild(&mut self, len: usize, shuffled: bool) -> Result<()> {
        let before = self.entries.get(..len).unwrap_or_default();
        let flushed = before.iter().rposition(|entry| entry.flags & FLUSH != 0).unwrap_or(0);
        while self.applied < flushed {
            if let Some(entry) = self.entries.get(self.applied) {
                apply(&self.record, entry, &self.disk)?;
            }
            self.applied += 1;
        }
        let image = self.scratch.path("trial");
        fs::copy(self.scratch.path("base"), &image)?;
        let image = File::options().write(true).open(&image)?;
        for entry in before.get(flushed..).unwrap_or_default() {
            if !shuffled || entry.flags & FORCE != 0 || self.random.bool() {
                apply(&self.record, entry, &image)?;
            }
        }
        Ok(())
    }

    /// Mounts the image and compares the store with the model.
    fn check(&mut self, model: &mut Model, findings: &mut Findings) -> Result<()> {
        let root = self.scratch.path("trial-mount");
        fs::create_dir_all(&root)?;
        disks::mount_loop("loop", &self.scratch.path("trial"), &root)?;
        match self.plan.engine.open(Mode::Sync, &root.join("store")) {
            Ok(storage) => {
                check(&*storage, model, &mut self.random, findings);
            }
            Err(error) => {
                findings.add(Fault::Unreadable, format!("cannot open the store: {error}"))
            }
        }
        disks::umount(&root)
    }
}

fn apply(record: &File, entry: &Entry, disk: &File) -> Result<()> {
    let mut bytes = vec![0; usize::try_from(entry.bytes)?];
    if entry.flags & DISCARD == 0 {
        record.read_exact_at(&mut bytes, entry.data)?;
    }
    Ok(disk.write_all_at(&bytes, entry.offset)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_parsed() {
        let mut bytes = vec![0; 512];
        let put = |bytes: &mut Vec<u8>, numbers: &[u64]| {
            let at = bytes.len();
            bytes.resize(at + 512, 0);
            for (index, number) in numbers.iter().enumerate() {
                bytes[at + index * 8..at + index * 8 + 8].copy_from_slice(&number.to_le_bytes());
            }
        };
        bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[8] = 1;
        bytes[25] = 2;
        put(&mut bytes, &[8, 2, 0, 0]);
        bytes.resize(bytes.len() + 1024, 7);
        put(&mut bytes, &[0, 0, FLUSH, 0]);
        put(&mut bytes, &[16, 4, DISCARD, 0]);
        let entry = |offset, bytes, flags, data, end| Entry { offset, bytes, flags, data, end };
        let expected = vec![
            entry(4096, 1024, 0, 1024, 2048),
            entry(0, 0, FLUSH, 2560, 2560),
            entry(8192, 2048, DISCARD, 3072, 3072),
        ];
        assert_eq!(parse(&bytes), Some(expected.clone()));
        bytes.resize(bytes.len() + 512, 0);
        assert_eq!(parse(&bytes), Some(expected));
        assert_eq!(parse(&bytes[8..]), None);
    }
}
