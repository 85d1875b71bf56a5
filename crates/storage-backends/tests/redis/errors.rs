//! What goes wrong with a server, in words and in bounded time.

use std::net::TcpListener;
use std::thread;

use storage_backends::{Deployment, RedisAddress, SentinelDeployment};
use test_servers::{Direction, Proxy, Redis};

use super::*;

const KEY: &str = "app/notes/home/a";

/// Whether the tests are skipped, which is reported.
pub(crate) fn is_skipped() -> bool {
    let missing = Redis::missing();
    if let Some(why) = &missing {
        eprintln!("SKIPPED: {why}");
    }
    missing.is_some()
}

pub(crate) fn single(server: std::net::SocketAddr) -> RedisOptions {
    let address = RedisAddress::new(server.ip().to_string(), server.port());
    RedisOptions::new(Deployment::Single(address))
}

/// The message of an opening that must fail, however the store is opened.
#[track_caller]
fn refused(options: &RedisOptions) -> String {
    let began = Instant::now();
    let error = RedisStorage::open(options).unwrap_err();
    for other in [
        RedisStorage::open_existing(options).unwrap_err(),
        RedisStorage::open_read_only(options).unwrap_err(),
        RedisStorage::exists(options).unwrap_err(),
    ] {
        assert_eq!(other, error);
    }
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(60), "{error}");
    error.to_string()
}

#[test]
fn servers_that_are_not_there_are_named() {
    // The port is free again when the listener is dropped.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let message = refused(&single(free).with_password("secret"));
    assert!(message.contains(&format!("cannot connect to Redis at {free}")), "{message}");
    assert!(!message.contains("secret"), "{message}");
    let nodes = || vec![RedisAddress::new("127.0.0.1", free.port())];
    let mut options = RedisOptions::new(Deployment::Cluster(nodes()));
    let message = refused(&options);
    assert!(message.contains(&format!("cannot connect to Redis at {free}")), "{message}");
    options.deployment =
        Deployment::Sentinel(SentinelDeployment::new(nodes(), "main").with_password("secret"));
    let message = refused(&options);
    assert!(message.contains(&format!("cannot connect to Redis at {free}")), "{message}");
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options =
        single(listener.local_addr().unwrap()).with_connect_timeout(Duration::from_millis(200));
    let message = refused(&options);
    assert!(message.contains("could not be connected to within 0.2 s"), "{message}");
}

#[test]
fn a_commit_whose_reply_is_lost_is_made_once_and_indeterminate() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let direct = RedisStorage::open(&single(server.address())).unwrap();
    let store = RedisStorage::open(&single(proxy.address())).unwrap();
    store.set(KEY, "1".into()).unwrap();
    let first = direct.get_versioned(KEY).unwrap().unwrap().revision;
    proxy.hold(Direction::Replies);
    let error = thread::scope(|scope| {
        let writer = scope.spawn(|| store.set(KEY, "2".into()).unwrap_err());
        while direct.get(KEY).unwrap() != Some("2".into()) {
            thread::sleep(Duration::from_millis(1));
        }
        proxy.cut();
        proxy.release();
        writer.join().unwrap()
    });
    let StorageError::Unavailable { detail, .. } = &error else { panic!("{error}") };
    assert!(detail.contains("may or may not have taken effect"), "{detail}");
    let second = direct.get_versioned(KEY).unwrap().unwrap().revision;
    assert!(second > first);
    // Later calls connect again, and nothing was written twice.
    assert_eq!(store.get(KEY).unwrap(), Some("2".into()));
    assert_eq!(store.get_versioned(KEY).unwrap().unwrap().revision, second);
}

