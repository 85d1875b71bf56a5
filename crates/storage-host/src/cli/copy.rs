//! `copy`: a store into another one.

use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Serialize;
use storage_host::{
    Copied, CopyError, CopyOptions, Mode, StorageError, StorageHost, Store, StoreUrl, copy_store,
};

use super::ending::OnSignal;
use super::failure::Failure;
use super::output::Output;
use super::progress::{Progress, counted, human_bytes};
use super::target;
use super::unreadable::Pages;
use super::wait::Wait;

pub(super) fn copy(
    from: &StoreUrl,
    to: &StoreUrl,
    merge: bool,
    wait: Wait,
    output: &mut Output,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Document<'a> {
        from: &'a str,
        to: &'a str,
        written_keys: u64,
        written_bytes: u64,
        unchanged_keys: u64,
        unchanged_bytes: u64,
    }

    refuse_what_cannot_be(from, to)?;
    let copied = copy_all(from, to, merge, wait)?;
    let (written, unchanged) = (copied.written, copied.unchanged);
    if output.json() {
        return output.document(&Document {
            from: &from.to_string(),
            to: &to.to_string(),
            written_keys: written.keys,
            written_bytes: written.bytes,
            unchanged_keys: unchanged.keys,
            unchanged_bytes: unchanged.bytes,
        });
    }
    let there = match unchanged.keys {
        0 => String::new(),
        keys => format!("; {} ({} bytes) there already", counted(keys, "key"), unchanged.bytes),
    };
    output.line(format_args!(
        "copied {} ({} bytes){there}",
        counted(written.keys, "key"),
        written.bytes
    ))
}

fn copy_all(from: &StoreUrl, to: &StoreUrl, merge: bool, wait: Wait) -> Result<Copied, Failure> {
    let source = wait.until_unlocked(|| {
        from.open(Mode::ReadOnly).map_err(|error| Failure::of_opening(from, &error))
    })?;
    let mut components = Pages::new(&*source);
    while components.next()?.is_some() {}
    components.refuse("cannot copy the source")?;
    wait.until_unlocked(|| read_first_key(&*source))?;
    // Whatever durability was asked for, it is kept for the whole of the copy:
    // the flush at its end makes all of it durable, and an interrupted copy is
    // made again.
    let target = wait.until_unlocked(|| {
        let opened = target::open(&to.relaxed(), Mode::ReadWrite);
        opened.map_err(|error| Failure::of_opening(to, &error))
    })?;
    let target = StorageHost::new(target);
    let _on_signal = OnSignal::shut_down(&target);

    let mut progress = Progress::new("copying");
    let options = CopyOptions::new().with_merge(merge);
    // A copy that finds its source locked is made again, and goes on.
    wait.until_unlocked(|| {
        let copied = copy_store(&source, target.store(), options, &mut |key, copied| {
            progress.at(|| {
                let total = copied.total();
                format!(
                    "{}, {}, at {}",
                    counted(total.keys, "key"),
                    human_bytes(total.bytes),
                    key.escape_debug()
                )
            });
        });
        copied.map_err(Failure::of_copy)
    })
}

/// Reads the first key before the target is created, so that an unreadable source
/// creates none.
fn read_first_key(source: &dyn Store) -> Result<(), Failure> {
    let mut looked = false;
    let look = source.read_snapshot("", None, &mut |_, _| {
        looked = true;
        Err(StorageError::ReadOnly)
    });
    match look {
        Err(error) if !looked => Err(Failure::of_copy(CopyError::Source(error))),
        _ => Ok(()),
    }
}

