//! Hostile clients and components: others are answered meanwhile, and memory is bounded.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::client::Client;
use super::{Server, component};
use crate::support::TestDir;

/// More than what the buffers of two sockets hold.
const MUCH: usize = 64 << 20;

/// In MiB: what a debug build takes with 1,000 connections, which is 70, the memory that the
/// tests allow all instances, which is at most 256, and some more. Without limits these clients
/// and components make it take gigabytes.
const MOST: u64 = 400;

/// Two components: clients attack one and use the other.
fn two(http: &str) -> String {
    format!("[http]\n{http}\n")
        + &component("a/bad/1", "responder", "/bad")
        + &component("a/good/1", "responder", "/good")
}

/// Looks at the most memory that the server has had. Only Linux tells.
#[track_caller]
fn assert_memory_is_bounded(server: &Server) {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())) else {
        return;
    };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let resident: u64 = line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap();
    assert!(resident >> 10 <= MOST, "{} MiB", resident >> 10);
}

/// The other component answers, and has seen exactly these requests.
#[track_caller]
fn assert_others_are_answered(server: &Server, before: u32) {
    for sum in before + 1..=before + 5 {
        let answer = server.get("/good/add?1");
        assert_eq!((answer.status, answer.text()), (200, sum.to_string()));
    }
}

#[test]
fn every_attack_at_once() {
    let dir = TestDir::new();
    let http = "header_timeout = 60\ncomponent_requests = 64\n\
                total_memory_bytes = 268_435_456\nmemory_bytes = 67_108_864";
    let server = Server::of_manifest(&dir, &two(http));
    let address = server.address;
    let connect = || TcpStream::connect(address).unwrap();
    let idle: Vec<TcpStream> = (0..1_000).map(|_| connect()).collect();
    assert_others_are_answered(&server, 0);

    // Headers that grow, one byte after the other, and bodies of which only the beginning comes.
    let is_over = Arc::new(AtomicBool::new(false));
    let drip = {
        let is_over = Arc::clone(&is_over);
        let mut slow: Vec<TcpStream> = (0..50).map(|_| connect()).collect();
        thread::spawn(move || {
            for byte in b"GET /bad/target HTTP/1.1\r\nX: ".iter().chain(&[b'x'; 1 << 14]) {
                for stream in &mut slow {
                    // It may be closed.
                    let _ = stream.write_all(&[*byte]);
                }
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
        })
    };
    let begin = |path: &str, headers: &[&str]| {
        let mut client = Client::new(address);
        client.ask("GET", path, headers, b"");
        client
    };
    let mut attackers = Vec::new();
    for number in 0..8 {
        let mut body = Client::new(address);
        body.send(b"POST /bad/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nx");
        attackers.push(body);
        // A client that reads nothing, and components that do not end.
        for path in [&format!("/bad/stream?{MUCH}"), "/bad/sleep", "/bad/spin"] {
            attackers.push(begin(path, &[]));
        }
        // Components that fail.
        for path in ["/bad/trap", "/bad/late-trap", "/bad/silent", "/bad/exit", "/bad/grow"] {
            attackers.push(begin(path, &["Connection: close"]));
        }
        assert_others_are_answered(&server, 5 + 5 * number);
    }
    assert_memory_is_bounded(&server);
    drop(attackers);
    is_over.store(true, Ordering::SeqCst);
    drip.join().unwrap();
    assert_others_are_answered(&server, 45);
    drop(idle);
    assert_memory_is_bounded(&server);
    server.signal("KILL");
    server.ended(-1);
}

#[test]
fn headers_that_come_byte_by_byte_end_with_the_timeout() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &two("header_timeout = 0.3"));
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    stream.write_all(b"GET /good/target HTTP/1.1\r\nHost: a\r\nX: ").unwrap();
    // Each byte is in time, but not the headers.
    let is_closed = (0..100_000).any(|_| {
        let _ = stream.write_all(b"x");
        match stream.read(&mut [0; 1]) {
            Ok(0) => true,
            Ok(_) => panic!("an answer to a request without an end"),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    });
    assert!(is_closed);
    assert_others_are_answered(&server, 0);
    assert_eq!(server.stop(), "");
}

