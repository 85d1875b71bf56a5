//! One server.

use std::net::TcpListener;

use test_servers::{Direction, Proxy};

use super::*;

const SHARD: Shard = Shard::FIRST;

#[test]
fn a_server_that_is_not_there_is_named() {
    // The port is free again when the listener is dropped.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let message = refused(&single(free).with_password("secret"));
    has(&message, &format!("cannot connect to Redis at {free}"));
    assert!(!message.contains("secret"), "{message}");
    let nowhere = RedisAddress::new("no-such-host.invalid", 6379);
    let message = refused(&RedisOptions::new(Deployment::Single(nowhere)));
    has(&message, "cannot connect to Redis at no-such-host.invalid:6379");
}

#[test]
fn logins_that_fail_say_what_to_do() {
    if is_skipped() {
        return;
    }
    let server = Redis::builder().password("hush").user("ada", "lace", "~x* +get +ping").start();
    let server = server.unwrap();
    let options = single(server.address());
    has(&refused(&options), "wants a password; set REDIS_PASSWORD");
    let message = refused(&options.clone().with_password("no"));
    has(&message, "refused the user or the password");
    assert!(!message.contains("\"no\""), "{message}");
    has(&refused(&options.clone().with_user("eve").with_password("no")), "refused the user");
    Client::open(&options.clone().with_password("hush"), false).unwrap();
    // May neither ask for the role nor write.
    let client = Client::open(&options.with_user("ada").with_password("lace"), false).unwrap();
    has(&write(&client, SHARD, "a", "1").unwrap_err(), "does not allow this to the user");
}

#[test]
fn a_password_that_the_server_does_not_have_is_an_error() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let options = single(server.address());
    has(&refused(&options.clone().with_password("x")), "remove the password, or name the user");
    has(&refused(&options.with_database(4000)), "has no database with this number");
}

#[test]
fn databases_are_apart() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let options = single(server.address());
    let first = Client::open(&options, false).unwrap();
    let second = Client::open(&options.with_database(3), false).unwrap();
    write(&first, SHARD, "a", "1").unwrap();
    assert_eq!(read(&second, SHARD, "a"), None);
    assert_eq!(read(&first, SHARD, "a").as_deref(), Some("1"));
}

#[test]
fn replies_are_in_the_order_of_the_commands() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let client = Client::open(&single(server.address()), false).unwrap();
    // More than a read of the socket returns.
    let long = "x".repeat(1 << 20);
    write(&client, SHARD, "long", &long).unwrap();
    write(&client, SHARD, "short", "1").unwrap();
    let commands = ["short", "long", "none", "short"].map(|name| get(SHARD, name));
    let replies = client.read(SHARD, &commands).unwrap();
    let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    assert_eq!(replies, [bulk("1"), bulk(&long), Value::Nil, bulk("1")]);
    assert_eq!(client.read(SHARD, &[]).unwrap(), []);
}

#[test]
fn an_error_among_replies_is_the_failure_of_the_call() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let client = Client::open(&single(server.address()), false).unwrap();
    write(&client, SHARD, "a", "1").unwrap();
    let wrong = cmd("LLEN").arg(key(SHARD, "a")).take();
    has(&failed(client.read(SHARD, &[get(SHARD, "a"), wrong.clone()])), "WRONGTYPE");
    // The connection goes on.
    assert_eq!(read(&client, SHARD, "a").as_deref(), Some("1"));
    // A caller who asks one server judges errors itself, and everyone a missing script.
    let replies = client.on_master(&client.masters()[0], &[wrong, get(SHARD, "a")]).unwrap();
    assert!(matches!(replies.as_slice(), [Value::ServerError(_), Value::BulkString(_)]));
    let missing = cmd("EVALSHA").arg("f".repeat(40)).arg(0).take();
    assert!(matches!(client.write(SHARD, &missing), Ok(Value::ServerError(_))));
}

#[test]
fn a_server_that_restarts_is_used_again() {
    if is_skipped() {
        return;
    }
    let mut server = Redis::start().unwrap();
    let client = Client::open(&single(server.address()), false).unwrap();
    // Several connections, all of which the server closes.
    thread::scope(|scope| {
        for n in 0..8 {
            let client = &client;
            scope.spawn(move || write(client, SHARD, &n.to_string(), "1").unwrap());
        }
    });
    for _ in 0..2 {
        server.restart().unwrap();
        assert_eq!(read(&client, SHARD, "1").as_deref(), Some("1"));
        server.restart().unwrap();
        write(&client, SHARD, "2", "2").unwrap();
    }
    server.kill().unwrap();
    let message = failed(client.read(SHARD, &[get(SHARD, "1")]));
    has(&message, "cannot connect to Redis");
    let message = write(&client, SHARD, "2", "3").unwrap_err();
    assert!(!message.contains("may or may not"), "{message}");
    server.restart().unwrap();
    assert_eq!(read(&client, SHARD, "2").as_deref(), Some("2"));
}

