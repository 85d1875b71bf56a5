//! A process that uses the library, and a signal.

#![cfg(all(feature = "signals", unix))]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do, and what is skipped is said"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use storage_core::conformance::ReferenceStorage;
use storage_host::{
    ComponentStorage, StorageError, StorageHost, StorageValue, Store, StoreProperties,
    forward_storage, signals,
};

/// Long enough that a test that waits for it has failed.
const FOREVER: Duration = Duration::from_secs(3_600);

/// Storage whose writes say that they have begun and then do not end.
struct Hangs(ReferenceStorage);

impl ComponentStorage for Hangs {
    forward_storage!(self => self.0; get, delete, exists, list_keys);

    fn set(&self, _key: &str, _value: StorageValue) -> Result<(), StorageError> {
        println!("writing");
        thread::sleep(FOREVER);
        Ok(())
    }
}

impl Store for Hangs {
    fn properties(&self) -> StoreProperties {
        self.0.properties()
    }
}

#[test]
#[ignore = "the process that the other tests start"]
fn process() {
    let within: u64 = std::env::var("WITHIN").unwrap().parse().unwrap();
    let host = StorageHost::new(Arc::new(Hangs(ReferenceStorage::new())));
    let ending = host.clone();
    signals::on_termination(move |signal| {
        println!("ending {signal}");
        let ended = ending.shut_down(Duration::from_secs(within));
        println!("ended {}", ended.is_ok());
    })
    .unwrap();
    let storage = host.component(&"a/b/c".parse().unwrap());
    storage.set("key", "value".into()).unwrap();
}

fn start(within: u64) -> (Child, mpsc::Receiver<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "process", "--nocapture"])
        .env("WITHIN", within.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (send, receive) = mpsc::channel();
    thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
    (child, receive)
}

fn wait_for(lines: &mpsc::Receiver<String>, wanted: &str) {
    while !lines.recv().unwrap().ends_with(wanted) {}
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

#[test]
fn a_stuck_write_does_not_prevent_the_end() {
    let (mut child, lines) = start(1);
    wait_for(&lines, "writing");
    send("TERM", &child);
    wait_for(&lines, "ending SIGTERM");
    wait_for(&lines, "ended false");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let (mut child, lines) = start(FOREVER.as_secs());
    wait_for(&lines, "writing");
    send("INT", &child);
    wait_for(&lines, "ending SIGINT");
    // A signal right after the first belongs to the same request, so more are sent.
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let _ = Command::new("kill").args(["-s", "HUP", &child.id().to_string()]).output();
        thread::yield_now();
    };
    assert_eq!(status.code(), Some(129));
    assert!(lines.iter().all(|line| !line.contains("ended")));
}
