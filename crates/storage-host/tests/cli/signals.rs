//! Signals: what was acknowledged stays, and the exit code says which signal it was.

#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use rstest::rstest;

use crate::guests::command;
use crate::support::{TestDir, started_by};

/// A component that counts, and the lines that it prints.
struct Counting {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    last: Option<String>,
}

impl Counting {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, last: None }
    }

    /// Reads this many lines, or all that are left.
    fn read(&mut self, lines: usize) {
        for line in self.lines.by_ref().take(lines) {
            self.last = Some(line.unwrap());
        }
    }

    /// Reads what is left, and sees that the command ended with this exit code and
    /// without a word. Gives the last number that was printed.
    #[track_caller]
    fn end(mut self, code: i32) -> String {
        self.read(usize::MAX);
        let output = self.child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(output.status.code(), Some(code), "{}", output.status);
        self.last.unwrap()
    }
}

pub(crate) fn send(signal: &str, process: u32) {
    let sent = Command::new("kill").args(["-s", signal, &process.to_string()]).status();
    assert!(sent.unwrap().success());
}

fn counting(dir: &TestDir, store: &str) -> Command {
    let file = dir.component("counter");
    dir.command(&["--quiet", "--store", store, "run", "--id", "a/b/c", &file])
}

#[rstest]
fn a_signal_loses_nothing_that_was_acknowledged(
    #[values(("TERM", 143), ("INT", 130), ("HUP", 129))] signal: (&str, i32),
    #[values("redb:data?durability=relaxed", "file:data?durability=os")] store: &str,
) {
    let dir = TestDir::new();
    let (name, code) = signal;
    let mut counting = Counting::start(counting(&dir, store));
    counting.read(50);
    send(name, counting.child.id());
    let printed = counting.end(code);
    let stored = dir.printed(&["--store", store, "get", "a/b/c", "count"]);
    // One more may have been stored and not printed any more.
    assert!(stored >= printed, "stored {stored}, printed {printed}");
    // Nothing is damaged.
    dir.printed(&["--store", store, "verify"]);
}

#[test]
fn every_instance_is_stopped() {
    let dir = TestDir::new();
    let store = "redb:data?durability=relaxed";
    let mut started = dir.command(&["--quiet", "--store", store, "run", "--id", "a/b/c"]);
    started.args(["--instances", "4", &dir.component("counter")]);
    let mut counting = Counting::start(started);
    counting.read(50);
    send("TERM", counting.child.id());
    counting.end(143);
    // The lock is free at once.
    dir.printed(&["--store", store, "put", "a/b/c", "key", "value"]);
}

/// Waits until a command handles signals; until then the default action ends it.
fn wait_for_handlers(child: &Child) {
    let handles_signals = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        // SIGTERM is 15, counted from 1.
        u64::from_str_radix(mask.trim(), 16).unwrap() >> 14 & 1 == 1
    };
    while !handles_signals() {
        std::thread::yield_now();
    }
}

#[test]
fn a_signal_ends_a_component_that_calls_no_storage() {
    if !cfg!(target_os = "linux") {
        return println!("SKIPPED an endless component: Linux tells when it can be ended");
    }
    let dir = TestDir::new();
    dir.file("endless.wasm", &command("", "(loop $again (br $again)) (i32.const 0)", ""));
    for instances in ["1", "3"] {
        let mut child = dir
            .command(&["-q", "run", "--id", "a/b/c", "--instances", instances, "endless.wasm"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_handlers(&child);
        // Its store is there, and so is the lock.
        while child.try_wait().unwrap().is_none() && !dir.has_store() {
            std::thread::yield_now();
        }
        send("TERM", child.id());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(output.status.code(), Some(143), "{}", output.status);
    }
}

#[test]
fn a_command_that_waits_for_input_ends_and_stores_nothing() {
    if !cfg!(target_os = "linux") {
        return println!("SKIPPED a command that waits for input: Linux tells whether it does");
    }
    let dir = TestDir::new();
    let mut child = dir
        .command(&["put", "a/b/c", "key"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_handlers(&child);
    send("TERM", child.id());
    let input = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(input);
    assert_eq!(output.status.code(), Some(143), "{}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(!dir.has_store());
}

#[test]
fn a_signal_that_was_ignored_before_stays_ignored() {
    if !cfg!(target_os = "linux") {
        return println!("SKIPPED ignored signals: they are known on Linux alone");
    }
    let dir = TestDir::new();
    let inner = counting(&dir, "redb:data?durability=relaxed");
    let nohup = started_by(&["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"], &inner);
    let mut counting = Counting::start(nohup);
    counting.read(10);
    send("HUP", counting.child.id());
    counting.read(1_000);
    send("TERM", counting.child.id());
    counting.end(143);
}

#[test]
fn process_1_ends_in_order() {
    let dir = TestDir::new();
    let store = "redb:data?durability=relaxed";
    let inner = counting(&dir, store);
    let command = started_by(&["unshare", "--pid", "--fork"], &inner);
    let can = Command::new("unshare").args(["--pid", "--fork", "true"]).output();
    if !can.as_ref().is_ok_and(|output| output.status.success()) {
        return println!("SKIPPED process 1: no process namespace: {can:?}");
    }
    let mut counting = Counting::start(command);
    counting.read(50);
    let parent = counting.child.id();
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let Ok(Ok(process)) = children.map(|children| children.trim().parse::<u32>()) else {
        counting.child.kill().unwrap();
        return println!("SKIPPED process 1: its number is not known");
    };
    send("TERM", process);
    let printed = counting.end(143);
    let stored = dir.printed(&["--store", store, "get", "a/b/c", "count"]);
    assert!(stored >= printed, "stored {stored}, printed {printed}");
}

#[test]
fn a_closed_output_ends_a_component_quietly() {
    let dir = TestDir::new();
    dir.component("counter");
    dir.assert_transcript("closed_output");
}
