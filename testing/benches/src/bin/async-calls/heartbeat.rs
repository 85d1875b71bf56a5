//! How late a timer is while guests write to a slow store.

use std::fmt::Write as _;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use benches::{Size, report};
use storage_backends::MemoryStorage;
use storage_host::{
    ComponentStorage, StorageError, StorageHost, StorageValue, Store, StoreProperties,
    forward_storage,
};
use tokio::runtime::Runtime;
use tokio::time::sleep;

use crate::guest::{Guests, Runtimes, failed};

/// How long a write takes.
const SYNC: Duration = Duration::from_millis(500);

const GUESTS: usize = 64;
const BEAT: Duration = Duration::from_millis(1);

/// A store in memory whose writes take as long as a slow disk.
#[derive(Debug, Default)]
struct SlowDisk(MemoryStorage);

impl ComponentStorage for SlowDisk {
    forward_storage!(self => self.0; get, delete, exists, list_keys);

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        thread::sleep(SYNC);
        self.0.set(key, value)
    }
}

impl Store for SlowDisk {
    fn properties(&self) -> StoreProperties {
        StoreProperties::new("slow-disk")
    }
}

/// The delays on both kinds of runtime, without guests and with them.
pub(crate) fn table(runtimes: &Runtimes, size: Size) -> Result<String> {
    let mut table = format!(
        "A timer of {} while {GUESTS} guests write to a store that takes {}:\n\n\
         | runtime | guests | beats | late by: median | p99 | p99.9 | longest |\n\
         |---|---|---|---|---|---|---|\n",
        report::time(BEAT.as_secs_f64()),
        report::time(SYNC.as_secs_f64())
    );
    let beats = size.pick(10_000, 1_000);
    for (name, runtime) in
        [("one thread", runtimes.one_thread()), ("two threads", runtimes.several_threads())]
    {
        for guests in [0, GUESTS] {
            let mut late = measure(runtime, guests, beats)?;
            late.sort();
            let at = |thousandths: usize| {
                let delay = late.get(late.len().saturating_sub(1) * thousandths / 1_000);
                report::time(delay.copied().unwrap_or_default().as_secs_f64())
            };
            let (median, p99, p999, longest) = (at(500), at(990), at(999), at(1_000));
            writeln!(
                table,
                "| {name} | {guests} | {beats} | {median} | {p99} | {p999} | {longest} |"
            )?;
        }
    }
    Ok(table)
}

fn measure(runtime: &Runtime, guests: usize, beats: usize) -> Result<Vec<Duration>> {
    let host = StorageHost::new(Arc::new(SlowDisk::default()));
    let factory = Guests::new().map_err(failed)?;
    runtime.block_on(async {
        let mut writers = Vec::new();
        for n in 0..guests {
            let guest = factory.guest(&host, &format!("bench/writers/{n}")).await;
            let mut guest = guest.map_err(failed)?;
            writers.push(tokio::spawn(async move { guest.sets(u32::MAX).await }));
        }
        // A task, so that it runs on a worker.
        let late = tokio::spawn(async move {
            let mut late = Vec::with_capacity(beats);
            for _ in 0..beats {
                let begun = Instant::now();
                sleep(BEAT).await;
                late.push(begun.elapsed().saturating_sub(BEAT));
            }
            late
        });
        let late = late.await?;
        writers.iter().for_each(tokio::task::JoinHandle::abort);
        host.drain(Duration::from_secs(60)).await?;
        Ok(late)
    })
}
