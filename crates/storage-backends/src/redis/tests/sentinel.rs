//! A primary that sentinels replace.

use test_servers::RedisSentinel;

use super::super::deployment::SentinelDeployment;
use super::*;

const SHARD: Shard = Shard::FIRST;

/// The name that the test servers give to the primary, from their URL.
fn master_name(group: &RedisSentinel) -> String {
    let url = group.url();
    let (_, path) = url.rsplit_once('/').unwrap();
    path.split('?').next().unwrap().to_owned()
}

fn deployment(group: &RedisSentinel) -> SentinelDeployment {
    let addresses = group.sentinels().iter().map(|sentinel| address(sentinel.address())).collect();
    let deployment = SentinelDeployment::new(addresses, master_name(group));
    match group.sentinel_password() {
        Some(password) => deployment.with_password(password),
        None => deployment,
    }
}

fn options(group: &RedisSentinel) -> RedisOptions {
    RedisOptions::new(Deployment::Sentinel(deployment(group)))
}

#[test]
fn the_primary_is_found_and_failovers_are_followed() {
    if is_skipped() {
        return;
    }
    let mut group = RedisSentinel::start().unwrap();
    let client = Client::open(&options(&group), false).unwrap();
    assert_eq!(client.shards(), 1);
    let primary =
        |group: &RedisSentinel| address(group.servers()[group.master().unwrap()].address());
    assert_eq!(client.masters(), [primary(&group)]);
    write(&client, SHARD, "a", "1").unwrap();
    let message = {
        let mut other = deployment(&group);
        other.master = "another".to_owned();
        refused(&RedisOptions::new(Deployment::Sentinel(other)))
    };
    has(&message, "knows no primary named \"another\"");
    // Not sentinels.
    let servers = group.servers().iter().map(|server| address(server.address())).collect();
    let servers = SentinelDeployment::new(servers, master_name(&group));
    has(&refused(&RedisOptions::new(Deployment::Sentinel(servers))), "is not a sentinel");
    // A planned failover. The former primary stays up, as a replica.
    let before = client.masters();
    group.fail_over().unwrap();
    write(&client, SHARD, "a", "2").unwrap();
    assert_eq!(client.masters(), [primary(&group)]);
    assert_ne!(client.masters(), before);
    assert_eq!(read(&client, SHARD, "a").as_deref(), Some("2"));
    group.wait_until_healthy().unwrap();
    // An unplanned one, with a sentinel less.
    group.sentinel_mut(0).unwrap().kill().unwrap();
    let killed = group.master().unwrap();
    let was = primary(&group);
    group.server_mut(killed).unwrap().kill().unwrap();
    assert!(read(&client, SHARD, "a").is_some());
    write(&client, SHARD, "a", "3").unwrap();
    assert_ne!(client.masters(), [was]);
    // A client that starts now finds it too.
    let later = Client::open(&options(&group), false).unwrap();
    assert_eq!(later.masters(), client.masters());
    assert_eq!(read(&later, SHARD, "a").as_deref(), Some("3"));
    for n in 0..group.sentinels().len() {
        group.sentinel_mut(n).unwrap().kill().unwrap();
    }
    // Calls do not need the sentinels.
    assert_eq!(read(&client, SHARD, "a").as_deref(), Some("3"));
    has(&refused(&options(&group)), "no sentinel replied: cannot connect to Redis");
}

/// Until sentinels demote it, it takes itself for the primary.
#[test]
fn a_former_primary_that_comes_back_is_not_written_to() {
    if is_skipped() {
        return;
    }
    let mut group = RedisSentinel::start().unwrap();
    for is_killed in [false, true] {
        // It has a connection, and makes no call during the failover.
        let client = Client::open(&options(&group), false).unwrap();
        write(&client, SHARD, "a", "before").unwrap();
        let former = group.master().unwrap();
        let server = group.server_mut(former).unwrap();
        if is_killed {
            server.kill().unwrap()
        } else {
            server.pause().unwrap()
        }
        group.wait_until_healthy().unwrap();
        let server = group.server_mut(former).unwrap();
        if is_killed {
            server.restart().unwrap()
        } else {
            server.resume().unwrap()
        }
        let value = format!("after, {is_killed}");
        write(&client, SHARD, "a", &value).unwrap();
        assert_eq!(read(&client, SHARD, "a"), Some(value.clone()));
        let primary = &group.servers()[group.master().unwrap()];
        assert_eq!(client.masters(), [address(primary.address())]);
        assert_eq!(primary.command(&["get", &key(SHARD, "a")]).unwrap(), value);
        group.wait_until_healthy().unwrap();
    }
}

#[test]
fn sentinels_may_have_a_password_of_their_own() {
    if is_skipped() {
        return;
    }
    let builder = Redis::builder().password("hush");
    let group = RedisSentinel::with(builder, Some("still")).unwrap();
    let client = Client::open(&options(&group).with_password("hush"), false).unwrap();
    write(&client, SHARD, "a", "1").unwrap();
    let without = SentinelDeployment { password: None, ..deployment(&group) };
    let without = RedisOptions::new(Deployment::Sentinel(without)).with_password("hush");
    has(&refused(&without), "set REDIS_SENTINEL_PASSWORD");
    has(&refused(&options(&group)), "wants a password; set REDIS_PASSWORD");
}
