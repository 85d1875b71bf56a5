//! Stores on a server: commands on them, and that no password is shown.

use std::process::Stdio;

use rstest::rstest;

use crate::server::{Engine, empty};
use crate::support::{Done, TestDir};

#[rstest]
#[cfg_attr(feature = "postgres", case::postgres(Engine::Postgres))]
#[cfg_attr(feature = "redis", case::redis(Engine::Redis))]
#[cfg_attr(feature = "redis", case::redis_sentinel(Engine::RedisSentinel))]
fn commands_work_on_a_server_and_copies_go_both_ways(#[case] engine: Engine) {
    let (Some(from), Some(to)) = (engine.url("from"), engine.url("to")) else { return };
    let dir = TestDir::new();
    dir.printed(&["--store", &from, "put", "app/notes/home", "a", "value"]);
    dir.printed(&["--store", &from, "put", "app/notes/work", "b", "value"]);
    assert_eq!(dir.printed(&["--store", &from, "components"]), "app/notes/home\napp/notes/work\n");
    dir.run(&["copy", "--from", &from, "--to", "file:copy"]);
    dir.printed(&["copy", "--from", "file:copy", "--to", &to]);
    assert_eq!(dir.printed(&["--store", &to, "get", "app/notes/work", "b"]), "value");
    let verified = dir.printed(&["--store", &to, "verify"]);
    assert!(verified.starts_with("no problems found: 2 keys of 2 components"), "{verified}");
    let doctor = dir.printed(&["--store", &to, "doctor"]);
    let server = if engine == Engine::Postgres { "PostgreSQL " } else { "Redis " };
    assert!(doctor.contains(&format!("server         {server}")), "{doctor}");
    let same = dir.run(&["copy", "--from", &to, "--to", &to]);
    assert!(same.code == 2 && same.stderr.contains("are the same store"), "{}", same.stderr);
    empty(&from);
    empty(&to);
}

#[rstest]
#[cfg_attr(feature = "postgres", case::postgres(Engine::Postgres))]
#[cfg_attr(feature = "redis", case::redis(Engine::Redis))]
#[cfg_attr(feature = "redis", case::redis_sentinel(Engine::RedisSentinel))]
#[cfg_attr(feature = "redis", case::redis_cluster(Engine::RedisCluster))]
fn a_missing_store_on_a_server_is_not_a_problem(#[case] engine: Engine) {
    let Some(url) = engine.store("test_cli_missing") else { return };
    let dir = TestDir::new();
    let text = dir.printed(&["--store", &url, "doctor"]);
    assert!(text.contains("does not exist yet; the first write creates it"), "{text}");
    let done = dir.run(&["--store", &url, "--json", "doctor"]);
    assert!(done.stdout.contains("\"exists\":false"), "{}", done.stdout);
    assert_eq!(done.code, 0, "{}", done.stderr);
}

