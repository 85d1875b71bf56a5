use super::*;

fn refusal(result: Result<FileStorage, StorageError>, place: &Place) -> String {
    let message = result.unwrap_err().to_string();
    message
        .replace(&*place.path().to_string_lossy(), "STORE")
        .replace(&std::process::id().to_string(), "PID")
}

fn both(place: &Place) -> [String; 2] {
    [
        refusal(FileStorage::open(place.path(), FileOptions::default()), place),
        refusal(FileStorage::open_read_only(place.path(), FileOptions::default()), place),
    ]
}

#[test]
fn a_missing_store_is_made_by_a_writer_and_refused_by_a_reader() {
    let place = Place::new();
    let result = FileStorage::open_read_only(place.path(), FileOptions::default());
    insta::assert_snapshot!(refusal(result, &place), @"storage failed: STORE does not exist; a store is created when it is first opened for writing");
    assert!(!place.path().exists(), "a reader makes nothing");
    drop(open(&place.path()));
    read_only(&place.path());
}

#[test]
fn a_file_is_no_store() {
    let place = Place::new();
    fs::write(place.path(), "text").unwrap();
    insta::assert_snapshot!(both(&place).join("\n"), @r"
    storage failed: STORE is a file, not a store directory
    storage failed: STORE is a file, not a store directory
    ");
    assert_eq!(fs::read(place.path()).unwrap(), b"text");
}

#[test]
fn a_folder_of_other_files_is_left_alone() {
    let place = Place::new();
    fs::create_dir(place.path()).unwrap();
    fs::write(place.path().join("thesis.txt"), "text").unwrap();
    let before = place.tree();
    insta::assert_snapshot!(both(&place).join("\n"), @r"
    storage failed: STORE holds files that do not belong to a store; give the path of a store, or of an empty or missing directory
    storage failed: STORE is not a store; a store is created when it is first opened for writing
    ");
    assert_eq!(place.tree(), before);
}

#[test]
fn a_second_writer_is_told_who_has_the_store() {
    let place = Place::new();
    let first = open(&place.path());
    let second = FileStorage::open(place.path(), FileOptions::default());
    assert!(matches!(second, Err(StorageError::Locked(_))));
    if cfg!(target_os = "linux") {
        insta::assert_snapshot!(refusal(second, &place), @"the store STORE is locked: this process has it open for writing; close it first");
    }
    first.set("a/b/c/still", "works".into()).unwrap();
    drop(first);
    open(&place.path());
}

#[test]
fn another_format_is_refused_with_its_version() {
    let place = Place::new();
    drop(open(&place.path()));
    let format = place.path().join("FORMAT");
    fs::write(&format, "airssys file store\nformat: 2\nstore-id: 00\n").unwrap();
    let before = place.tree();
    insta::assert_snapshot!(both(&place).join("\n"), @r"
    not supported: the store in STORE has format 2, but this program reads format 1; use the release that wrote it
    not supported: the store in STORE has format 2, but this program reads format 1; use the release that wrote it
    ");
    let ours = |(path, _): &(PathBuf, Vec<u8>)| !path.ends_with("LOCK");
    assert!(place.tree().into_iter().filter(ours).eq(before.into_iter().filter(ours)));
}

#[test]
fn a_store_has_an_id_of_its_own() {
    let [one, other] = [Place::new(), Place::new()];
    let id = open(&one.path()).store_id().to_owned();
    assert_eq!(read_only(&one.path()).store_id(), id);
    assert_ne!(open(&other.path()).store_id(), id);
}

#[test]
fn a_restored_copy_uses_new_revisions() {
    restored::a_restored_copy_uses_new_revisions(open);
}

#[test]
fn files_of_others_with_the_names_of_a_store_are_left_alone() {
    for name in ["LOCK", "revisions", ".tmp-FORMAT"] {
        let place = Place::new();
        fs::create_dir(place.path()).unwrap();
        fs::write(place.path().join(name), "important\n").unwrap();
        let refused = FileStorage::open(place.path(), FileOptions::default());
        let Err(StorageError::IoError(detail)) = refused else { panic!("{name}: {refused:?}") };
        assert!(detail.contains("do not belong to a store"), "{detail}");
        assert_eq!(fs::read(place.path().join(name)).unwrap(), b"important\n");
    }
}

#[test]
fn what_a_killed_process_has_begun_becomes_a_store() {
    let complete = Place::new();
    drop(open(&complete.path()));
    let format = fs::read(complete.path().join("FORMAT")).unwrap();
    let counter = fs::read(complete.path().join("revisions")).unwrap();
    let begun: [(&str, &[u8]); 8] = [
        ("LOCK", b""),
        ("LOCK", b"4711\n"),
        ("revisions", b""),
        ("revisions", &counter[..7]),
        ("revisions", &[0; 4096]),
        (".tmp-FORMAT", b""),
        (".tmp-FORMAT", &format[..9]),
        (".tmp-FORMAT", &format[..40]),
    ];
    for (name, content) in begun {
        let place = Place::new();
        fs::create_dir(place.path()).unwrap();
        fs::write(place.path().join(name), content).unwrap();
        open(&place.path()).set("a/b/c/k", "v".into()).unwrap();
    }
}

#[test]
fn a_lock_file_of_others_keeps_what_is_in_it() {
    let place = Place::new();
    drop(open(&place.path()));
    let lock = place.path().join("LOCK");
    fs::write(&lock, "important\n").unwrap();
    drop(open(&place.path()));
    assert_eq!(fs::read(&lock).unwrap(), b"important\n");
    // One that has another name too is not ours alone.
    let other = place.path().with_file_name("other");
    fs::write(&other, "17\n").unwrap();
    fs::remove_file(&lock).unwrap();
    fs::hard_link(&other, &lock).unwrap();
    drop(open(&place.path()));
    assert_eq!(fs::read(&other).unwrap(), b"17\n");
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_a_file_of_the_store_holds_nobody_up() {
    for name in ["FORMAT", "LOCK", "revisions"] {
        let place = Place::new();
        drop(open(&place.path()));
        let path = place.path().join(name);
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let detail = both(&place).join("\n");
        assert_eq!(detail.matches("is a pipe, socket or device").count(), 2, "{detail}");
        let verified = FileStorage::verify(place.path(), &mut |_| {});
        assert!(matches!(verified, Err(StorageError::IoError(_))), "{verified:?}");
        if name == "LOCK" {
            assert!(storage_backends::look_for_writer(place.path()).is_err());
        }
    }
}
