use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use storage_backends::{Problem, ProblemKind, Verified};

/// The result of verify, which must not change the store.
fn verify(place: &Place) -> (Verified, Vec<Problem>) {
    let before = place.tree();
    let mut problems = Vec::new();
    let verified = FileStorage::verify(place.path(), &mut |problem| problems.push(problem));
    assert_eq!(place.tree(), before, "verify changes nothing");
    let verified = verified.unwrap();
    assert_eq!(verified.problems + verified.warnings, problems.len() as u64);
    // The tests create files with the umask.
    problems.retain(|problem| problem.kind != ProblemKind::Permissions);
    (verified, problems)
}

fn shown(place: &Place) -> String {
    let line = |problem: &Problem| match problem.kind {
        ProblemKind::Damage => problem.to_string(),
        kind => format!("{kind}: {problem}"),
    };
    let lines: Vec<String> = verify(place).1.iter().map(line).collect();
    lines.join("\n").replace(&*place.path().to_string_lossy(), "STORE")
}

/// The fixture without a pending commit.
fn recovered() -> Place {
    let place = Place::new();
    fixture::copy_to(&place);
    drop(open(&place.path()));
    place
}

fn home(place: &Place, name: &str) -> PathBuf {
    place.path().join("components/app/notes/home").join(name)
}

fn assert_undamaged(place: &Place) {
    let (verified, problems) = verify(place);
    assert_eq!(problems, []);
    let store = read_only(&place.path());
    assert_eq!(verified.usage, store.usage(None).unwrap());
    assert_eq!(verified.usage.keys, store.list_keys(None).unwrap().len() as u64);
    let components = store.list_components(None, usize::MAX).unwrap().keys;
    assert_eq!(verified.components, components.len() as u64);
}

#[test]
fn an_undamaged_store_has_no_problems() {
    assert_undamaged(&recovered());
    let place = Place::new();
    drop(open(&place.path()));
    assert_undamaged(&place);
    let storage = open(&place.path());
    for key in ["a", "a/b", "A/B/c/d", "a/b/c/d/e/../f", "a/b/c/%", "\u{e9}/\u{e9}/x/y"] {
        storage.set(key, "value".into()).unwrap();
        storage.set(&format!("{key}{}", "k".repeat(900)), "value".into()).unwrap();
    }
    let long = "s".repeat(400);
    storage.set(&format!("{long}/{long}/{long}/k"), "value".into()).unwrap();
    storage.set("a/b/gone/k", "value".into()).unwrap();
    storage.delete("a/b/gone/k").unwrap();
    drop(storage);
    assert_undamaged(&place);
}

#[test]
fn what_the_next_writer_sweeps_or_applies_is_not_a_problem() {
    let place = Place::new();
    fixture::copy_to(&place);
    fs::write(home(&place, ".tmp-0000000000000001-0"), "half").unwrap();
    fs::write(place.path().join("journal/0000000000000001.tmp"), "half").unwrap();
    // The commit of the fixture will replace it.
    fs::write(home(&place, "by-commit"), "damaged").unwrap();
    assert_undamaged(&place);
    // One of two slots, as a power cut can leave it.
    let revisions = place.path().join("revisions");
    let mut bytes = fs::read(&revisions).unwrap();
    bytes[3] ^= 1;
    fs::write(&revisions, bytes).unwrap();
    assert_undamaged(&place);
}

#[test]
fn every_flipped_byte_of_a_value_is_reported() {
    let place = recovered();
    let file = home(&place, "by-commit");
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&file, bytes).unwrap();
        let (_, problems) = verify(&place);
        let [problem] = &problems[..] else { panic!("byte {at}: {problems:?}") };
        assert_eq!(problem.location, file.to_string_lossy());
        assert_eq!(problem.key.as_deref(), Some("app/notes/home/by-commit"));
    }
}

