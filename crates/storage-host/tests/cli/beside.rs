//! Commands beside a running host, which they ask through its admin socket.

#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rstest::rstest;

use crate::resources::other_user;
use crate::signals::send;
use crate::support::{Done, TestDir, started_by};

/// A host whose component reads the key `greeting` when it is told to.
struct Host {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Host {
    /// Starts it on the store that this directory's commands use, or that `args` name.
    fn start(dir: &TestDir, args: &[&str]) -> Self {
        let reader = dir.component("reader");
        Self::of(dir.command(&[args, &["run", "--id", "app/notes/home", &reader]].concat()))
    }

    /// Starts a command, and waits until its component runs. Then its socket is there.
    fn of(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut host = Self { child, input, lines };
        host.greeting();
        host
    }

    /// What the component reads.
    fn greeting(&mut self) -> String {
        self.input.write_all(b"x").unwrap();
        match self.lines.next() {
            Some(line) => line.unwrap(),
            None => {
                let mut said = String::new();
                self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                panic!("the host ended: {said}")
            }
        }
    }

    /// Ends the component, and returns what the command said.
    fn end(self) -> Done {
        drop(self.input);
        Done::of(self.child.wait_with_output().unwrap())
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn socket(dir: &TestDir, store: &str) -> PathBuf {
    dir.path().join(format!("{store}.admin.sock"))
}

/// The names in the directory of the store.
fn names(dir: &TestDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The same output, whether or not a host has the store open.
#[rstest]
#[case::file("file:data")]
#[cfg_attr(feature = "redb", case::redb("redb:data"))]
#[cfg_attr(feature = "rocksdb", case::rocksdb("rocksdb:data"))]
fn commands_are_the_same_beside_a_host(
    #[case] store: &'static str,
    #[values(false, true)] beside: bool,
) {
    let dir = TestDir::with_store(store);
    let host = beside.then(|| Host::start(&dir, &[]));
    dir.assert_transcript("beside");
    if let Some(mut host) = host {
        assert_eq!(host.greeting(), "hello");
        let done = host.end();
        assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    }
    assert!(!socket(&dir, "data").exists());
}

/// The settings of the host apply.
#[rstest]
fn quotas_are_those_of_the_host(
    #[values(false, true)] beside: bool,
    #[values("file:data", "redb:data")] store: &'static str,
) {
    let dir = TestDir::with_store(store);
    let manifest = "quota = { bytes = 40, keys = 3 }\nlimits = { value_bytes = 30 }\n[[component]]\n\
        id = 'app/notes/home'\nwasm = 'reader.wasm'\n";
    dir.file("small.toml", manifest.as_bytes());
    dir.component("reader");
    let run = ["--config", "small.toml", "run", "app/notes/home"];
    let host = beside.then(|| Host::of(dir.command(&run)));
    dir.assert_transcript("beside_quota");
    drop(host.map(Host::end));
}

/// Also for a command that does not know the manifest, on a store that it could read itself.
#[rstest]
#[case::file("file:data")]
#[cfg_attr(feature = "redb", case::redb("redb:data"))]
#[cfg_attr(feature = "rocksdb", case::rocksdb("rocksdb:data"))]
fn a_command_without_the_manifest_has_the_settings_of_the_host(#[case] store: &'static str) {
    let dir = TestDir::with_store(store);
    let manifest = "quota = { bytes = 5_000_000 }\nlimits = { value_bytes = 2_000_000 }\n\
        [[component]]\nid = 'app/notes/home'\nwasm = 'reader.wasm'\n";
    dir.file("large.toml", manifest.as_bytes());
    dir.component("reader");
    let host = Host::of(dir.command(&["--config", "large.toml", "run", "app/notes/home"]));
    let put = |bytes: usize| {
        dir.file("value", &vec![b'x'; bytes]);
        let mut command = dir.command(&["put", "app/notes/home", "large"]);
        command.stdin(fs::File::open(dir.path().join("value")).unwrap());
        Done::of(command.output().unwrap())
    };
    // Over the default limit.
    assert_eq!(put(2_000_000).code, 0);
    let refused = put(2_000_001);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("over the limit of 2000000"), "{}", refused.stderr);
    let usage = dir.printed(&["usage", "app/notes/home"]);
    assert!(usage.contains("2000005 bytes\nquota      5000000 bytes"), "{usage}");
    let doctor = dir.printed(&["doctor"]);
    let process = format!("by the host of process {};", host.child.id());
    assert!(doctor.contains(&process), "{doctor}");
    drop(host.end());
    assert!(put(2_000_000).stderr.contains("over the limit of 1048576"));
    assert!(dir.printed(&["usage", "app/notes/home"]).contains("quota      none"));
}

#[rstest]
#[case::file("file:data")]
#[cfg_attr(feature = "redb", case::redb("redb:data?durability=relaxed"))]
#[cfg_attr(feature = "rocksdb", case::rocksdb("rocksdb:data"))]
fn a_component_sees_what_a_command_puts(#[case] store: &'static str) {
    let dir = TestDir::with_store(store);
    let mut host = Host::start(&dir, &[]);
    // Its absence is cached, and then its value.
    assert_eq!(host.greeting(), "none");
    for value in ["hello", "good evening"] {
        dir.printed(&["put", "app/notes/home", "greeting", value]);
        assert_eq!(host.greeting(), value);
        assert_eq!(dir.printed(&["get", "app/notes/home", "greeting"]), value);
    }
    dir.printed(&["delete", "app/notes/home", "greeting"]);
    assert_eq!(host.greeting(), "none");
    dir.printed(&["put", "app/notes/home", "greeting", "durable"]);
    // What was acknowledged is durable.
    host.kill();
    assert_eq!(dir.printed(&["get", "app/notes/home", "greeting"]), "durable");
}

#[rstest]
fn the_socket_is_private_and_removed_at_the_end(
    #[values(None, Some(("TERM", 143)), Some(("INT", 130)))] signal: Option<(&str, i32)>,
    #[values("file:data", "redb:data")] store: &'static str,
) {
    let dir = TestDir::with_store(store);
    let reader = dir.component("reader");
    let run = dir.command(&["run", "--id", "app/notes/home", &reader]);
    // Other users may do everything by default.
    let host = Host::of(started_by(&["sh", "-c", "umask 0; exec \"$@\"", "sh"], &run));
    let found = fs::symlink_metadata(socket(&dir, "data")).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o7777, 0o600);
    assert_eq!(names(&dir), ["data", "data.admin.sock", "reader.wasm"]);
    let code = match signal {
        None => host.end().code,
        Some((name, _)) => {
            send(name, host.child.id());
            let mut host = host;
            host.child.wait().unwrap().code().unwrap()
        }
    };
    assert_eq!(code, signal.map_or(0, |(_, code)| code));
    assert_eq!(names(&dir), ["data", "reader.wasm"]);
}

#[test]
fn a_component_that_is_stopped_leaves_no_socket() {
    let dir = TestDir::with_store("file:data");
    let waits = dir.component("waits");
    let done = dir.run(&["run", "--id", "a/b/c", "--timeout", "1", &waits]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(!socket(&dir, "data").exists());
}

#[rstest]
fn the_socket_of_a_killed_host_is_replaced(
    #[values("file:data", "redb:data")] store: &'static str,
) {
    let dir = TestDir::with_store(store);
    Host::start(&dir, &[]).kill();
    assert!(socket(&dir, "data").exists());
    // The store is free.
    dir.printed(&["put", "app/notes/home", "greeting", "hello"]);
    let mut host = Host::start(&dir, &[]);
    assert_eq!(host.greeting(), "hello");
    dir.printed(&["put", "app/notes/home", "greeting", "again"]);
    assert_eq!(host.greeting(), "again");
    let done = host.end();
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    assert!(!socket(&dir, "data").exists());
}

#[test]
fn a_file_in_the_way_is_left_alone() {
    let dir = TestDir::with_store("file:data");
    let note = |problem: &str| {
        let path = fs::canonicalize(dir.path()).unwrap().join("data.admin.sock");
        let path = path.display();
        format!(
            "other commands cannot use the store meanwhile: cannot create the admin socket {path}: \
             {problem}\n"
        )
    };
    dir.file("data.admin.sock", b"notes");
    let mut host = Host::start(&dir, &[]);
    let refused = dir.run(&["--wait", "0", "put", "app/notes/home", "greeting", "hello"]);
    assert!(refused.stderr.contains("is locked"), "{}", refused.stderr);
    assert_eq!(host.greeting(), "none");
    let done = host.end();
    assert_eq!(
        (done.code, done.stderr),
        (0, note("there is a file that is not a socket; move it away"))
    );
    assert_eq!(fs::read(socket(&dir, "data")).unwrap(), b"notes");
    fs::remove_file(socket(&dir, "data")).unwrap();

    // That of a process that runs.
    let _listener = UnixListener::bind(socket(&dir, "data")).unwrap();
    let done = Host::start(&dir, &[]).end();
    assert_eq!((done.code, done.stderr), (0, note("another process listens on it")));
    assert!(socket(&dir, "data").exists());
}

#[test]
fn paths_of_any_length_have_a_socket() {
    if !cfg!(target_os = "linux") {
        return println!("SKIPPED long paths: the address of a socket is short here");
    }
    let dir = TestDir::new();
    let long = "d".repeat(150);
    fs::create_dir_all(dir.path().join(&long)).unwrap();
    let store = &*format!("file:{long}/{}", "s".repeat(150));
    let mut host = Host::start(&dir, &["--store", store]);
    dir.printed(&["--store", store, "put", "app/notes/home", "greeting", "hello"]);
    assert_eq!(host.greeting(), "hello");
    // The socket's name would be too long.
    let store = &*format!("file:{}", "s".repeat(250));
    let done = Host::start(&dir, &["--store", store]).end();
    assert_eq!((done.code, done.stderr.lines().count()), (0, 1), "{}", done.stderr);
    assert!(done.stderr.contains("File name too long"), "{}", done.stderr);
}

#[test]
fn each_store_has_its_own_socket() {
    let dir = TestDir::new();
    let stores = ["file:one", "file:two"];
    let mut hosts = stores.map(|store| Host::start(&dir, &["--store", store]));
    for store in stores {
        dir.printed(&["--store", store, "put", "app/notes/home", "greeting", store]);
    }
    for (host, store) in hosts.iter_mut().zip(stores) {
        assert_eq!(host.greeting(), store);
    }
    // By a link too.
    std::os::unix::fs::symlink("one", dir.path().join("link")).unwrap();
    dir.printed(&["--store", "file:link", "put", "app/notes/home", "greeting", "linked"]);
    assert_eq!(hosts[0].greeting(), "linked");
}

#[test]
fn a_host_whose_store_was_moved_is_not_asked() {
    let dir = TestDir::with_store("file:data");
    let old = Host::start(&dir, &[]);
    fs::rename(dir.path().join("data"), dir.path().join("moved")).unwrap();
    dir.printed(&["put", "app/notes/home", "greeting", "new"]);
    let mut new = Host::start(&dir, &[]);
    assert_eq!(new.greeting(), "new");
    let refused = dir.run(&["--wait", "0", "put", "app/notes/home", "greeting", "lost"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("is locked"), "{}", refused.stderr);
    assert_eq!(new.greeting(), "new");
    assert!(new.end().stderr.contains("another process listens on it"));
    old.end();
}

#[test]
fn a_socket_of_another_user_is_not_trusted() {
    let Some(user) = other_user() else { return };
    let dir = TestDir::with_store("file:data");
    let id = user.parse().unwrap();
    chown(dir.path(), Some(id), Some(id)).unwrap();
    let reader = dir.component("reader");
    fs::set_permissions(&reader, fs::Permissions::from_mode(0o644)).unwrap();
    let starter = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let mut run = started_by(&starter, &dir.command(&["run", "--id", "app/notes/home", &reader]));
    run.env("XDG_CACHE_HOME", dir.path().join("cache"));
    let mut version = Command::new(starter[0]);
    version.args(&starter[1..]).arg(env!("CARGO_BIN_EXE_storage-host")).arg("--version");
    let can_execute = version.output();
    if !can_execute.as_ref().is_ok_and(|output| output.status.success()) {
        return println!("SKIPPED another user's host: {can_execute:?}");
    }
    let mut host = Host::of(run);
    let put = |value: &'static str| ["--wait", "0", "put", "app/notes/home", "greeting", value];
    // Root trusts the store's owner.
    dir.printed(&put("hello"));
    assert_eq!(host.greeting(), "hello");
    chown(dir.path().join("data"), Some(0), Some(0)).unwrap();
    let refused = dir.run(&put("secret"));
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("is locked"), "{}", refused.stderr);
    let told = format!("because the process that listens there belongs to user {user}");
    assert!(refused.stderr.contains(&told), "{}", refused.stderr);
    assert_eq!(host.greeting(), "hello");
}

#[test]
fn a_store_in_memory_has_no_socket() {
    let dir = TestDir::new();
    let done = Host::start(&dir, &["--store", "memory:"]).end();
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    assert_eq!(names(&dir), ["reader.wasm"]);
}

/// Sends a request and returns the whole answer.
fn ask(dir: &TestDir, request: &str) -> String {
    let mut stream = UnixStream::connect(socket(dir, "data")).unwrap();
    // The host may have answered before it has read everything.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn invalid_requests_are_refused() {
    let dir = TestDir::with_store("file:data");
    let mut host = Host::start(&dir, &[]);
    let get = |target: &str| {
        ask(&dir, &format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
    };
    let about = get("/v1/store");
    assert!(about.starts_with("HTTP/1.1 200 OK\r\n"), "{about}");
    assert!(about.contains(&format!("\"pid\":{}", host.child.id())), "{about}");
    for (target, status, part) in [
        ("/", "404", "\"kind\":\"no_such_path\""),
        ("/v1/values", "404", "\"kind\":\"no_such_path\""),
        ("/v1/store?x=1", "400", "unknown parameter"),
        ("/v1/keys", "400", "\\\"component\\\" is missing"),
        ("/v1/keys?component=a/b", "400", "invalid component id"),
        ("/v1/keys?component=a/b/c&limit=x", "400", "is not a number"),
        ("/v1/value?component=a/b/c&key=a+b", "400", "write %2B for +"),
        ("/v1/value?component=a/b/c&key=%ff", "400", "not percent-encoded UTF-8"),
        ("/v1/value?component=a/b/c&key=", "400", "\"kind\":\"invalid_key\""),
        ("/v1/value?component=a/b/c&key=%00", "400", "\"kind\":\"invalid_key\""),
        ("/v1/value?component=a/b/c&key=a&key=b", "400", "is given twice"),
        (
            "/v1/value?component=a/b/c&key=missing",
            "404",
            "\"kind\":\"not_found\",\"key\":\"missing\"",
        ),
    ] {
        let answer = get(target);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {answer}");
        assert!(answer.contains(part), "{target}: {answer}");
    }
    let post = ask(
        &dir,
        "POST /v1/usage HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    );
    assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    // A value above the limit is refused before it is read to its end.
    let large = "x".repeat((1 << 20) + 1);
    let put = "PUT /v1/value?component=a/b/c&key=k HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let answer = ask(&dir, &format!("{put}content-length: {}\r\n\r\n{large}", large.len()));
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // An incomplete value is not stored.
    let mut cut = UnixStream::connect(socket(&dir, "data")).unwrap();
    cut.write_all(format!("{put}content-length: 10\r\n\r\nhalf").as_bytes()).unwrap();
    cut.shutdown(std::net::Shutdown::Write).unwrap();
    let _ = cut.read_to_end(&mut Vec::new());
    assert!(get("/v1/value?component=a/b/c&key=k").starts_with("HTTP/1.1 404 "));
    // A head without end, and nothing that is HTTP.
    let endless = ask(&dir, &format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 17)));
    assert!(!endless.starts_with("HTTP/1.1 2"), "{endless}");
    let noise = ask(&dir, "\u{0}\u{1}\u{2}\r\n\r\n");
    assert!(!noise.starts_with("HTTP/1.1 2"), "{noise}");
    assert_eq!(host.greeting(), "none");
}

#[test]
fn idle_connections_do_not_delay_the_end() {
    let dir = TestDir::with_store("file:data");
    let host = Host::start(&dir, &[]);
    // More than are served at a time.
    let _idle: Vec<_> =
        (0..40).map(|_| UnixStream::connect(socket(&dir, "data")).unwrap()).collect();
    assert_eq!(host.end().code, 0);
}

#[test]
fn top_shows_the_components_in_use() {
    let dir = TestDir::with_store("file:data");
    let none = dir.run(&["top"]);
    assert_eq!(none.code, 1);
    assert!(none.stderr.contains("no running host has the store"), "{}", none.stderr);
    let mut host = Host::start(&dir, &[]);
    host.greeting();
    let shown = dir.printed(&["--json", "top", "--interval", "1"]);
    let sample: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(sample["components_in_use"], 1);
    assert_eq!(sample["components"][0]["id"], "app/notes/home");
    let shown = dir.printed(&["top", "--interval", "1"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "file:data: 1 component in use");
    assert!(lines[1].starts_with("COMPONENT") && lines[2].starts_with("app/notes/home"), "{shown}");
    assert_eq!(lines.len(), 3);
}

#[cfg(feature = "redb")]
#[test]
fn a_hangup_reloads_the_manifest_of_a_run() {
    let dir = TestDir::with_store("redb:data");
    dir.component("reader");
    let manifest = "[[component]]\nid = 'app/notes/home'\nwasm = 'reader.wasm'\n";
    dir.file("storage.toml", manifest.as_bytes());
    let run = ["-q", "--config", "storage.toml", "run", "app/notes/home"];
    let mut host = Host::of(dir.command(&run));
    // Invalid, and reported.
    dir.file("storage.toml", b"quota = 1");
    send("HUP", host.child.id());
    let reload = dir.run(&["reload"]);
    assert!(reload.stderr.ends_with("; nothing was changed\n"), "{}", reload.stderr);
    dir.file("storage.toml", format!("{manifest}quota = {{ keys = 1 }}\n").as_bytes());
    send("HUP", host.child.id());
    let is_applied =
        || dir.printed(&["--json", "usage", "app/notes/home"]).contains("\"quota_keys\":1}");
    assert!((0..500).any(|_| is_applied()));
    dir.printed(&["put", "app/notes/home", "greeting", "hello"]);
    let refused = dir.run(&["put", "app/notes/home", "other", "x"]);
    assert!(refused.stderr.contains("does not fit in the quota"), "{}", refused.stderr);
    assert_eq!(host.greeting(), "hello");
    let done = host.end();
    assert_eq!(done.code, 0);
    assert!(done.stderr.starts_with("error: storage.toml: line 1"), "{}", done.stderr);
}

#[test]
fn a_host_without_a_manifest_does_not_reload() {
    let dir = TestDir::with_store("file:data");
    let none = dir.run(&["reload"]);
    let reason = "error: no running host has the store \"file:data\" open: name the host's store \
                  with --store or --config\n";
    assert_eq!((none.code, &*none.stderr), (1, reason));
    let host = Host::start(&dir, &[]);
    let refused = dir.run(&["reload"]);
    let reason = "error: the host was started without a manifest (--config), so it has no settings \
                  to read again\n";
    assert_eq!((refused.code, &*refused.stderr), (1, reason));
    assert_eq!(host.end().code, 0);
}

#[cfg(feature = "redb")]
#[test]
fn a_wipe_beside_a_host_is_seen_by_its_component() {
    let dir = TestDir::with_store("redb:data");
    let mut host = Host::start(&dir, &[]);
    dir.printed(&["put", "app/notes/home", "greeting", "hello"]);
    assert_eq!(host.greeting(), "hello");
    let done = dir.printed(&["wipe", "app/notes/home", "--yes"]);
    assert_eq!(done, "removed 1 key (13 bytes) of app/notes/home\n");
    assert_eq!(host.greeting(), "none");
}

#[cfg(feature = "redb")]
#[test]
fn a_store_is_compacted_beside_a_host() {
    let dir = TestDir::with_store("redb:data");
    let mut host = Host::start(&dir, &[]);
    let value = dir.file("value", &[b'x'; 900_000]);
    for key in ["1", "2", "3", "4"] {
        let put = format!("storage-host put app/notes/work {key} < {value}");
        assert!(dir.shell(&put).status().unwrap().success());
    }
    dir.printed(&["wipe", "app/notes/work", "--yes"]);
    dir.printed(&["put", "app/notes/home", "greeting", "hello"]);
    let size = || fs::metadata(dir.path().join("data")).unwrap().len();
    let before = size();
    let shown = dir.printed(&["--json", "compact"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let after = shown["bytes_after"].as_u64().unwrap();
    assert_eq!((shown["bytes_before"].as_u64(), after), (Some(before), size()));
    assert!(after < before, "{shown}");
    assert_eq!(shown["bytes_returned"], before - after);
    assert_eq!(host.greeting(), "hello");
    let done = host.end();
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}

#[rstest]
fn an_import_beside_a_host_is_refused(#[values("file:data", "redb:data")] store: &'static str) {
    let dir = TestDir::with_store(store);
    dir.printed(&["put", "app/notes/home", "greeting", "hello"]);
    dir.printed(&["export", "-o", "whole.ndjson"]);
    let host = Host::start(&dir, &[]);
    let refused = dir.run(&["import", "whole.ndjson"]);
    assert_eq!(refused.code, 1);
    let process = format!("process {} has it open for writing", host.child.id());
    assert!(refused.stderr.contains(&process), "{}", refused.stderr);
    let end = "; an import cannot be done by the host that has the store open\n";
    assert!(refused.stderr.ends_with(end), "{}", refused.stderr);
    assert_eq!(host.end().code, 0);
    dir.printed(&["import", "whole.ndjson"]);
}
