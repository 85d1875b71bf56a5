//! Where the suite works: a folder, and in it file systems of its own.
//!
//! As root the program runs in a mount namespace of its own, and its folder is a
//! tmpfs mounted there. However it ends, the kernel then takes away every mount,
//! loop device and image that it made.

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

/// How often a mount is tried, 20 ms apart.
const MOUNT_TRIES: u32 = 100;

/// Says that the program is in its own namespace already.
const MARK: &str = "DURABILITY_OWN_MOUNTS";

/// The folder of a run.
#[derive(Debug)]
pub(crate) struct Place {
    folder: TempDir,
    tmpfs: bool,
}

impl Place {
    /// Makes the folder.
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("durability-").tempdir()?;
        let tmpfs = std::env::var_os(MARK).is_some();
        if tmpfs {
            mount(["-t", "tmpfs", "-o", "size=75%,mode=700", "tmpfs"], folder.path())?;
        }
        Ok(Self { folder, tmpfs })
    }

    /// Why no file system can be mounted here, if so.
    pub(crate) fn no_mounts(&self) -> Option<String> {
        (!self.tmpfs).then(|| "mounting needs root on Linux, and `unshare`".to_owned())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new empty folder in it, in place of one of the same name.
    pub(crate) fn fresh_folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        if path.exists() {
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.tmpfs {
            let _ = umount(self.folder.path());
        }
    }
}

/// Starts this program again in a mount namespace of its own, if it may; returns
/// if it is in one or cannot be.
pub(crate) fn enter_own_namespace() -> Result<()> {
    let is_root = fs::metadata("/proc/self")
        .is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == 0);
    if std::env::var_os(MARK).is_some() || !is_root {
        return Ok(());
    }
    let works = Command::new("unshare").args(["--mount", "true"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let error = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .exec();
    Err(error).context("cannot start unshare")
}

/// The first of these programs that is not installed.
pub(crate) fn missing(programs: &[&str]) -> Option<String> {
    let folders: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    let there = |program: &&&str| folders.iter().any(|folder| folder.join(program).is_file());
    let program = programs.iter().find(|program| !there(program))?;
    Some(format!("{program} is not installed"))
}

/// A file system in an image, to be cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ext4,
    /// Without ext4's special care for files that are renamed over others.
    Ext4Bare,
    Xfs,
}

impl FileSystem {
    pub(crate) const ALL: [Self; 3] = [Self::Ext4, Self::Ext4Bare, Self::Xfs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Ext4Bare => "ext4,noauto_da_alloc",
            Self::Xfs => "xfs",
        }
    }

    /// The program that makes one.
    pub(crate) fn maker(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Ext4Bare => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
        }
    }

    fn bytes(self) -> u64 {
        match self {
            Self::Ext4 | Self::Ext4Bare => 192 << 20,
            // The smallest that mkfs.xfs makes.
            Self::Xfs => 320 << 20,
        }
    }

    fn options(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Xfs => "loop",
            Self::Ext4Bare => "loop,noauto_da_alloc",
        }
    }
}

/// A file system on a loop device, mounted most of the time.
#[derive(Debug)]
pub(crate) struct Disk {
    kind: FileSystem,
    image: PathBuf,
    pub(crate) root: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Makes an empty one, in place of the last one, and mounts it.
    pub(crate) fn make(place: &Place, kind: FileSystem) -> Result<Self> {
        let image = place.path("image");
        File::create(&image)?.set_len(kind.bytes())?;
        format(kind, &image)?;
        let root = place.path("mounted");
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

    /// Gets ready to cut this file system off from its disk.
    pub(crate) fn switch(&self) -> Result<Switch> {
        Switch::new(&self.root)
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
        FileSystem::Ext4 | FileSystem::Ext4Bare => ["-q", "-F"],
        FileSystem::Xfs => ["-q", "-f"],
    });
    run(command.arg(image))
}

/// A process that holds a finger on the switch: it has the file system open, and
/// a line of text makes it shut down without writing anything more.
///
/// `xfs_io` makes the call for ext4 as well: ioctl 0x8004587d with flag 2.
#[derive(Debug)]
pub(crate) struct Switch(Child);

impl Switch {
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

    /// The power cut. When it returns nothing reaches the disk any more.
    ///
    /// `log` gets a line just before. While a file system shuts down a write may
    /// be called done that is not: XFS does so when it has dropped a change
    /// from its log before the fsync looks for it. Nobody would have heard of
    /// that, so what was acknowledged after the line does not count.
    pub(crate) fn cut(mut self, log: &Path) -> Result<()> {
        Log::append(log)?.write(&Event::Cut)?;
        if let Some(mut input) = self.0.stdin.take() {
            input.write_all(b"shutdown\nquit\n")?;
        }
        // The child is waited for here and by no other.
        let mut complaint = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut complaint)?;
        }
        let status = self.0.wait()?;
        if !status.success() || !complaint.is_empty() {
            bail!("the file system was not shut down: {status} {complaint}");
        }
        Ok(())
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // Ends at the end of its input, without a cut.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Mounts on a folder.
pub(crate) fn mount<S: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = S>,
    folder: &Path,
) -> Result<()> {
    run(Command::new("mount").args(arguments).arg(folder))
}

/// Mounts an image by a loop device, which goes when it is unmounted.
pub(crate) fn mount_loop(options: &str, image: &Path, folder: &Path) -> Result<()> {
    let arguments = [OsStr::new("-o"), options.as_ref(), image.as_ref()];
    // The kernel takes a loop device down some time after its last use, and
    // until then it can neither be used nor set up.
    let mut tries = 0;
    while let Err(error) = mount(arguments, folder) {
        tries += 1;
        if tries == MOUNT_TRIES {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Undoes it.
pub(crate) fn umount(folder: &Path) -> Result<()> {
    run(Command::new("umount").arg(folder))
}

/// Copies a file or a folder.
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
