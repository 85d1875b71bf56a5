//! Encrypted connections.

use super::super::connector::Connector;
use super::super::error::Problem;
use super::*;
use crate::TlsMode;

const SHARD: Shard = Shard::FIRST;

#[test]
fn connections_are_encrypted_and_certificates_checked() {
    if is_skipped() {
        return;
    }
    let server = Redis::builder().tls().password("hush").start().unwrap();
    let options = single(server.address()).with_password("hush");
    let verified =
        options.clone().with_tls(TlsMode::VerifyFull).with_root_certificates(server.certificate());
    let client = Client::open(&verified, false).unwrap();
    let long = "x".repeat(1 << 20);
    write(&client, SHARD, "a", &long).unwrap();
    assert_eq!(read(&client, SHARD, "a"), Some(long));
    // Without the certificate, and for another name.
    let unknown = options.clone().with_tls(TlsMode::VerifyFull);
    has(&refused(&unknown), "the encrypted connection to Redis");
    let mut other_name = verified;
    let port = server.address().port();
    other_name.deployment = Deployment::Single(RedisAddress::new("127.0.0.2", port));
    if let Err(failure) = Client::open(&other_name, false) {
        let message = failure.into_storage_error().to_string();
        assert!(message.contains("encrypted") || message.contains("refused"), "{message}");
    } else {
        panic!("a certificate of another host was accepted");
    }
    Client::open(&options.clone().with_tls(TlsMode::Require), false).unwrap();
    has(&refused(&options), "use rediss:// if its port has TLS");
}

#[test]
fn a_server_without_tls_is_refused_if_it_is_required() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let options = single(server.address())
        .with_tls(TlsMode::Require)
        .with_connect_timeout(Duration::from_secs(1));
    has(&refused(&options), "if the port has no TLS, use redis://");
}

#[test]
fn an_encrypted_connection_is_replaced_when_the_server_restarts() {
    if is_skipped() {
        return;
    }
    let mut server = Redis::builder().tls().start().unwrap();
    let options = single(server.address()).with_tls(TlsMode::Require);
    let client = Client::open(&options, false).unwrap();
    write(&client, SHARD, "a", "1").unwrap();
    server.restart().unwrap();
    write(&client, SHARD, "a", "2").unwrap();
    server.restart().unwrap();
    assert_eq!(read(&client, SHARD, "a").as_deref(), Some("2"));
}

#[test]
fn a_server_that_reads_nothing_is_given_up() {
    if is_skipped() {
        return;
    }
    let mut server = Redis::builder().tls().start().unwrap();
    let options = single(server.address())
        .with_tls(TlsMode::Require)
        .with_connect_timeout(LONG)
        .with_reply_timeout(LONG);
    let connector = Connector::new(&options, false).unwrap();
    let to = address(server.address());
    let mut wire = connector.open(&to, None, Instant::now() + LONG).unwrap();
    server.pause().unwrap();
    let long = [set(SHARD, "a", &"x".repeat(32 << 20))];
    let began = Instant::now();
    // Enough to begin.
    let failed = wire.send(began + Duration::from_secs(2), long.iter()).err().unwrap();
    assert!(began.elapsed() < LONG / 2);
    assert!(matches!(failed.problem, Problem::NoReply(_)));
    assert!(failed.was_sent);
}
