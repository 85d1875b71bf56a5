//! The scratch directory of the suite, and file systems in it.
//!
//! As root the program runs in its own mount namespace, and the directory is a tmpfs.
//! However the program ends, the kernel then removes its mounts, loop devices and images.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::events::{Event, Log};

/// How often a mount is tried, every 20 ms.
const MOUNT_TRIES: u32 = 100;

/// How often a disk is unmounted until the last process of a server has ended, every 20 ms.
#[cfg(any(feature = "postgres", feature = "redis"))]
const UMOUNT_TRIES: u32 = 200;

/// Set in the environment of a program that is in its own namespace.
const MARK: &str = "DURABILITY_OWN_MOUNTS";

/// The directory of a run.
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: TempDir,
    tmpfs: bool,
}

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("durability-").tempdir()?;
        let tmpfs = std::env::var_os(MARK).is_some();
        if tmpfs {
            // Servers run as another user, who must reach their directories.
            mount(["-t", "tmpfs", "-o", "size=75%,mode=711", "tmpfs"], directory.path())?;
        }
        Ok(Self { directory, tmpfs })
    }

    /// Why no file system can be mounted, if none can.
    pub(crate) fn no_mounts(&self) -> Option<String> {
        (!self.tmpfs).then(|| "mounting needs root on Linux, and `unshare`".to_owned())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Creates an empty directory, and removes an earlier one of this name.
    pub(crate) fn fresh_directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        if path.exists() {
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.tmpfs {
            let _ = umount(self.directory.path());
        }
    }
}

/// Restarts this program in its own mount namespace. Returns if it is in one, or if that
/// is not possible.
pub(crate) fn enter_own_namespace() -> Result<()> {
    let is_root = fs::metadata("/proc/self")
        .is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0);
    if std::env::var_os(MARK).is_some() || !is_root {
        return Ok(());
    }
    let works = Command::new("unshare").args(["--mount", "true"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let error = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .exec();
    Err(error).context("cannot start unshare")
}

/// Names a program of these that is not installed.
pub(crate) fn missing(programs: &[&str]) -> Option<String> {
    let directories: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    let exists = |program: &str| directories.iter().any(|one| one.join(program).is_file());
    let program = programs.iter().find(|program| !exists(program))?;
    Some(format!("{program} is not installed"))
}

/// The type and options of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ext4,
    /// Without the flush that ext4 does when a file is renamed over another one.
    Ext4NoAutoDaAlloc,
    Xfs,
}

impl FileSystem {
    pub(crate) const ALL: [Self; 3] = [Self::Ext4, Self::Ext4NoAutoDaAlloc, Self::Xfs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Ext4NoAutoDaAlloc => "ext4,noauto_da_alloc",
            Self::Xfs => "xfs",
        }
    }

    /// The program that creates it.
    pub(crate) fn maker(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Ext4NoAutoDaAlloc => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
        }
    }

    fn bytes(self) -> u64 {
        match self {
            Self::Ext4 | Self::Ext4NoAutoDaAlloc => 192 << 20,
            // The minimum of mkfs.xfs.
            Self::Xfs => 320 << 20,
        }
    }

    fn options(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Xfs => "loop",
            Self::Ext4NoAutoDaAlloc => "loop,noauto_da_alloc",
        }
    }
}

/// A file system on a loop device.
#[derive(Debug)]
pub(crate) struct Disk {
    kind: FileSystem,
    image: PathBuf,
    pub(crate) root: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Creates and mounts an empty file system. An earlier one is overwritten.
    pub(crate) fn create(scratch: &Scratch, kind: FileSystem) -> Result<Self> {
        let image = scratch.path("image");
        File::create(&image)?.set_len(kind.bytes())?;
        format(kind, &image)?;
        let root = scratch.path("mounted");
        fs::create_dir_all(&root)?;
        let mut disk = Self { kind, image, root, mounted: false };
        disk.mount()?;
        Ok(disk)
    }

    pub(crate) fn mount(&mut self) -> Result<()> {
        mount_loop(self.kind.options(), &self.image, &self.root)?;
        self.mounted = true;
        Ok(())
    }

    pub(crate) fn umount(&mut self) -> Result<()> {
        umount(&self.root)?;
        self.mounted = false;
        Ok(())
    }

    /// Mounts it again, once the last process of a server that had its data there has ended. A
    /// server that ended because its disk failed leaves processes for a short time.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) fn remount(&mut self) -> Result<()> {
        let mut tries = 0;
        while let Err(error) = self.umount() {
            tries += 1;
            if tries == UMOUNT_TRIES {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.mount()
    }

    /// Prepares a power cut.
    pub(crate) fn switch(&self) -> Result<PowerSwitch> {
        PowerSwitch::new(&self.root)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = umount(&self.root);
        }
    }
}

pub(crate) fn format(kind: FileSystem, image: &Path) -> Result<()> {
    let mut command = Command::new(kind.maker());
    command.args(match kind {
        FileSystem::Ext4 | FileSystem::Ext4NoAutoDaAlloc => ["-q", "-F"],
        FileSystem::Xfs => ["-q", "-f"],
    });
    run(command.arg(image))
}

/// A process that has a file system open and can shut it down without writing anything
/// more: `xfs_io`, which makes the ioctl 0x8004587d with flag 2 for ext4 as well.
#[derive(Debug)]
pub(crate) struct PowerSwitch(Child);

impl PowerSwitch {
    fn new(root: &Path) -> Result<Self> {
        let child = Command::new("xfs_io")
            .arg("-x")
            .arg(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start xfs_io")?;
        Ok(Self(child))
    }

    /// Cuts the power. When this returns, nothing more reaches the disk.
    ///
    /// Writes a line to `log` first. Acknowledgements after that line do not count: during
    /// a shutdown XFS may report an fsync as done although it has dropped the change from
    /// its log. After a real power cut no caller would have seen that.
    pub(crate) fn cut(mut self, log: &Path) -> Result<()> {
        Log::append(log)?.write(&Event::Cut)?;
        if let Some(mut input) = self.0.stdin.take() {
            input.write_all(b"shutdown\nquit\n")?;
        }
        let mut errors = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut errors)?;
        }
        let status = self.0.wait()?;
        if !status.success() || !errors.is_empty() {
            bail!("the file system was not shut down: {status} {errors}");
        }
        Ok(())
    }
}

impl Drop for PowerSwitch {
    fn drop(&mut self) {
        // At the end of its input it exits without a cut.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Mounts on a directory.
pub(crate) fn mount<S: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = S>,
    directory: &Path,
) -> Result<()> {
    run(Command::new("mount").args(arguments).arg(directory))
}

/// Mounts an image through a loop device, which disappears with the mount.
pub(crate) fn mount_loop(options: &str, image: &Path, directory: &Path) -> Result<()> {
    let arguments = [OsStr::new("-o"), options.as_ref(), image.as_ref()];
    // The kernel removes a loop device some time after its last use. Until then it can
    // neither be used nor set up.
    let mut tries = 0;
    while let Err(error) = mount(arguments, directory) {
        tries += 1;
        if tries == MOUNT_TRIES {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

pub(crate) fn umount(directory: &Path) -> Result<()> {
    run(Command::new("umount").arg(directory))
}

/// Copies a file or a directory.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    if from.is_file() {
        fs::copy(from, to)?;
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        copy_tree(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!(
            "{name} {:?} failed with {}: {}",
            command.get_args().collect::<Vec<_>>(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}
