//! Stores in Redis: copies, what doctor says, users and passwords, TLS, and a cluster.

use rstest::rstest;
use serde_json::Value;
use test_servers::Redis;

use crate::copy::{contents, fill, sample};
use crate::server::{Engine, empty};
use crate::support::{Done, TestDir};

const ID: &str = "app/notes/home";

/// A server of this test alone; `None` if this machine cannot start one.
fn start(
    options: impl FnOnce(test_servers::RedisBuilder) -> test_servers::RedisBuilder,
) -> Option<Redis> {
    if let Some(reason) = Redis::missing() {
        println!("SKIPPED: {reason}");
        return None;
    }
    Some(options(Redis::builder()).start().unwrap())
}

#[test]
fn a_chain_of_copies_through_redis_keeps_every_byte() {
    let Some(redis) = Engine::Redis.url("chain") else { return };
    let Some(redis_again) = Engine::Redis.url("chain_again") else { return };
    let dir = TestDir::new();
    let sample = sample(300);
    fill(&dir, "file:first", &sample);
    let mut chain = vec!["file:first".to_owned()];
    if cfg!(feature = "postgres") {
        chain.extend(Engine::Postgres.url("redis_chain"));
    }
    chain.push(redis);
    if cfg!(feature = "redb") {
        chain.push("redb:second.redb".to_owned());
        chain.push(redis_again);
    }
    if cfg!(feature = "postgres") {
        chain.extend(Engine::Postgres.url("redis_chain_again"));
    }
    chain.push("file:last".to_owned());
    println!("{chain:?}");
    for pair in chain.windows(2) {
        let copied = dir.printed(&["copy", "--from", &pair[0], "--to", &pair[1]]);
        assert!(copied.starts_with(&format!("copied {} keys", sample.len())), "{copied}");
        let verified = dir.printed(&["--store", &pair[1], "verify"]);
        assert!(verified.starts_with("no problems found"), "{}: {verified}", pair[1]);
    }
    assert!(contents(&dir, "file:last") == sample);
    let again = dir.printed(&["copy", "--from", "file:first", "--to", "file:last"]);
    assert!(again.starts_with("copied 0 keys"), "{again}");
    chain.iter().filter(|url| url.contains("://")).for_each(|url| empty(url));
}

#[rstest]
#[case::redis(Engine::Redis)]
#[case::redis_sentinel(Engine::RedisSentinel)]
#[case::redis_cluster(Engine::RedisCluster)]
fn a_new_store_and_doctor_say_what_a_failover_can_lose(#[case] engine: Engine) {
    const LOSS: &str = "a failover can lose acknowledged writes";
    let Some(url) = engine.url("doctor") else { return };
    let dir = TestDir::new();
    let done = dir.command(&["--store", &url, "doctor"]).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(text.contains(&format!("\nfailover       {LOSS}")), "{text}");
    assert!(text.contains("\ndurability     "), "{text}");
    let document = dir.run(&["--store", &url, "--json", "doctor"]).stdout;
    let document: Value = serde_json::from_str(&document).unwrap();
    assert!(document["store"]["failover_loss"].as_str().unwrap().starts_with(LOSS), "{document}");
    assert_eq!(document["store"]["exists"], true);

    if engine == Engine::Redis
        && let Some(server) = start(|options| options)
    {
        let put = ["--store", &server.url(), "put", ID, "key", "value"];
        let output = dir.command(&put).output().unwrap();
        let note = String::from_utf8(output.stderr).unwrap();
        assert!(note.starts_with(&format!("created the store {}; {LOSS}", server.url())), "{note}");
    }
}

