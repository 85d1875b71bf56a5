//! The program runs a command with the URLs of the servers.
#![cfg(unix)]
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "test support")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use test_servers::{Postgres, Redis};

/// Whether to skip a test because this machine has no server.
fn skip(missing: Option<String>) -> bool {
    if let Some(reason) = &missing {
        println!("SKIPPED: {reason}");
    }
    missing.is_some()
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_test-servers"))
}

/// Waits for something that another process does soon.
fn wait_for(what: &str, mut is_done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_command_has_the_url_of_postgres_and_its_status_is_kept() {
    if skip(Postgres::missing()) {
        return;
    }
    let status = program()
        .args(["--set", "work_mem=1MB", "--", "sh", "-c"])
        .arg("test $(psql -XAtc 'show work_mem' $STORAGE_TEST_POSTGRES_URL) = 1MB && exit 7")
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(7));
}

#[test]
fn a_command_has_the_urls_of_the_kinds_it_asks_for() {
    if skip(Redis::missing()) {
        return;
    }
    let output = program()
        .args(["--redis", "--redis-cluster", "--redis-sentinel", "--password", "secret"])
        .args(["--set", "maxmemory=50mb", "--", "sh", "-c"])
        .arg("env | grep ^STORAGE_TEST_.*_URL | sort; exit 3")
        .env_remove("STORAGE_TEST_POSTGRES_URL")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    let starts = [
        "STORAGE_TEST_REDIS_CLUSTER_URL=redis+cluster://:secret@127.0.0.1:",
        "STORAGE_TEST_REDIS_SENTINEL_URL=redis+sentinel://:secret@127.0.0.1:",
        "STORAGE_TEST_REDIS_URL=redis://:secret@127.0.0.1:",
    ];
    assert_eq!(text.lines().count(), starts.len(), "{text}");
    assert!(text.lines().zip(starts).all(|(line, start)| line.starts_with(start)), "{text}");
}

#[test]
fn settings_are_those_of_one_kind() {
    let output =
        program().args(["--postgres", "--redis", "--set", "a=b", "true"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("--set needs servers of one kind"), "{text}");
}

#[test]
fn nothing_stays_of_redis_when_the_program_is_killed() {
    if skip(Redis::missing()) {
        return;
    }
    let mut process = program()
        .args(["--redis", "--redis-cluster"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    let lines: Vec<String> = output.lines().take(2).map(Result::unwrap).collect();
    let addresses: Vec<&str> =
        lines.iter().flat_map(|line| line.split_once("://").unwrap().1.split(',')).collect();
    assert_eq!(addresses.len(), 7, "{lines:?}");
    let answers = |address: &&str| TcpStream::connect(address).is_ok();
    assert!(addresses.iter().all(answers));
    // The guard of each server has the directory of its files among its arguments.
    let guards = guards(process.id());
    assert_eq!(guards.len(), 7, "{guards:?}");
    process.kill().unwrap();
    process.wait().unwrap();
    wait_for("the servers end", || !addresses.iter().any(answers));
    wait_for("the files are removed", || !guards.iter().any(|path| path.exists()));
}

/// The directories that the children of a process guard.
fn guards(parent: u32) -> Vec<std::path::PathBuf> {
    let list = Command::new("ps").args(["-o", "args=", "--ppid", &parent.to_string()]).output();
    let list = String::from_utf8(list.unwrap().stdout).unwrap();
    let words = list.split_whitespace().filter(|word| word.contains("/test-redis-"));
    let directories = words.filter(|word| !word.ends_with("/data") && !word.ends_with(".conf"));
    directories.map(Into::into).filter(|path: &std::path::PathBuf| path.is_dir()).collect()
}
