//! The Redis server does what tests need, and nothing of it stays.
#![cfg(unix)]
#![expect(clippy::print_stdout, reason = "test support")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use test_servers::{Direction, Proxy, Redis};

/// Whether to skip a test because this machine has no server.
fn skip() -> bool {
    let missing = Redis::missing();
    if let Some(reason) = &missing {
        println!("SKIPPED: {reason}");
    }
    missing.is_some()
}

#[test]
fn acknowledged_values_survive_a_kill_and_restarts() {
    if skip() {
        return;
    }
    let mut server = Redis::start().unwrap();
    let (url, data) = (server.url(), server.data().to_owned());
    server.command(&["set", "key", "1"]).unwrap();
    server.kill().unwrap();
    assert!(server.command(&["get", "key"]).is_err());
    server.restart().unwrap();
    assert_eq!(server.command(&["incr", "key"]).unwrap(), "2");
    server.restart().unwrap();
    server.stop().unwrap();
    server.restart().unwrap();
    assert_eq!(server.command(&["mget", "key", "none", "key"]).unwrap(), "2\n\n2");
    assert_eq!(server.url(), url);

    let error = format!("{:#}", server.command(&["lpop", "key"]).unwrap_err());
    assert!(error.starts_with("lpop key: WRONGTYPE"), "{error}");

    server.restart_empty().unwrap();
    assert_eq!(server.command(&["dbsize"]).unwrap(), "0");
    assert_eq!(server.url(), url);

    server.pause().unwrap();
    drop(server);
    assert!(!data.exists(), "the files of a server are removed with it");
}

#[test]
fn a_paused_server_answers_after_it_was_resumed() {
    if skip() {
        return;
    }
    let mut server = Redis::start().unwrap();
    server.pause().unwrap();
    let mut client = TcpStream::connect(server.address()).unwrap();
    client.write_all(b"PING\r\n").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(client.read(&mut [0; 7]).is_err(), "no answer of a paused server");
    server.resume().unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut reply = [0; 7];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
}

#[test]
fn options_are_applied() {
    if skip() {
        return;
    }
    let server = Redis::builder()
        .password("secret")
        .user("guest", "word", "~* &* +@all -config")
        .setting("maxmemory", "3mb")
        .setting("appendfsync", "everysec")
        .start()
        .unwrap();
    let address = server.address();
    assert_eq!(server.url(), format!("redis://guest:word@{address}"));
    assert_eq!(server.command(&["config", "get", "maxmemory"]).unwrap(), "maxmemory\n3145728");
    assert_eq!(server.command(&["config", "get", "appendfsync"]).unwrap(), "appendfsync\neverysec");
    assert_eq!(server.command_at(address, &["acl", "whoami"]).unwrap(), "guest");
    let error = server.command_at(address, &["config", "get", "save"]).unwrap_err();
    assert!(format!("{error:#}").contains("NOPERM"), "{error:#}");
    let ask = |commands: &str| {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(format!("{commands}QUIT\r\n").as_bytes()).unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        reply
    };
    assert!(ask("GET key\r\n").starts_with("-NOAUTH"));
    assert!(ask("AUTH secret\r\nGET key\r\n").starts_with("+OK\r\n$-1\r\n"));
    assert!(ask("AUTH guess\r\n").starts_with("-WRONGPASS"));

    // Memory is full, but reading and deleting works.
    let fill = |number: i32| {
        let value = "x".repeat(100_000);
        server.command(&["set", &format!("large-{number}"), &value])
    };
    let error = (1..100).find_map(|number| fill(number).err()).unwrap();
    assert!(format!("{error:#}").contains("OOM"), "{error:#}");
    server.command(&["del", "large-1", "large-2"]).unwrap();
    fill(1).unwrap();
    server.set("maxmemory", "0").unwrap();
    (1..100).for_each(|number| drop(fill(number).unwrap()));
    assert_eq!(server.info("maxmemory").unwrap(), "0");
}

#[test]
fn a_server_with_tls_accepts_no_other_connections() {
    if skip() {
        return;
    }
    let server = Redis::builder().tls().password("secret").start().unwrap();
    let url = server.url();
    assert!(url.starts_with("rediss://:secret@") && url.contains("?sslrootcert="), "{url}");
    assert!(server.certificate().is_file());
    let reply = server.command_at(server.address(), &["ping"]);
    assert!(reply.is_err(), "{reply:?}");
    // A record of TLS: the server's alert or its part of the handshake.
    let mut client = TcpStream::connect(server.address()).unwrap();
    client.write_all(b"PING\r\n").unwrap();
    let mut reply = Vec::new();
    let _ = client.read_to_end(&mut reply);
    assert!(!reply.starts_with(b"+PONG"), "{reply:?}");
    assert_eq!(server.command(&["ping"]).unwrap(), "PONG");
}

#[test]
fn a_proxy_counts_and_disturbs() {
    if skip() {
        return;
    }
    let mut server = Redis::builder().password("secret").start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let before = proxy.traffic();
    let through = |command: &[&str]| server.command_at(proxy.address(), command);
    assert_eq!(through(&["set", "key", "1"]).unwrap(), "OK");
    assert_eq!(proxy.traffic().round_trips, [2], "AUTH and SET");
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    let auth = b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n";
    let get = b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n";
    client.write_all(&[&auth[..], get, get].concat()).unwrap();
    let mut replies = [0; 19];
    client.read_exact(&mut replies).unwrap();
    assert_eq!(&replies, b"+OK\r\n$1\r\n1\r\n$1\r\n1\r\n");
    assert_eq!(proxy.traffic().round_trips, [2, 1]);
    assert_eq!(proxy.traffic().round_trips_since(&before), 3);

    // The server has written, but the client does not learn that.
    proxy.cut_reply_to("append");
    let error = through(&["append", "key", "2"]).unwrap_err();
    assert!(format!("{error:#}").contains("connection was closed"), "{error:#}");
    assert_eq!(server.command(&["get", "key"]).unwrap(), "12");

    // A reply that never comes.
    proxy.hold(Direction::Replies);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| through(&["ping"]));
        while proxy.traffic().round_trips.len() < 4 {
            std::thread::yield_now();
        }
        proxy.cut();
        assert!(client.join().unwrap().is_err());
    });
    proxy.release();

    let other = Redis::builder().password("secret").start().unwrap();
    proxy.redirect(other.address());
    server.kill().unwrap();
    assert_eq!(other.command_at(proxy.address(), &["dbsize"]).unwrap(), "0");
}
