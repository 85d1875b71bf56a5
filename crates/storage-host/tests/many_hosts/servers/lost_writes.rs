//! A server that has lost acknowledged writes, as after a failover, or all data.

use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rstest::rstest;
use storage_host::{CacheConfig, ComponentChain, ComponentStorage, StorageHost};
use test_servers::Redis;

use super::{COMPONENT, L, id, open};

/// How long a host may take to notice what happened to the server.
const LIMIT: Duration = Duration::from_secs(60);

/// Repeats a call until it returns true.
#[track_caller]
fn repeat(mut call: impl FnMut() -> bool) {
    let began = Instant::now();
    while !call() {
        assert!(began.elapsed() < LIMIT, "not within {LIMIT:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn set(chain: &Arc<ComponentChain>, value: &str) {
    repeat(|| chain.set("key", value.into()).is_ok());
}

#[test]
fn values_that_redis_has_lost_are_dropped_from_the_caches_of_all_hosts() {
    if let Some(reason) = Redis::missing() {
        println!("SKIPPED: {reason}");
        return;
    }
    let mut server = Redis::start().unwrap();
    let url = format!("{}?connect_timeout_ms=1000&total_timeout_ms=3000", server.url());
    let hosts = [(); 2].map(|()| {
        StorageHost::builder(open(&url)).max_staleness(L).cache(CacheConfig::default()).build()
    });
    let [one, two] = hosts.each_ref().map(|host| host.component(&id(COMPONENT)));
    set(&one, "kept");

    // The same store as it was before the next write.
    server.stop().unwrap();
    let (data, copy) = (server.data().to_owned(), server.data().with_extension("copy"));
    let copied = Command::new("cp").arg("-a").args([&data, &copy]).status().unwrap();
    assert!(copied.success());
    server.restart().unwrap();
    set(&one, "lost");
    repeat(|| two.get("key") == Ok(Some("lost".into())));
    server.kill().unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&copy, &data).unwrap();
    server.restart().unwrap();

    for chain in [&one, &two] {
        repeat(|| chain.get("key") == Ok(Some("kept".into())));
    }
    set(&two, "new");
    repeat(|| one.get("key") == Ok(Some("new".into())));
}

#[rstest]
#[case::without_a_cache(CacheConfig::off())]
#[case::with_a_cache(CacheConfig::default())]
fn a_host_that_only_reads_notices_that_redis_was_emptied(#[case] cache: CacheConfig) {
    if let Some(reason) = Redis::missing() {
        println!("SKIPPED: {reason}");
        return;
    }
    let server = Redis::start().unwrap();
    let host = StorageHost::builder(open(&server.url())).cache(cache).max_staleness(L).build();
    let chain = host.component(&id(COMPONENT));
    set(&chain, "value");
    assert_eq!(chain.get("key"), Ok(Some("value".into())));
    server.command(&["FLUSHALL"]).unwrap();
    // Until it does, there seems to be no key.
    repeat(|| chain.get("key").is_err());
    for _ in 0..10 {
        let error = chain.get("key").unwrap_err().to_string();
        assert!(error.contains("emptied or replaced"), "{error}");
    }
}
