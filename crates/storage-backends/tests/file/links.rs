//! Symbolic links inside a store are refused, not skipped.
use super::*;
use std::os::unix::fs::symlink;

/// A store with two components and an unscoped key.
fn filled() -> StoreDir {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    for key in ["a/b/c/k", "d/e/f/k", "loose"] {
        storage.set(key, key.into()).unwrap();
    }
    dir
}

/// Moves a part of a store elsewhere and replaces it with a link.
fn link_away(dir: &StoreDir, path: &str) {
    let original = dir.path().join(path);
    let elsewhere = dir.at("elsewhere");
    fs::rename(&original, &elsewhere).unwrap();
    symlink(&elsewhere, &original).unwrap();
}

fn options(durability: Durability) -> FileOptions {
    FileOptions::default().with_durability(durability)
}

/// The store, opened in each way, one after the other.
fn opened(dir: &StoreDir) -> impl Iterator<Item = FileStorage> {
    let ways: [fn(&Path) -> FileStorage; 3] =
        [read_only, open, |path| FileStorage::open(path, options(Durability::Os)).unwrap()];
    let path = dir.path();
    ways.into_iter().map(move |open| open(&path))
}

#[track_caller]
fn assert_names_link<T: std::fmt::Debug>(result: Result<T, StorageError>, link: &Path) {
    let message = result.unwrap_err().to_string();
    let expected = format!("{} is a symbolic link; a store does not follow links", link.display());
    assert!(message.contains(&expected), "{message}");
}

fn snapshot(storage: &FileStorage, prefix: &str) -> Result<usize, StorageError> {
    let mut seen = 0;
    let mut visit = |_: &str, _| {
        seen += 1;
        Ok(())
    };
    storage.read_snapshot(prefix, None, &mut visit).map(|()| seen)
}

/// Calls that read a key of a component or list it.
fn reads(storage: &FileStorage, key: &str) -> [Result<(), StorageError>; 5] {
    let (prefix, _) = storage_core::split_full_key(key);
    [
        storage.get(key).map(drop),
        storage.exists(key).map(drop),
        storage.list_keys(Some(prefix)).map(drop),
        storage.usage(Some(prefix)).map(drop),
        snapshot(storage, "").map(drop),
    ]
}

#[rstest]
#[case::instance("components/a/b/c", false)]
#[case::name("components/a/b", false)]
#[case::namespace("components/a", false)]
#[case::dangling("components/a", true)]
fn every_call_refuses_a_component_behind_a_link(#[case] path: &str, #[case] dangling: bool) {
    let dir = filled();
    link_away(&dir, path);
    let link = dir.path().join(path);
    if dangling {
        fs::rename(dir.at("elsewhere"), dir.at("unmounted")).unwrap();
    }
    let before = files_below(&dir.at("elsewhere"));
    for storage in opened(&dir) {
        for result in reads(&storage, "a/b/c/k") {
            assert_names_link(result, &link);
        }
        assert_names_link(storage.get("a/b/c/missing"), &link);
        assert_names_link(storage.list_keys(None), &link);
        assert_names_link(storage.usage(None), &link);
        assert_names_link(storage.list_components(None, 10), &link);
        assert_names_link(snapshot(&storage, "a/b/c/"), &link);
        // Other components are not affected.
        assert_eq!(storage.get("d/e/f/k"), Ok(Some("d/e/f/k".into())));
        assert_eq!(storage.list_keys(Some("d/e/f/")).unwrap(), ["d/e/f/k"]);
    }
    for durability in [Durability::Sync, Durability::Os] {
        let storage = FileStorage::open(dir.path(), options(durability)).unwrap();
        assert_names_link(storage.set("a/b/c/k", "x".into()), &link);
        assert_names_link(storage.delete("a/b/c/k"), &link);
        let new = |key: &str| Commit::new().set(key, "new".into());
        let budget = Budget { max_bytes: 1000, max_keys: 10 };
        for commit in [
            new("d/e/f/k").set("a/b/c/k", "new".into()),
            new("a/b/c/k").with_budget(budget),
            new("d/e/f/k").require_present("a/b/c/k"),
        ] {
            assert_names_link(storage.commit(commit), &link);
        }
        assert_eq!(storage.get("d/e/f/k"), Ok(Some("d/e/f/k".into())));
    }
    assert_eq!(files_below(&dir.at("elsewhere")), before);
    // The repair that the message suggests.
    fs::remove_file(&link).unwrap();
    fs::rename(dir.at(if dangling { "unmounted" } else { "elsewhere" }), &link).unwrap();
    assert_eq!(open(&dir.path()).list_keys(None).unwrap(), ["a/b/c/k", "d/e/f/k", "loose"]);
}

