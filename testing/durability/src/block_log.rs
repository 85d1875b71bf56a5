//! Crash prefixes: every write that reached a disk is recorded, and the disk is
//! rebuilt as it was at many moments of that record.
//!
//! Unlike a power cut by [`power`](crate::power) this also shows a store what a
//! disk may do to it: at every second moment, only some of the writes since the
//! disk was last told to flush are there.

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
use crate::place::{self, FileSystem, Place, missing};
use crate::power::Worker;
use crate::random::Random;
use crate::report::{Fault, Findings, Outcome};
use crate::workload::WorkArguments;

const DISK_BYTES: u64 = 64 << 20;

/// How a run is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockLog {
    pub(crate) engine: Engine,
    /// How many moments of the record are tried.
    pub(crate) prefixes: usize,
    /// How many steps each of four threads takes.
    pub(crate) steps: u64,
    pub(crate) seed: u64,
}

/// Why it cannot be done here.
pub(crate) fn cannot(place: &Place) -> Option<String> {
    place
        .no_mounts()
        .or_else(|| missing(&["mkfs.ext4", "qemu-storage-daemon", "fusermount3", "setpriv"]))
        .or_else(|| (!Path::new("/dev/fuse").exists()).then(|| "there is no /dev/fuse".to_owned()))
}

impl BlockLog {
    /// Records a run, rebuilds the disk at each moment, and looks at the store.
    pub(crate) fn run(self, place: &Place) -> Result<Outcome> {
        let start = Instant::now();
        let base = place.path("base");
        File::create(&base)?.set_len(DISK_BYTES)?;
        place::format(FileSystem::Ext4, &base)?;
        let record = place.path("record");
        let log = place.path("log");
        if log.exists() {
            fs::remove_file(&log)?;
        }
        self.work(place, &base, &record, &log)?;

        let events = events::read(&log)?;
        let entries = entries(&record)?;
        let mut trials = Trials {
            plan: self,
            place,
            record: File::open(&record)?,
            entries: &entries,
            disk: File::options().read(true).write(true).open(&base)?,
            applied: 0,
            random: Random::new(self.seed),
        };
        let mut moments: Vec<usize> =
            (0..self.prefixes).map(|_| 1 + trials.random.index(entries.len())).collect();
        moments.sort_unstable();
        let mut findings = Findings::default();
        let (mut operations, mut writes) = (0, 0);
        for (number, moment) in moments.into_iter().enumerate() {
            let shuffled = number % 2 == 1;
            trials.rebuild(moment, shuffled)?;
            let until = entries.get(moment - 1).map(|entry| entry.end);
            findings.place =
                format!("prefix {moment}{}", if shuffled { ", some unflushed" } else { "" });
            let mut model = Model::new();
            let told = model.replay(&events, until, &mut findings);
            operations += told.acked_ops;
            writes += told.acked_writes;
            trials.look(&mut model, &mut findings)?;
        }
        println!(
            "  {} on ext4: {} prefixes of {} disk writes and flushes, half of them without some unflushed writes; {operations} acknowledged operations with {writes} writes looked for; {findings}; {:.0} s",
            self.engine,
            self.prefixes,
            entries.len(),
            start.elapsed().as_secs_f64(),
        );
        if operations == 0 {
            println!("    FAILED: VOID: nothing was acknowledged");
            return Ok(Outcome::Failed);
        }
        if findings.total() == 0 {
            return Ok(Outcome::Passed);
        }
        findings.texts().iter().for_each(|text| println!("    {text}"));
        println!("    FAILED: durable writes must be on the disk when they are acknowledged");
        Ok(Outcome::Failed)
    }

    /// Works on a copy of the base disk while every write to it is recorded.
    fn work(&self, place: &Place, base: &Path, record: &Path, log: &Path) -> Result<()> {
        let disk = RecordedDisk::start(place, base, record)?;
        let arguments = WorkArguments {
            engine: self.engine,
            mode: Mode::Sync,
            store: disk.root.join("store"),
            log: log.to_owned(),
            seed: self.seed,
            run: 1,
            first_op: 1,
            threads: 4,
            steps: Some(self.steps),
            one: None,
            touch: None,
            delete: false,
            position: Some(record.to_owned()),
            go_on: false,
            end: false,
            last_commit: false,
        };
        let mut worker = Worker::start(&arguments)?;
        worker.wait_for("done")?;
        worker.kill()
    }
}