/// Each URL has the password `hunter2` and a server that does not answer, or is invalid.
#[rstest]
#[cfg_attr(feature = "postgres", case::postgres(
    "postgres://ada:hunter2@127.0.0.1:1/apps",
    &["postgres:ada:hunter2@127.0.0.1/d", "postgres://ada:hunter2@127.0.0.1/"],
    "schema=NO"
))]
#[cfg_attr(feature = "redis", case::redis(
    "redis://:hunter2@127.0.0.1:1/0",
    &["redis:ada:hunter2@127.0.0.1", "redis://127.0.0.1:hunter2", "redis://:hunter2@h/x"],
    "prefix=NO"
))]
#[cfg_attr(feature = "redis", case::rediss(
    "rediss://ada:hunter2@127.0.0.1:1",
    &["rediss:/ada:hunter2@127.0.0.1", "rediss://ada:hunter2@"],
    "sslmode=no"
))]
#[cfg_attr(feature = "redis", case::redis_cluster(
    "redis+cluster://ada:hunter2@127.0.0.1:1,[::1]:1",
    &["redis+cluster://ada:hunter2@h1,h2/7", "redis+cluster:ada:hunter2@h1,h2"],
    "wait=no"
))]
#[cfg_attr(feature = "redis", case::redis_sentinel(
    "redis+sentinel://ada:hunter2@127.0.0.1:1/main",
    &["redis+sentinel://ada:hunter2@127.0.0.1:1", "redis+sentinel:///ada:hunter2@h1/main"],
    "total_timeout_ms=0"
))]
fn no_password_is_shown(#[case] closed: &str, #[case] invalid: &[&str], #[case] setting: &str) {
    let dir = TestDir::new();
    let with = |setting: &str| format!("{closed}?{setting}");
    // A server that does not answer is given up soon.
    let closed = &with("connect_timeout_ms=1000&total_timeout_ms=1000");
    let mut commands: Vec<Vec<&str>> = vec![
        vec!["--store", closed, "components"],
        vec!["--store", closed, "--json", "components"],
        vec!["--store", closed, "doctor"],
        vec!["--store", closed, "--json", "doctor"],
        vec!["--store", closed, "verify"],
        vec!["--store", closed, "demo"],
        vec!["copy", "--from", closed, "--to", "file:a"],
        vec!["--config", "storage.toml", "components"],
    ];
    let (with_setting, unknown) = (with(setting), with("x=y"));
    for url in invalid.iter().copied().chain([&*with_setting]) {
        commands.push(vec!["--store", url, "components"]);
        commands.push(vec!["--store", url, "--json", "doctor"]);
    }
    commands.push(vec!["copy", "--from", &unknown, "--to", "file:a"]);
    commands.push(vec!["copy", "--from", "file:a", "--to", &unknown]);
    let manifest = format!("store = {:?}\n", invalid[0]);
    std::fs::write(dir.path().join("storage.toml"), manifest).unwrap();
    for arguments in commands {
        let output = dir.command(&arguments).env("STORAGE_HOST_LOG", "trace").output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        let shown = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!shown.contains("hunter2"), "{arguments:?}: {shown}");
    }
    for url in invalid.iter().copied().chain([&**closed]) {
        let mut command = dir.command(&["--store", "file:a", "doctor"]);
        let output = command.env("STORAGE_HOST_STORE", url).output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        let text = if url == closed { "names another store" } else { "is invalid" };
        assert!(shown.contains(text) && !shown.contains("hunter2"), "{shown}");
    }
}

/// Two processes with eight instances each.
#[rstest]
#[cfg_attr(feature = "postgres", case::postgres(Engine::Postgres))]
#[cfg_attr(feature = "redis", case::redis(Engine::Redis))]
#[cfg_attr(feature = "redis", case::redis_sentinel(Engine::RedisSentinel))]
#[cfg_attr(feature = "redis", case::redis_cluster(Engine::RedisCluster))]
fn increments_of_two_processes_are_all_counted(#[case] engine: Engine) {
    count_increments(engine, 25);
}

#[rstest]
#[cfg_attr(feature = "postgres", case::postgres(Engine::Postgres))]
#[cfg_attr(feature = "redis", case::redis(Engine::Redis))]
#[ignore = "10,000 increments take minutes on a slow disk"]
fn many_increments_of_two_processes_are_all_counted(#[case] engine: Engine) {
    count_increments(engine, 625);
}

fn count_increments(engine: Engine, times: u32) {
    const INSTANCES: u32 = 8;
    const ID: &str = "app/counter/main";
    let Some(store) = engine.url("increments") else { return };
    let dir = TestDir::new();
    let text =
        include_str!("data/increments.wat").replace("const TIMES", &format!("const {times}"));
    let component = dir.file("increments.wasm", &wat::parse_str(text).unwrap());
    let instances = INSTANCES.to_string();
    let run = ["--store", &store, "run", "--id", ID, "--instances", &instances, &component];
    let processes = [(); 2].map(|()| {
        let mut command = dir.command(&run);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for process in processes {
        let done = Done::of(process.wait_with_output().unwrap());
        assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    }
    let counted = dir.printed(&["--store", &store, "get", ID, "n"]);
    assert_eq!(counted, (2 * INSTANCES * times).to_string());
    empty(&store);
}
