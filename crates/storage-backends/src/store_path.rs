//! Resolves the path of a store.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use storage_core::StorageError;

/// How many links are followed, as on Linux.
const MAX_LINKS: usize = 40;

/// Follows a symbolic link at the path, so that a store is created at its target and the
/// link stays.
///
/// # Errors
/// [`StorageError::IoError`] if the path or a directory above it is a link whose
/// target does not exist.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, StorageError> {
    // Without a trailing slash, which would follow a link.
    let plain: PathBuf = path.components().collect();
    for above in plain.ancestors().take_while(|above| !above.as_os_str().is_empty()) {
        match above.symlink_metadata() {
            Ok(found) if found.is_symlink() => match above.canonicalize() {
                Ok(target) if above == plain => return Ok(target),
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::NotFound => return Err(dangling(above)),
                Err(error) => {
                    return Err(StorageError::IoError(format!(
                        "cannot follow the symbolic link {}: {error}",
                        above.display()
                    )));
                }
            },
            Ok(_) => break,
            // Missing, or opening it reports the error.
            Err(_) => {}
        }
    }
    Ok(path.to_owned())
}

fn dangling(link: &Path) -> StorageError {
    let target = target_of(link);
    StorageError::IoError(format!(
        "{} is a symbolic link to {}, which does not exist; mount or create what it leads to, or \
         change the link",
        link.display(),
        target.display()
    ))
}

/// The missing target of a chain of links.
fn target_of(link: &Path) -> PathBuf {
    let mut target = link.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(next) = target.read_link() else { break };
        // A relative target starts at the link.
        target = target.parent().map(|above| above.join(&next)).unwrap_or(next);
    }
    target
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_to_their_end() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir(at("real")).unwrap();
        symlink("real", at("one")).unwrap();
        symlink(at("one"), at("two")).unwrap();
        assert_eq!(resolve(&at("two")), Ok(root.join("real")));
        assert_eq!(resolve(&at("two/")), Ok(root.join("real")));
        // Other paths are returned unchanged.
        for plain in ["real", "missing", "missing/below", "one/missing"] {
            assert_eq!(resolve(&at(plain)), Ok(at(plain)));
        }
        assert_eq!(resolve(Path::new("relative")), Ok("relative".into()));
        assert_eq!(resolve(Path::new("")), Ok("".into()));
    }

    #[test]
    fn a_dangling_link_is_an_error_with_link_and_target() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        symlink("gone/store", at("one")).unwrap();
        symlink("one", at("two")).unwrap();
        for (path, link) in [("one", "one"), ("two", "two"), ("two/", "two"), ("two/a/b", "two")] {
            let error = resolve(&at(path)).unwrap_err().to_string();
            let expected = format!(
                "{} is a symbolic link to {}, which does not exist; ",
                at(link).display(),
                at("gone/store").display()
            );
            assert!(error.contains(&expected), "{path}: {error}");
        }
        symlink("round", at("round")).unwrap();
        assert!(resolve(&at("round")).is_err());
    }
}
