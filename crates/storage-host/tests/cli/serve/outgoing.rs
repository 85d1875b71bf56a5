//! Requests of components to other servers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use super::{Server, component};
use crate::support::TestDir;

#[test]
fn only_listed_hosts_are_reached() {
    let dir = TestDir::new();
    // A server that answers with what it was sent.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in other.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            let len = request.len();
            let head = format!("HTTP/1.1 201 Created\r\nContent-Length: {len}\r\n\r\n");
            stream.write_all(&[head.as_bytes(), &request].concat()).unwrap();
        }
    });
    let manifest = component("a/may/1", "responder", "/may")
        + &format!("outgoing = ['127.0.0.1:{port}', '127.0.0.1:1']\n")
        + &component("a/may/2", "responder", "/may-not");
    let server = Server::of_manifest(&dir, &manifest);
    let fetch = |path: &str, target: &str| server.get(&format!("{path}/fetch?{target}")).text();
    let reached = fetch("/may", &format!("127.0.0.1:{port}/a/b?c"));
    let request = format!("GET /a/b?c HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n");
    assert_eq!(reached, format!("201 {request}"));
    for (path, target) in [
        ("/may-not", format!("127.0.0.1:{port}/")),
        ("/may", "127.0.0.1:2/".to_owned()),
        ("/may", "127.0.0.1/".to_owned()),
        ("/may", format!("localhost:{port}/")),
        ("/may", format!("x@127.0.0.1:{port}/")),
    ] {
        assert_eq!(fetch(path, &target), "ErrorCode::HttpRequestDenied", "{path} {target}");
    }
    assert_eq!(fetch("/may", "127.0.0.1:1/"), "ErrorCode::ConnectionRefused");
    assert_eq!(server.stop(), "");
}