/// The codes of the warnings of doctor.
fn warnings(dir: &TestDir, url: &str) -> Vec<String> {
    let done = dir.run(&["--store", url, "--json", "doctor"]);
    let document: Value = serde_json::from_str(&done.stdout).unwrap();
    let findings = document["findings"].as_array().unwrap().iter();
    findings.map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn doctor_warns_of_settings_of_redis_that_lose_writes() {
    let Some(server) = start(|options| options) else { return };
    let (dir, url) = (TestDir::new(), server.url());
    dir.printed(&["--store", &url, "put", ID, "key", "value"]);
    let has = |code: &str| warnings(&dir, &url).iter().any(|found| found == code);
    assert!(has("no_replica") && !has("appendfsync") && !has("no_persistence"));
    server.set("appendfsync", "everysec").unwrap();
    assert!(has("appendfsync") && !has("no_persistence"));
    server.set("appendonly", "no").unwrap();
    assert!(has("no_persistence"));
    server.set("maxmemory", "100mb").unwrap();
    server.set("maxmemory-policy", "allkeys-lru").unwrap();
    assert!(has("eviction"));
    let refused = dir.run(&["--store", &url, "put", ID, "key", "other"]);
    assert!(refused.code == 1 && refused.stderr.contains("noeviction"), "{}", refused.stderr);
}

#[test]
fn doctor_says_before_the_first_use_what_opening_would() {
    let Some(server) = start(|options| options) else { return };
    let (dir, url) = (TestDir::new(), server.url());
    let text = dir.printed(&["--store", &url, "doctor"]);
    for part in [
        "does not exist yet; the first write creates it",
        "\ndurability     sync: writes survive a power cut of a server (append-only file, ",
        "\nfailover       a failover can lose acknowledged writes",
        "\nserver         Redis ",
        "1 primary with 0 replicas",
    ] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
    let document = dir.run(&["--store", &url, "--json", "doctor"]).stdout;
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["store"]["durability"], "sync");
    assert_eq!(document["store"]["exists"], false);
    let has = |code: &str| warnings(&dir, &url).iter().any(|found| found == code);
    assert!(has("no_replica") && !has("eviction"));
    server.set("maxmemory-policy", "allkeys-lru").unwrap();
    server.set("maxmemory", "100mb").unwrap();
    server.set("appendfsync", "everysec").unwrap();
    assert!(has("eviction") && has("appendfsync"));
    let done = dir.run(&["--store", &url, "doctor"]);
    assert_eq!(done.code, 1, "{}", done.stdout);
    assert!(
        done.stdout.contains("does not open for writing; set it to noeviction"),
        "{}",
        done.stdout
    );
    // It has created nothing.
    assert_eq!(server.command(&["DBSIZE"]).unwrap(), "0");
    let put = dir.run(&["--store", &url, "put", ID, "key", "value"]);
    assert!(put.code == 1 && put.stderr.contains("noeviction"), "{}", put.stderr);
}

/// The user of docs/redis.md.
#[test]
fn a_redis_user_needs_only_the_keys_of_the_store() {
    const RULES: &str = "~?:{storage:* resetchannels &e:{storage:* +@all -@admin -@dangerous +info +role +config|get";
    let Some(server) = start(|options| options.user("storage", "hunter2", RULES)) else { return };
    let dir = TestDir::new();
    let with_password = server.url();
    let without = with_password.replace("storage:hunter2@", "");
    let run = |url: &str, environment: &[(&str, &str)], arguments: &[&str]| {
        let mut command = dir.command(&[&["--store", url], arguments].concat());
        for name in ["REDIS_USERNAME", "REDIS_PASSWORD"] {
            command.env_remove(name);
        }
        Done::of(command.envs(environment.iter().copied()).output().unwrap())
    };
    let (user, password) = (("REDIS_USERNAME", "storage"), ("REDIS_PASSWORD", "hunter2"));
    let put: &[&str] = &["put", ID, "key", "value"];
    let named = without.replace("://", "://storage@");
    for (url, environment) in [
        (&*with_password, &[][..]),
        (&without, &[user, password]),
        (&named, &[password]),
        // The URL counts first.
        (&with_password, &[("REDIS_USERNAME", "other"), ("REDIS_PASSWORD", "wrong")]),
    ] {
        let done = run(url, environment, put);
        assert_eq!((done.code, &*done.stderr), (0, ""), "{url}");
    }
    for (url, environment) in [
        (&*without, &[][..]),
        (&without, &[password]),
        (&named, &[("REDIS_PASSWORD", "hunter3")]),
        (&with_password.replace("hunter2", "hunter3"), &[]),
    ] {
        let done = run(url, environment, put);
        assert_eq!(done.code, 1, "{url}");
        assert!(done.stderr.contains("REDIS_PASSWORD"), "{}", done.stderr);
        assert!(!done.stderr.contains("hunter"), "{}", done.stderr);
    }
    // Its components run in other processes.
    let demo = run(&with_password, &[], &["demo"]);
    assert_eq!((demo.code, &*demo.stderr), (0, ""), "{}", demo.stdout);
    for command in ["components", "verify", "doctor"] {
        let done = run(&with_password, &[], &[command]);
        assert_eq!((done.code, &*done.stderr), (0, ""), "{command}");
        assert!(!done.stdout.contains("hunter2"), "{}", done.stdout);
    }
    let other = format!("{with_password}?prefix=other");
    let done = run(&other, &[], put);
    assert!(done.code == 1 && !done.stderr.contains("hunter2"), "{}", done.stderr);
}

