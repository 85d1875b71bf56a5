//! The unprivileged user of a server: PostgreSQL refuses to run as root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Users that exist for servers or for no files at all.
const CANDIDATES: [&str; 3] = ["postgres", "redis", "nobody"];

/// The user whom a server runs as.
#[derive(Debug, Clone, Copy)]
pub(crate) enum User {
    /// The user of this process.
    Current,
    Other {
        user: u32,
        group: u32,
    },
}

impl User {
    /// The current user, or an unprivileged one if that is root.
    ///
    /// # Errors
    /// If this is root and there is no other user.
    pub(crate) fn unprivileged() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Current);
        }
        for name in CANDIDATES {
            if let (Some(user), Some(group)) = (id("-u", name), id("-g", name)) {
                return Ok(Self::Other { user, group });
            }
        }
        bail!("a server does not run as root, and none of the users {CANDIDATES:?} exists")
    }

    /// Lets a command run as this user, without other groups.
    pub(crate) fn run(self, command: &mut Command) {
        if let Self::Other { user, group } = self {
            command.uid(user).gid(group);
        }
    }

    /// Gives a file or directory to this user, and lets no other user access it.
    pub(crate) fn own_alone(self, path: &Path) -> Result<()> {
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
        if let Self::Other { user, group } = self {
            chown(path, Some(user), Some(group))
                .with_context(|| format!("cannot change the owner of {}", path.display()))?;
        }
        Ok(())
    }
}

fn id(option: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([option, name]).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