/// A disk image whose writes are recorded, with a file system on it, mounted.
#[derive(Debug)]
struct RecordedDisk {
    daemon: Child,
    root: PathBuf,
    mounted: bool,
}

impl RecordedDisk {
    fn start(place: &Place, base: &Path, record: &Path) -> Result<Self> {
        let image = place.path("recorded");
        fs::copy(base, &image)?;
        let exported = place.path("exported");
        for path in [record, &exported] {
            File::create(path)?;
        }
        let root = place.path("recorded-mount");
        fs::create_dir_all(&root)?;
        let node = |name: &str, path: &Path| {
            [
                "--blockdev".to_owned(),
                format!("driver=file,node-name={name}-file,filename={}", path.display()),
                "--blockdev".to_owned(),
                format!("driver=raw,node-name={name},file={name}-file"),
            ]
        };
        // It dies with this program.
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
                bail!("qemu-storage-daemon ended at once");
            }
            if Instant::now() > deadline {
                bail!("qemu-storage-daemon exports nothing");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        place::mount_loop("loop", &exported, &disk.root)?;
        disk.mounted = true;
        Ok(disk)
    }
}

impl Drop for RecordedDisk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = place::umount(&self.root);
        }
        // Only asked politely does it end its export.
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
    /// Where its data is in the record, and where the record goes on.
    data: u64,
    end: u64,
}

const FLUSH: u64 = 1;
const FORCE: u64 = 2;
const DISCARD: u64 = 4;

/// What begins a record.
const MAGIC: u64 = 0x006a_7366_7773_6872;

/// Reads what a record holds; the format is that of the kernel's dm-log-writes.
fn entries(record: &Path) -> Result<Vec<Entry>> {
    let mut bytes = Vec::new();
    File::open(record)?.read_to_end(&mut bytes)?;
    parse(&bytes).context("the record of the disk's writes cannot be read")
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
        // What is allocated at the end and was never written.
        if count == 0 && flags == 0 {
            break;
        }
        let data = at + sector;
        let held = if flags & DISCARD == 0 { count * sector } else { 0 };
        let (offset, bytes) = (first * sector, count * sector);
        entries.push(Entry { offset, bytes, flags, data, end: data + held });
        at = data + held;
    }
    Some(entries)
}

/// The disk, rebuilt moment by moment.
struct Trials<'a> {
    plan: BlockLog,
    place: &'a Place,
    record: File,
    entries: &'a [Entry],
    /// The disk up to the last flush before the last moment.
    disk: File,
    applied: usize,
    random: Random,
}

impl Trials<'_> {
    /// Makes the image of a moment, which is not before the last one. `shuffled`:
    /// of the writes since the last flush, only some are there.
    fn rebuild(&mut self, moment: usize, shuffled: bool) -> Result<()> {
        let before = self.entries.get(..moment).unwrap_or_default();
        let flushed = before.iter().rposition(|entry| entry.flags & FLUSH != 0).unwrap_or(0);
        while self.applied < flushed {
            if let Some(entry) = self.entries.get(self.applied) {
                apply(&self.record, entry, &self.disk)?;
            }
            self.applied += 1;
        }
        let image = self.place.path("trial");
        fs::copy(self.place.path("base"), &image)?;
        let image = File::options().write(true).open(&image)?;
        for entry in before.get(flushed..).unwrap_or_default() {
            if !shuffled || entry.flags & FORCE != 0 || self.random.chance(50) {
                apply(&self.record, entry, &image)?;
            }
        }
        Ok(())
    }

    /// Mounts the image and compares.
    fn look(&mut self, model: &mut Model, findings: &mut Findings) -> Result<()> {
        let root = self.place.path("trial-mount");
        fs::create_dir_all(&root)?;
        place::mount_loop("loop", &self.place.path("trial"), &root)?;
        match self.plan.engine.open(Mode::Sync, &root.join("store")) {
            Ok(storage) => {
                check(&*storage, model, &mut self.random, findings);
            }
            Err(error) => findings.add(Fault::Unreadable, format!("it does not open: {error}")),
        }
        place::umount(&root)
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
    fn a_record_is_read() {
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