#[test]
fn each_redis_scheme_encrypts_as_it_says() {
    let Some(server) = start(|options| options.tls()) else { return };
    let dir = TestDir::new();
    let put = |url: &str| dir.run(&["--store", url, "put", ID, "key", "value"]);
    let encrypted = server.url();
    let (base, certificate) = encrypted.split_once('?').unwrap();
    let plain = base.replace("rediss", "redis");
    for url in [
        encrypted.clone(),
        format!("{base}?sslmode=require"),
        format!("{plain}?sslmode=require"),
        format!("{plain}?sslmode=verify-full&{certificate}"),
    ] {
        let done = put(&url);
        assert_eq!((done.code, &*done.stderr), (0, ""), "{url}");
    }
    let limits = "connect_timeout_ms=2000&total_timeout_ms=2000";
    for url in [
        // The authority is not one of the system's.
        format!("{base}?{limits}"),
        format!("{plain}?{limits}"),
    ] {
        assert_eq!(put(&url).code, 1, "{url}");
    }
    let doctor = dir.printed(&["--store", &encrypted, "doctor"]);
    assert!(doctor.contains("connection     encrypted"), "{doctor}");
}

#[test]
fn what_a_redis_cluster_cannot_do_is_refused_and_the_rest_works() {
    let Some(url) = Engine::RedisCluster.url("cluster") else { return };
    let dir = TestDir::new();
    let sample = sample(100);
    fill(&dir, "file:first", &sample);
    dir.printed(&["copy", "--from", "file:first", "--to", &url]);
    let verified = dir.printed(&["--store", &url, "verify"]);
    assert!(
        verified.starts_with(&format!("no problems found: {} keys", sample.len())),
        "{verified}"
    );
    let again = dir.printed(&["copy", "--from", "file:first", "--to", &url]);
    assert!(again.starts_with("copied 0 keys"), "{again}");

    let refused = dir.run(&["--json", "copy", "--from", &url, "--to", "file:last"]);
    let failure: Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!((refused.code, &failure["error"]["kind"]), (1, &"unsupported".into()), "{failure}");
    assert!(refused.stderr.contains("add --by-component"), "{failure}");
    assert!(!dir.path().join("last").exists());
    let refused = dir.run(&["--store", &url, "export", "-o", "whole.ndjson"]);
    assert!(refused.code == 1 && !dir.path().join("whole.ndjson").exists());

    dir.printed(&["--store", &url, "export", "a/b/c", "-o", "one.ndjson"]);
    dir.printed(&["--store", "file:last", "import", "one.ndjson"]);
    let of_one = |key: &String| key.starts_with("a/b/c/");
    let expected = sample.clone().into_iter().filter(|(key, _)| of_one(key)).collect();
    assert!(contents(&dir, "file:last") == expected);
    dir.printed(&["copy", "--from", &url, "--to", "file:copy", "--by-component"]);
    assert!(contents(&dir, "file:copy") == sample);
    empty(&url);
}
