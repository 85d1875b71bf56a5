//! A cluster whose nodes fail and whose slots move.

use std::sync::atomic::{AtomicBool, Ordering};

use test_servers::RedisCluster;

use super::super::shard::crc16;
use super::*;

fn options(cluster: &RedisCluster) -> RedisOptions {
    // One node leads to the others.
    let seeds = vec![address(cluster.nodes()[0].address())];
    RedisOptions::new(Deployment::Cluster(seeds))
}

fn slot(shard: Shard) -> u16 {
    crc16(Keys::new(RedisOptions::DEFAULT_PREFIX).tag(shard).as_bytes()) % 16384
}

/// The shards whose master is a node.
fn shards_of(cluster: &RedisCluster, node: usize) -> Vec<Shard> {
    Shard::all(256).filter(|shard| cluster.owner(slot(*shard)).unwrap() == node).collect()
}

/// Another master than the one of a shard.
fn other_master(cluster: &RedisCluster, shard: Shard) -> usize {
    let owner = cluster.owner(slot(shard)).unwrap();
    let owns = |shard| cluster.owner(slot(shard)).unwrap();
    Shard::all(256).map(owns).find(|other| *other != owner).unwrap()
}

#[test]
fn shards_are_read_and_written_on_their_masters() {
    if is_skipped() {
        return;
    }
    let cluster = RedisCluster::start().unwrap();
    let client = Client::open(&options(&cluster), false).unwrap();
    assert_eq!(client.shards(), 256);
    assert_eq!(client.masters().len(), 3);
    let version = cluster.nodes()[0].info("redis_version").unwrap();
    assert_eq!(client.sharded_notices(), !version.starts_with("6."));
    for shard in Shard::all(256) {
        assert_eq!(cluster.slot(&key(shard, "a")).unwrap(), slot(shard));
        write(&client, shard, "a", &shard.to_string()).unwrap();
    }
    let requests: Vec<_> =
        Shard::all(256).map(|shard| (shard, vec![get(shard, "a"), get(shard, "none")])).collect();
    for (reply, shard) in client.read_shards(&requests).unwrap().into_iter().zip(Shard::all(256)) {
        assert_eq!(reply, [Value::BulkString(shard.to_string().into_bytes()), Value::Nil]);
    }
    assert_eq!(client.read_shards(&[]).unwrap(), Vec::<Vec<Value>>::new());
    // A cluster is not a single server, or a sentinel.
    let owner = cluster.owner(slot(Shard::FIRST)).unwrap();
    let other = (0..3).find(|n| *n != owner).unwrap();
    let one = Client::open(&single(cluster.nodes()[other].address()), true).unwrap();
    has(&failed(one.read(Shard::FIRST, &[get(Shard::FIRST, "a")])), "use redis+cluster://");
    slots_that_move_are_followed(&cluster, &client);
    an_emptied_node_is_refused(cluster, &client);
}

fn slots_that_move_are_followed(cluster: &RedisCluster, client: &Client) {
    let shard = Shard::of("app/notes/home/", 256);
    let to = other_master(cluster, shard);
    write(client, shard, "old", "1").unwrap();
    let moved = cluster.begin_move(slot(shard), to).unwrap();
    // Keys that are not there any more, or not yet, are the new node's.
    assert_eq!(read(client, shard, "old").as_deref(), Some("1"));
    write(client, shard, "new", "2").unwrap();
    assert_eq!(read(client, shard, "new").as_deref(), Some("2"));
    let both = client.read(shard, &[get(shard, "old"), get(shard, "new")]);
    both.unwrap();
    let several = [cmd("MGET").arg(key(shard, "old")).arg(key(shard, "new")).take()];
    let transaction = [cmd("MULTI"), get(shard, "new"), cmd("EXEC")];
    thread::scope(|scope| {
        // Keys of both nodes are waited for.
        let split = scope.spawn(|| client.read(shard, &several).unwrap());
        let waits = scope.spawn(|| client.read(shard, &transaction).unwrap());
        while cluster.move_keys(moved, 100).unwrap() > 0 {}
        cluster.finish_move(moved).unwrap();
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        assert_eq!(split.join().unwrap(), [Value::Array(vec![bulk("1"), bulk("2")])]);
        assert_eq!(waits.join().unwrap().last(), Some(&Value::Array(vec![bulk("2")])));
    });
    cluster.wait_until_healthy().unwrap();
    let to = address(cluster.nodes()[to].address());
    assert_eq!(client.router().owner(shard).unwrap().address, to);
    // And back, past the client.
    let back = other_master(cluster, shard);
    cluster.move_slots(slot(shard)..=slot(shard), back).unwrap();
    let requests: Vec<_> = Shard::all(256).map(|shard| (shard, vec![get(shard, "a")])).collect();
    let replies = client.read_shards(&requests).unwrap();
    assert!(replies.iter().all(|reply| matches!(reply.as_slice(), [Value::BulkString(_)])));
    write(client, shard, "old", "3").unwrap();
    assert_eq!(read(client, shard, "old").as_deref(), Some("3"));
}

