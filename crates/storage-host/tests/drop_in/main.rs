//! Hosts that were written for `wasmtime-wasi-keyvalue` and use `compat::wasi_keyvalue`.

#![cfg(all(feature = "wasmtime", feature = "memory", feature = "redb"))]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod host;

use std::path::Path;
use std::sync::Arc;

use storage_core::conformance::{CountingStorage, Method, ReferenceStorage};
use storage_host::compat::wasi_keyvalue as wasmtime_wasi_keyvalue;
use storage_host::wasmtime_wasi::{WasiCtx, p2::pipe::MemoryOutputPipe};
use storage_host::{ComponentId, ComponentStorage, Mode, StorageHost, StoreUrl};

use crate::host::run;
use crate::wasmtime_wasi_keyvalue::WasiKeyValueCtx;

/// The lines of a snapshot before its content.
const HEADER: usize = 4;

fn id(text: &str) -> ComponentId {
    text.parse().unwrap()
}

fn host_on(file: &Path) -> StorageHost {
    let url: StoreUrl = format!("redb:{}", file.display()).parse().unwrap();
    StorageHost::new(url.open(Mode::ReadWrite).unwrap())
}

#[test]
fn data_persists_from_host_to_host() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data.redb");
    let context = |host: &StorageHost, preset: &str| {
        WasiKeyValueCtx::builder()
            .in_memory_data([("atomics_key", preset)])
            .storage(host.component(&id("app/notes/home")))
            .build()
    };
    drop(context(&host_on(&file), "5"));
    // The guest finds what the first host has stored, not the preset of the second.
    let second = context(&host_on(&file), "7");
    run("keyvalue-main", WasiCtx::builder().inherit_stderr().build(), second).unwrap();
    // The third host finds what the guest has stored.
    let third = host_on(&file).component(&id("app/notes/home"));
    assert_eq!(third.list_keys(None).unwrap(), ["a2", "atomics_key"]);
    assert_eq!(third.get("atomics_key").unwrap(), Some("6".into()));
}

#[test]
fn a_preset_of_a_key_that_exists_is_no_write() {
    let backend = Arc::new(CountingStorage::new(ReferenceStorage::new()));
    backend.set("a/b/1/old", "kept".into()).unwrap();
    let storage = StorageHost::new(backend.clone()).component(&id("a/b/1"));
    let writes = || [Method::Set, Method::Commit].map(|method| backend.calls(method));
    let before = writes();
    let preset = |key: &str| {
        let context = WasiKeyValueCtx::builder().in_memory_data([(key.to_owned(), "preset")]);
        drop(context.storage(Arc::clone(&storage)).build());
    };
    preset("old");
    assert_eq!(writes(), before);
    assert_eq!(storage.get("old").unwrap(), Some("kept".into()));
    preset("new");
    assert_eq!(writes(), [before[0], before[1] + 1]);
    assert_eq!(storage.get("new").unwrap(), Some("preset".into()));
}

#[test]
fn a_guest_sees_the_same_as_with_the_linker_of_this_crate() {
    let stdout = MemoryOutputPipe::new(1 << 20);
    let wasi = WasiCtx::builder().stdout(stdout.clone()).arg("guest").build();
    let host =
        StorageHost::new("memory:".parse::<StoreUrl>().unwrap().open(Mode::ReadWrite).unwrap());
    let neighbour = host.component(&id("conformance/neighbour/1"));
    neighbour.set("conformance/opening", "the neighbour's".into()).unwrap();
    let storage = host.component(&id("conformance/guest/1"));
    let keyvalue = WasiKeyValueCtx::builder().storage(storage).build();
    run("keyvalue-draft", wasi, keyvalue).unwrap();
    let printed = String::from_utf8(stdout.contents().to_vec()).unwrap();
    let expected = include_str!("../guest/snapshots/keyvalue_draft.snap");
    let table: Vec<&str> = expected.lines().skip(HEADER).collect();
    assert_eq!(printed.lines().map(str::trim_end).collect::<Vec<_>>(), table);
}

#[test]
fn a_preset_that_cannot_be_written_ends_the_guest() {
    let invalid = WasiKeyValueCtx::builder().in_memory_data([("a", "1"), ("a\nb", "2")]).build();
    assert!(invalid.storage().exists("a").unwrap());
    let ended = run("keyvalue-main", WasiCtx::builder().build(), invalid);
    let why = ended.unwrap_err().root_cause().to_string();
    assert!(why.starts_with(r#"cannot preset the key "a\nb": invalid key: "#), "{why}");
}
