//! A server whose memory becomes full while hosts write, and is emptied by deletes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fastrand::Rng;
use storage_backends::RedisStorage;
use storage_core::{Commit, ComponentStorage as _, StorageError, Store as _};
use test_servers::Redis;

use super::location::Location;
use crate::check;
use crate::report::{Fault, Findings, Outcome};

/// The memory of the server. An empty one takes about a megabyte.
const MAX_MEMORY: &str = "16mb";

const WRITERS: usize = 4;

/// How long a server may take to become full.
const LIMIT: Duration = Duration::from_secs(120);

/// How many writes in a row a writer is refused until it takes the server for full.
const REFUSALS: u32 = 20;

/// Fills a server again and again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FullMemory {
    pub(crate) rounds: u64,
    pub(crate) seed: u64,
}

/// What the writers did.
#[derive(Default)]
struct Shared {
    done: AtomicU64,
    refused: AtomicU64,
    findings: Mutex<Vec<(Fault, String)>>,
}

impl FullMemory {
    pub(crate) fn run(self) -> Result<Outcome> {
        if let Some(reason) = Redis::missing() {
            println!("  SKIPPED: {reason}");
            return Ok(Outcome::Skipped);
        }
        let start = Instant::now();
        let server = Redis::builder()
            .setting("appendfsync", "everysec")
            .setting("maxmemory", MAX_MEMORY)
            .setting("maxmemory-policy", "noeviction")
            .start()?;
        let store = RedisStorage::open(&Location::single(server.address()).options())?;
        let (shared, mut findings) = (Shared::default(), Findings::default());
        for round in 1..=self.rounds {
            findings.context = format!("round {round}");
            thread::scope(|scope| {
                for writer in 0..WRITERS {
                    let (store, shared) = (&store, &shared);
                    let seed = self.seed ^ round << 32 ^ writer as u64;
                    scope.spawn(move || shared.fill(store, writer, Rng::with_seed(seed)));
                }
            });
            let found = std::mem::take(
                &mut *shared.findings.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
            );
            for (fault, text) in found {
                findings.add(fault, text);
            }
            if let Err(error) = store.verify(&mut |problem| {
                findings.add(Fault::UsageCounter, problem.to_string());
            }) {
                findings.add(Fault::Unreadable, error.to_string());
            }
            for writer in 0..WRITERS {
                let prefix = prefix(writer);
                if let Err((fault, problem)) = check::usage_counter(&store, &prefix, true) {
                    findings.add(fault, format!("{prefix}: {problem}"));
                }
            }
        }
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        println!(
            "  {} times full: {} commits done, {} refused; {findings}; {:.0} s",
            self.rounds,
            get(&shared.done),
            get(&shared.refused),
            start.elapsed().as_secs_f64(),
        );
        ensure!(get(&shared.refused) > 0, "the memory did not become full");
        Ok(match findings.total() {
            0 => Outcome::Passed,
            _ => findings.fail("a full server must refuse writes as a whole, and delete"),
        })
    }
}

fn prefix(writer: usize) -> String {
    format!("full/app/w{writer}/")
}

impl Shared {
    /// Commits until the server is full, then deletes everything.
    fn fill(&self, store: &RedisStorage, writer: usize, mut random: Rng) {
        let prefix = prefix(writer);
        let began = Instant::now();
        let mut refusals = 0;
        let mut number: u64 = 0;
        let mut written: Vec<String> = Vec::new();
        while refusals < REFUSALS {
            if began.elapsed() > LIMIT {
                return self.find(Fault::Hung, "the server does not become full".to_owned());
            }
            number += 1;
            let keys: Vec<String> = (0..3).map(|part| format!("{prefix}{number}-{part}")).collect();
            let mut commit = Commit::new();
            for key in &keys {
                commit = commit.set(key, vec![7; random.usize(1..8000)].into());
            }
            match store.commit(commit) {
                Ok(_) => {
                    refusals = 0;
                    self.done.fetch_add(1, Ordering::Relaxed);
                    written.extend(keys);
                }
                Err(error) => {
                    refusals += 1;
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    self.refusal(&error);
                    if keys.iter().any(|key| store.exists(key) != Ok(false)) {
                        self.find(Fault::Contract, format!("{keys:?} exist, but were refused"));
                    }
                }
            }
        }
        for (at, key) in written.iter().enumerate() {
            if let Err(error) = store.delete(key) {
                self.find(Fault::Contract, format!("a full server does not delete: {error}"));
            }
            if at % 16 == 0 && store.exists(key) != Ok(false) {
                self.find(Fault::Contract, format!("{key} was deleted, but exists"));
            }
        }
        // The others may not have deleted theirs yet, but these are gone.
        match store.list_keys(Some(&prefix)) {
            Ok(keys) if keys.is_empty() => {}
            other => self.find(Fault::Listing, format!("{prefix} was emptied: {other:?}")),
        }
    }

    fn refusal(&self, error: &StorageError) {
        let is_clear = matches!(error, StorageError::Unavailable { detail, .. }
            if detail.contains("has no memory left") && !detail.contains("may or may not"));
        if !is_clear {
            self.find(Fault::Contract, format!("not the error of a full server: {error}"));
        }
    }

    fn find(&self, fault: Fault, text: String) {
        let findings = self.findings.lock();
        findings.unwrap_or_else(std::sync::PoisonError::into_inner).push((fault, text));
    }
}