#[test]
fn a_server_that_hangs_is_given_up() {
    if is_skipped() {
        return;
    }
    let mut server = Redis::start().unwrap();
    let limit = Duration::from_millis(300);
    let options = single(server.address()).with_reply_timeout(limit).with_connect_timeout(limit);
    let store = RedisStorage::open(&options).unwrap();
    store.set(KEY, "1".into()).unwrap();
    server.pause().unwrap();
    let began = Instant::now();
    let error = store.set(KEY, "2".into()).unwrap_err().to_string();
    assert!(error.contains("did not reply within 0.3 s"), "{error}");
    assert!(error.contains("may or may not have taken effect"), "{error}");
    let error = store.get(KEY).unwrap_err().to_string();
    assert!(error.contains("could not be connected to within 0.3 s"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(60));
    server.resume().unwrap();
    store.set(KEY, "3".into()).unwrap();
    assert_eq!(store.get(KEY).unwrap(), Some("3".into()));
}

#[test]
fn a_password_is_asked_for() {
    if is_skipped() {
        return;
    }
    let server = Redis::builder().password("hush").start().unwrap();
    let options = single(server.address());
    let message = refused(&options);
    assert!(message.contains("wants a password; set REDIS_PASSWORD"), "{message}");
    let message = refused(&options.clone().with_password("wrong-one"));
    assert!(message.contains("refused the user or the password"), "{message}");
    assert!(!message.contains("wrong-one"), "{message}");
    RedisStorage::open(&options.with_password("hush")).unwrap().set(KEY, "1".into()).unwrap();
}

/// A primary and its replica.
fn with_replica() -> (Redis, Redis) {
    let (server, replica) = (Redis::start().unwrap(), Redis::start().unwrap());
    // Otherwise it logs in as a user that only its own server knows.
    replica.set("masteruser", "").unwrap();
    replica.set("masterauth", "").unwrap();
    let port = server.address().port().to_string();
    replica.command(&["REPLICAOF", "127.0.0.1", &port]).unwrap();
    wait_for_replicas(&server, "1");
    (server, replica)
}

fn wait_for_replicas(server: &Redis, count: &str) {
    while server.info("connected_slaves").unwrap() != count {
        thread::sleep(Duration::from_millis(10));
    }
}

/// Tries again until it is true, for at most a minute.
#[track_caller]
fn eventually(mut is_true: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < Duration::from_secs(60), "it did not become true");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_primary_whose_replica_lags_refuses_writes_and_changes_nothing() {
    if is_skipped() {
        return;
    }
    let (server, mut replica) = with_replica();
    server.set("min-replicas-to-write", "1").unwrap();
    server.set("min-replicas-max-lag", "1").unwrap();
    let options = single(server.address());
    let mut opened = None;
    eventually(|| {
        opened = RedisStorage::open(&options).ok();
        opened.is_some()
    });
    let store = opened.unwrap();
    eventually(|| store.set(KEY, "1".into()).is_ok());
    replica.pause().unwrap();
    // Until the primary notices that the replica lags, it makes the write.
    eventually(|| store.set(KEY, "1".into()).is_err());
    let before = store.get_versioned(KEY).unwrap().unwrap();
    let other = "app/notes/home/other";
    for commit in [
        Commit::new().set(KEY, "2".into()),
        Commit::new().delete(KEY),
        Commit::new().require_present(KEY).delete(KEY).set(other, "2".into()),
    ] {
        let error = store.commit(commit).unwrap_err();
        let StorageError::Unavailable { detail, .. } = &error else { panic!("{error}") };
        assert_eq!(
            detail,
            &format!(
                "Redis at {} has fewer replicas that keep up than its min-replicas-to-write, and \
                 refuses writes; start the replicas, or lower that setting",
                server.address()
            )
        );
    }
    // Nothing was changed, and what does not write works.
    let stale = Commit::new().require_absent(KEY).set(KEY, "3".into());
    assert_eq!(store.commit(stale), Err(StorageError::AlreadyExists(KEY.into())));
    let after = store.get_versioned(KEY).unwrap().unwrap();
    assert_eq!((after.revision, after.value), (before.revision, "1".into()));
    assert_eq!(store.list_keys(None).unwrap(), [KEY]);
    RedisStorage::open_read_only(&options).unwrap();
    let refused = RedisStorage::open(&options).unwrap_err().to_string();
    assert!(refused.contains("fewer replicas that keep up"), "{refused}");
    replica.resume().unwrap();
    eventually(|| store.set(KEY, "4".into()).is_ok());
    server.set("min-replicas-to-write", "0").unwrap();
    assert_eq!(verifying::problems(&store), []);
}

#[test]
fn a_write_that_replicas_do_not_confirm_is_an_error() {
    if is_skipped() {
        return;
    }
    let (server, mut replica) = with_replica();
    let options = single(server.address()).with_wait(1);
    let store = RedisStorage::open(&options.with_wait_timeout(Duration::from_secs(30))).unwrap();
    store.set(KEY, "1".into()).unwrap();
    drop(store);
    let options =
        single(server.address()).with_wait(1).with_wait_timeout(Duration::from_millis(100));
    // A slow machine may need more than one try.
    let store = (0..100).find_map(|_| RedisStorage::open(&options).ok()).unwrap();
    replica.kill().unwrap();
    wait_for_replicas(&server, "0");
    let error = store.set(KEY, "2".into()).unwrap_err().to_string();
    let made =
        "made the write, and 0 of 1 replicas confirmed it within 0.1 s, so a failover may lose it";
    assert!(error.contains(made) && !error.contains("may or may not"), "{error}");
    assert_eq!(store.get(KEY).unwrap(), Some("2".into()));
    // What was not written need not be confirmed.
    let stale = Commit::new().require_absent(KEY).set(KEY, "3".into());
    let error = store.commit(stale).unwrap_err();
    assert_eq!(error, StorageError::AlreadyExists(KEY.into()));
    assert_eq!(store.get(KEY).unwrap(), Some("2".into()));
}
