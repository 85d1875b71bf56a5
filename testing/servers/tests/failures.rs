//! The store over a PostgreSQL server that fails: every call ends with a clear error, without
//! a panic, and the store works again once the server does.
#![cfg(unix)]
#![expect(clippy::panic, clippy::print_stdout, reason = "test support")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use storage_backends::{PostgresOptions, PostgresStorage, TlsMode};
use storage_core::{Commit, ComponentStorage as _, PageRequest, StorageError, StorageValue};
use test_servers::{Direction, Postgres, Proxy, Tls};

const KEY: &str = "test/failures/x/key";
const PASSWORD: &str = "correct-horse";

/// Much longer than any time limit of the store.
const HANG: Duration = Duration::from_secs(60);

/// Whether to skip a test because this machine has no server.
fn skip() -> bool {
    let missing = Postgres::missing();
    if let Some(reason) = &missing {
        println!("SKIPPED: {reason}");
    }
    missing.is_some()
}

fn options(address: SocketAddr) -> PostgresOptions {
    PostgresOptions::new(address.ip().to_string(), "postgres", "postgres").with_port(address.port())
}

/// With short time limits, for a server that does not answer.
fn impatient(address: SocketAddr) -> PostgresOptions {
    options(address)
        .with_connect_timeout(Duration::from_secs(2))
        .with_statement_timeout(Duration::from_secs(2))
        .with_total_timeout(Duration::from_secs(5))
}

fn open(options: &PostgresOptions) -> Result<Arc<PostgresStorage>, StorageError> {
    let options = options.clone();
    ends(move || PostgresStorage::open(&options).map(Arc::new))
}

/// Makes a call that must end.
fn ends<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(call()));
    receiver.recv_timeout(HANG).unwrap_or_else(|error| panic!("the call hangs or panics: {error}"))
}

fn get(store: &Arc<PostgresStorage>) -> Result<Option<StorageValue>, StorageError> {
    let store = Arc::clone(store);
    ends(move || store.get(KEY))
}

fn set(store: &Arc<PostgresStorage>, value: &'static str) -> Result<(), StorageError> {
    let store = Arc::clone(store);
    ends(move || store.set(KEY, value.into()))
}

/// Waits until a call succeeds.
fn recovers<T>(mut call: impl FnMut() -> Result<T, StorageError>) -> T {
    let start = Instant::now();
    loop {
        match call() {
            Ok(value) => return value,
            Err(error) => assert!(start.elapsed() < HANG, "{error}"),
        }
    }
}

#[track_caller]
fn is_unavailable<T: std::fmt::Debug>(result: Result<T, StorageError>) -> String {
    match result {
        Err(error @ StorageError::Unavailable { .. }) => {
            println!("{error}");
            error.to_string()
        }
        other => panic!("expected an unavailable store, found {other:?}"),
    }
}

#[test]
fn a_server_that_is_killed_stopped_or_paused() {
    if skip() {
        return;
    }
    let mut server = Postgres::start().unwrap();
    let store = open(&impatient(server.address())).unwrap();
    recovers(|| set(&store, "1"));
    server.kill().unwrap();
    is_unavailable(get(&store));
    is_unavailable(set(&store, "2"));
    server.restart().unwrap();
    assert_eq!(recovers(|| get(&store)), Some("1".into()));
    recovers(|| set(&store, "3"));

    server.stop().unwrap();
    is_unavailable(get(&store));
    is_unavailable(open(&impatient(server.address())));
    server.restart().unwrap();
    assert_eq!(recovers(|| get(&store)), Some("3".into()));

    server.pause().unwrap();
    is_unavailable(get(&store));
    // It may be written when the server continues.
    is_unavailable(set(&store, "4"));
    is_unavailable(open(&impatient(server.address())));
    server.resume().unwrap();
    recovers(|| set(&store, "5"));
    assert_eq!(recovers(|| get(&store)), Some("5".into()));
}

