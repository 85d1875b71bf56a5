//! The socket file: its path, its private creation, and whom a client trusts.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// What follows the store's path in that of its socket.
const SUFFIX: &str = ".admin.sock";

/// The prefix of the directory in which a socket is created.
const TEMP_PREFIX: &str = ".admin-new-";

/// The path of the socket of the store at `store`, whose symbolic links are followed.
///
/// # Errors
/// If the store does not exist.
pub(super) fn path_of(store: &Path) -> io::Result<PathBuf> {
    let store = fs::canonicalize(store)?;
    let name = store.file_name().ok_or_else(|| {
        io::Error::new(ErrorKind::InvalidInput, "the store is the root of the file system")
    })?;
    let mut name = name.to_owned();
    name.push(SUFFIX);
    Ok(store.with_file_name(name))
}

/// What identifies a file: its device and its inode.
pub(super) type Identity = (u64, u64);

/// The identity of a file or directory, whose link is followed.
pub(super) fn identity_of(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

/// A socket file that this process has created.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

impl SocketFile {
    /// Creates a socket with mode 0600, whose listener does not block. Replaces one that no
    /// process listens on.
    ///
    /// # Errors
    /// [`ErrorKind::AddrInUse`] if a process listens on it; [`ErrorKind::AlreadyExists`] for
    /// a file of another type.
    pub(super) fn create(path: &Path) -> io::Result<(Self, UnixListener)> {
        refuse_used(path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        // A new socket follows the umask, which belongs to the whole process. In a private
        // directory no one can connect to it before its mode is set.
        let private = tempfile::Builder::new()
            .prefix(TEMP_PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        let directory = ShortPath::new(private.path());
        let temporary = directory.join(OsStr::new("s"));
        let listener = UnixListener::bind(&temporary)?;
        fs::set_permissions(&temporary, Permissions::from_mode(0o600))?;
        let created = fs::symlink_metadata(&temporary)?;
        listener.set_nonblocking(true)?;
        fs::rename(private.path().join("s"), path)?;
        Ok((Self { path: path.to_owned(), identity: (created.dev(), created.ino()) }, listener))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, unless it was replaced.
    pub(super) fn remove(&self) {
        let is_own = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if is_own && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "cannot remove the admin socket");
        }
    }
}

/// Refuses a path that another process uses.
fn refuse_used(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            let problem = "there is a file that is not a socket; move it away";
            return Err(io::Error::new(ErrorKind::AlreadyExists, problem));
        }
        Ok(_) => {}
    }
    match connect(path) {
        Err(error)
            if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another process listens on it")),
    }
}

/// Connects to the socket at a path of any length.
///
/// # Errors
/// [`ErrorKind::ConnectionRefused`] if no process listens on it.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let short = ShortPath::new(path);
    UnixStream::connect(short.path())
}

/// Whether a client trusts a server of this user with the data of the store at `store`. Root also
/// trusts the owner of the store, who can read that data anyway.
pub(super) fn is_trusted(user: u32, store: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let is_owner = || fs::metadata(store).is_ok_and(|found| found.uid() == user);
    user == own || user == 0 || (own == 0 && is_owner())
}

/// Whether a server answers a client of this user.
pub(super) fn may_ask(user: u32) -> bool {
    user == rustix::process::geteuid().as_raw() || user == 0
}

/// Another path to a file, which fits into the address of a socket: 107 bytes on Linux.
struct ShortPath {
    path: OsString,
    /// Keeps the path valid.
    _file: Option<OwnedFd>,
}

impl ShortPath {
    /// The path through the descriptor table, or the same path where there is none.
    fn new(path: &Path) -> Self {
        match through_descriptor(path) {
            Some((path, file)) => Self { path: path.into(), _file: Some(file) },
            None => Self { path: path.into(), _file: None },
        }
    }

    fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    fn join(&self, name: &OsStr) -> PathBuf {
        self.path().join(name)
    }
}

#[cfg(target_os = "linux")]
fn through_descriptor(path: &Path) -> Option<(String, OwnedFd)> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{Mode, OFlags};

    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let short = format!("/proc/self/fd/{}", file.as_raw_fd());
    // Without /proc the path itself may do.
    Path::new(&short).symlink_metadata().ok()?;
    Some((short, file))
}

#[cfg(not(target_os = "linux"))]
fn through_descriptor(_path: &Path) -> Option<(String, OwnedFd)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_private_and_removed_only_if_it_is_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.admin.sock");
        let (file, _listener) = SocketFile::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let names: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(names, [path.as_path()], "nothing else is left");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        file.remove();
        assert!(path.exists(), "it belongs to another program");
    }

    #[test]
    fn only_a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.admin.sock");
        let (file, listener) = SocketFile::create(&path).unwrap();
        let in_use = SocketFile::create(&path).unwrap_err();
        assert_eq!(in_use.kind(), ErrorKind::AddrInUse);
        drop(listener);
        let (new, _listener) = SocketFile::create(&path).unwrap();
        file.remove();
        assert!(path.exists(), "it is the new one");
        new.remove();
        assert!(!path.exists());
        fs::write(&path, "notes").unwrap();
        let foreign = SocketFile::create(&path).unwrap_err();
        assert_eq!(foreign.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"notes");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_path_may_be_longer_than_the_address_of_a_socket() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("d".repeat(200));
        fs::create_dir(&below).unwrap();
        let path = below.join(format!("{}.admin.sock", "s".repeat(200)));
        let (_file, _listener) = SocketFile::create(&path).unwrap();
        connect(&path).unwrap();
    }

    #[test]
    fn links_lead_to_one_socket() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir(root.join("store")).unwrap();
        std::os::unix::fs::symlink("store", root.join("link")).unwrap();
        for name in ["store", "store/", "link", "link/."] {
            assert_eq!(path_of(&root.join(name)).unwrap(), root.join("store.admin.sock"));
        }
        assert!(path_of(Path::new("/")).is_err());
        assert!(path_of(&root.join("missing")).is_err());
    }
}
