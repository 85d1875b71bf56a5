//! What checks need of the system, installed where that can be done: as root on
//! Debian. Elsewhere one line says what to install.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// Programs of the durability suite, and the packages that bring them.
const PROGRAMS: [(&str, &str); 7] = [
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("xfs_io", "xfsprogs"),
    ("strace", "strace"),
    ("setpriv", "util-linux"),
    ("qemu-storage-daemon", "qemu-utils"),
    ("fusermount3", "fuse3"),
];

/// Where they are, beside `PATH`, which a user's own often lacks.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Brings the programs of the durability suite that are missing, or says which
/// they are: the parts that need them say SKIPPED.
pub(crate) fn bring_durability_programs() {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if packages.is_empty() || install(&packages).is_ok() {
        return;
    }
    println!(
        "some parts of the durability suite will be SKIPPED; they run after: {}",
        advice(&packages)
    );
}

/// Installs packages.
///
/// # Errors
/// If that is not possible here, with the command that does it.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if !is_root() || !Path::new("/etc/debian_version").exists() {
        bail!("missing here: {}", advice(packages));
    }
    println!("installing {}", packages.join(" "));
    let installation = ["install", "-q", "-y", "--no-install-recommends"];
    for arguments in [&["update", "-q"][..], &[&installation[..], packages].concat()] {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
        if !status.is_ok_and(|status| status.success()) {
            bail!("apt-get cannot install what is missing: {}", advice(packages));
        }
    }
    Ok(())
}

fn advice(packages: &[&str]) -> String {
    format!("sudo apt-get install {} (or your system's packages of that name)", packages.join(" "))
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SYSTEM_FOLDERS.map(Into::into));
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_or_not() {
        assert!(is_there("sh") || cfg!(not(unix)));
        assert!(!is_there("no-such-program"));
    }

    #[test]
    fn what_to_do_is_one_line() {
        let advice = advice(&["xfsprogs", "fuse3"]);
        assert!(advice.starts_with("sudo apt-get install xfsprogs fuse3"), "{advice}");
        assert_eq!(advice.lines().count(), 1);
    }
}
