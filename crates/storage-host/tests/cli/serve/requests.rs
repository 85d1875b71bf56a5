//! Which component gets a request, and what the client and the operator are told.

use rstest::rstest;

use super::client::{Client, ask};
use super::{Server, component, responder};
use crate::support::{TestDir, guest};

#[test]
fn the_longest_prefix_of_the_host_gets_the_request() {
    let dir = TestDir::new();
    let wasm = guest("responder");
    let one = |id: &str, routes: &str| {
        format!("[[component]]\nid = '{id}'\nwasm = '{wasm}'\nroutes = [{routes}]\n")
    };
    let manifest = one("a/b/root", "{ path = '/x' }, { host = 'B.example', path = '/' }")
        + &one("a/b/deep", "{ path = '/x/deep/' }");
    let server = Server::of_manifest(&dir, &manifest);
    let sum = |host: &str, path: &str| {
        ask(server.address, "GET", path, &[&format!("Host: {host}")], b"").text()
    };
    // Each component has its own sum.
    assert_eq!(sum("localhost", "/x/add?1"), "1");
    assert_eq!(sum("b.EXAMPLE:8080", "/add?1"), "2");
    assert_eq!(sum("localhost", "/x/deep/add?10"), "10");
    assert_eq!(sum("localhost", "/x/deeper/add?1"), "3");
    assert_eq!(sum("c.example", "/add?1"), "not found\n");
    // The prefix is not stripped.
    let target = ask(server.address, "GET", "/x/target?q=1", &["Host: localhost:1"], b"");
    assert_eq!(target.text(), "localhost:1 /x/target?q=1");
    let missing = server.get("/xx");
    assert_eq!((missing.status, missing.text().as_str()), (404, "not found\n"));
    assert_eq!(server.stop(), "");
}

#[rstest]
#[case(b"GET / HTTP/1.1\r\n\r\n", 400)]
#[case(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400)]
#[case(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400)]
#[case(b"GET / HTTP/1.1\r\nHost: x@a\r\n\r\n", 400)]
#[case(b"GET http://x@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400)]
#[case(b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400)]
#[case(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501)]
#[case(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 404)]
#[case(b"\x16\x03\x01 no HTTP\r\n\r\n", 400)]
fn a_request_that_is_not_valid_is_refused(#[case] bytes: &[u8], #[case] status: u16) {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &responder(""));
    let mut client = Client::new(server.address);
    client.send(bytes);
    assert_eq!(client.head().unwrap().status, status);
    assert_eq!(server.stop(), "");
}

#[test]
fn one_component_gets_all_requests_and_connections_are_reused() {
    let dir = TestDir::new();
    let store = "--store=redb:data.redb";
    let server = Server::start(&dir, &[store, "--id", "a/b/c", &guest("responder")]);
    let mut client = Client::new(server.address);
    for sum in ["1", "2", "3"] {
        client.ask("GET", "/any/add?1", &[], b"");
        assert_eq!(client.answer().unwrap().text(), sum);
    }
    client.ask("POST", "/echo", &[], b"a body\0");
    assert_eq!(client.answer().unwrap().body, b"a body\0");
    client.ask("HEAD", "/target", &[], b"");
    assert_eq!(client.head().unwrap().status, 200);
    drop(client);
    assert_eq!(server.stop(), "");
    assert_eq!(dir.printed(&[store, "get", "a/b/c", "sum"]), "3");
}

#[test]
fn a_component_that_fails_is_500_with_the_number_of_an_incident_and_others_continue() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &responder("memory_bytes = 33_554_432"));
    let mut answers = Vec::new();
    for path in ["/trap", "/exit", "/silent", "/refuse", "/grow"] {
        let answer = server.get(path);
        assert_eq!(answer.status, 500, "{path}");
        answers.push(answer.text());
        assert_eq!(server.get("/add?1").status, 200);
    }
    let said = server.stop();
    for (number, (answer, reason)) in answers
        .iter()
        .zip([
            "it trapped: ",
            "it trapped: ",
            "it returned without an answer",
            "it answered with ",
            "the host refused to grow its memory above 33554432 bytes",
        ])
        .enumerate()
    {
        let incident = format!("{:08x}", number + 1);
        assert_eq!(answer, &format!("internal error (incident {incident})\n"));
        let mut lines = said.lines();
        let line = lines.find(|line| line.contains(&format!("incident={incident} "))).unwrap();
        assert!(line.contains(reason) && line.contains("component=a/responder/1"), "{line}");
    }
    assert_eq!(said.lines().filter(|line| line.starts_with("ERROR")).count(), 5, "{said}");
    assert!(said.contains("a secret\\nof the guest"), "{said}");
}

#[test]
fn an_answer_that_was_begun_and_trapped_is_incomplete() {
    let dir = TestDir::new();
    let server = Server::of_manifest(&dir, &responder(""));
    let mut client = Client::new(server.address);
    client.ask("GET", "/late-trap", &[], b"");
    // Even its beginning may not have been sent.
    assert!(client.answer().is_none_or(|answer| answer.status == 200 && !answer.is_complete));
    assert!(server.stop().contains("it trapped: "));
}

#[test]
fn the_access_log_has_neither_paths_nor_queries() {
    let dir = TestDir::new();
    let id = "a/responder/1";
    dir.file(
        "storage.toml",
        format!("store = 'redb:data.redb'\n{}", component(id, "responder", "/api")).as_bytes(),
    );
    let mut command =
        dir.command(&["-q", "serve", "--config", "storage.toml", "--listen", "127.0.0.1:0"]);
    command.env("STORAGE_HOST_LOG", "info");
    let server = Server::of(command);
    server.post("/api/secret-1/echo?secret-2", b"12345");
    server.get("/secret-3");
    ask(server.address, "SECRET-4", "/api/print", &[], b"");
    let said = server.stop();
    for fields in [
        "component=a/responder/1 route=/api method=\"POST\" status=200 ",
        "received_bytes=5 sent_bytes=5",
        "method=\"GET\" status=404 ",
        "method=\"_OTHER\" status=200 ",
        "component=a/responder/1 context=\"stdout\" text=\"to standard output\"",
        "component=a/responder/1 context=\"stdout\" text=\"and a line without an end\"",
        "context=\"stderr\" text=\"to standard \\\\u{1b}[31merror\"",
    ] {
        assert!(said.contains(fields), "{fields}\n{said}");
    }
    assert!(!said.contains("secret") && !said.contains("SECRET"), "{said}");
}
