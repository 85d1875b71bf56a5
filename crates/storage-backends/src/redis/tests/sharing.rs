//! Callers that find no free connection.

use test_servers::{Direction, Proxy};

use super::*;

const SHARD: Shard = Shard::FIRST;
const CALLERS: usize = 20;

/// A client with one connection, through a proxy.
fn client(proxy: &Proxy) -> Client {
    let all = Duration::from_secs(10);
    let options =
        single(proxy.address()).with_pool_size(1).with_reply_timeout(all).with_total_timeout(all);
    Client::open(&options, false).unwrap()
}

/// Long enough for threads that were just started to wait for a connection. If it is not, less
/// is shared.
fn let_them_wait() {
    thread::sleep(Duration::from_millis(300));
}

#[test]
fn their_requests_are_sent_together() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let client = client(&proxy);
    let before = proxy.traffic();
    proxy.hold(Direction::Replies);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..CALLERS)
            .map(|n| {
                let (client, name) = (&client, n.to_string());
                scope.spawn(move || {
                    write(client, SHARD, &name, &name).unwrap();
                    // Each caller gets its own replies.
                    let two = [get(SHARD, &name), get(SHARD, "missing")];
                    let own = Value::BulkString(name.into_bytes());
                    assert_eq!(client.read(SHARD, &two).unwrap(), [own, Value::Nil]);
                })
            })
            .collect();
        let_them_wait();
        proxy.release();
        calls.into_iter().for_each(|call| call.join().unwrap());
    });
    let round_trips = proxy.traffic().round_trips_since(&before);
    assert!(round_trips < CALLERS as u64, "{round_trips}");
}

#[test]
fn a_lost_connection_ends_all_that_was_sent_with_it() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let client = client(&proxy);
    write(&client, SHARD, "old", "1").unwrap();
    let lost = cut_while_sharing(&proxy, &client);
    assert!(!lost.is_empty());
    lost.iter().for_each(|message| has(message, "may or may not have taken effect"));
    write(&client, SHARD, "after", "1").unwrap();
}

/// Cuts the connection that callers share. Returns how their writes failed; no read does.
fn cut_while_sharing(proxy: &Proxy, client: &Client) -> Vec<String> {
    proxy.hold(Direction::Replies);
    thread::scope(|scope| {
        let first = scope.spawn(|| read(client, SHARD, "old"));
        let_them_wait();
        let writes: Vec<_> = (0..CALLERS)
            .map(|n| scope.spawn(move || write(client, SHARD, &format!("new-{n}"), "1")))
            .collect();
        let reads: Vec<_> =
            (0..CALLERS).map(|_| scope.spawn(|| read(client, SHARD, "old"))).collect();
        let_them_wait();
        proxy.cut_reply_to("new-");
        proxy.release();
        assert_eq!(first.join().unwrap().as_deref(), Some("1"));
        // They are sent again.
        for read in reads {
            assert_eq!(read.join().unwrap().as_deref(), Some("1"));
        }
        let ended: Vec<_> = writes.into_iter().map(|write| write.join().unwrap()).collect();
        ended.into_iter().filter_map(Result::err).collect()
    })
}

#[test]
fn a_long_request_is_sent_alone() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let client = client(&proxy);
    let long = "x".repeat(1 << 20);
    proxy.hold(Direction::Replies);
    thread::scope(|scope| {
        let (client, long) = (&client, &long);
        for n in 0..CALLERS {
            scope.spawn(move || {
                let value = if n % 2 == 0 { long } else { "short" };
                write(client, SHARD, &n.to_string(), value).unwrap();
                assert_eq!(read(client, SHARD, &n.to_string()).as_deref(), Some(value));
            });
        }
        let_them_wait();
        proxy.release();
    });
}

#[test]
fn replicas_are_waited_for_once() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    // Each by itself, the writes would wait far longer than for a reply.
    let options = single(proxy.address())
        .with_pool_size(1)
        .with_wait(1)
        .with_reply_timeout(Duration::from_secs(2));
    let client = Client::open(&options, false).unwrap();
    proxy.hold(Direction::Replies);
    thread::scope(|scope| {
        let first = scope.spawn(|| write(&client, SHARD, "first", "1"));
        let_them_wait();
        let writes: Vec<_> = (0..CALLERS)
            .map(|n| {
                let (client, name) = (&client, n.to_string());
                scope.spawn(move || write(client, SHARD, &name, &name))
            })
            .collect();
        let reads: Vec<_> =
            (0..CALLERS).map(|_| scope.spawn(|| read(&client, SHARD, "first"))).collect();
        let_them_wait();
        proxy.release();
        for write in writes.into_iter().chain([first]) {
            has(&write.join().unwrap().unwrap_err(), "0 of 1 replicas confirmed");
        }
        for read in reads {
            assert_eq!(read.join().unwrap().as_deref(), Some("1"));
        }
    });
    for n in 0..CALLERS {
        assert_eq!(read(&client, SHARD, &n.to_string()), Some(n.to_string()));
    }
}

#[test]
fn a_server_that_accepts_no_more_connections_is_not_asked_again_and_again() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let client = Client::open(&single(server.address()), false).unwrap();
    write(&client, SHARD, "k", "1").unwrap();
    server.set("maxclients", "2").unwrap();
    client.read(SHARD, &[cmd("CLIENT").arg("PAUSE").arg(1_000).arg("ALL").take()]).unwrap();
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| assert_eq!(read(&client, SHARD, "k").as_deref(), Some("1")));
        }
    });
    drop(client);
    // The server may still have the closed connections, and reject the question.
    let (mut rejected, mut own) = (None, 0);
    eventually(|| {
        rejected = server.info("rejected_connections").ok();
        own += usize::from(rejected.is_none());
        rejected.is_some()
    });
    let rejected: usize = rejected.unwrap().parse().unwrap();
    assert!(rejected <= 2 * CALLERS + own, "{rejected}");
}