#[test]
fn each_kind_of_damage_is_reported() {
    type Damage = fn(&Place);
    let damage: [(&str, Damage); 16] = [
        ("values swapped", |place| {
            let (one, other) = (home(place, "by-commit"), home(place, "user%3a%c3%a9"));
            let bytes = fs::read(&one).unwrap();
            fs::rename(&other, &one).unwrap();
            fs::write(&other, bytes).unwrap();
        }),
        ("value in another component", |place| {
            let other = place.path().join("components/app/notes/work");
            fs::create_dir_all(&other).unwrap();
            fs::copy(home(place, "by-commit"), other.join("by-commit")).unwrap();
        }),
        ("a directory of a component renamed", |place| {
            let parent = place.path().join("components/app/counter");
            fs::rename(parent.join("001"), parent.join("002")).unwrap();
        }),
        ("file with a name that is not encoded", |place| {
            fs::rename(home(place, "user%3a%c3%a9"), home(place, "user:\u{e9}")).unwrap();
        }),
        ("directory with a name that is not encoded", |place| {
            let components = place.path().join("components");
            fs::rename(components.join("app"), components.join("App")).unwrap();
        }),
        ("an empty file", |place| fs::write(home(place, "by-commit"), "").unwrap()),
        ("a long key's file", |place| {
            let long = files_below(&home(place, ""));
            let file = long.keys().find(|path| path.to_string_lossy().contains("%%")).unwrap();
            fs::write(file, "damaged").unwrap();
        }),
        ("foreign files", |place| {
            fs::write(home(place, ".DS_Store"), "x").unwrap();
            fs::write(home(place, ".tmp-mine"), "x").unwrap();
            fs::create_dir(home(place, "backup")).unwrap();
            fs::write(place.path().join("README"), "x").unwrap();
            fs::write(place.path().join("components/README"), "x").unwrap();
            fs::write(place.path().join("journal/README"), "x").unwrap();
        }),
        ("an invalid key", |place| {
            let record = record_of("app/notes/home/a\nb", "x", 1, &[]);
            fs::write(home(place, "a%0ab"), record).unwrap();
        }),
        ("directories missing", |place| {
            fs::remove_dir(place.path().join("journal")).unwrap();
            fs::remove_dir_all(place.path().join("loose")).unwrap();
        }),
        ("FORMAT", |place| fs::write(place.path().join("FORMAT"), "x").unwrap()),
        ("the revision counter missing", |place| {
            fs::remove_file(place.path().join("revisions")).unwrap()
        }),
        ("the revision counter too low", |place| {
            let record = record_of("app/notes/home/ahead", "x", u64::MAX / 2, &[]);
            fs::write(home(place, "ahead"), record).unwrap();
        }),
        ("the journal", |place| {
            fixture::copy_to(place);
            let file = files_below(&place.path().join("journal")).into_keys().next().unwrap();
            fs::write(file, "damaged").unwrap();
        }),
        ("a value of a pending commit", |place| {
            fixture::copy_to(place);
            let files = files_below(&home(place, ""));
            let temp = files.keys().find(|path| path.to_string_lossy().contains(".tmp-"));
            fs::write(temp.unwrap(), "damaged").unwrap();
        }),
        ("a usage that the store counts differently", |place| {
            let record = record_of("app/notes/home/field", "x", 1, &[5, 1, 0, 99]);
            fs::write(home(place, "field"), record).unwrap();
        }),
    ];
    let mut all = String::new();
    for (name, apply) in damage {
        let place = recovered();
        apply(&place);
        all += &format!("{name}\n{}\n\n", shown(&place));
    }
    insta::assert_snapshot!(all);
}

/// A record as docs/formats.md specifies it.
fn record_of(key: &str, value: &str, revision: u64, more_fields: &[u8]) -> Vec<u8> {
    let mut fields = vec![1];
    fields.extend_from_slice(&u16::try_from(key.len()).unwrap().to_le_bytes());
    fields.extend_from_slice(key.as_bytes());
    fields.extend_from_slice(more_fields);
    let mut bytes = vec![1, 0];
    bytes.extend_from_slice(&revision.to_le_bytes());
    bytes.extend_from_slice(&u16::try_from(fields.len()).unwrap().to_le_bytes());
    bytes.extend(fields);
    bytes.extend_from_slice(value.as_bytes());
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_are_reported() {
    use std::os::unix::ffi::OsStrExt;
    let place = recovered();
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    fs::write(home(&place, "").join(name), "x").unwrap();
    let shown = shown(&place);
    assert_eq!(shown.lines().count(), 1, "{shown}");
    assert!(shown.contains("unknown file, ignored"), "{shown}");
}

#[test]
fn a_directory_that_is_not_a_store_is_an_error() {
    let place = Place::new();
    let verify = || FileStorage::verify(place.path(), &mut |problem| panic!("{problem}"));
    assert!(matches!(verify(), Err(StorageError::IoError(_))));
    fs::create_dir(place.path()).unwrap();
    assert!(matches!(verify(), Err(StorageError::IoError(_))));
    let newer = "airssys file store\nformat: 2\nstore-id: 00\n";
    fs::write(place.path().join("FORMAT"), newer).unwrap();
    assert!(matches!(verify(), Err(StorageError::Unsupported(_))));
}

#[test]
fn a_store_with_a_running_writer_has_no_problems() {
    let place = Place::new();
    let options = FileOptions::default().with_durability(Durability::Os);
    let storage = FileStorage::open(place.path(), options).unwrap();
    let done = AtomicBool::new(false);
    let (mut problems, mut verified) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        for thread in 0..3_usize {
            let (storage, done) = (&storage, &done);
            scope.spawn(move || {
                for number in (0..).take_while(|_| !done.load(Ordering::Acquire)) {
                    let key =
                        |n: usize| format!("app/{thread}/c{}/{}", n % 3, "k".repeat(n % 260 + 1));
                    storage.set(&key(number), number.to_string().as_str().into()).unwrap();
                    storage.delete(&key(number / 2)).unwrap();
                    let commit = Commit::new()
                        .set(key(number + 1), "x".into())
                        .set(format!("loose-{thread}"), "x".into())
                        .delete(key(number + 2));
                    storage.commit(commit).unwrap();
                }
            });
        }
        let _end = SetWhenDropped(&done);
        for _ in 0..150 {
            verified.push(FileStorage::verify(place.path(), &mut |one| problems.push(one)));
        }
    });
    assert_eq!(problems, []);
    assert!(verified.iter().all(Result::is_ok), "{verified:?}");
    drop(storage);
    assert_undamaged(&place);
}