#[rstest]
#[case("components")]
#[case("loose")]
#[case("journal")]
#[case("FORMAT")]
#[case("LOCK")]
#[case("revisions")]
fn a_store_with_a_link_in_its_root_does_not_open(#[case] name: &str) {
    let dir = filled();
    link_away(&dir, name);
    let link = dir.path().join(name);
    for opened in opened_both_ways(&dir.path()) {
        assert_names_link(opened, &link);
    }
    let (_, problems) = support::problems(|report| FileStorage::verify(dir.path(), report));
    assert_eq!(problems[0].location, link.to_string_lossy());
    assert!(problems[0].detail.starts_with("is a symbolic link"), "{}", problems[0]);
}

#[test]
fn the_root_itself_may_be_a_link() {
    let dir = filled();
    let link = dir.at("link");
    symlink(dir.path(), &link).unwrap();
    let storage = open(&link);
    assert_eq!(storage.list_keys(None).unwrap().len(), 3);
    storage.set("a/b/c/k", "new".into()).unwrap();
    drop(storage);
    let verified = FileStorage::verify(&link, &mut |problem| panic!("{problem}"));
    assert_eq!(verified.unwrap().usage.keys, 3);
}

#[rstest]
#[case("a/b/c/k", "components/a/b/c/k")]
#[case("loose", "loose/loose")]
fn a_key_behind_a_link_is_refused_until_it_is_written_or_deleted(
    #[case] key: &str,
    #[case] path: &str,
    #[values(Some("new"), None)] repair: Option<&str>,
) {
    let dir = filled();
    link_away(&dir, path);
    for storage in opened(&dir) {
        for result in reads(&storage, key) {
            assert_names_link(result, &dir.path().join(path));
        }
    }
    let elsewhere = fs::read(dir.at("elsewhere")).unwrap();
    let storage = open(&dir.path());
    match repair {
        Some(value) => storage.set(key, value.into()).unwrap(),
        None => storage.delete(key).unwrap(),
    }
    assert_eq!(storage.get(key), Ok(repair.map(Into::into)));
    // The target of the link is unchanged.
    assert_eq!(fs::read(dir.at("elsewhere")).unwrap(), elsewhere);
}

#[test]
fn a_pending_commit_is_not_applied_behind_a_link() {
    let dir = StoreDir::fixture("file-format-1");
    link_away(&dir, "components/app/notes");
    let link = dir.path().join("components/app/notes");
    let before = files_below(&dir.at("elsewhere"));
    assert_names_link(FileStorage::open(dir.path(), FileOptions::default()), &link);
    assert_names_link(read_only(&dir.path()).get("app/notes/home/by-commit"), &link);
    assert_eq!(files_below(&dir.at("elsewhere")), before);
}

#[test]
fn foreign_links_are_ignored() {
    let dir = filled();
    let home = dir.path().join("components/a/b/c");
    // Some editors create such links as locks.
    for path in [home.join(".#k"), dir.path().join("components/.Trash"), home.join("Upper")] {
        symlink("/nowhere", path).unwrap();
    }
    for storage in opened(&dir) {
        assert_eq!(storage.list_keys(None).unwrap(), ["a/b/c/k", "d/e/f/k", "loose"]);
        assert_eq!(snapshot(&storage, ""), Ok(3));
    }
}

#[test]
fn verify_reports_every_link() {
    let dir = filled();
    link_away(&dir, "components/a");
    symlink("/nowhere", dir.path().join("loose/other")).unwrap();
    let (verified, problems) = support::problems(|report| FileStorage::verify(dir.path(), report));
    assert_eq!(verified.usage.keys, 2);
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let shown = shown.join("\n").replace(&*dir.path().to_string_lossy(), "STORE");
    insta::assert_snapshot!(shown, @r"
    STORE/components/a: is a symbolic link; a store does not follow links: replace the link with the directory
    STORE/loose/other: is a symbolic link; a store does not follow links: replace the link with the file
    ");
}

#[test]
fn a_pipe_instead_of_a_key_file_does_not_block() {
    let dir = filled();
    let pipe = dir.path().join("components/a/b/c/pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("SKIPPED a pipe instead of a key file: mkfifo cannot be run");
        return;
    }
    for storage in opened(&dir) {
        for result in &reads(&storage, "a/b/c/pipe")[..3] {
            let message = result.as_ref().unwrap_err().to_string();
            assert!(message.contains("c/pipe is a pipe, socket or device"), "{message}");
        }
    }
    let mut shown = Vec::new();
    FileStorage::verify(dir.path(), &mut |one| shown.push(one.to_string())).unwrap();
    assert!(shown.iter().any(|line| line.contains("c/pipe: is a pipe")), "{shown:?}");
}