/// Cuts the connection of a call after the server has run it `calls` times, counted from the
/// server's start.
fn cut_reply<T: Send>(
    server: &Redis,
    proxy: &Proxy,
    command: &str,
    calls: usize,
    call: impl FnOnce() -> T + Send,
) -> T {
    proxy.hold(Direction::Replies);
    thread::scope(|scope| {
        let caller = scope.spawn(call);
        let statistics = format!("cmdstat_{command}");
        let ran = format!("calls={calls},");
        eventually(|| server.info(&statistics).is_ok_and(|text| text.starts_with(&ran)));
        proxy.cut();
        proxy.release();
        caller.join().unwrap()
    })
}

#[test]
fn a_write_whose_reply_is_lost_is_not_sent_again() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let client = Client::open(&single(proxy.address()), false).unwrap();
    let increment = cmd("INCR").arg(key(SHARD, "n")).take();
    client.write(SHARD, &increment).unwrap();
    let lost = cut_reply(&server, &proxy, "incr", 2, || client.write(SHARD, &increment));
    let message = lost.unwrap_err().into_write_error().to_string();
    has(&message, "the connection to Redis");
    has(&message, "the write may or may not have taken effect");
    assert_eq!(read(&client, SHARD, "n").as_deref(), Some("2"));
}

#[test]
fn a_read_whose_reply_is_lost_is_sent_again() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let client = Client::open(&single(proxy.address()), false).unwrap();
    write(&client, SHARD, "a", "1").unwrap();
    let value = cut_reply(&server, &proxy, "get", 1, || read(&client, SHARD, "a"));
    assert_eq!(value.as_deref(), Some("1"));
    has(&server.info("cmdstat_get").unwrap(), "calls=2,");
}

#[test]
fn a_server_that_does_not_reply_is_given_up() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let options = single(proxy.address())
        .with_reply_timeout(Duration::from_millis(300))
        .with_connect_timeout(Duration::from_millis(300));
    let client = Client::open(&options, false).unwrap();
    write(&client, SHARD, "a", "1").unwrap();
    proxy.hold(Direction::Replies);
    let began = Instant::now();
    has(&failed(client.read(SHARD, &[get(SHARD, "a")])), "did not reply within 0.3 s");
    let message = write(&client, SHARD, "a", "2").unwrap_err();
    has(&message, "could not be connected to within 0.3 s");
    assert!(began.elapsed() < LONG);
    proxy.release();
    assert_eq!(read(&client, SHARD, "a").as_deref(), Some("1"));
    proxy.hold(Direction::Replies);
    let message = write(&client, SHARD, "a", "3").unwrap_err();
    has(&message, "did not reply within 0.3 s: the write may or may not have taken effect");
    proxy.release();
    assert_eq!(read(&client, SHARD, "a").as_deref(), Some("3"));
}

#[test]
fn all_connections_in_use_is_an_error_after_the_total_time() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let options =
        single(server.address()).with_pool_size(1).with_total_timeout(Duration::from_millis(500));
    let client = Client::open(&options, false).unwrap();
    let node = client.router().owner(SHARD).unwrap();
    let only = node.lease(Instant::now() + LONG, &|_| Ok(())).unwrap();
    has(&failed(client.read(SHARD, &[get(SHARD, "a")])), "was free for 0.5 s");
    drop(only);
    assert_eq!(read(&client, SHARD, "a"), None);
}

#[test]
fn connections_are_bounded_and_shared() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let client = Client::open(&single(server.address()).with_pool_size(3), false).unwrap();
    thread::scope(|scope| {
        for n in 0..16 {
            let client = &client;
            scope.spawn(move || {
                for _ in 0..100 {
                    write(client, SHARD, "a", &n.to_string()).unwrap();
                    read(client, SHARD, "a").unwrap();
                }
            });
        }
    });
    let listed = server.command(&["CLIENT", "LIST"]).unwrap();
    let ours = listed.lines().filter(|line| line.contains("name=storage-host ")).count();
    assert!((1..=3).contains(&ours), "{listed}");
}

