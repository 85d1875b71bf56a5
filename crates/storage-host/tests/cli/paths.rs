//! The path of a store, in each way to write it.

use std::fs;

use crate::support::TestDir;

#[cfg(unix)]
fn os(bytes: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

#[test]
fn unexpanded_paths_create_nothing() {
    let dir = TestDir::with_file_store();
    dir.printed(&["--store", "redb:here", "put", "a/b/c", "k", "v"]);
    let before = dir.tree("");
    for url in [
        "file:~/data",
        "redb:~/d",
        "file:~",
        "file:$HOME/x",
        "redb:${HOME}/x",
        "file:d-$(date)",
        "file:data\n",
        "file:data\r",
        "file:data ",
        " file:data",
        "redb:d\r\n",
        "file:data\t",
    ] {
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
    // A path with these characters can be written.
    dir.printed(&["--store", "file:./~/data", "put", "a/b/c", "k", "v"]);
    dir.printed(&["--store", "file:%24HOME%20", "put", "a/b/c", "k", "v"]);
    assert!(dir.path().join("~/data/FORMAT").exists());
    assert!(dir.path().join("$HOME /FORMAT").exists());
}

#[test]
fn an_overridden_variable_may_be_invalid() {
    let dir = TestDir::new();
    let store = ["--store", "file:storage-data"];
    dir.printed(&[&store[..], &["put", "a/b/c", "k", "v"]].concat());
    dir.file("storage.toml", b"store = \"file:storage-data\"");
    let with = |value: &str, args: &[&str]| {
        let output = dir.command(args).env("STORAGE_HOST_STORE", value).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // An empty one counts as unset.
    assert_eq!(with("", &[&store[..], &["get", "a/b/c", "k"]].concat()).1, "v");
    assert_eq!(with("", &["--config", "storage.toml", "get", "a/b/c", "k"]).0, Some(0));
    for wrong in ["sqlite:x", "file:d\n", "~/data"] {
        for args in [
            &["--store", "file:storage-data", "get", "a/b/c", "k"][..],
            &["get", "a/b/c", "k", "--store", "file:storage-data"],
            &["--config", "storage.toml", "get", "a/b/c", "k"],
            &["--store", "file:storage-data", "doctor"],
            &["check", "storage.toml"],
            &["copy", "--from", "file:storage-data", "--to", "redb:copy"],
        ] {
            assert_eq!(with(wrong, args).0, Some(0), "{wrong:?} {args:?}");
        }
        assert_eq!(with(wrong, &["get", "a/b/c", "k"]).0, Some(2), "{wrong:?}");
    }
}

#[test]
fn creating_a_store_writes_a_note() {
    let dir = TestDir::with_file_store();
    let said = |args: &[&str]| {
        let output = dir.command(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let here = fs::canonicalize(dir.path()).unwrap();
    let here = here.display();
    let put = |store| ["--store", store, "put", "a/b/c", "k", "v"];
    let created = |name: &str, kind: &str| format!("created the store {here}/{name} ({kind})\n");
    assert_eq!(said(&put("file:one%20two")), created("one two", "file"));
    assert_eq!(said(&put("file:one%20two")), "", "it exists");
    assert_eq!(said(&put("redb:r")), created("r", "redb"));
    assert_eq!(said(&["copy", "--from", "redb:r", "--to", "file:c"]), created("c", "file"));
    assert_eq!(said(&["--store", "memory:", "put", "a/b/c", "k", "v"]), "");
    let quiet = ["--quiet", "--store", "file:q", "put", "a/b/c", "k", "v"];
    assert_eq!(said(&quiet), "");
    assert_eq!(said(&["-q", "--store", "file:q", "keys", "a/b/c", "--limit", "1"]), "");
    let json = said(&["--json", "--store", "file:j", "put", "a/b/c", "k", "v"]);
    let line: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(line["note"]["message"], created("j", "file").trim_end());
    // An existing directory of exactly that name is used.
    fs::create_dir(dir.path().join("a%20b")).unwrap();
    assert_eq!(said(&put("file:a%20b")), created("a%20b", "file"));
    assert!(!dir.path().join("a b").exists());
}

#[cfg(unix)]
#[test]
fn paths_need_not_be_utf8() {
    let dir = TestDir::with_file_store();
    let odd = dir.path().join(os(b"odd\xff"));
    if let Err(error) = fs::create_dir(&odd) {
        println!("SKIPPED names that are not UTF-8: {error}");
        return;
    }
    fs::write(odd.join("storage.toml"), "store = \"file:./data\"").unwrap();
    let run = |args: &[&std::ffi::OsStr]| {
        let output = dir.command(&[]).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), said)
    };
    let store = os(b"file:odd\xff/data");
    let put = run(&["--store", "X", "put", "a/b/c", "k", "v"].map(|arg| match arg {
        "X" => store,
        arg => os(arg.as_bytes()),
    }));
    assert_eq!(put.0, Some(0), "{}", put.2);
    assert!(odd.join("data/FORMAT").exists());
    // The escape is for JSON and manifests, which hold no such bytes.
    assert_eq!(dir.printed(&["--store", "file:odd%FF/data", "get", "a/b/c", "k"]), "v");
    let verified = run(&[os(b"--json"), os(b"--store"), store, os(b"verify")]);
    assert_eq!(verified.0, Some(0), "{}", verified.2);
    assert!(verified.1.contains("\"store\":\"file:odd%FF/data\""), "{}", verified.1);
    fs::write(odd.join("data/components/a/b/c/.hidden"), "").unwrap();
    let verified = run(&[os(b"--json"), os(b"--store"), store, os(b"verify")]);
    assert!(verified.1.contains("odd\u{fffd}/data/components"), "{}", verified.1);
    assert!(verified.1.contains("\"place_is_lossy\":true"), "{}", verified.1);
    let to = os(b"redb:odd\xff/copy");
    let copied = run(&[os(b"copy"), os(b"--from"), store, os(b"--to"), to]);
    assert_eq!(copied.0, Some(0), "{}", copied.2);
    assert!(odd.join("copy").exists());
    let checked = run(&[os(b"--json"), os(b"check"), os(b"odd\xff/storage.toml")]);
    assert_eq!(checked.0, Some(0), "{}", checked.2);
    let document: serde_json::Value = serde_json::from_str(&checked.1).unwrap();
    assert_eq!(document["manifest"], "odd\u{fffd}/storage.toml");
    assert_eq!(document["manifest_base64"], "b2Rk/y9zdG9yYWdlLnRvbWw=");
    let mut variable = dir.command(&["get", "a/b/c", "k"]);
    assert_eq!(variable.env("STORAGE_HOST_STORE", store).output().unwrap().stdout, b"v");

    let mut doctor = dir.command(&["--json", "doctor"]);
    let output = doctor.current_dir(&odd).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let shown = document["store"]["path"].as_str().unwrap();
    assert!(shown.ends_with("/odd\u{fffd}/storage-data"), "{shown}");
    assert!(document["store"]["path_base64"].is_string());
}

#[cfg(unix)]
#[test]
fn keys_and_ids_must_be_utf8() {
    let dir = TestDir::with_file_store();
    for (args, rule) in [
        (&[&b"get"[..], b"a/b/c", b"k\xff"][..], "a key must be valid UTF-8"),
        (&[b"put", b"a/b/c", b"k\xff", b"v"], "a key must be valid UTF-8"),
        (&[b"delete", b"a/b/c", b"k\xff"], "a key must be valid UTF-8"),
        (&[b"keys", b"a/b/c", b"--after", b"k\xff"], "a key must be valid UTF-8"),
        (&[b"keys", b"a/b/c", b"--prefix", b"k\xff"], "a key must be valid UTF-8"),
        (&[b"usage", b"a/b/\xff"], "an id must be valid UTF-8"),
    ] {
        let output = dir.command(&[]).args(args.iter().map(|arg| os(arg))).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(rule), "{said}");
    }
    assert!(!dir.has_store());
}
