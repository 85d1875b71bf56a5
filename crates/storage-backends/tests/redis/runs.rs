//! Commits of callers that wait for a connection, which one run of the script makes.

use std::thread;

use super::*;

/// How long the server does not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// Opens a store with one connection.
fn open(server: &OwnServer) -> RedisStorage {
    RedisStorage::open(&server.options().with_pool_size(1)).unwrap()
}

/// Makes commits while all wait for the only connection, so that one run makes most of them.
fn commit_together(
    server: &OwnServer,
    store: &RedisStorage,
    commits: Vec<Commit>,
) -> Vec<Result<Revision, StorageError>> {
    let (mut raw, count) = (server.raw(), commits.len());
    raw.run("CONFIG RESETSTAT");
    raw.run(&format!("CLIENT PAUSE {} ALL", PAUSE.as_millis()));
    let results = thread::scope(|scope| {
        let first = scope.spawn(|| store.exists("app/notes/home/first"));
        thread::sleep(PAUSE / 5);
        let commits: Vec<_> =
            commits.into_iter().map(|commit| scope.spawn(move || store.commit(commit))).collect();
        first.join().unwrap().unwrap();
        commits.into_iter().map(|commit| commit.join().unwrap()).collect()
    });
    let stats = raw::text(&raw.run("INFO commandstats"));
    let runs = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    let runs: usize = runs.unwrap().split(',').next().unwrap().parse().unwrap();
    assert!(runs < count / 2, "{runs} runs");
    results
}

fn key(name: impl std::fmt::Display) -> String {
    format!("app/notes/home/{name}")
}

#[test]
fn each_commit_has_its_own_outcome() {
    let Some(server) = OwnServer::start(&[]) else { return };
    let store = open(&server);
    let commits = (0..40)
        .map(|n| match n % 5 {
            0 => Commit::new().set(key(n), "value".into()),
            1 => Commit::new().require_absent(key("lock")).set(key("lock"), "mine".into()),
            2 => Commit::new()
                .set(key(n), "beyond the budget".into())
                .with_budget(Budget { max_bytes: 10, max_keys: 1_000 }),
            3 => Commit::new().require_present(key(n)).set(key(n), "value".into()),
            _ => Commit::new().delete(key(n)).set(format!("app/other/{n}/a"), "value".into()),
        })
        .collect();
    let results = commit_together(&server, &store, commits);
    let mut revisions = Vec::new();
    for (n, result) in results.iter().enumerate() {
        match (n % 5, result) {
            (0 | 1 | 4, Ok(revision)) => revisions.push(*revision),
            (1, Err(error)) => assert_eq!(*error, StorageError::AlreadyExists(key("lock"))),
            (2, Err(error)) => assert_eq!(*error, StorageError::QuotaExceeded),
            (3, Err(error)) => assert_eq!(*error, StorageError::NotFound(key(n))),
            (_, result) => panic!("{n}: {result:?}"),
        }
    }
    revisions.sort();
    revisions.dedup();
    // Eight of two kinds, and the one that got the lock.
    assert_eq!(revisions.len(), 17);
    assert_eq!(store.usage(Some("app/notes/home/")).unwrap().keys, 9);
    assert_eq!(store.list_components(None, 20).unwrap().keys.len(), 9);
    assert_eq!(verifying::problems(&store), []);
}

#[test]
fn a_commit_to_a_damaged_key_fails_alone() {
    let Some(server) = OwnServer::start(&[]) else { return };
    let store = open(&server);
    let damaged = format!("v:{{{}:00}}{}", RedisOptions::DEFAULT_PREFIX, key(7));
    server.raw().run(&format!("SADD {damaged} mine"));
    let commits = (0..20).map(|n| Commit::new().set(key(n), "value".into())).collect();
    let results = commit_together(&server, &store, commits);
    for (n, result) in results.iter().enumerate() {
        match n {
            7 => assert!(matches!(result, Err(StorageError::Corrupt { .. })), "{result:?}"),
            _ => assert!(result.is_ok(), "{n}: {result:?}"),
        }
    }
    server.raw().run(&format!("DEL {damaged}"));
    assert_eq!(store.usage(None).unwrap().keys, 19);
    assert_eq!(verifying::problems(&store), []);
}

#[test]
fn deletes_do_not_let_sets_into_a_full_server() {
    let Some(server) = OwnServer::start(&[]) else { return };
    let store = open(&server);
    (0..20).for_each(|n| store.set(&key(n), vec![7; 1_000].into()).unwrap());
    server.raw().run("CONFIG SET maxmemory 1");
    let commits = (0..40)
        .map(|n| match n % 2 {
            0 => Commit::new().delete(key(n / 2)),
            _ => Commit::new().set(key(n + 100), "value".into()),
        })
        .collect();
    let results = commit_together(&server, &store, commits);
    for (n, result) in results.iter().enumerate() {
        match (n % 2, result) {
            (0, Ok(_)) => {}
            (1, Err(StorageError::Unavailable { detail, .. })) => {
                assert!(
                    detail.contains("memory") && !detail.contains("may or may not"),
                    "{detail}"
                );
            }
            _ => panic!("{n}: {result:?}"),
        }
    }
    assert_eq!(store.usage(None).unwrap(), Usage::default());
    assert_eq!(verifying::problems(&store), []);
}

#[test]
fn a_delete_that_is_refused_leaves_the_outcomes_of_others() {
    let Some(server) = OwnServer::start(&[]) else { return };
    let store = open(&server);
    store.set(&key(0), "value".into()).unwrap();
    server.raw().run("CONFIG SET min-replicas-to-write 1");
    let commits = (0..40)
        .map(|n| match n % 2 {
            0 => Commit::new().delete(key(0)),
            _ => Commit::new().require_absent(key(0)).delete(key(0)),
        })
        .collect();
    let results = commit_together(&server, &store, commits);
    for (n, result) in results.iter().enumerate() {
        match (n % 2, result) {
            (0, Err(StorageError::Unavailable { detail, .. })) => {
                assert!(detail.contains("min-replicas-to-write"), "{detail}");
            }
            (1, Err(error)) => assert_eq!(*error, StorageError::AlreadyExists(key(0))),
            _ => panic!("{n}: {result:?}"),
        }
    }
    assert_eq!(store.usage(None).unwrap().keys, 1);
    server.raw().run("CONFIG SET min-replicas-to-write 0");
    assert_eq!(verifying::problems(&store), []);
}
