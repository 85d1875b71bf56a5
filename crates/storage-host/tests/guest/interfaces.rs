//! The tables of the conformance guests, which are the same on every store.

use std::sync::Arc;

use rstest::rstest;
use storage_core::conformance::ReferenceStorage;
use storage_host::guest;
use storage_host::wasmtime::component::Linker;
use storage_host::wasmtime_wasi::p2;
use storage_host::{
    CacheConfig, ComponentId, ComponentStorage, KeyPage, PageRequest, StorageError, StorageHost,
    StorageValue, Store, StoreProperties, forward_storage,
};

use crate::raw::ENGINE;
use crate::runner::{Linkage, Runner, Session, State, host_on, linker_for, load, memory};

const NO_CACHE: CacheConfig = CacheConfig { max_entries: 0, ttl: None, max_size_bytes: 0 };

const ID: &str = "conformance/guest/1";

fn id(text: &str) -> ComponentId {
    text.parse().unwrap()
}

#[rstest]
fn a_table_is_the_same_on_every_store(
    #[values(
        "core-storage",
        "extended",
        "keyvalue-draft",
        "keyvalue-draft2",
        "keyvalue-spin",
        "spin2"
    )]
    guest: &str,
    #[values("memory", "file", "redb", "rocksdb", "postgres", "redis", "redis_cluster")]
    store: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let Some(host) = host_on(store, directory.path()) else { return };
    table_of(&host, guest, Linkage::Sync);
    // One store that never blocks and one that does.
    #[cfg(feature = "async")]
    if ["memory", "redb"].contains(&store) {
        table_of(&host, guest, Linkage::Async);
    }
}

fn table_of(host: &StorageHost, guest: &str, linkage: Linkage) {
    // Of the two other ids that the guests try, one has keys.
    let neighbour = host.component(&id("conformance/neighbour/1"));
    neighbour.set("conformance/opening", "the neighbour's".into()).unwrap();

    let ended = Runner::with(linkage, host.clone(), guest).run(ID, &[]);
    insta::with_settings!({
        prepend_module_to_snapshot => false,
        omit_expression => true,
        description => format!("what {guest}.wasm finds, on every store"),
    }, {
        insta::assert_snapshot!(guest.replace('-', "_"), ended.stdout);
    });
    assert_eq!((ended.status, ended.stderr.as_str()), (Ok(0), ""));
    let left = host.component(&id(ID)).list_keys(None).unwrap();
    assert_eq!(left, Vec::<String>::new(), "the guest leaves nothing behind");
}

#[test]
fn errors_expose_nothing_of_the_host() {
    let texts = |guest| Runner::new(memory(), guest).printed(ID, &["--texts"]);
    for (guest, others) in [("keyvalue-draft", "other: "), ("keyvalue-draft2", "other: ")] {
        let table = texts(guest);
        assert!(table.lines().filter(|line| line.contains(others)).count() > 30, "{table}");
        for text in [
            "other: a key has at least 1 byte; this one is empty",
            "other: 1048577 bytes of a value are over the limit of 1048576",
            "other: 1001 operations of a batch are over the limit of 1000",
            "other: 1001 handles are over the limit of 1000",
            "other: the value is not a decimal number of 64 bits",
            "other: the sum is not within ",
        ] {
            assert!(table.contains(text), "{text}\n{table}");
        }
        for word in ["incident", ID, "cannot take"] {
            assert!(!table.contains(word), "{word}\n{table}");
        }
    }
    let table = texts("spin2");
    for text in
        ["other: a key has at least 1 byte; this one is empty", "are over the limit of 1048576"]
    {
        assert!(table.contains(text), "{text}\n{table}");
    }
    for word in ["incident", ID, "cannot take"] {
        assert!(!table.contains(word), "{word}\n{table}");
    }
    assert!(texts("keyvalue-draft").contains("other: cursor expired"));
    assert!(texts("keyvalue-draft2").contains("other: the cursor is invalid"));
}

#[test]
fn a_target_with_other_keys_is_not_changed() {
    let host = memory();
    let chain = host.component(&id(ID));
    chain.set("mine", "kept".into()).unwrap();
    chain.set("conformance/left-over", "of an earlier run".into()).unwrap();
    for guest in ["core-storage", "extended", "keyvalue-draft", "keyvalue-draft2", "spin2"] {
        let ended = Runner::new(host.clone(), guest).run(ID, &[]);
        assert_eq!((ended.status, ended.stdout.as_str()), (Ok(1), ""), "{guest}");
        assert!(ended.stderr.contains("the store contains other keys"), "{}", ended.stderr);
        assert_eq!(chain.list_keys(None).unwrap(), ["mine"]);
    }
}

