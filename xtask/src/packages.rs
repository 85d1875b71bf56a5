//! Debian packages that checks need: installed as root on Debian, named elsewhere.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// Programs of the durability suite, and their packages.
const PROGRAMS: [(&str, &str); 7] = [
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("xfs_io", "xfsprogs"),
    ("strace", "strace"),
    ("setpriv", "util-linux"),
    ("qemu-storage-daemon", "qemu-utils"),
    ("fusermount3", "fuse3"),
];

/// Directories of such programs that a user's `PATH` often lacks.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Installs the missing programs of the durability suite, or prints their packages.
pub(crate) fn install_durability_programs() {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if packages.is_empty() || install(&packages).is_ok() {
        return;
    }
    println!("SKIPPED some parts of the durability suite; to run them: {}", advice(&packages));
}

/// Installs packages.
///
/// # Errors
/// If this machine does not allow that. The message contains the command to run.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if !can_install() {
        bail!("missing packages: {}", advice(packages));
    }
    println!("installing {}", packages.join(" "));
    let installation = ["install", "-q", "-y", "--no-install-recommends"];
    for arguments in [&["update", "-q"][..], &[&installation[..], packages].concat()] {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
        if !status.is_ok_and(|status| status.success()) {
            bail!("apt-get failed; try: {}", advice(packages));
        }
    }
    Ok(())
}

/// Whether this machine may allow to install packages.
pub(crate) fn can_install() -> bool {
    is_root() && Path::new("/etc/debian_version").exists()
}

fn advice(packages: &[&str]) -> String {
    format!("sudo apt-get install {} (or the packages of your system)", packages.join(" "))
}

pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path).chain(SYSTEM_DIRECTORIES.map(Into::into));
    directories.any(|directory| directory.join(program).is_file())
}

pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
