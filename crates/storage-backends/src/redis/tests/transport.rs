//! Replies that come in pieces, late, or not at all, from a server of the test's own.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use super::super::error::Problem;
use super::super::transport::Wire;
use super::*;

/// A connection, and the other end of it.
fn pair() -> (Wire, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = address(listener.local_addr().unwrap());
    let wire = Wire::open(&to, None, LONG, Instant::now() + LONG, LONG).unwrap();
    (wire, listener.accept().unwrap().0)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(50)
}

#[test]
fn a_reply_that_comes_in_pieces_is_read_on() {
    let (mut wire, mut server) = pair();
    server.write_all(b"*2\r\n$3\r\nab").unwrap();
    assert!(matches!(wire.receive_one(soon()), Err(Problem::NoReply(_))));
    server.write_all(b"c\r").unwrap();
    assert!(matches!(wire.receive_one(soon()), Err(Problem::NoReply(_))));
    server.write_all(b"\n:7\r\n+OK\r\n").unwrap();
    let array = Value::Array(vec![Value::BulkString(b"abc".to_vec()), Value::Int(7)]);
    assert_eq!(wire.receive(Instant::now() + LONG, 2).unwrap(), [array, Value::Okay]);
}

#[test]
fn a_short_deadline_does_not_shorten_the_next_one() {
    let (mut wire, mut server) = pair();
    assert!(matches!(wire.receive_one(soon()), Err(Problem::NoReply(_))));
    let writer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        server.write_all(b"+OK\r\n").unwrap();
        server
    });
    assert_eq!(wire.receive_one(Instant::now() + LONG).unwrap(), Value::Okay);
    drop(writer.join().unwrap());
}

#[test]
fn a_deadline_that_has_passed_reads_nothing() {
    let (mut wire, _server) = pair();
    assert!(matches!(wire.receive_one(Instant::now()), Err(Problem::NoReply(_))));
}

#[test]
fn the_end_of_a_connection_is_told_from_garbage() {
    let (mut wire, server) = pair();
    assert!(!wire.has_news());
    drop(server);
    assert!(matches!(wire.receive_one(Instant::now() + LONG), Err(Problem::Lost(_))));
    assert!(wire.has_news());
    let (mut wire, mut server) = pair();
    server.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    assert!(matches!(wire.receive_one(Instant::now() + LONG), Err(Problem::NotRedis)));
}

#[test]
fn commands_are_sent_together() {
    let (mut wire, mut server) = pair();
    let commands = [cmd("PING"), cmd("GET").arg("k").take()];
    assert_eq!(wire.send(Instant::now() + LONG, commands.iter()).unwrap_or_default(), 2);
    let mut received = vec![0; 100];
    let length = server.read(&mut received).unwrap();
    assert_eq!(&received[..length], b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
}

#[test]
fn a_connection_that_is_closed_has_sent_nothing() {
    let (mut wire, server) = pair();
    drop(server);
    // The first write after the end is answered with a reset.
    let sent = (0..100).find_map(|_| {
        thread::sleep(Duration::from_millis(5));
        wire.send(Instant::now() + LONG, [cmd("PING")].iter()).err()
    });
    assert!(!sent.unwrap().was_sent);
}

#[test]
fn a_server_that_reads_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = address(listener.local_addr().unwrap());
    let mut wire = Wire::open(&to, None, LONG, Instant::now() + LONG, LONG).unwrap();
    let long = [cmd("SET").arg("k").arg(vec![b'x'; 32 << 20]).take()];
    let began = Instant::now();
    // Enough to begin.
    let failed = wire.send(began + Duration::from_secs(2), long.iter()).err().unwrap();
    assert!(began.elapsed() < LONG);
    assert!(matches!(failed.problem, Problem::NoReply(_)));
    assert!(failed.was_sent);
}

#[test]
fn something_that_is_no_server_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 100]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    has(&refused(&single(to)), "does not reply as Redis does");
    let encrypted = single(to).with_tls(crate::TlsMode::Require);
    has(&refused(&encrypted), "if the port has no TLS, use redis://");
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let limit = Duration::from_millis(200);
    let options = single(listener.local_addr().unwrap()).with_connect_timeout(limit);
    has(&refused(&options), "could not be connected to within 0.2 s");
    let encrypted = options.with_tls(crate::TlsMode::Require);
    has(&refused(&encrypted), "did not encrypt the connection within 0.2 s");
}
