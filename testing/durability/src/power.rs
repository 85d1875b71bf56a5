//! Power cuts and kills, with synced writes and, as a control, with relaxed ones.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fastrand::Rng;

use crate::engine::{Engine, Mode};
use crate::report::{Fault, Outcome};
use crate::scratch::{Disk, FileSystem, PowerSwitch, Scratch, missing};
use crate::trial::{Expected, Series, Target};
use crate::worker::Worker;

/// A series of power cuts or kills.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PowerCuts<'a> {
    pub(crate) engine: Engine,
    pub(crate) mode: Mode,
    pub(crate) cuts: u64,
    pub(crate) seed: u64,
    /// Kill only the process.
    pub(crate) kill: bool,
    /// Where to keep the logs of rounds with a finding.
    pub(crate) keep: Option<&'a Path>,
}

/// Why this machine cannot do it, if it cannot.
pub(crate) fn cannot(scratch: &Scratch) -> Option<String> {
    scratch.no_mounts().or_else(|| missing(&["mkfs.ext4", "mkfs.xfs", "xfs_io"]))
}

impl PowerCuts<'_> {
    /// Runs on one file system.
    pub(crate) fn run(self, scratch: &Scratch, file_system: FileSystem) -> Result<Outcome> {
        let Self { engine, mode, seed, keep, kill, cuts } = self;
        let unit = if kill { "kills" } else { "cuts" };
        let series =
            Series { engine, mode, rounds: cuts, seed, unit, expected: self.expected(), keep };
        let disk = Disk::create(scratch, file_system)?;
        series.run(scratch, &mut StoreOnDisk { scratch, file_system, disk, kill, switch: None })
    }

    fn expected(self) -> Expected {
        let survives = match self.mode {
            Mode::Sync => true,
            Mode::Relaxed => self.kill && self.engine.relaxed_survives_kills(),
        };
        let allowed: &[Fault] = if self.engine.relaxed_may_tear() {
            &[Fault::Lost, Fault::Partial, Fault::Corrupt]
        } else {
            &[Fault::Lost]
        };
        match survives {
            true => Expected::Survival,
            false if self.kill => Expected::Only(allowed),
            false => Expected::Loss(allowed),
        }
    }
}

/// A store on a file system of its own.
struct StoreOnDisk<'a> {
    scratch: &'a Scratch,
    file_system: FileSystem,
    disk: Disk,
    kill: bool,
    switch: Option<PowerSwitch>,
}

impl Target for StoreOnDisk<'_> {
    fn name(&self) -> String {
        self.file_system.name().to_owned()
    }

    fn rounds_per_store(&self) -> u64 {
        40
    }

    fn start_over(&mut self) -> Result<()> {
        self.disk.umount()?;
        self.disk = Disk::create(self.scratch, self.file_system)?;
        Ok(())
    }

    fn store(&self) -> PathBuf {
        self.disk.root.join("store")
    }

    fn prepare(&mut self) -> Result<()> {
        self.switch = if self.kill { None } else { Some(self.disk.switch()?) };
        Ok(())
    }

    fn disturb(&mut self, worker: Worker, log: &Path, _: &mut Rng) -> Result<()> {
        if self.kill {
            return worker.kill();
        }
        self.switch.take().context("the power cut was not prepared")?.cut(log)?;
        worker.kill()?;
        self.disk.umount()?;
        self.disk.mount()
    }
}
