//! Calls to several nodes of a cluster, one of which does not reply.

use test_servers::RedisCluster;

use super::super::shard::crc16;
use super::*;

/// A cluster, and a shard of each of its masters, in the order in which nodes are asked.
struct Frozen {
    cluster: RedisCluster,
    shards: Vec<Shard>,
}

impl Frozen {
    /// `None` if the tests are skipped, which is reported.
    fn start() -> Option<Self> {
        if is_skipped() {
            return None;
        }
        let cluster = RedisCluster::start().unwrap();
        let mut owned: Vec<(RedisAddress, Shard)> = Vec::new();
        for shard in Shard::all(256) {
            let owner = cluster.owner(slot(shard)).unwrap();
            let owner = address(cluster.nodes()[owner].address());
            if owned.iter().all(|(known, _)| *known != owner) {
                owned.push((owner, shard));
            }
        }
        owned.sort();
        let shards = owned.into_iter().map(|(_, shard)| shard).collect();
        Some(Self { cluster, shards })
    }

    fn options(&self) -> RedisOptions {
        let nodes = self.cluster.nodes().iter().map(|node| address(node.address())).collect();
        RedisOptions::new(Deployment::Cluster(nodes))
    }

    /// Prevents failovers.
    fn keep_masters(&self) {
        for node in self.cluster.nodes() {
            node.set("cluster-node-timeout", "120000").unwrap();
        }
    }

    fn node_of(&mut self, shard: Shard) -> &mut Redis {
        let owner = self.cluster.owner(slot(shard)).unwrap();
        self.cluster.node_mut(owner).unwrap()
    }
}

fn slot(shard: Shard) -> u16 {
    crc16(Keys::new(RedisOptions::DEFAULT_PREFIX).tag(shard).as_bytes()) % 16384
}

/// Reads a key of each of the shards.
fn read_all(client: &Client, shards: &[Shard]) -> Result<Vec<Vec<Value>>, Failure> {
    let requests: Vec<_> = shards.iter().map(|shard| (*shard, vec![get(*shard, "a")])).collect();
    client.read_shards(&requests)
}

/// Opens several connections to each node, as callers at the same time do.
fn open_connections(client: &Client, shards: &[Shard]) {
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| read_all(client, shards).unwrap());
        }
    });
}

#[test]
fn a_node_that_hangs_does_not_keep_the_connections_to_others() {
    let Some(mut frozen) = Frozen::start() else { return };
    frozen.keep_masters();
    let shards = frozen.shards.clone();
    for hangs in shards.clone() {
        // With an open connection to it, and without.
        for is_open in [true, false] {
            let client = Client::open(&frozen.options().with_pool_size(1), false).unwrap();
            match is_open {
                true => drop(read_all(&client, &shards).unwrap()),
                false => client.close_all(),
            }
            frozen.node_of(hangs).pause().unwrap();
            thread::scope(|scope| {
                let reader = scope.spawn(|| read_all(&client, &shards));
                let began = Instant::now();
                while began.elapsed() < Duration::from_secs(1) {
                    for shard in shards.iter().filter(|shard| **shard != hangs) {
                        let began = Instant::now();
                        assert_eq!(read(&client, *shard, "a"), None);
                        // The reader waits for ten.
                        assert!(began.elapsed() < Duration::from_secs(3), "{hangs} {is_open}");
                    }
                }
                assert!(!reader.is_finished());
                frozen.node_of(hangs).resume().unwrap();
                reader.join().unwrap().unwrap();
            });
        }
    }
}

#[test]
fn several_shards_are_read_after_a_failover_as_one_is() {
    let Some(mut frozen) = Frozen::start() else { return };
    let shards = frozen.shards.clone();
    let hangs = shards[0];
    // Enough for one reply that does not come, and little more.
    let options = frozen
        .options()
        .with_reply_timeout(Duration::from_secs(5))
        .with_total_timeout(Duration::from_secs(9));
    let [one, all] = [(); 2].map(|()| Client::open(&options, false).unwrap());
    open_connections(&one, &shards);
    open_connections(&all, &shards);
    frozen.node_of(hangs).pause().unwrap();
    frozen.cluster.wait_until_healthy().unwrap();
    one.read(hangs, &[get(hangs, "a")]).unwrap();
    read_all(&all, &shards).unwrap();
}

#[test]
fn a_read_of_several_shards_ends_within_its_total_time() {
    let Some(mut frozen) = Frozen::start() else { return };
    frozen.keep_masters();
    let shards = frozen.shards.clone();
    let options = frozen.options().with_total_timeout(Duration::from_secs(3));
    for is_open in [true, false] {
        let client = Client::open(&options, false).unwrap();
        match is_open {
            true => open_connections(&client, &shards),
            false => client.close_all(),
        }
        for hangs in &shards[..2] {
            frozen.node_of(*hangs).pause().unwrap();
        }
        let began = Instant::now();
        let message = failed(read_all(&client, &shards));
        // With 10 s for each reply, it would take longer.
        assert!(began.elapsed() < Duration::from_secs(8), "{message}");
        for hangs in &shards[..2] {
            frozen.node_of(*hangs).resume().unwrap();
        }
        eventually(|| read_all(&client, &shards).is_ok());
    }
}

#[test]
fn a_node_that_hangs_does_not_close_the_connections_to_others() {
    let Some(mut frozen) = Frozen::start() else { return };
    frozen.keep_masters();
    let shards = frozen.shards.clone();
    let options = frozen
        .options()
        .with_connect_timeout(Duration::from_millis(500))
        .with_reply_timeout(Duration::from_millis(500))
        .with_total_timeout(Duration::from_secs(1));
    let client = Client::open(&options, false).unwrap();
    open_connections(&client, &shards);
    frozen.node_of(shards[0]).pause().unwrap();
    failed(read_all(&client, &shards));
    let connections = |frozen: &mut Frozen| -> u32 {
        let node = frozen.node_of(shards[1]);
        node.info("connected_clients").unwrap().parse().unwrap()
    };
    let before = connections(&mut frozen);
    (0..5).for_each(|_| drop(failed(read_all(&client, &shards))));
    // Four are kept. Others look for the masters.
    assert!(connections(&mut frozen) + 2 >= before, "{before}");
    frozen.node_of(shards[0]).resume().unwrap();
}
