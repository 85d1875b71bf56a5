use super::*;

#[test]
fn foreign_files_with_names_of_a_store_are_refused() {
    for name in ["LOCK", "revisions", ".tmp-FORMAT"] {
        let dir = StoreDir::new();
        fs::create_dir(dir.path()).unwrap();
        fs::write(dir.path().join(name), "important\n").unwrap();
        let refused = FileStorage::open(dir.path(), FileOptions::default());
        let Err(StorageError::IoError(detail)) = refused else { panic!("{name}: {refused:?}") };
        assert!(detail.contains("do not belong to a store"), "{detail}");
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"important\n");
    }
}

#[test]
fn an_incomplete_creation_is_completed() {
    let complete = StoreDir::new();
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
        let dir = StoreDir::new();
        fs::create_dir(dir.path()).unwrap();
        fs::write(dir.path().join(name), content).unwrap();
        open(&dir.path()).set("a/b/c/k", "v".into()).unwrap();
    }
}

#[test]
fn a_foreign_lock_file_keeps_its_content() {
    let dir = StoreDir::new();
    drop(open(&dir.path()));
    let lock = dir.path().join("LOCK");
    fs::write(&lock, "important\n").unwrap();
    drop(open(&dir.path()));
    assert_eq!(fs::read(&lock).unwrap(), b"important\n");
    // A file with a second name is not ours alone.
    let other = dir.at("other");
    fs::write(&other, "17\n").unwrap();
    fs::remove_file(&lock).unwrap();
    fs::hard_link(&other, &lock).unwrap();
    drop(open(&dir.path()));
    assert_eq!(fs::read(&other).unwrap(), b"17\n");
}

#[cfg(unix)]
#[test]
fn a_pipe_instead_of_a_file_of_the_store_does_not_block() {
    for name in ["FORMAT", "LOCK", "revisions"] {
        let dir = StoreDir::new();
        drop(open(&dir.path()));
        let path = dir.path().join(name);
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        for opened in opened_both_ways(&dir.path()) {
            let error = opened.unwrap_err().to_string();
            assert!(error.contains("is a pipe, socket or device"), "{error}");
        }
        let verified = FileStorage::verify(dir.path(), &mut |_| {});
        assert!(matches!(verified, Err(StorageError::IoError(_))), "{verified:?}");
        if name == "LOCK" {
            assert!(storage_backends::look_for_writer(dir.path()).is_err());
        }
    }
}
