//! Several instances of a component: atomicity, quota and limits.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;

use rstest::rstest;
use storage_core::conformance::ReferenceStorage;
use storage_host::{
    Access, Budget, ComponentId, ComponentSettings, ComponentStorage, Grant, Limits, StorageHost,
};

use crate::runner::{Session, host_on, memory};

const ID: &str = "app/counter/1";
const THREADS: usize = 4;

/// Runs an instance on each of several threads.
fn on_threads<R: Send>(host: &StorageHost, work: impl Fn(usize, Session) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..THREADS)
            .map(|index| scope.spawn(move || work(index, Session::with_open(host, ID, ""))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[rstest]
fn increments_of_several_instances_lose_nothing(
    #[values("memory", "file", "redb", "rocksdb", "postgres", "redis", "redis_cluster")]
    store: &str,
) {
    const TIMES: usize = 100;
    let directory = tempfile::tempdir().unwrap();
    let Some(host) = host_on(store, directory.path()) else { return };
    let answers = on_threads(&host, |index, mut session| {
        let draft = if index % 2 == 0 { "draft" } else { "draft2" };
        (0..TIMES).map(|_| session.call(&[draft, "increment", "n", "1"])).collect::<Vec<_>>()
    });
    let sums: HashSet<String> = answers.concat().into_iter().collect();
    assert_eq!(sums.len(), THREADS * TIMES, "two increments returned the same sum");
    let last = (THREADS * TIMES).to_string();
    assert!(sums.contains(&last), "{sums:?}");
    let chain = host.component(&ID.parse().unwrap());
    assert_eq!(chain.get("n").unwrap(), Some(last.as_str().into()));
    // The number is the only key.
    assert_eq!(chain.list_keys(None).unwrap(), ["n"]);
}

#[rstest]
fn increments_refuse_every_other_form_of_a_number(
    #[values("memory", "file", "redb", "rocksdb", "postgres", "redis", "redis_cluster")]
    store: &str,
    #[values("draft", "draft2")] draft: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let Some(host) = host_on(store, directory.path()) else { return };
    let chain = host.component(&ID.parse().unwrap());
    let mut session = Session::with_open(&host, ID, "");
    let what = "other: the value is not a decimal number of 64 bits";
    let forms = "leading zeros, a plus sign, -0 and spaces are not allowed";
    let newline = "it ends in a newline; store the number without one";
    for (value, hint) in [
        ("05", format!(": {forms}; store it as 5")),
        ("+5", format!(": {forms}; store it as 5")),
        ("-0", format!(": {forms}; store it as 0")),
        (" 5", format!(": {forms}; store it as 5")),
        ("5\n", format!(": {newline}")),
        ("5\r\n", format!(": {newline}")),
        ("five", String::new()),
    ] {
        chain.set("n", value.into()).unwrap();
        assert_eq!(session.call(&[draft, "increment", "n", "1"]), format!("{what}{hint}"));
        assert_eq!(chain.get("n").unwrap(), Some(value.into()), "the value is unchanged");
    }
    chain.set("n", "5".into()).unwrap();
    assert_eq!(session.call(&[draft, "increment", "n", "1"]), "6");
}

#[rstest]
fn swaps_of_several_instances_lose_nothing(
    #[values("memory", "file", "redb", "rocksdb", "postgres", "redis", "redis_cluster")]
    store: &str,
) {
    const TIMES: usize = 25;
    let directory = tempfile::tempdir().unwrap();
    let Some(host) = host_on(store, directory.path()) else { return };
    on_threads(&host, |index, mut session| {
        for time in 0..TIMES {
            assert_eq!(session.say("draft2 cas words"), "ok");
            // Each adds a different word to the existing ones.
            loop {
                let words = session.say("draft2 current");
                let words = words.strip_prefix("none").unwrap_or(&words);
                let next = format!("{words}{index}:{time};");
                match session.call(&["draft2", "swap", &next]).as_str() {
                    "ok" => break,
                    answer => assert_eq!(answer, "cas-failed"),
                }
            }
        }
    });
    let words = host.component(&ID.parse().unwrap()).get("words").unwrap().unwrap();
    let text = std::str::from_utf8(words.as_bytes()).unwrap();
    let distinct: HashSet<&str> = text.split_terminator(';').collect();
    assert_eq!(distinct.len(), THREADS * TIMES, "{text}");
    assert_eq!(text.split_terminator(';').count(), THREADS * TIMES, "{text}");
}

#[rstest]
fn one_of_many_creators_succeeds(
    #[values("memory", "file", "redb", "rocksdb", "postgres", "redis", "redis_cluster")]
    store: &str,
) {
    const KEYS: usize = 20;
    let directory = tempfile::tempdir().unwrap();
    let Some(host) = host_on(store, directory.path()) else { return };
    let answers = on_threads(&host, |index, mut session| {
        let create = |key: usize| {
            let (key, value) = (format!("k{key}"), index.to_string());
            session.call(&["extended", "create", &key, &value])
        };
        (0..KEYS).map(create).collect::<Vec<_>>()
    });
    for key in 0..KEYS {
        let answers: Vec<&str> = answers.iter().map(|all| all[key].as_str()).collect();
        let created: Vec<usize> = (0..THREADS).filter(|thread| answers[*thread] == "ok").collect();
        assert_eq!(created.len(), 1, "{answers:?}");
        let name = format!("k{key}");
        let others = answers.iter().filter(|answer| **answer == format!("already-exists: {name}"));
        assert_eq!(others.count(), THREADS - 1, "{answers:?}");
        let value = host.component(&ID.parse().unwrap()).get(&name).unwrap();
        assert_eq!(value, Some(created[0].to_string().as_str().into()));
    }
}

#[test]
fn one_instance_sees_what_another_wrote_through_any_interface() {
    let host = memory();
    let mut one = Session::with_open(&host, ID, "");
    let mut other = Session::with_open(&host, ID, "");
    assert_eq!(one.say("draft get key"), "none");
    assert_eq!(other.say("draft2 set key a"), "ok");
    assert_eq!(one.say("draft get key"), "a");
    assert_eq!(other.say("extended update key b"), "ok");
    assert_eq!(one.say("draft2 get key"), "b");
    assert_eq!(other.say("draft delete-many key"), "ok");
    assert_eq!(one.say("extended get-versioned key"), "none");
}

#[rstest]
fn a_quota_holds_through_every_interface(
    #[values("memory", "file", "redb", "rocksdb", "postgres", "redis", "redis_cluster")]
    store: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let Some(host) = host_on(store, directory.path()) else { return };
    let quota = Budget { max_bytes: 10, max_keys: 3 };
    let host = StorageHost::builder(Arc::clone(host.store())).quota(quota).build();
    let mut session = Session::with_open(&host, ID, "");
    assert_eq!(session.say("draft set k 12345678"), "ok");
    let over = "other: over the quota of 10 bytes and 3 keys: delete some first";
    for draft in ["draft", "draft2"] {
        for call in ["set k 1234567890", "set m 1", "increment m 10", "set-many a 1 b 2"] {
            assert_eq!(session.say(&format!("{draft} {call}")), over, "{call}");
        }
        assert_eq!(session.say(&format!("{draft} get-many k m a b")), "12345678 none none none");
    }
    assert_eq!(session.say("draft2 cas m"), "ok");
    assert_eq!(session.say("draft2 swap 123"), over);
    for call in ["create m 1", "update k 1234567890", "commit m=1"] {
        assert_eq!(session.say(&format!("extended {call}")), "quota-exceeded", "{call}");
    }
    assert_eq!(session.say("extended usage"), "9 bytes, 1 keys, a quota");
    // A delete in the same commit makes room.
    assert_eq!(session.say("extended commit k m=123456789"), "ok");
    assert_eq!(session.say("draft delete m"), "ok");
    assert_eq!(session.say("draft increment n 7"), "7");
    assert_eq!(session.say("draft set-many a 1 b 2 c 3"), over, "one key too many");
    assert_eq!(session.say("draft set-many a 1 b 2"), "ok");
}

#[test]
fn an_error_names_the_key_above_a_lowered_limit() {
    let mut limits = Limits::default();
    (limits.key_bytes, limits.value_bytes) = (4, 2);
    (limits.batch_operations, limits.batch_bytes, limits.handles) = (3, 12, 4);
    let host = StorageHost::builder(Arc::new(ReferenceStorage::new())).limits(limits).build();
    let mut session = Session::with_open(&host, ID, "");
    let long_key = "a key has at most 4 bytes here; this one has 5";
    for draft in ["draft", "draft2"] {
        let mut says = |call: &str| session.say(&format!("{draft} {call}"));
        assert_eq!(says("set 12345 x"), format!("other: {long_key}"));
        assert_eq!(says("set-many ok x 12345 x"), format!("other: {long_key}"));
        assert_eq!(says("increment 12345 1"), format!("other: {long_key}"));
        assert_eq!(says("set k xyz"), "other: 3 bytes of a value are over the limit of 2");
        let operations = "other: 4 operations of a batch are over the limit of 3";
        for call in ["get-many 1 2 3 4", "delete-many 1 2 3 4", "set-many 1 x 2 x 3 x 4 x"] {
            assert_eq!(says(call), operations, "{call}");
        }
        let bytes = "other: 13 bytes of a batch are over the limit of 12";
        assert_eq!(says("set-many 1234 x 123 x 123 x"), bytes);
        assert_eq!(says("get-many 12345 1234 1234"), bytes);
        assert_eq!(says("get 12345"), "none", "reading is not limited");
        assert_eq!(says("delete-many ok 12345"), "ok");
    }
    assert_eq!(session.say("draft2 cas 12345"), "ok");
    assert_eq!(session.say("draft2 swap x"), format!("other: {long_key}"));
    let mut says = |call: &str| session.say(&format!("extended {call}"));
    assert_eq!(says("create 12345 x"), format!("invalid-key: {long_key}"));
    assert_eq!(says("commit ok=x 12345=x"), format!("invalid-key: {long_key}"));
    assert_eq!(says("commit check ok x 12345=x"), format!("invalid-key: {long_key}"));
    assert_eq!(says("commit 12345 ok=x"), "ok");
    assert_eq!(says("update k xyz"), "io-error: 3 bytes of a value are over the limit of 2");

    assert_eq!(session.say("draft2 cas k"), "ok");
    assert_eq!(session.call(&["draft", "open", ""]), "other: 5 handles are over the limit of 4");
    assert_eq!(
        session.call(&["extended", "open", ""]),
        "io-error: 5 handles are over the limit of 4"
    );
}

#[test]
fn the_limits_of_the_owner_apply_to_grants() {
    let owner: ComponentId = "app/owner/1".parse().unwrap();
    let mut limits = Limits::default();
    (limits.key_bytes, limits.batch_operations, limits.value_bytes) = (4, 3, 2);
    let settings = ComponentSettings { limits, ..ComponentSettings::default() };
    let host = StorageHost::builder(Arc::new(ReferenceStorage::new()))
        .component(owner.clone(), settings)
        .build();
    let grant = Grant { owner: owner.clone(), prefix: String::new(), access: Access::ReadWrite };
    host.grant(&ID.parse().unwrap(), grant);
    let mut session = Session::with_open(&host, ID, &owner.to_string());
    let long_key = "a key has at most 4 bytes here; this one has 5";
    assert_eq!(session.say("draft2 set 12345 x"), format!("other: {long_key}"));
    assert_eq!(session.say("draft2 set-many ok x 12345 x"), format!("other: {long_key}"));
    assert_eq!(session.say("extended create 12345 x"), format!("invalid-key: {long_key}"));
    let operations = "4 operations of a batch are over the limit of 3";
    assert_eq!(session.say("draft2 get-many 1 2 3 4"), format!("other: {operations}"));
    let value = "3 bytes of a value are over the limit of 2";
    assert_eq!(session.say("draft2 set k xyz"), format!("other: {value}"));
    assert_eq!(session.say("draft2 set k xy"), "ok");
}