#[test]
fn a_server_without_free_connections() {
    if skip() {
        return;
    }
    let server = Postgres::builder().setting("max_connections", "8").start().unwrap();
    let patient = options(server.address()).with_pool_size(16).with_total_timeout(HANG);
    let store = open(&patient).unwrap();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|n| {
                let store = &store;
                scope.spawn(move || {
                    for round in 0..20 {
                        store.set(&format!("test/failures/t{n}/{round}"), "x".into()).unwrap();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert_eq!(store.list_keys(None).unwrap().len(), 320);
    // None is left for a second host.
    let text = is_unavailable(open(&options(server.address())));
    assert!(text.contains("connection"), "{text}");
}

#[test]
fn a_server_that_is_read_only() {
    if skip() {
        return;
    }
    let server = Postgres::start().unwrap();
    let store = open(&options(server.address())).unwrap();
    set(&store, "1").unwrap();
    server.set_read_only(true).unwrap();
    // Connections learn of it some time later.
    let start = Instant::now();
    let error = loop {
        match set(&store, "2") {
            Ok(()) => assert!(start.elapsed() < HANG, "the server accepts writes"),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("read-only"), "{error}");
    assert!(get(&store).unwrap().is_some());
    server.set_read_only(false).unwrap();
    recovers(|| set(&store, "3"));
}

#[test]
fn a_server_with_a_full_disk() {
    if skip() || !rustix::process::geteuid().is_root() {
        return;
    }
    let server = Postgres::builder().tmpfs("96m").start().unwrap();
    let store = open(&options(server.address()).with_statement_timeout(HANG / 2)).unwrap();
    set(&store, "1").unwrap();
    let value = StorageValue::new(vec![7; 1 << 20]);
    let error = (0..200).find_map(|n| store.set(&format!("test/full/x/{n}"), value.clone()).err());
    let error = error.unwrap();
    println!("{error}");
    assert!(
        matches!(error, StorageError::Unavailable { .. } | StorageError::IoError(_)),
        "{error}"
    );
    server.resize("600m").unwrap();
    assert_eq!(recovers(|| get(&store)), Some("1".into()));
    recovers(|| set(&store, "2"));
    let (mut bytes, mut keys) = (0, 0);
    for key in recovers(|| store.list_keys(None)) {
        bytes += (key.len() + store.get(&key).unwrap().unwrap().len()) as u64;
        keys += 1;
    }
    let usage = store.usage(None).unwrap();
    assert_eq!((usage.bytes, usage.keys), (bytes, keys));
}

#[test]
fn a_server_that_refuses_the_host() {
    if skip() {
        return;
    }
    let server = Postgres::builder().password(PASSWORD).tls(Tls::Required).start().unwrap();
    let certificate = server.certificate();
    let other = Postgres::builder().tls(Tls::Offered).start().unwrap();
    let plain = Postgres::start().unwrap();
    let valid = options(server.address()).with_password(PASSWORD);
    for (options, expected) in [
        (options(server.address()).with_password("guessed-password"), "refused the password"),
        (options(server.address()), "password"),
        (valid.clone().with_tls(TlsMode::Disable), "without encryption"),
        (valid.clone().with_tls(TlsMode::VerifyFull), "certificate"),
        (
            valid.clone().with_tls(TlsMode::VerifyFull).with_root_certificates(other.certificate()),
            "certificate",
        ),
        (options(plain.address()).with_tls(TlsMode::Require), "TLS"),
        (
            {
                let mut wrong = valid.clone();
                wrong.database = "no_such_database".to_owned();
                wrong
            },
            "no_such_database",
        ),
    ] {
        let text = is_unavailable(open(&options));
        assert!(text.contains(expected), "{expected:?} in {text}");
        assert!(!text.contains(PASSWORD) && !text.contains("guessed-password"), "{text}");
    }
    for tls in [TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyFull] {
        let options = valid.clone().with_tls(tls).with_root_certificates(&certificate);
        let store = open(&options).unwrap_or_else(|error| panic!("{tls:?}: {error}"));
        set(&store, "1").unwrap();
    }
}

#[test]
fn a_connection_that_is_cut_or_late() {
    if skip() {
        return;
    }
    let server = Postgres::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let store = open(&impatient(proxy.address())).unwrap();
    recovers(|| set(&store, "1"));

    proxy.cut();
    assert_eq!(recovers(|| get(&store)), Some("1".into()));
    recovers(|| set(&store, "2"));

    // The write took effect, but the host cannot know that.
    proxy.cut_reply_to("value-3");
    is_unavailable(set(&store, "value-3"));
    assert_eq!(recovers(|| get(&store)), Some("value-3".into()));
    // A read is made again.
    proxy.cut_reply_to("test/failures/y/");
    assert!(!recovers(|| store.exists("test/failures/y/key")));

    proxy.delay(Direction::Replies, Duration::from_millis(100));
    recovers(|| set(&store, "4"));
    proxy.delay(Direction::Replies, Duration::ZERO);

    for direction in [Direction::Requests, Direction::Replies] {
        proxy.hold(direction);
        is_unavailable(set(&store, "5"));
        is_unavailable(get(&store));
        proxy.release();
        recovers(|| set(&store, "6"));
        assert_eq!(recovers(|| get(&store)), Some("6".into()), "after {direction:?} were held");
    }

    proxy.refuse();
    proxy.cut();
    is_unavailable(get(&store));
    proxy.accept();
    assert_eq!(recovers(|| get(&store)), Some("6".into()));
    assert_eq!(proxy.traffic().cancel_requests, 0, "a cancelled commit may be reported as done");
}

#[test]
fn a_standby_that_takes_over() {
    if skip() {
        return;
    }
    let mut server = Postgres::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let store = open(&options(proxy.address())).unwrap();
    let standby = server.start_standby().unwrap();
    set(&store, "1").unwrap();
    let before = store.get_versioned(KEY).unwrap().unwrap().revision;
    server.kill().unwrap();
    is_unavailable(get(&store));
    proxy.redirect(standby.address());
    // It does not accept writes yet.
    let error = set(&store, "2").unwrap_err().to_string();
    assert!(error.contains("read-only"), "{error}");
    standby.promote().unwrap();
    assert_eq!(recovers(|| get(&store)), Some("1".into()));
    recovers(|| set(&store, "3"));
    assert!(store.get_versioned(KEY).unwrap().unwrap().revision > before);
}

#[test]
fn every_call_is_one_round_trip() {
    if skip() {
        return;
    }
    let server = Postgres::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let store = open(&options(proxy.address())).unwrap();
    set(&store, "1").unwrap();
    let prefix = "test/failures/x/";
    let calls: [(&str, &dyn Fn()); 9] = [
        ("get", &|| drop(store.get(KEY).unwrap())),
        ("get_versioned", &|| drop(store.get_versioned(KEY).unwrap())),
        ("set", &|| store.set(KEY, "2".into()).unwrap()),
        ("exists", &|| assert!(store.exists(KEY).unwrap())),
        ("get_many", &|| drop(store.get_many(&[KEY, "a/b/c/d"]).unwrap())),
        ("usage", &|| assert_eq!(store.usage(Some(prefix)).unwrap().keys, 1)),
        ("list_page", &|| {
            let request = PageRequest::new(100).with_prefix(prefix);
            drop(store.list_page(request).unwrap());
        }),
        ("commit", &|| {
            let commit = Commit::new().require_present(KEY).set(KEY, "3".into());
            store.commit(commit).unwrap();
        }),
        ("delete", &|| store.delete(KEY).unwrap()),
    ];
    for (name, call) in calls {
        // The first connection makes all calls, and another one sends notices.
        let before = proxy.traffic().round_trips[0];
        call();
        assert_eq!(proxy.traffic().round_trips[0] - before, 1, "{name}");
    }
}

#[test]
fn a_synchronous_standby_that_is_away() {
    if skip() {
        return;
    }
    let server = Postgres::start().unwrap();
    let store = open(&options(server.address())).unwrap();
    set(&store, "1").unwrap();
    server.set("synchronous_standby_names", "missing").unwrap();
    let start = Instant::now();
    let text = is_unavailable(open(&impatient(server.address())));
    assert!(text.contains("synchronous standby"), "{text}");
    assert!(start.elapsed() < HANG / 2, "{:?}", start.elapsed());
    let text = is_unavailable(open(&impatient(server.address()).with_schema("new")));
    assert!(text.contains("synchronous standby"), "{text}");
    assert_eq!(get(&store).unwrap(), Some("1".into()));

    // The server reports a commit as done when its wait is cancelled.
    let error = std::thread::scope(|scope| {
        let writer = scope.spawn(|| set(&store, "2"));
        let cancel = "select pg_cancel_backend(pid) from pg_stat_activity \
                      where wait_event = 'SyncRep' and query like '%write_v1%'";
        while !writer.is_finished() {
            server.sql(cancel).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        is_unavailable(writer.join().unwrap())
    });
    assert!(error.contains("may or may not"), "{error}");
    server.set("synchronous_standby_names", "").unwrap();
    recovers(|| open(&options(server.address())));
    recovers(|| set(&store, "3"));
}

#[test]
fn a_write_that_waits_for_a_lock_ends_with_its_connection() {
    if skip() {
        return;
    }
    let server = Postgres::start().unwrap();
    let major = server.sql("select current_setting('server_version_num')::int / 10000").unwrap();
    if major.parse::<u32>().unwrap() < 14 {
        println!("SKIPPED: the server does not notice a lost connection before version 14");
        return;
    }
    let proxy = Proxy::start(server.address()).unwrap();
    let patient =
        options(proxy.address()).with_statement_timeout(10 * HANG).with_total_timeout(10 * HANG);
    let store = open(&patient).unwrap();
    set(&store, "1").unwrap();
    let count = |what: &str| {
        let sql = format!("select count(*) from pg_stat_activity where {what}");
        server.sql(&sql).unwrap().parse::<u32>().unwrap()
    };
    let until = |what: &str, number: u32| {
        let start = Instant::now();
        while count(what) != number {
            assert!(start.elapsed() < HANG, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let (sleeps, waits) = ("wait_event = 'PgSleep'", "wait_event_type = 'Lock'");
    std::thread::scope(|scope| {
        let lock = "begin; select from storage.component for update; select pg_sleep(1000)";
        let holder = scope.spawn(|| server.sql(lock).unwrap_err());
        until(sleeps, 1);
        let writer = scope.spawn(|| set(&store, "2"));
        until(waits, 1);
        proxy.cut();
        is_unavailable(writer.join().unwrap());
        // Else it would take effect when it gets the lock.
        until(waits, 0);
        let sql = format!("select pg_terminate_backend(pid) from pg_stat_activity where {sleeps}");
        server.sql(&sql).unwrap();
        holder.join().unwrap();
    });
    assert_eq!(recovers(|| get(&store)), Some("1".into()));
}