fn an_emptied_node_is_refused(mut cluster: RedisCluster, client: &Client) {
    expect_store(client, "one");
    let node = cluster.owner(slot(Shard::FIRST)).unwrap();
    let other = other_master(&cluster, Shard::FIRST);
    let elsewhere = shards_of(&cluster, other)[0];
    cluster.node_mut(node).unwrap().command(&["FLUSHALL"]).unwrap();
    cluster.node_mut(node).unwrap().command(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    let message = failed(client.read(Shard::FIRST, &[get(Shard::FIRST, "a")]));
    has(&message, "was emptied or replaced");
    assert!(read(client, elsewhere, "a").is_some());
}

#[test]
fn a_failover_is_followed() {
    if is_skipped() {
        return;
    }
    let mut cluster = RedisCluster::start().unwrap();
    let client = Client::open(&options(&cluster), false).unwrap();
    let shard = Shard::FIRST;
    write(&client, shard, "n", "0").unwrap();
    // A planned one, which loses nothing. Writes go on meanwhile.
    let owner = cluster.owner(slot(shard)).unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut done = 0_i64;
            while !is_done.load(Ordering::Relaxed) {
                let increment = cmd("INCR").arg(key(shard, "n")).take();
                client.write(shard, &increment).unwrap();
                done += 1;
            }
            done
        });
        cluster.fail_over(owner).unwrap();
        is_done.store(true, Ordering::Relaxed);
        let done = writer.join().unwrap();
        assert_eq!(read(&client, shard, "n"), Some(done.to_string()));
    });
    let owner = cluster.owner(slot(shard)).unwrap();
    // An unplanned one: calls wait for the replica.
    cluster.node_mut(owner).unwrap().kill().unwrap();
    assert!(read(&client, shard, "n").is_some());
    write(&client, shard, "n", "1").unwrap();
    let requests: Vec<_> = Shard::all(256).map(|shard| (shard, vec![get(shard, "n")])).collect();
    client.read_shards(&requests).unwrap();
    assert_eq!(client.masters().len(), 3);
    assert!(!client.masters().contains(&address(cluster.nodes()[owner].address())));
    // The former master returns as a replica.
    cluster.node_mut(owner).unwrap().restart().unwrap();
    cluster.wait_until_healthy().unwrap();
    // The next one hangs.
    let owner = cluster.owner(slot(shard)).unwrap();
    let impatient = options(&cluster)
        .with_connect_timeout(Duration::from_millis(300))
        .with_reply_timeout(Duration::from_millis(300));
    let impatient = Client::open(&impatient, false).unwrap();
    assert_eq!(read(&impatient, shard, "n").as_deref(), Some("1"));
    cluster.node_mut(owner).unwrap().pause().unwrap();
    let message = write(&impatient, shard, "n", "2").unwrap_err();
    has(&message, "the write may or may not have taken effect");
    eventually(|| write(&impatient, shard, "n", "3").is_ok());
    assert_eq!(read(&impatient, shard, "n").as_deref(), Some("3"));
    cluster.node_mut(owner).unwrap().resume().unwrap();
    assert_eq!(read(&impatient, shard, "n").as_deref(), Some("3"));
}

#[test]
fn a_cluster_that_is_down_is_an_error_within_the_total_time() {
    if is_skipped() {
        return;
    }
    let mut cluster = RedisCluster::start().unwrap();
    let client = options(&cluster).with_total_timeout(Duration::from_secs(2));
    let client = Client::open(&client, false).unwrap();
    let shard = Shard::FIRST;
    write(&client, shard, "a", "1").unwrap();
    for node in 0..cluster.nodes().len() {
        cluster.node_mut(node).unwrap().kill().unwrap();
    }
    let began = Instant::now();
    has(&failed(client.read(shard, &[get(shard, "a")])), "cannot connect to Redis");
    let message = write(&client, shard, "a", "2").unwrap_err();
    assert!(!message.contains("may or may not"), "{message}");
    assert!(began.elapsed() < LONG);
    let message = refused(&options(&cluster));
    has(&message, "cannot connect to Redis");
    for node in 0..cluster.nodes().len() {
        cluster.node_mut(node).unwrap().restart().unwrap();
    }
    cluster.wait_until_healthy().unwrap();
    eventually(|| client.read(shard, &[get(shard, "a")]).is_ok());
    assert_eq!(read(&client, shard, "a").as_deref(), Some("1"));
}
