//! Fills a PostgreSQL store and measures it, for the figures in `docs/scaling.md`.
//!
//! ```text
//! cargo run --release --package storage-backends --no-default-features --features postgres \
//!     --example postgres_load -- HOST PORT USER DATABASE SCHEMA COMPONENTS KEYS_OF_EACH
//! ```
//!
//! The schema must not exist. It is left as it is, so that other tools can look at it.
#![allow(clippy::print_stdout, reason = "a program that reports to its user")]

use std::env;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use storage_backends::{Durability, PostgresOptions, PostgresStorage};
use storage_core::{
    Commit, ComponentStorage as _, PageRequest, StorageError, StorageValue, Store as _,
};

const VALUE: &[u8] = &[b'v'; 100];
const LOADERS: usize = 8;
const MEASURED: usize = 2_000;

type Failed = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [host, port, user, database, schema, components, keys] = arguments.as_slice() else {
        return Err("usage: HOST PORT USER DATABASE SCHEMA COMPONENTS KEYS_OF_EACH".into());
    };
    let (components, keys): (usize, usize) = (components.parse()?, keys.parse()?);
    let mut options = PostgresOptions::new(host, user, database)
        .with_port(port.parse()?)
        .with_schema(schema)
        .with_statement_timeout(Duration::from_secs(300))
        .with_total_timeout(Duration::from_secs(300));
    if let Ok(password) = env::var("PGPASSWORD") {
        options = options.with_password(password);
    }
    load(&options, components, keys)?;
    measure(&options, components, keys)?;
    println!("\nasynchronous commits, durability os");
    commits(&options.with_durability(Durability::Os), components)
}

fn prefix(component: usize) -> String {
    format!("load/app/{component:07}/")
}

fn key(component: usize, key: usize) -> String {
    format!("{}key:{key:06}", prefix(component))
}

/// One commit for each component, without waiting for the disk.
fn load(options: &PostgresOptions, components: usize, keys: usize) -> Result<(), Failed> {
    let store = PostgresStorage::open(&options.clone().with_durability(Durability::Os))?;
    if !store.list_components(None, 1)?.keys.is_empty() {
        return Err("the schema is not empty".into());
    }
    let empty = store.inspect()?;
    println!("PostgreSQL {}, round trip {:?}", empty.version, empty.latency);
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    together(LOADERS, |_| {
        loop {
            let component = next.fetch_add(1, Ordering::Relaxed);
            if component >= components {
                return Ok(());
            }
            let commit = (0..keys).fold(Commit::new(), |commit, n| {
                commit.set(key(component, n), StorageValue::from(VALUE))
            });
            store.commit(commit)?;
        }
    })?;
    store.flush()?;
    let bytes = store.inspect()?.bytes - empty.bytes;
    let (total, took) = (components * keys, began.elapsed());
    println!("loaded {components} components and {total} keys in {took:.1?}");
    println!("on disk {bytes} bytes, {} for each key", bytes / (total as u64).max(1));
    Ok(())
}

fn measure(options: &PostgresOptions, components: usize, keys: usize) -> Result<(), Failed> {
    let store = PostgresStorage::open(options)?;
    // Spread over all components.
    let spread = |n: usize| n.wrapping_mul(7_919) % components;
    latency("get", |n| store.get(&key(spread(n), n % keys)).map(drop))?;
    latency("exists", |n| store.exists(&key(spread(n), n % keys)).map(drop))?;
    latency("usage of a component", |n| store.usage(Some(&prefix(spread(n)))).map(drop))?;
    latency("page of a component", |n| {
        store.list_page(PageRequest::new(100).with_prefix(&prefix(spread(n)))).map(drop)
    })?;
    let names: Vec<String> = (0..components.min(10_000)).map(prefix).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let shared = store.shared().ok_or("the store is not shared")?;
    for count in [100, 1_000, 10_000] {
        let asked = names.get(..count.min(names.len())).unwrap_or_default();
        let began = Instant::now();
        for _ in 0..10 {
            shared.component_revisions(asked)?;
        }
        println!("revisions of {} components {:.2?}", asked.len(), began.elapsed() / 10);
    }

    let began = Instant::now();
    let mut found = 0;
    let mut after: Option<String> = None;
    loop {
        let page = store.list_components(after.as_deref(), 10_000)?;
        found += page.keys.len();
        after = page.keys.last().cloned();
        if !page.more {
            break;
        }
    }
    println!("enumerated {found} components in {:.2?}", began.elapsed());
    println!("\nsynchronous commits, durability sync");
    drop(store);
    commits(options, components)
}

fn commits(options: &PostgresOptions, components: usize) -> Result<(), Failed> {
    let store = PostgresStorage::open(options)?;
    let set =
        |component: usize, n: usize| store.set(&key(component, n % 10), StorageValue::from(VALUE));
    latency("set", |n| set(n.wrapping_mul(7_919) % components, n))?;
    for (what, is_one) in [("one component", true), ("16 components", false)] {
        for writers in [1, 16] {
            let seconds = 5;
            let end = Instant::now() + Duration::from_secs(seconds);
            let done = AtomicUsize::new(0);
            together(writers, |writer| {
                let component = if is_one { 0 } else { writer % components };
                while Instant::now() < end {
                    set(component, done.fetch_add(1, Ordering::Relaxed))?;
                }
                Ok(())
            })?;
            let rate = done.into_inner() as u64 / seconds;
            println!("{writers} writers, {what}: {rate} commits a second");
        }
    }
    Ok(())
}

/// Prints percentiles of the time of a call.
fn latency(
    what: &str,
    mut call: impl FnMut(usize) -> Result<(), StorageError>,
) -> Result<(), Failed> {
    (0..100).try_for_each(&mut call)?;
    let mut times = Vec::new();
    for n in 0..MEASURED {
        let began = Instant::now();
        call(n)?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let at = |part: usize| times.get(MEASURED * part / 100).copied().unwrap_or_default();
    println!("{what}: median {:.1?}, p99 {:.1?}", at(50), at(99));
    Ok(())
}

fn together(
    threads: usize,
    work: impl Fn(usize) -> Result<(), StorageError> + Sync,
) -> Result<(), Failed> {
    let work = &work;
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|n| scope.spawn(move || work(n))).collect();
        running.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result.map_err(Failed::from),
            Err(_) => Err("a thread panicked".into()),
        })
    })
}
