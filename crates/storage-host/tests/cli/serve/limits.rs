//! Clients and components that take too much or too long.

use std::io::Read;
use std::net::TcpStream;

use super::client::{Client, ask};
use super::{Server, component, responder};
use crate::support::TestDir;

/// More than what the buffers of two sockets hold.
const MUCH: usize = 64 << 20;

#[test]
fn a_request_beyond_the_limits_is_503_and_other_components_are_not_affected() {
    let dir = TestDir::new();
    let http = "[http]\ncomponent_requests = 1\nrequests = 2\nqueue_timeout = 0\n";
    let components: String = ["/one", "/two", "/three"]
        .map(|path| component(&format!("a/b{path}"), "responder", path))
        .concat();
    let server = Server::of_manifest(&dir, &(http.to_owned() + &components));
    // An instance that waits for its client.
    let begin = |path: &str| {
        let mut client = Client::new(server.address);
        client.ask("GET", &format!("{path}/stream?{MUCH}"), &[], b"");
        assert_eq!(client.head().unwrap().status, 200);
        client
    };
    let _one = begin("/one");
    let refused = server.get("/one/target");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(server.get("/two/target").status, 200);
    // The limit of all.
    let two = begin("/two");
    assert_eq!(server.get("/three/target").status, 503);
    drop(two);
    while server.get("/three/target").status == 503 {}
    assert_eq!(server.get("/three/target").status, 200);
    server.signal("KILL");
}

#[test]
fn a_request_waits_for_another_to_end() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &responder("requests = 1\nqueue_timeout = 600"));
    let mut first = Client::new(server.address);
    first.ask("GET", &format!("/stream?{MUCH}"), &[], b"");
    let mut begun = first.head().unwrap();
    let mut second = Client::new(server.address);
    second.ask("GET", "/target", &[], b"");
    first.body(&mut begun);
    assert!(begun.is_complete && begun.body.len() == MUCH);
    assert_eq!(second.answer().unwrap().status, 200);
    drop((first, second));
    assert_eq!(server.stop(), "");
}

#[test]
fn a_component_that_does_not_end_is_504() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &responder("guest_timeout = 0.3"));
    let waiting: Vec<Client> = (0..8)
        .map(|number| {
            let mut client = Client::new(server.address);
            client.ask("GET", if number % 2 == 0 { "/spin" } else { "/sleep" }, &[], b"");
            client
        })
        .collect();
    // Meanwhile.
    assert_eq!(server.get("/add?1").text(), "1");
    for mut client in waiting {
        let answer = client.answer().unwrap();
        assert_eq!(answer.status, 504);
        assert!(answer.text().starts_with("no answer in time (incident "));
    }
    assert_eq!(server.get("/add?1").text(), "2");
    let said = server.stop();
    assert_eq!(said.matches("it ran longer than its timeout").count(), 8, "{said}");
}

#[test]
fn a_large_body_is_413_and_never_in_memory() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &responder("body_bytes = 100_000"));
    let body = vec![b'x'; 100_000];
    assert_eq!(server.post("/echo", &body).body.len(), body.len());
    // By its length, before any of it is sent.
    let mut client = Client::new(server.address);
    client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n");
    assert_eq!(client.head().unwrap().status, 413);
    // And without one.
    let mut client = Client::new(server.address);
    client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..11 {
        client.send(format!("2710\r\n{}\r\n", "x".repeat(10_000)).as_bytes());
    }
    assert_eq!(client.head().unwrap().status, 413);
    assert_eq!(server.stop(), "");
}

/// The most memory that the server has used so far, in bytes.
#[cfg(target_os = "linux")]
fn peak(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() << 10
}

#[test]
#[cfg(target_os = "linux")]
fn what_the_host_keeps_for_requests_that_are_not_sent_is_bounded() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &responder("memory_bytes = 16_777_216"));
    assert_eq!(server.get("/target").status, 200);
    let before = peak(&server);
    // It ends when it has all handles.
    assert_eq!(server.get("/hoard").status, 500);
    let grown = peak(&server) - before;
    assert!(grown < 16_777_216 + (64 << 20), "{} MiB", grown >> 20);
    server.stop();
}

#[test]
fn large_headers_are_431() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &responder("header_bytes = 8_192"));
    let header = format!("X: {}", "x".repeat(6_000));
    assert_eq!(ask(server.address, "GET", "/target", &[&header], b"").status, 200);
    let header = format!("X: {}", "x".repeat(9_000));
    assert_eq!(ask(server.address, "GET", "/target", &[&header], b"").status, 431);
    assert_eq!(server.stop(), "");
}

#[test]
fn slow_and_idle_clients_are_disconnected() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &responder("header_timeout = 0.2\nrequest_timeout = 1"));
    // Of the headers, none, some, or those of a second request do not arrive.
    let mut clients = Vec::new();
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\nHost:", b"GET /target HTTP/1.1\r\nHost: a\r\n\r\n"]
    {
        let mut client = Client::new(server.address);
        client.send(bytes);
        clients.push(client);
    }
    let [mut none, mut some, mut idle] = clients.try_into().ok().unwrap();
    assert!(none.head().is_none() && some.head().is_none());
    assert_eq!(idle.answer().unwrap().status, 200);
    assert!(idle.head().is_none());
    // A body that does not arrive.
    let mut client = Client::new(server.address);
    client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12");
    assert_eq!(client.head().unwrap().status, 504);
    server.stop();
}

#[test]
fn a_client_that_reads_nothing_is_disconnected() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &responder("connections = 1\nrequest_timeout = 0.5"));
    let mut first = Client::new(server.address);
    first.ask("GET", &format!("/stream?{MUCH}"), &[], b"");
    let mut begun = first.head().unwrap();
    // Accepted when the first connection has ended.
    assert_eq!(server.get("/target").status, 200);
    first.body(&mut begun);
    assert!(!begun.is_complete);
    server.stop();
}

#[test]
fn idle_connections_delay_no_one() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &responder(""));
    let idle: Vec<TcpStream> =
        (0..1_000).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    for sum in ["1", "2", "3"] {
        assert_eq!(server.get("/add?1").text(), sum);
    }
    assert_eq!(server.stop(), "");
    for mut stream in idle {
        // Closed by the server.
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
}

#[test]
fn a_connection_beyond_the_limit_waits() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &responder("connections = 1\nheader_timeout = 600"));
    let mut first = Client::new(server.address);
    first.ask("GET", "/target", &[], b"");
    assert_eq!(first.answer().unwrap().status, 200);
    let mut second = Client::new(server.address);
    second.ask("GET", "/target", &[], b"");
    first.ask("GET", "/add?1", &[], b"");
    assert_eq!(first.answer().unwrap().text(), "1");
    drop(first);
    assert_eq!(second.answer().unwrap().status, 200);
    drop(second);
    assert_eq!(server.stop(), "");
}