#[test]
fn the_rest_of_a_body_that_is_too_large_is_not_a_request() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &two("body_bytes = 100_000"));
    let hidden = b"GET /good/add?1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let body = hidden.repeat(200_000 / hidden.len());
    let len = body.len();
    let chunk = format!("{len:x}\r\n");
    for (head, body) in [
        (format!("Content-Length: {len}"), body.clone()),
        (
            "Transfer-Encoding: chunked".to_owned(),
            [chunk.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat(),
        ),
    ] {
        for path in ["/good/echo", "/good/target"] {
            let mut client = Client::new(server.address);
            client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n").as_bytes());
            client.send(&body);
            let first = client.answer();
            // One who did not read the body may have answered.
            assert!(first.is_none_or(|first| [200, 413].contains(&first.status)));
            client.ask("GET", "/good/target", &[], b"");
            // The connection is closed, or the next answer is that of the next request.
            if let Some(next) = client.answer() {
                assert_eq!(next.text(), "localhost /good/target");
            }
        }
    }
    assert_eq!(server.get("/good/add?0").text(), "0");
    assert_memory_is_bounded(&server);
    assert_eq!(server.stop(), "");
}

/// A request of which the component keeps 40 MiB until the client closes.
fn hold(address: SocketAddr, path: &str) -> (Client, super::Answer) {
    let mut client = Client::new(address);
    client.ask("GET", &format!("{path}/hold?{}", 40 << 20), &[], b"");
    let mut answer = client.head().unwrap();
    if answer.status != 200 {
        client.body(&mut answer);
    }
    (client, answer)
}

#[test]
fn the_memory_of_all_instances_is_bounded_and_a_component_gets_at_most_half() {
    let dir = TestDir::new();
    let http = "total_memory_bytes = 134_217_728\nmemory_bytes = 67_108_864\n";
    let manifest = two(http) + &component("a/other/1", "responder", "/other");
    let server = Server::of_manifest(&dir, &manifest);
    let held = |path: &str| {
        let (client, answer) = hold(server.address, path);
        assert_eq!(answer.status, 200, "{path}");
        client
    };
    let refused = |path: &str| {
        let (_, answer) = hold(server.address, path);
        assert_eq!(answer.status, 503, "{path}");
        assert_eq!(answer.headers["retry-after"], "1");
        assert!(answer.text().starts_with("too little memory (incident "), "{}", answer.text());
    };
    let bad = held("/bad");
    // It has 24 MiB left, and all together have 88.
    refused("/bad");
    let good = held("/good");
    let other = held("/other");
    refused("/other");
    // Small ones still fit.
    assert_eq!(server.get("/bad/target").status, 200);
    assert_eq!(server.get("/good/add?1").text(), "1");
    assert_memory_is_bounded(&server);
    // What an instance has taken is free when it has ended.
    drop((bad, other));
    while hold(server.address, "/bad").1.status == 503 {}
    while hold(server.address, "/other").1.status == 503 {}
    server.signal("TERM");
    // The one that is left.
    drop(good);
    let said = server.ended(143);
    assert!(said.contains("all instances together would be larger than allowed"), "{said}");
    assert!(said.contains("(67108864 bytes)"), "{said}");
}

#[test]
fn the_only_component_gets_all_the_memory() {
    let dir = TestDir::new();
    let manifest = super::responder("total_memory_bytes = 100_000_000\nmemory_bytes = 67_108_864");
    let server = Server::of_manifest(&dir, &manifest);
    let (one, answer) = hold(server.address, "");
    assert_eq!(answer.status, 200);
    let (other, answer) = hold(server.address, "");
    assert_eq!(answer.status, 200);
    assert_eq!(hold(server.address, "").1.status, 503);
    drop((one, other));
    assert!(server.stop().contains("(100000000 bytes)"));
}
