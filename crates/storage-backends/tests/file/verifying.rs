use super::*;
use storage_backends::{Problem, ProblemKind, Verified};

/// The result of verify, which must not change the store.
fn verify(dir: &StoreDir) -> (Verified, Vec<Problem>) {
    let before = dir.tree();
    let (verified, mut problems) =
        support::problems(|report| FileStorage::verify(dir.path(), report));
    assert_eq!(dir.tree(), before, "verify changes nothing");
    // The tests create files with the umask.
    problems.retain(|problem| problem.kind != ProblemKind::Permissions);
    (verified, problems)
}

fn shown(dir: &StoreDir) -> String {
    let line = |problem: &Problem| match problem.kind {
        ProblemKind::Damage => problem.to_string(),
        kind => format!("{kind}: {problem}"),
    };
    let lines: Vec<String> = verify(dir).1.iter().map(line).collect();
    lines.join("\n").replace(&*dir.path().to_string_lossy(), "STORE")
}

/// The fixture without a pending commit.
fn recovered() -> StoreDir {
    let dir = StoreDir::fixture("file-format-1");
    drop(open(&dir.path()));
    dir
}

fn home(dir: &StoreDir, name: &str) -> PathBuf {
    dir.path().join("components/app/notes/home").join(name)
}

fn assert_undamaged(dir: &StoreDir) {
    let (verified, problems) = verify(dir);
    assert_eq!(problems, []);
    let store = read_only(&dir.path());
    assert_eq!(verified.usage, store.usage(None).unwrap());
    assert_eq!(verified.usage.keys, store.list_keys(None).unwrap().len() as u64);
    let components = store.list_components(None, usize::MAX).unwrap().keys;
    assert_eq!(verified.components, components.len() as u64);
}

#[test]
fn an_undamaged_store_has_no_problems() {
    assert_undamaged(&recovered());
    let dir = StoreDir::new();
    drop(open(&dir.path()));
    assert_undamaged(&dir);
    let storage = open(&dir.path());
    for key in ["a", "a/b", "A/B/c/d", "a/b/c/d/e/../f", "a/b/c/%", "\u{e9}/\u{e9}/x/y"] {
        storage.set(key, "value".into()).unwrap();
        storage.set(&format!("{key}{}", "k".repeat(900)), "value".into()).unwrap();
    }
    let long = "s".repeat(400);
    storage.set(&format!("{long}/{long}/{long}/k"), "value".into()).unwrap();
    storage.set("a/b/gone/k", "value".into()).unwrap();
    storage.delete("a/b/gone/k").unwrap();
    drop(storage);
    assert_undamaged(&dir);
}

#[test]
fn what_the_next_writer_sweeps_or_applies_is_not_a_problem() {
    let dir = StoreDir::fixture("file-format-1");
    fs::write(home(&dir, ".tmp-0000000000000001-0"), "half").unwrap();
    fs::write(dir.path().join("journal/0000000000000001.tmp"), "half").unwrap();
    // The commit of the fixture will replace it.
    fs::write(home(&dir, "by-commit"), "damaged").unwrap();
    assert_undamaged(&dir);
    // One of two slots, as a power cut can leave it.
    let revisions = dir.path().join("revisions");
    let mut bytes = fs::read(&revisions).unwrap();
    bytes[3] ^= 1;
    fs::write(&revisions, bytes).unwrap();
    assert_undamaged(&dir);
}

#[test]
fn each_kind_of_damage_is_reported() {
    type Damage = fn(&StoreDir);
    let damage: [(&str, Damage); 16] = [
        ("values swapped", |dir| {
            let (one, other) = (home(dir, "by-commit"), home(dir, "user%3a%c3%a9"));
            let bytes = fs::read(&one).unwrap();
            fs::rename(&other, &one).unwrap();
            fs::write(&other, bytes).unwrap();
        }),
        ("value in another component", |dir| {
            let other = dir.path().join("components/app/notes/work");
            fs::create_dir_all(&other).unwrap();
            fs::copy(home(dir, "by-commit"), other.join("by-commit")).unwrap();
        }),
        ("a directory of a component renamed", |dir| {
            let parent = dir.path().join("components/app/counter");
            fs::rename(parent.join("001"), parent.join("002")).unwrap();
        }),
        ("file with a name that is not encoded", |dir| {
            fs::rename(home(dir, "user%3a%c3%a9"), home(dir, "user:\u{e9}")).unwrap();
        }),
        ("directory with a name that is not encoded", |dir| {
            let components = dir.path().join("components");
            fs::rename(components.join("app"), components.join("App")).unwrap();
        }),
        ("an empty file", |dir| fs::write(home(dir, "by-commit"), "").unwrap()),
        ("a long key's file", |dir| {
            let long = files_below(&home(dir, ""));
            let file = long.keys().find(|path| path.to_string_lossy().contains("%%")).unwrap();
            fs::write(file, "damaged").unwrap();
        }),
        ("foreign files", |dir| {
            fs::write(home(dir, ".DS_Store"), "x").unwrap();
            fs::write(home(dir, ".tmp-mine"), "x").unwrap();
            fs::create_dir(home(dir, "backup")).unwrap();
            fs::write(dir.path().join("README"), "x").unwrap();
            fs::write(dir.path().join("components/README"), "x").unwrap();
            fs::write(dir.path().join("journal/README"), "x").unwrap();
        }),
        ("an invalid key", |dir| {
            let record = record_of("app/notes/home/a\nb", "x", 1, &[]);
            fs::write(home(dir, "a%0ab"), record).unwrap();
        }),
        ("directories missing", |dir| {
            fs::remove_dir(dir.path().join("journal")).unwrap();
            fs::remove_dir_all(dir.path().join("loose")).unwrap();
        }),
        ("FORMAT", |dir| fs::write(dir.path().join("FORMAT"), "x").unwrap()),
        ("the revision counter missing", |dir| {
            fs::remove_file(dir.path().join("revisions")).unwrap()
        }),
        ("the revision counter too low", |dir| {
            let record = record_of("app/notes/home/ahead", "x", u64::MAX / 2, &[]);
            fs::write(home(dir, "ahead"), record).unwrap();
        }),
        ("the journal", |dir| {
            dir.copy_fixture("file-format-1");
            let file = files_below(&dir.path().join("journal")).into_keys().next().unwrap();
            fs::write(file, "damaged").unwrap();
        }),
        ("a value of a pending commit", |dir| {
            dir.copy_fixture("file-format-1");
            let files = files_below(&home(dir, ""));
            let temp = files.keys().find(|path| path.to_string_lossy().contains(".tmp-"));
            fs::write(temp.unwrap(), "damaged").unwrap();
        }),
        ("a usage that the store counts differently", |dir| {
            let record = record_of("app/notes/home/field", "x", 1, &[5, 1, 0, 99]);
            fs::write(home(dir, "field"), record).unwrap();
        }),
    ];
    let mut all = String::new();
    for (name, apply) in damage {
        let dir = recovered();
        apply(&dir);
        all += &format!("{name}\n{}\n\n", shown(&dir));
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
    let dir = recovered();
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    fs::write(home(&dir, "").join(name), "x").unwrap();
    let shown = shown(&dir);
    assert_eq!(shown.lines().count(), 1, "{shown}");
    assert!(shown.contains("unknown file, ignored"), "{shown}");
}
