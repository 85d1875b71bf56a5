//! Describes who may access a path, and which user this process runs as.

use std::path::Path;

/// Describes the owner, group and mode of a path, the user that this process runs as, and
/// how to give that user access. If the path cannot be examined, describes the nearest
/// directory above it that can be.
///
/// `None` if the system does not provide this.
///
/// ```
/// let directory = tempfile::tempdir()?;
/// if let Some(text) = storage_backends::describe_access(directory.path()) {
///     assert!(text.contains("belongs to"), "{text}");
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn describe_access(path: impl AsRef<Path>) -> Option<String> {
    access_to(path.as_ref(), false)
}

/// With `in_directory`, describes the directory of the path, for an operation that changes
/// the directory.
#[cfg(not(target_os = "linux"))]
pub(crate) fn access_to(_path: &Path, _in_directory: bool) -> Option<String> {
    None
}

#[cfg(target_os = "linux")]
pub(crate) use linux::access_to;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::{self, Metadata};
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use rustix::process::{getegid, geteuid, getgroups};

    const USERS: &str = "/etc/passwd";
    const GROUPS: &str = "/etc/group";

    pub(crate) fn access_to(path: &Path, in_directory: bool) -> Option<String> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (seen, metadata) = absolute
            .ancestors()
            .skip(usize::from(in_directory))
            .find_map(|above| Some((above, fs::metadata(above).ok()?)))?;
        let me = geteuid().as_raw();
        let whole = format!(
            "{} belongs to user {} and group {} and has mode {:04o}, and this process runs as \
             user {}",
            seen.display(),
            named(USERS, metadata.uid()),
            named(GROUPS, metadata.gid()),
            metadata.mode() & 0o7777,
            named(USERS, me),
        );
        Some(if me == 0 || mode_allows(&metadata, me) {
            format!(
                "{whole}: the cause may be a missing capability, an access control list, a file \
                 attribute, a security policy or the file system's server"
            )
        } else if metadata.uid() == me {
            format!("{whole}: change the mode")
        } else {
            format!("{whole}: run the process as that user, or change the owner or the mode")
        })
    }

    /// Whether the mode lets a user read and write, and enter a directory.
    fn mode_allows(metadata: &Metadata, user: u32) -> bool {
        let group = metadata.gid();
        let mine = || {
            getegid().as_raw() == group
                || getgroups().is_ok_and(|all| all.iter().any(|one| one.as_raw() == group))
        };
        let bits = match () {
            () if metadata.uid() == user => metadata.mode() >> 6,
            () if mine() => metadata.mode() >> 3,
            () => metadata.mode(),
        };
        let wanted = if metadata.is_dir() { 0o7 } else { 0o6 };
        bits & wanted == wanted
    }

    /// A user or group with its name from the system's list.
    fn named(list: &str, id: u32) -> String {
        let lines = fs::read_to_string(list).unwrap_or_default();
        // daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
        let name = lines.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(id)).then_some(name)
        });
        name.map_or_else(|| id.to_string(), |name| format!("{name} ({id})"))
    }

    #[cfg(test)]
    mod tests {
        use std::os::unix::fs::PermissionsExt;

        use super::*;

        #[test]
        fn the_owner_the_mode_and_this_user_are_named() {
            let directory = tempfile::tempdir().unwrap();
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o750)).unwrap();
            let text = access_to(&directory.path().join("a/b"), true).unwrap();
            let me = named(USERS, geteuid().as_raw());
            let start = format!("{} belongs to user {me} and group ", directory.path().display());
            assert!(text.starts_with(&start), "{text}");
            assert!(text.contains(" and has mode 0750, and this process runs as user "), "{text}");
        }

        #[test]
        fn the_owners_bits_come_first() {
            let file = tempfile::NamedTempFile::new().unwrap();
            let allows = |mode, user| {
                fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
                mode_allows(&file.as_file().metadata().unwrap(), user)
            };
            let owner = file.as_file().metadata().unwrap().uid();
            assert!(allows(0o600, owner));
            assert!(!allows(0o400, owner));
            assert!(!allows(0o066, owner));
        }
    }
}