#[test]
fn a_server_that_accepts_no_more_connections_serves_with_those_it_has() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let options = single(server.address());
    let client = Client::open(&options, false).unwrap();
    write(&client, SHARD, "a", "1").unwrap();
    // One is the client's, and one that of the tests' own commands.
    server.set("maxclients", "2").unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(read(&client, SHARD, "a").as_deref(), Some("1"));
                }
            });
        }
    });
    let other = single(server.address()).with_pool_size(1);
    let mut others = Vec::new();
    eventually(|| match Client::open(&other, false) {
        Ok(client) => {
            others.push(client);
            false
        }
        Err(failure) => {
            // What the server says may be lost, because it closes the connection.
            has(&failure.into_storage_error().to_string(), "too many connections");
            true
        }
    });
}

#[test]
fn a_connection_that_a_fault_ended_makes_room_for_another() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let options = single(proxy.address()).with_pool_size(2);
    let client = Client::open(&options, false).unwrap();
    write(&client, SHARD, "a", "1").unwrap();
    for n in 2..7 {
        cut_reply(&server, &proxy, "set", n, || write(&client, SHARD, "a", "1")).unwrap_err();
        proxy.refuse();
        proxy.cut();
        client.read(SHARD, &[get(SHARD, "a")]).unwrap_err();
        proxy.accept();
        assert_eq!(read(&client, SHARD, "a").as_deref(), Some("1"));
    }
}

#[test]
fn a_server_without_the_store_is_refused() {
    if is_skipped() {
        return;
    }
    let mut server = Redis::start().unwrap();
    let client = Client::open(&single(server.address()), false).unwrap();
    expect_store(&client, "one");
    write(&client, SHARD, "a", "1").unwrap();
    server.restart().unwrap();
    assert_eq!(read(&client, SHARD, "a").as_deref(), Some("1"));
    server.restart_empty().unwrap();
    has(&failed(client.read(SHARD, &[get(SHARD, "a")])), "was emptied or replaced");
    has(&write(&client, SHARD, "a", "1").unwrap_err(), "was emptied or replaced");
    let mark = Keys::new(RedisOptions::DEFAULT_PREFIX).store(SHARD);
    server.command(&["HSET", &mark, "store_id", "two"]).unwrap();
    has(&failed(client.read(SHARD, &[get(SHARD, "a")])), "was emptied or replaced");
    server.command(&["HSET", &mark, "store_id", "one"]).unwrap();
    assert_eq!(read(&client, SHARD, "a"), None);
}

#[test]
fn a_replica_is_refused_for_writing() {
    if is_skipped() {
        return;
    }
    let (server, replica) = (Redis::start().unwrap(), Redis::start().unwrap());
    let client = Client::open(&single(replica.address()), false).unwrap();
    write(&client, SHARD, "a", "1").unwrap();
    let port = server.address().port().to_string();
    replica.command(&["REPLICAOF", "127.0.0.1", &port]).unwrap();
    // A connection of before.
    has(&write(&client, SHARD, "a", "2").unwrap_err(), "is a replica; connect to the primary");
    has(&refused(&single(replica.address())), "is a replica; connect to the primary");
    let reader = Client::open(&single(replica.address()), true).unwrap();
    eventually(|| reader.read(SHARD, &[get(SHARD, "a")]).is_ok());
    replica.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    write(&client, SHARD, "a", "3").unwrap();
}

#[test]
fn servers_that_refuse_writes_say_why_and_run_nothing() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let client = Client::open(&single(server.address()), false).unwrap();
    write(&client, SHARD, "a", "1").unwrap();
    server.set("min-replicas-to-write", "1").unwrap();
    let message = write(&client, SHARD, "a", "2").unwrap_err();
    has(&message, "fewer replicas that keep up than its min-replicas-to-write, and refuses writes");
    assert!(!message.contains("may or may not"), "{message}");
    server.set("min-replicas-to-write", "0").unwrap();
    server.set("maxmemory", "1").unwrap();
    // In a script, as commits are.
    let script = "return redis.call('SET', KEYS[1], ARGV[1])";
    let eval = cmd("EVAL").arg(script).arg(1).arg(key(SHARD, "a")).arg("2").take();
    let message = client.write(SHARD, &eval).unwrap_err().into_write_error().to_string();
    has(&message, "has no memory left for writes");
    assert!(!message.contains("may or may not"), "{message}");
    client.write(SHARD, cmd("DEL").arg(key(SHARD, "b"))).unwrap();
    server.set("maxmemory", "0").unwrap();
    assert_eq!(read(&client, SHARD, "a").as_deref(), Some("1"));
}

