//! Where a store lies, however that is written.

use std::fs;

use crate::support::TestDir;

#[test]
fn unexpanded_paths_create_nothing() {
    let dir = TestDir::with_file_store();
    dir.printed(&["--store", "redb:here", "put", "a/b/c", "k", "v"]);
    let before = dir.tree("");
    #[rustfmt::skip]
    let urls = [
        "file:~/data", "redb:~/d", "file:~", "file:$HOME/x", "redb:${HOME}/x", "file:d-$(date)",
        "file:data\n", "file:data\r", "file:data ", " file:data", "redb:d\r\n", "file:data\t",
    ];
    for url in urls {
        let manifest = format!("store = {url:?}\n[[component]]\nid = \"a/b/c\"\n");
        dir.file("storage.toml", manifest.as_bytes());
        for args in [
            &["--store", url, "put", "a/b/c", "k", "v"][..],
            &["copy", "--from", "redb:here", "--to", url],
            &["copy", "--from", url, "--to", "file:there"],
            &["--config", "storage.toml", "put", "a/b/c", "k", "v"],
        ] {
            let done = dir.run(args);
            assert_ne!(done.code, 0, "{args:?}");
            let hint = done.stderr.contains("the shell did not expand: write")
                || done.stderr.contains(": remove it");
            assert!(hint, "{args:?}: {}", done.stderr);
        }
        let mut command = dir.command(&["put", "a/b/c", "k", "v"]);
        let output = command.env("STORAGE_HOST_STORE", url).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{url:?}: {said}");
        let named = said.starts_with("error: invalid value of STORAGE_HOST_STORE: ");
        assert!(named, "{url:?}: {said}");
    }
    fs::remove_file(dir.path().join("storage.toml")).unwrap();
    assert_eq!(dir.tree(""), before);
    // What is meant can be said.
    dir.printed(&["--store", "file:./~/data", "put", "a/b/c", "k", "v"]);
    dir.printed(&["--store", "file:%24HOME%20", "put", "a/b/c", "k", "v"]);
    assert!(dir.path().join("~/data/FORMAT").exists());
    assert!(dir.path().join("$HOME /FORMAT").exists());
}
