//! The example of `storage-guest`, a library for components, on this host.

use std::sync::Arc;
use std::thread;

use rstest::rstest;
use storage_core::conformance::ReferenceStorage;
use storage_host::{Budget, ComponentStorage, StorageHost};

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
    #[values("memory", "file", "redb", "rocksdb")] store: &str,
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

#[test]
fn instances_over_both_interfaces_lose_nothing() {
    const THREADS: usize = 4;
    const SALES: usize = 12;
    let stock = Runner::new(memory(), "stock");
    shown(&stock, "", "receive apples 40");
    shown(&stock, "", "receive pears 20");
    let sold: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|index| {
                let stock = &stock;
                scope.spawn(move || {
                    let interface = if index % 2 == 0 { "" } else { KEYVALUE };
                    let sell = |_: &usize| {
                        shown(stock, "", "move pears apples 1");
                        !shown(stock, interface, "sell apples").contains("sold out")
                    };
                    (0..SALES).filter(sell).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(sold, THREADS * SALES);
    let left = "apples: 12 left, 48 sold\npears: 0 left, 0 sold\n";
    for interface in ["", KEYVALUE] {
        assert_eq!(shown(&stock, interface, "list"), left);
        assert_eq!(shown(&stock, interface, "count"), "2 items, 48 sold\n");
    }
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
