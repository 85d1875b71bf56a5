//! New files and directories are accessible to their owner only.
use super::*;
use storage_backends::{Problem, ProblemKind};
use support::{mode, set_mode};

/// Everything below a directory.
fn all_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

fn warnings(dir: &StoreDir) -> Vec<Problem> {
    let (verified, found) = support::problems(|report| FileStorage::verify(dir.path(), report));
    assert_eq!(verified.problems, 0, "{found:?}");
    found
}

#[test]
fn directories_have_mode_0700_and_files_0600() {
    let dir = StoreDir::new();
    // The mode that the usual umask gives.
    fs::create_dir(dir.path()).unwrap();
    set_mode(&dir.path(), 0o755);
    for durability in [Durability::Sync, Durability::Os] {
        let options = FileOptions::default().with_durability(durability);
        let storage = FileStorage::open(dir.path(), options).unwrap();
        storage.set("a/b/c/k", "v".into()).unwrap();
        storage.set("loose", "v".into()).unwrap();
        let commit = Commit::new().set("d/e/f/1", "v".into()).set("d/e/f/2", "v".into());
        storage.commit(commit).unwrap();
    }
    let wrong: Vec<_> = all_below(&dir.path())
        .into_iter()
        .map(|path| (mode(&path), path))
        .filter(|(mode, path)| *mode != if path.is_dir() { 0o700 } else { 0o600 })
        .collect();
    assert_eq!(wrong, []);
    // An existing directory keeps its mode.
    assert_eq!(mode(&dir.path()), 0o755);
    open(&dir.path().join("new"));
    assert_eq!(mode(&dir.path().join("new")), 0o700);
    fs::remove_dir_all(dir.path().join("new")).unwrap();
    assert_eq!(warnings(&dir), []);
}

#[test]
fn modes_that_let_other_users_in_are_one_warning() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    storage.set("a/b/c/k", "v".into()).unwrap();
    storage.set("loose", "v".into()).unwrap();
    drop(storage);
    assert_eq!(warnings(&dir), []);
    // Others cannot reach it.
    set_mode(&dir.path().join("components/a/b/c/k"), 0o644);
    assert_eq!(warnings(&dir), []);
    set_mode(&dir.path(), 0o755);
    set_mode(&dir.path().join("LOCK"), 0o660);
    set_mode(&dir.path().join("components/a"), 0o755);
    let found = warnings(&dir);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, ProblemKind::Permissions);
    let shown = found[0].to_string().replace(&*dir.path().to_string_lossy(), "STORE");
    insta::assert_snapshot!(shown, @"STORE: the mode of 2 files and 1 directory gives other users access, for example STORE/LOCK (mode 0660); to remove that access: chmod -R go= STORE");
    // Opening the store does not change the modes.
    assert_eq!(open(&dir.path()).get("a/b/c/k"), Ok(Some("v".into())));
    assert_eq!(mode(&dir.path().join("LOCK")), 0o660);
    // The command that the warning suggests.
    let command = found[0].detail.split_once("to remove that access: ").unwrap().1;
    let done = std::process::Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(done.success());
    assert_eq!(warnings(&dir), []);
}