#[rstest]
fn a_program_of_the_first_draft_runs(
    #[values("memory", "file", "redb", "rocksdb", "postgres", "redis", "redis_cluster")]
    store: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let Some(host) = host_on(store, directory.path()) else { return };
    let chain = host.component(&id(ID));
    chain.set("atomics_key", "5".into()).unwrap();
    let program = Runner::new(host.clone(), "keyvalue-main");
    assert_eq!(program.printed(ID, &[]), "");
    assert_eq!(chain.list_keys(None).unwrap(), ["a2", "atomics_key"]);
    assert_eq!(chain.get("atomics_key").unwrap(), Some("6".into()));
    // A second run reports the keys of the first.
    let ended = program.run(ID, &[]);
    assert_eq!(ended.status, Ok(1));
    assert!(ended.stderr.contains("the keys at the start"), "{}", ended.stderr);
}

#[rstest]
fn get_many_is_linked_in_the_shape_that_is_imported(
    #[values("keyvalue-draft2", "keyvalue-spin")] guest: &str,
) {
    let component = load(guest);
    linker_for(&component, Linkage::Sync).instantiate_pre(&component).map(drop).unwrap();
}

#[test]
fn the_default_shape_is_that_of_the_specification() {
    let mut linker = Linker::<State>::new(&ENGINE);
    p2::add_to_linker_sync(&mut linker).unwrap();
    guest::add_to_linker(&mut linker, |state: &mut State| &mut state.storage).unwrap();
    linker.instantiate_pre(&load("keyvalue-draft")).map(drop).unwrap();
    linker.instantiate_pre(&load("keyvalue-draft2")).map(drop).unwrap();
    let error = linker.instantiate_pre(&load("keyvalue-spin")).map(drop).unwrap_err();
    let shown = format!("{error:#}");
    for part in ["wasi:keyvalue/batch@0.2.0-draft2", "get-many", "expected"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

/// A store without empty values and without commits.
#[derive(Debug, Default)]
struct Simple(ReferenceStorage);

impl ComponentStorage for Simple {
    forward_storage!(self => self.0; get, delete, exists, list_keys);

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        if value.is_empty() { self.0.delete(key) } else { self.0.set(key, value) }
    }
}

impl Store for Simple {
    fn properties(&self) -> StoreProperties {
        self.0.properties()
    }
}

#[test]
fn differences_of_another_host_are_reported() {
    let host = StorageHost::builder(Arc::new(Simple::default())).cache(NO_CACHE).build();
    let ended = Runner::new(host, "keyvalue-draft2").run(ID, &[]);
    assert_eq!((ended.status, ended.stderr.as_str()), (Ok(1), ""));
    let table = ended.stdout;
    for (function, what, came) in [
        ("get", "the empty value", "none"),
        ("exists", "a key with an empty value", "false"),
        ("increment", "a missing key by 3", "refused with other"),
        ("set-many", "two new keys", "other"),
        ("cas.new", "a missing key", "other"),
    ] {
        let line = table.lines().find(|line| line.starts_with(function) && line.contains(what));
        let line = line.unwrap_or_else(|| panic!("no line of {function}, {what}:\n{table}"));
        assert!(line.ends_with(&format!("NOT AS ASKED: {came}")), "{line}");
    }
    assert!(table.ends_with(" as the specification asks\n"), "{table}");
    let last = table.lines().last().unwrap();
    let mut numbers = last.split(' ').filter_map(|word| word.parse::<u32>().ok());
    let (as_asked, asked) = (numbers.next().unwrap(), numbers.next().unwrap());
    assert!(as_asked > 30 && as_asked < asked, "{last}");
}

/// A store whose listings never end.
#[derive(Debug, Default)]
struct Stalling(Simple);

impl ComponentStorage for Stalling {
    forward_storage!(self => self.0; get, set, delete, exists, list_keys);

    fn list_page(&self, _: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        Ok(KeyPage { keys: Vec::new(), more: true })
    }
}

impl Store for Stalling {
    fn properties(&self) -> StoreProperties {
        self.0.properties()
    }
}

#[test]
fn incomplete_listings_are_errors() {
    let host = StorageHost::new(Arc::new(Stalling::default()));
    let mut session = Session::with_open(&host, ID, "");
    assert_eq!(session.call(&["spin", "open", ""]), "ok");
    for interface in ["draft", "draft2", "spin"] {
        let answer = session.call(&[interface, "list-keys"]);
        assert!(answer.starts_with("other: storage failed (incident "), "{answer}");
    }
}
