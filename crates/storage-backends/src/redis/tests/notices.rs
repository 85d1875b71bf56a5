//! Notices reach the watchers of other hosts, again after connections were lost.

use std::sync::Mutex;

use storage_core::{Change, Watcher};
use test_servers::{Proxy, RedisCluster};

use super::super::notices::Notices;
use super::*;
use crate::changes::Changes;

const STORE: &str = "one";

/// Remembers the revisions that it was told.
#[derive(Default)]
struct Told(Mutex<Vec<u64>>);

impl Watcher for Told {
    fn changed(&self, change: &Change) {
        assert!(!change.is_own);
        self.0.lock().unwrap().push(change.revision.get());
    }
}

/// A host that listens.
struct Host {
    told: Arc<Told>,
    changes: Arc<Changes>,
    _notices: Notices,
}

impl Host {
    fn listen(client: &Arc<Client>) -> Self {
        let (told, changes) = (Arc::new(Told::default()), Arc::new(Changes::new()));
        changes.watch(Arc::clone(&told) as Arc<dyn Watcher>);
        let notices = Notices::default();
        let check = StoreCheck {
            keys: Keys::new(RedisOptions::DEFAULT_PREFIX),
            store_id: STORE.to_owned(),
        };
        notices.listen(client, &changes, check);
        Self { told, changes, _notices: notices }
    }

    fn has(&self, revision: u64) -> bool {
        self.told.0.lock().unwrap().contains(&revision)
    }
}

/// Publishes a change as a commit does.
fn publish(client: &Client, changes: &Changes, shard: Shard, revision: u64) {
    let end = changes.notice_end("app/notes/home/", Some(&["app/notes/home/a"]));
    let notice = format!("{}\n{revision}{end}", changes.notice_start());
    let channel = Keys::new(RedisOptions::DEFAULT_PREFIX).channel(shard, STORE);
    let publish = cmd(client.publish_command()).arg(channel).arg(notice).take();
    client.write(shard, &publish).unwrap();
}

#[test]
fn notices_arrive_again_after_the_connection_was_lost() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let behind = Arc::new(Client::open(&single(proxy.address()), false).unwrap());
    expect_store(&behind, STORE);
    let client = Client::open(&single(server.address()), false).unwrap();
    let host = Host::listen(&behind);
    let another = Changes::new();
    let mut revision = 0;
    let mut publish = || {
        revision += 1;
        publish(&client, &another, Shard::FIRST, revision);
        host.has(revision) || host.has(revision - 1)
    };
    eventually(&mut publish);
    proxy.refuse();
    proxy.cut();
    thread::sleep(Duration::from_millis(50));
    proxy.accept();
    let before = host.told.0.lock().unwrap().len();
    eventually(|| {
        publish();
        host.told.0.lock().unwrap().len() > before
    });
    // One's own are not reported.
    let own = host.changes.clone();
    super::notices::publish(&client, &own, Shard::FIRST, 9_000_001);
    super::notices::publish(&client, &another, Shard::FIRST, 9_000_002);
    eventually(|| host.has(9_000_002));
    assert!(!host.has(9_000_001));
}

#[test]
fn a_store_that_is_closed_does_not_wait_for_a_server() {
    if is_skipped() {
        return;
    }
    let mut server = Redis::start().unwrap();
    let client = Arc::new(Client::open(&single(server.address()), false).unwrap());
    let host = Host::listen(&client);
    eventually(|| server.command(&["PUBSUB", "CHANNELS"]).unwrap().contains(STORE));
    drop(host);
    eventually(|| !server.command(&["PUBSUB", "CHANNELS"]).unwrap().contains(STORE));
    let host = Host::listen(&client);
    eventually(|| server.command(&["PUBSUB", "CHANNELS"]).unwrap().contains(STORE));
    server.pause().unwrap();
    let began = Instant::now();
    drop(host);
    assert!(began.elapsed() < LONG / 2);
    server.resume().unwrap();
}

#[test]
fn every_shard_of_a_cluster_is_heard() {
    if is_skipped() {
        return;
    }
    let mut cluster = RedisCluster::start().unwrap();
    let seeds = cluster.nodes().iter().map(|node| address(node.address())).collect();
    let options = RedisOptions::new(Deployment::Cluster(seeds));
    let client = Arc::new(Client::open(&options, false).unwrap());
    expect_store(&client, STORE);
    let host = Host::listen(&client);
    let another = Changes::new();
    let hears_all = |first: u64| {
        for shard in Shard::all(256) {
            publish(&client, &another, shard, first + u64::from(shard.number()));
        }
        let last = Instant::now() + Duration::from_millis(200);
        while Instant::now() < last {
            if (first..first + 256).all(|revision| host.has(revision)) {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    };
    let mut first = 1000;
    let mut all = || {
        first += 1000;
        hears_all(first)
    };
    eventually(&mut all);
    // A master fails.
    let owner = cluster.owner(cluster.slot(&key(Shard::FIRST, "")).unwrap()).unwrap();
    cluster.node_mut(owner).unwrap().kill().unwrap();
    eventually(&mut all);
    cluster.node_mut(owner).unwrap().restart().unwrap();
    cluster.wait_until_healthy().unwrap();
    // A slot moves.
    let slot = cluster.slot(&key(Shard::FIRST, "")).unwrap();
    let owner = cluster.owner(slot).unwrap();
    let to = (0..16384).step_by(500).map(|slot| cluster.owner(slot).unwrap());
    let to = to.into_iter().find(|node| *node != owner).unwrap();
    cluster.move_slots(slot..=slot, to).unwrap();
    eventually(&mut all);
}