/// What could not work, whatever the stores hold.
fn refuse_what_cannot_be(from: &StoreUrl, to: &StoreUrl) -> Result<(), Failure> {
    let wrong = |message: String| Err(Failure::new("usage", message));
    let (Some(from_path), Some(to_path)) = (from.path(), to.path()) else {
        return wrong(
            "a memory: store begins empty and ends with the command, so there is nothing to copy \
             from it and nothing would stay in it: name a store that lasts, such as file:PATH"
                .to_owned(),
        );
    };
    let (from_places, to_places) = (places(from_path), places(to_path));
    match (from_places.first(), to_places.first()) {
        (Some(one), Some(other)) if one == other => {
            wrong(format!("\"{from}\" and \"{to}\" are the same store"))
        }
        (Some(one), Some(_)) if to_places.contains(one) => wrong(format!(
            "the target \"{to}\" lies inside the source \"{from}\", which must not hold anything \
             else"
        )),
        (Some(_), Some(other)) if from_places.contains(other) => wrong(format!(
            "the source \"{from}\" lies inside the target \"{to}\", which must not hold anything \
             else"
        )),
        _ => Ok(()),
    }
}

/// A place in the file system, whatever it is called.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// By device and number, which every path to it shares.
    #[cfg(unix)]
    Node(u64, u64),
    /// By name, where that is all there is.
    Name(PathBuf),
}

/// A path and the folders above it, as far as they tell places apart.
fn places(path: &Path) -> Vec<Place> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // Links are followed as far as anything is there; what is not there yet has
    // none.
    let there = absolute.ancestors().find_map(|above| {
        let real = fs::canonicalize(above).ok()?;
        Some((real, absolute.strip_prefix(above).ok()?.to_owned()))
    });
    let whole = match there {
        Some((real, rest)) if rest.as_os_str().is_empty() => real,
        Some((real, rest)) => {
            // Nothing is there, so no link gives `..` another meaning.
            let named = rest.components().fold(real, |mut path, part| {
                match part {
                    Component::ParentDir => drop(path.pop()),
                    part => path.push(part),
                }
                path
            });
            fs::canonicalize(&named).unwrap_or(named)
        }
        None => absolute,
    };
    whole.ancestors().map(place).collect()
}

fn place(path: &Path) -> Place {
    #[cfg(unix)]
    if let Ok(metadata) = fs::metadata(path) {
        use std::os::unix::fs::MetadataExt;
        return Place::Node(metadata.dev(), metadata.ino());
    }
    Place::Name(path.to_owned())
}

#[cfg(test)]
#[cfg(feature = "file")]
mod tests {
    use super::*;

    fn refusal(from: &str, to: &str) -> Option<String> {
        match refuse_what_cannot_be(&from.parse().unwrap(), &to.parse().unwrap()) {
            Ok(()) => None,
            Err(Failure::Error { message, .. }) => Some(message),
            Err(Failure::OutputClosed) => panic!("nothing was written"),
        }
    }

    #[cfg(all(unix, feature = "file"))]
    #[test]
    fn a_store_is_the_same_however_its_path_is_spelt() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| format!("file:{}/{path}", folder.path().display());
        fs::create_dir_all(folder.path().join("store/components")).unwrap();
        std::os::unix::fs::symlink("store", folder.path().join("link")).unwrap();
        std::os::unix::fs::symlink(".", folder.path().join("here")).unwrap();
        for same in
            ["store/", "./store", "x/../store", "link", "here/here/store", "store?durability=os"]
        {
            let refused = refusal(&at("store"), &at(same)).unwrap();
            assert!(refused.ends_with("are the same store"), "{same}: {refused}");
        }
        for inside in ["store/copy", "link/a/b/c", "here/store/components"] {
            let refused = refusal(&at("store"), &at(inside)).unwrap();
            assert!(refused.contains("lies inside the source"), "{inside}: {refused}");
            let refused = refusal(&at(inside), &at("store")).unwrap();
            assert!(refused.contains("lies inside the target"), "{inside}: {refused}");
        }
        for apart in ["stor", "store2", "missing/store", "store.redb", "here/copy"] {
            assert_eq!(refusal(&at("store"), &at(apart)), None, "{apart}");
            assert_eq!(refusal(&at(apart), &at("store")), None, "{apart}");
        }
        // Neither is there.
        assert!(refusal(&at("new"), &at("here/new")).unwrap().ends_with("are the same store"));
    }

    #[cfg(feature = "memory")]
    #[test]
    fn memory_is_no_place_to_copy_from_or_to() {
        assert!(refusal("memory:", "memory:").is_some());
    }
}
