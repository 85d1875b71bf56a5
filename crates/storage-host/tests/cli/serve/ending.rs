//! The end of a server: what was accepted is answered, and what was acknowledged is stored.

use std::io::Read;
use std::net::TcpStream;
use std::thread;

use super::client::Client;
use super::{Server, component, responder};
use crate::support::TestDir;

const MUCH: usize = 64 << 20;

#[test]
fn a_request_in_progress_is_answered_and_no_other_is_accepted() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &responder(""));
    let mut client = Client::new(server.address);
    client.ask("GET", &format!("/stream?{MUCH}"), &[], b"");
    let mut begun = client.head().unwrap();
    server.signal("TERM");
    // Until the server no longer listens.
    while TcpStream::connect(server.address).is_ok() {}
    client.body(&mut begun);
    assert!(begun.is_complete && begun.body.len() == MUCH);
    assert!(client.head().is_none());
    assert_eq!(server.ended(143), "");
}

#[test]
fn every_request_of_clients_that_send_without_pause_is_answered() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &responder(""));
    let address = server.address;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = Client::new(address);
            let send = move || {
                let mut answered = 0;
                loop {
                    client.ask("GET", "/add?1", &[], b"");
                    // The last answer says so.
                    let answer = client.answer().expect("a request was not answered");
                    assert_eq!(answer.status, 200);
                    answered += 1;
                    if answer.headers.get("connection").is_some_and(|value| value == "close") {
                        return answered;
                    }
                }
            };
            thread::spawn(send)
        })
        .collect();
    while server.get("/add?0").text().parse::<u32>().unwrap() < 50 {}
    server.signal("INT");
    let answered: u32 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(server.ended(130), "");
    let sum = dir.printed(&["--store=redb:data.redb", "get", "a/responder/1", "sum"]);
    assert_eq!(sum, answered.to_string());
}

#[test]
fn requests_that_take_too_long_are_ended() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &responder("drain_timeout = 0.2"));
    let mut client = Client::new(server.address);
    client.ask("GET", "/add-and-sleep?1", &[], b"");
    let mut other = Client::new(server.address);
    other.ask("GET", &format!("/stream?{MUCH}"), &[], b"");
    other.head().unwrap();
    server.signal("TERM");
    let said = server.ended(143);
    // A note, which --quiet suppresses.
    assert_eq!(said, "");
    assert!(client.head().is_none());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let dir = TestDir::new();
    let server =
        Server::of_manifest(&dir, &responder("drain_timeout = 3600\nguest_timeout = 3600"));
    let mut client = Client::new(server.address);
    client.ask("GET", &format!("/stream?{MUCH}"), &[], b"");
    client.head().unwrap();
    server.signal("TERM");
    while TcpStream::connect(server.address).is_ok() {}
    // Another request of the user, and not a part of the first, after 200 ms: a loop ends it
    // as soon as that is over.
    let mut child = server.child;
    while child.try_wait().unwrap().is_none() {
        let id = child.id().to_string();
        let _ = std::process::Command::new("kill").args(["-s", "TERM", &id]).output();
    }
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let mut rest = String::new();
    child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn every_acknowledged_write_survives_a_kill() {
    let dir = TestDir::new();
    let manifest = component("a/responder/1", "responder", "/");
    let mut acknowledged = 0;
    for round in 0..5 {
        let server = Server::of_manifest(&dir, &manifest);
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let mut client = Client::new(server.address);
                thread::spawn(move || {
                    let mut count = 0_u64;
                    loop {
                        client.ask("GET", "/add?1", &[], b"");
                        match client.answer() {
                            Some(answer) if answer.is_complete => count += 1,
                            _ => return count,
                        }
                    }
                })
            })
            .collect();
        let at_least = acknowledged + 10 + 5 * round;
        while server.get("/add?0").text().parse::<u64>().unwrap() < at_least {}
        server.signal("KILL");
        acknowledged += clients.into_iter().map(|client| client.join().unwrap()).sum::<u64>();
        server.ended(-1);
        let sum = dir.printed(&["--store=redb:data.redb", "get", "a/responder/1", "sum"]);
        let stored: u64 = sum.parse().unwrap();
        // Of each client one more may be stored that was not acknowledged.
        assert!((acknowledged..=acknowledged + 4 * (round + 1)).contains(&stored), "{stored}");
    }
}

#[test]
fn a_request_that_the_client_gives_up_leaves_the_store_and_the_quota_exact() {
    let dir = TestDir::new();
    let quota = "quota = { bytes = 100_000 }\n";
    let server = Server::of_manifest(&dir, &(responder("") + quota));
    // Gone at different points: the write is made or not, and then the guest sleeps.
    for number in 0..100 {
        let mut client = Client::new(server.address);
        client.ask("GET", "/add-and-sleep?1", &[], b"");
        if number % 2 == 0 {
            server.get("/target");
        }
        drop(client);
    }
    // No instance is left, or these would wait for the permits of those.
    for _ in 0..40 {
        assert_eq!(server.get("/target").status, 200);
    }
    let sum = server.get("/add?0").text();
    assert_eq!(server.stop(), "");
    assert!(sum.parse::<u32>().unwrap() <= 100);
    let store = "--store=redb:data.redb";
    assert_eq!(dir.printed(&[store, "get", "a/responder/1", "sum"]), sum);
    let usage = dir.printed(&["--json", "--config", "storage.toml", "usage", "a/responder/1"]);
    let bytes = "sum".len() + sum.len();
    assert!(usage.contains(&format!("\"used_bytes\":{bytes},")), "{usage}");
    dir.printed(&[store, "verify"]);
}
