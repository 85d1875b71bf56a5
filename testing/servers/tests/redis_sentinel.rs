//! The sentinels do what tests need.
#![cfg(unix)]
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "test support")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use test_servers::{Redis, RedisSentinel};

/// Whether to skip a test because this machine has no server.
fn skip() -> bool {
    let missing = Redis::missing();
    if let Some(reason) = &missing {
        println!("SKIPPED: {reason}");
    }
    missing.is_some()
}

/// The first line of the reply to a command of a client without a password.
fn ask(server: &Redis, command: &str) -> String {
    let mut client = BufReader::new(TcpStream::connect(server.address()).unwrap());
    client.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    line
}

#[test]
fn the_replica_takes_over_from_a_master_that_is_killed_or_paused() {
    if skip() {
        return;
    }
    let mut group = RedisSentinel::start().unwrap();
    let url = group.url();
    assert_eq!(url.matches("127.0.0.1:").count(), 3, "{url}");
    assert_eq!(group.master().unwrap(), 0);
    let [master, replica] = group.servers() else { panic!("two servers") };
    master.command(&["set", "key", "1"]).unwrap();
    assert_eq!(master.command(&["wait", "1", "10000"]).unwrap(), "1");
    let error = format!("{:#}", replica.command(&["incr", "key"]).unwrap_err());
    assert!(error.contains("READONLY"), "{error}");

    group.server_mut(0).unwrap().kill().unwrap();
    group.wait_until_healthy().unwrap();
    assert_eq!(group.master().unwrap(), 1);
    assert_eq!(group.servers()[1].command(&["incr", "key"]).unwrap(), "2");
    group.server_mut(0).unwrap().restart().unwrap();
    group.wait_until_healthy().unwrap();
    assert_eq!(group.servers()[0].command(&["get", "key"]).unwrap(), "2");

    // A sentinel less is enough.
    group.sentinel_mut(0).unwrap().kill().unwrap();
    group.server_mut(1).unwrap().pause().unwrap();
    group.wait_until_healthy().unwrap();
    assert_eq!(group.master().unwrap(), 0);
    group.server_mut(1).unwrap().resume().unwrap();
    group.sentinel_mut(0).unwrap().restart().unwrap();
    group.wait_until_healthy().unwrap();
    assert_eq!(group.url(), url);
}

#[test]
fn a_failover_can_be_asked_for() {
    if skip() {
        return;
    }
    let group = RedisSentinel::start().unwrap();
    assert_eq!(group.fail_over().unwrap(), 1);
    group.servers()[1].command(&["set", "key", "1"]).unwrap();
}

#[test]
fn servers_and_sentinels_have_passwords_of_their_own() {
    if skip() {
        return;
    }
    let options = Redis::builder().tls().user("guest", "word", "~* &* +@all");
    let group = RedisSentinel::with(options, Some("watch")).unwrap();
    let url = group.url();
    assert!(url.starts_with("redis+sentinel://guest:word@127.0.0.1:"), "{url}");
    assert!(url.contains("/storage?sslmode=verify-full&sslrootcert="), "{url}");
    assert_eq!(group.sentinel_password(), Some("watch"));
    assert_eq!(group.fail_over().unwrap(), 1);

    let group = RedisSentinel::with(Redis::builder().password("secret"), Some("watch")).unwrap();
    assert!(group.url().starts_with("redis+sentinel://:secret@"));
    for server in group.servers().iter().chain(group.sentinels()) {
        assert!(ask(server, "PING").starts_with("-NOAUTH"));
    }
    assert_eq!(ask(&group.servers()[0], "AUTH secret"), "+OK\r\n");
    assert_eq!(ask(&group.sentinels()[0], "AUTH watch"), "+OK\r\n");
}