#[test]
fn a_script_that_fails_may_have_written() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let client = Client::open(&single(server.address()), false).unwrap();
    let script = "redis.call('SET', KEYS[1], '1'); error('no')";
    let eval = cmd("EVAL").arg(script).arg(1).arg(key(SHARD, "a")).take();
    let message = client.write(SHARD, &eval).unwrap_err().into_write_error().to_string();
    has(&message, "may or may not have taken effect");
}

#[test]
fn replicas_confirm_writes_if_that_is_wanted() {
    if is_skipped() {
        return;
    }
    let (server, replica) = (Redis::start().unwrap(), Redis::start().unwrap());
    let options =
        single(server.address()).with_wait(1).with_wait_timeout(Duration::from_millis(200));
    let client = Client::open(&options, false).unwrap();
    let failure = client.write(SHARD, &set(SHARD, "a", "1")).unwrap_err();
    // The reply is not lost.
    assert_eq!(failure.unconfirmed_reply(), Some(&Value::Okay));
    let message = failure.into_write_error().to_string();
    has(
        &message,
        "made the write, and 0 of 1 replicas confirmed it within 0.2 s, so a failover may",
    );
    assert!(!message.contains("may or may not"), "{message}");
    let missing = cmd("EVALSHA").arg("f".repeat(40)).arg(0).take();
    assert!(matches!(client.write(SHARD, &missing), Ok(Value::ServerError(_))));
    // Otherwise it logs in as a user that only its own server knows.
    replica.set("masteruser", "").unwrap();
    replica.set("masterauth", "").unwrap();
    let port = server.address().port().to_string();
    replica.command(&["REPLICAOF", "127.0.0.1", &port]).unwrap();
    eventually(|| write(&client, SHARD, "a", "2").is_ok());
    assert_eq!(replica.command(&["GET", &key(SHARD, "a")]).unwrap(), "2");
}

#[test]
fn a_script_that_takes_long_is_waited_for() {
    if is_skipped() {
        return;
    }
    let server = Redis::builder().setting("lua-time-limit", "1").start().unwrap();
    let client = Client::open(&single(server.address()), false).unwrap();
    write(&client, SHARD, "a", "1").unwrap();
    thread::scope(|scope| {
        let endless = scope.spawn(|| server.command(&["EVAL", "while true do end", "0"]));
        let impatient = single(server.address()).with_total_timeout(Duration::from_millis(500));
        let impatient = Client::open(&impatient, true);
        if let Ok(impatient) = impatient {
            eventually(|| {
                let read = impatient.read(SHARD, &[get(SHARD, "a")]);
                read.is_err_and(|e| e.into_storage_error().to_string().contains("runs a script"))
            });
        }
        let waiting = scope.spawn(|| read(&client, SHARD, "a"));
        eventually(|| server.command(&["SCRIPT", "KILL"]).is_ok());
        assert_eq!(waiting.join().unwrap().as_deref(), Some("1"));
        endless.join().unwrap().unwrap_err();
    });
}

#[test]
fn a_node_of_a_cluster_is_not_a_single_server() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let seeds = vec![address(server.address())];
    let message = refused(&RedisOptions::new(Deployment::Cluster(seeds)));
    has(&message, "is not a node of a cluster; use redis://");
}

#[test]
fn a_user_without_a_password_is_not_replaced_by_the_default_user() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let as_user = |user| single(server.address()).with_user(user);
    has(&refused(&as_user("ada")), "refused the user or the password");
    server.command(&["ACL", "SETUSER", "ada", "on", "nopass", "~*", "+@all"]).unwrap();
    let client = Client::open(&as_user("ada"), false).unwrap();
    let who = client.read(SHARD, &[cmd("ACL").arg("WHOAMI").take()]).unwrap();
    assert_eq!(who, [Value::BulkString(b"ada".to_vec())]);
}

#[test]
fn a_missing_command_is_named_without_its_keys() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let client = Client::open(&single(server.address()), false).unwrap();
    let unknown = cmd("NOSUCH").arg("private").take();
    let message = client.write(SHARD, &unknown).unwrap_err().into_write_error().to_string();
    has(&message, "does not have NOSUCH");
    assert!(!message.contains("private") && !message.contains("may or may not"), "{message}");
}
