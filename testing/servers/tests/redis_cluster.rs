//! The Redis cluster does what tests need.
#![cfg(unix)]
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test support"
)]

use std::sync::atomic::{AtomicBool, Ordering};

use test_servers::{Redis, RedisCluster};

/// Whether to skip a test because this machine has no server.
fn skip() -> bool {
    let missing = Redis::missing();
    if let Some(reason) = &missing {
        println!("SKIPPED: {reason}");
    }
    missing.is_some()
}

/// Sends a command to the owner of a key.
fn at_owner(cluster: &RedisCluster, key: &str, arguments: &[&str]) -> String {
    let owner = cluster.owner(cluster.slot(key).unwrap()).unwrap();
    cluster.nodes()[owner].command(arguments).unwrap()
}

#[test]
fn a_replica_takes_over_from_a_master_that_is_killed_or_paused() {
    if skip() {
        return;
    }
    let mut cluster = RedisCluster::start().unwrap();
    assert_eq!([0, 5_461, 16_383].map(|slot| cluster.owner(slot).unwrap()), [0, 1, 2]);
    let url = cluster.url();
    assert_eq!(url.matches("127.0.0.1:").count(), 6, "{url}");
    at_owner(&cluster, "key", &["set", "key", "1"]);
    let slot = cluster.slot("key").unwrap();
    let first = cluster.owner(slot).unwrap();
    let other = (first + 1) % 3;
    let error = cluster.nodes()[other].command(&["get", "key"]).unwrap_err();
    let moved = format!("MOVED {slot} {}", cluster.nodes()[first].address());
    assert!(format!("{error:#}").contains(&moved), "{error:#}");

    let waiting = cluster.nodes()[first].command(&["wait", "1", "10000"]).unwrap();
    assert_eq!(waiting, "1");
    cluster.node_mut(first).unwrap().kill().unwrap();
    cluster.wait_until_healthy().unwrap();
    assert_eq!(cluster.owner(slot).unwrap(), first + 3);
    assert_eq!(at_owner(&cluster, "key", &["incr", "key"]), "2");
    cluster.node_mut(first).unwrap().restart().unwrap();
    cluster.wait_until_healthy().unwrap();
    assert_eq!(cluster.nodes()[first].info("role").unwrap(), "slave");

    assert_eq!(cluster.fail_over(first + 3).unwrap(), first);
    assert_eq!(cluster.owner(slot).unwrap(), first);
    cluster.node_mut(first).unwrap().pause().unwrap();
    cluster.wait_until_healthy().unwrap();
    assert_eq!(cluster.owner(slot).unwrap(), first + 3);
    assert_eq!(at_owner(&cluster, "key", &["get", "key"]), "2");
    cluster.node_mut(first).unwrap().resume().unwrap();
    cluster.wait_until_healthy().unwrap();
    assert_eq!(cluster.nodes()[first].info("role").unwrap(), "slave");
}

#[test]
fn a_master_that_lost_its_data_stays_a_member() {
    if skip() {
        return;
    }
    let mut cluster = RedisCluster::start().unwrap();
    at_owner(&cluster, "key", &["set", "key", "1"]);
    let slot = cluster.slot("key").unwrap();
    let owner = cluster.owner(slot).unwrap();
    cluster.node_mut(owner).unwrap().restart_empty().unwrap();
    cluster.wait_until_healthy().unwrap();
    assert_eq!(cluster.owner(slot).unwrap(), owner);
    assert_eq!(at_owner(&cluster, "key", &["get", "key"]), "");
}

#[test]
fn slots_move_to_another_node_while_clients_use_them() {
    if skip() {
        return;
    }
    let mut cluster = RedisCluster::with(Redis::builder().password("secret")).unwrap();
    let slot = cluster.slot("{a}").unwrap();
    for key in 0..250 {
        at_owner(&cluster, "{a}", &["set", &format!("{{a}}{key}\n"), "0"]);
    }
    let added = cluster.add_node().unwrap();
    assert_eq!(added, 6);
    let done = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0;
            while !done.load(Ordering::Relaxed) {
                let owner = &cluster.nodes()[cluster.owner(slot).unwrap()];
                // While it moves, the key is at neither node for clients of this kind.
                written += u32::from(owner.command(&["incr", "{a}0\n"]).is_ok());
            }
            written
        });
        cluster.move_slots(slot - 10..=slot + 10, added).unwrap();
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert_eq!(cluster.owner(slot).unwrap(), added);
    assert_eq!(at_owner(&cluster, "{a}", &["get", "{a}0\n"]), written.to_string());
    assert_eq!(cluster.nodes()[added].command(&["dbsize"]).unwrap(), "250");

    let back = (cluster.owner(slot + 11).unwrap() + 1) % 3;
    let moved = cluster.begin_move(slot, back).unwrap();
    assert_eq!(cluster.move_keys(moved, 10).unwrap(), 10);
    let ask = |key: usize| cluster.nodes()[added].command(&["get", &format!("{{a}}{key}\n")]);
    let errors: Vec<String> =
        (0..250).filter_map(|key| ask(key).err()).map(|error| format!("{error:#}")).collect();
    assert_eq!(errors.len(), 10);
    let expected = format!("ASK {slot} {}", cluster.nodes()[back].address());
    assert!(errors.iter().all(|error| error.contains(&expected)), "{errors:?}");
    while cluster.move_keys(moved, 1000).unwrap() > 0 {}
    cluster.finish_move(moved).unwrap();
    cluster.wait_until_healthy().unwrap();
    assert_eq!(cluster.owner(slot).unwrap(), back);
    assert_eq!(cluster.nodes()[added].command(&["dbsize"]).unwrap(), "0");
}

#[test]
fn a_cluster_with_tls_replicates() {
    if skip() {
        return;
    }
    let cluster = RedisCluster::with(Redis::builder().tls().user("u", "p", "~* +@all")).unwrap();
    let url = cluster.url();
    assert!(
        url.starts_with("redis+cluster://u:p@127.0.0.1:") && url.contains("?sslmode="),
        "{url}"
    );
    at_owner(&cluster, "key", &["set", "key", "1"]);
    let slot = cluster.slot("key").unwrap();
    let owner = cluster.owner(slot).unwrap();
    assert_eq!(cluster.nodes()[owner].command(&["wait", "1", "10000"]).unwrap(), "1");
    cluster.move_slots(slot..=slot, (owner + 1) % 3).unwrap();
    assert_eq!(at_owner(&cluster, "key", &["get", "key"]), "1");
    assert_eq!(cluster.fail_over((owner + 1) % 3).unwrap(), (owner + 1) % 3 + 3);
}
