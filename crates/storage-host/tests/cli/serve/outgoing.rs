//! Requests of components to other servers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

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

/// Starts a server that answers over HTTPS as `localhost`. Returns its port, and the file of its
/// certificate.
fn https(dir: &TestDir) -> (u16, String) {
    let created = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = dir.file("authority.pem", created.cert.pem().as_bytes());
    let key = PrivateKeyDer::try_from(created.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![created.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let mut request = Vec::new();
            let mut byte = [0];
            // A client that does not trust it ends the connection.
            while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                request.extend(byte);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nencrypted");
        }
    });
    (port, file)
}

#[test]
fn certificates_are_checked_against_the_authorities_of_the_system() {
    let dir = TestDir::new();
    let (port, own) = https(&dir);
    let manifest = component("a/may/1", "responder", "/")
        + &format!("outgoing = ['localhost:{port}', '127.0.0.1:{port}']\n");
    dir.file("storage.toml", format!("store = 'redb:data.redb'\n{manifest}").as_bytes());
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = dir.file("other.pem", other.cert.pem().as_bytes());
    let none = dir.file("none.pem", b"");
    for (authorities, answer) in [
        (&own, "200 encrypted"),
        (&other, "ErrorCode::TlsProtocolError"),
        (&none, "ErrorCode::TlsCertificateError"),
    ] {
        let serve = ["-q", "--config", "storage.toml", "serve", "--listen", "127.0.0.1:0"];
        let mut command = dir.command(&serve);
        command.env("SSL_CERT_FILE", authorities).env_remove("SSL_CERT_DIR");
        let server = Server::of(command);
        let fetch = |target: &str| server.get(&format!("/fetch?{target}:{port}/")).text();
        for _ in 0..2 {
            assert_eq!(fetch("https:localhost"), answer, "{authorities}");
        }
        // Its certificate has another name, and it does not answer without encryption.
        assert_ne!(fetch("https:127.0.0.1"), "200 encrypted");
        assert_eq!(fetch("localhost"), "ErrorCode::HttpProtocolError");
        let said = server.stop();
        assert_eq!(said.contains("no certificates to trust"), authorities == &none, "{said}");
    }
}
