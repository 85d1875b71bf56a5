//! The example of `storage-guest`, a library for components, on this host.

use std::sync::{Arc, Mutex};

use rstest::rstest;
use storage_core::conformance::ReferenceStorage;
use storage_core::{
    Commit, Revision, StorageError, StorageValue, StoreProperties, forward_storage,
};
use storage_host::{Budget, CacheConfig, ComponentStorage, StorageHost, Store};

use crate::runner::{Runner, host_on, memory};

const ID: &str = "app/stock/1";
const KEYVALUE: &str = "--keyvalue";

/// Runs a command over an interface and returns what it prints.
fn shown(stock: &Runner, interface: &str, command: &str) -> String {
    let interface = Some(interface).filter(|interface| !interface.is_empty());
    let args: Vec<&str> = interface.into_iter().chain(command.split(' ')).collect();
    let ended = stock.run(ID, &args);
    assert_eq!(ended.status, Ok(i32::from(!ended.stderr.is_empty())), "{ended:?}");
    ended.stdout + &ended.stderr
}

/// The library's own tests run the same commands on its fake.
#[rstest]
fn a_host_prints_what_the_fake_prints(
    #[values("memory", "file", "redb", "rocksdb", "postgres", "redis", "redis_cluster")]
    store: &str,
    #[values("", KEYVALUE)] interface: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let Some(host) = host_on(store, directory.path()) else { return };
    let stock = Runner::new(host, "stock");
    let transcript = include_str!("../../../storage-guest/examples/stock.txt");
    let mut steps = 0;
    for step in transcript.split("$ stock ").skip(1) {
        let (command, expected) = step.split_once('\n').unwrap();
        // wasi:keyvalue has no transactions.
        let interface = if command.starts_with("move") { "" } else { interface };
        assert_eq!(shown(&stock, interface, command), expected, "{command}");
        steps += 1;
    }
    assert!(steps > 10, "{steps}");
}

/// A store in which another instance writes a key right before the next commit.
#[derive(Default)]
struct Interrupted {
    store: ReferenceStorage,
    interruption: Mutex<Option<(String, StorageValue)>>,
}

impl ComponentStorage for Interrupted {
    forward_storage!(self => self.store; get, set, delete, exists, list_keys, list_page, usage);
    forward_storage!(self => self.store; get_many, get_versioned);

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        if let Some((key, value)) = self.interruption.lock().unwrap().take() {
            self.store.set(&format!("{ID}/{key}"), value)?;
        }
        self.store.commit(commit)
    }
}

impl Store for Interrupted {
    fn properties(&self) -> StoreProperties {
        self.store.properties()
    }
}

#[rstest]
#[case::sold_out(
    "",
    "sell apples",
    "item/apples",
    r#"{"left":0,"sold":2}"#,
    "stock: apples is sold out\n"
)]
#[case::counted("", "sell apples", "item/apples", r#"{"left":9,"sold":9}"#, "apples: 8 left\n")]
#[case::not_moved(
    "",
    "move apples pears 2",
    "item/apples",
    r#"{"left":1,"sold":1}"#,
    "stock: there are not 2 apples\n"
)]
#[case::created("", "receive pears 1", "item/pears", r#"{"left":5,"sold":0}"#, "pears: 6 left\n")]
#[case::sold_out_keyvalue(
    KEYVALUE,
    "sell apples",
    "item/apples",
    r#"{"left":0,"sold":2}"#,
    "stock: apples is sold out\n"
)]
#[case::created_keyvalue(
    KEYVALUE,
    "receive pears 1",
    "item/pears",
    r#"{"left":5,"sold":0}"#,
    "pears: 6 left\n"
)]
fn a_change_that_another_instance_was_first_to_make_is_seen(
    #[case] interface: &str,
    #[case] command: &str,
    #[case] key: &str,
    #[case] value: &str,
    #[case] expected: &str,
) {
    let store = Arc::new(Interrupted::default());
    let no_cache = CacheConfig { max_entries: 0, ttl: None, max_size_bytes: 0 };
    let host = StorageHost::builder(store.clone()).cache(no_cache).build();
    let stock = Runner::new(host, "stock");
    shown(&stock, "", "receive apples 2");
    *store.interruption.lock().unwrap() = Some((key.to_owned(), value.into()));
    assert_eq!(shown(&stock, interface, command), expected);
    assert_eq!(*store.interruption.lock().unwrap(), None);
}

#[rstest]
fn listings_of_several_pages_are_complete(#[values("", KEYVALUE)] interface: &str) {
    let host = memory();
    let chain = host.component(&ID.parse().unwrap());
    for number in 0..2_500 {
        chain.set(&format!("item/{number:04}"), "{}".into()).unwrap();
    }
    chain.set("items", "".into()).unwrap();
    let stock = Runner::new(host, "stock");
    assert_eq!(shown(&stock, interface, "count"), "2500 items, 0 sold\n");
}

#[rstest]
#[case::extended("", "the quota is used up: delete something, or ask for a larger quota")]
#[case::keyvalue(KEYVALUE, "the storage call failed: over the quota")]
fn errors_of_the_host_are_shown(#[case] interface: &str, #[case] quota: &str) {
    let budget = Budget { max_bytes: 60, max_keys: 10 };
    let host = StorageHost::builder(Arc::new(ReferenceStorage::new())).quota(budget).build();
    let chain = host.component(&ID.parse().unwrap());
    let stock = Runner::new(host, "stock");
    let shown = |command: &str| shown(&stock, interface, command);
    shown("receive apples 1");
    let text = shown(&format!("receive {} 1", "x".repeat(60)));
    assert!(text.starts_with(&format!("stock: {quota}")), "{text}");
    let text = shown(&format!("receive {} 1", "x".repeat(1_100)));
    assert!(text.contains("a key has at most 1024 bytes"), "{text}");

    chain.set("item/apples", "[]".into()).unwrap();
    let text = shown("sell apples");
    assert!(text.starts_with("stock: the value of \"item/apples\": "), "{text}");
    chain.set("sold", "many".into()).unwrap();
    assert!(shown("count").contains("not a decimal number"));
}
