//! The process in which many tasks write at the limits of quotas, through a host.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use storage_backends::MemoryStorage;
use storage_core::{
    Budget, Commit, ComponentStorage as _, StorageError, StorageValue, Store, Usage, split_full_key,
};
use storage_host::{ComponentChain, ComponentSettings, StorageHost};

use crate::check;
use crate::content::content;
use crate::engine::{Engine, Mode};
use crate::plan::percent;
use crate::workload::end_with_parent;

/// The components to which every task writes, and their quotas.
pub(crate) const COMPONENTS: [(&str, Option<Budget>); 4] = [
    ("quota/app/bytes", Some(Budget { max_bytes: 64 << 10, max_keys: u64::MAX })),
    ("quota/app/keys", Some(Budget { max_bytes: u64::MAX, max_keys: 200 })),
    ("quota/app/both", Some(Budget { max_bytes: 48 << 10, max_keys: 150 })),
    ("quota/app/free", None),
];

/// The number of keys of a task in a component. The quotas have space for some of them.
const KEYS_PER_TASK: u64 = 10;
/// The number of keys of a component that every task writes.
const SHARED_KEYS: u64 = 16;

/// How often the numbers are reported, in case this process is killed.
const REPORT_EVERY: Duration = Duration::from_millis(20);
/// How often the usage is read.
const SAMPLE_EVERY: Duration = Duration::from_millis(2);
const RECOUNT_EVERY: Duration = Duration::from_millis(40);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TaskArguments {
    /// `None` for the memory store.
    pub(crate) engine: Option<Engine>,
    pub(crate) mode: Mode,
    pub(crate) store: PathBuf,
    pub(crate) seed: u64,
    pub(crate) tasks: u64,
    /// How long to run; without end if `None`.
    pub(crate) millis: Option<u64>,
}

/// A line that this process prints.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report<N = Numbers> {
    Ready,
    Numbers(N),
    Finding(String),
    Done,
}

/// What the tasks did, and what was measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Numbers {
    pub(crate) writes: AtomicU64,
    pub(crate) deletes: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) samples: AtomicU64,
    pub(crate) recounts: AtomicU64,
    /// The maximum number of bytes of the first component in a recount.
    pub(crate) peak: AtomicU64,
    /// The largest excess over a quota.
    pub(crate) bytes_over: AtomicU64,
    pub(crate) keys_over: AtomicU64,
    /// By how much `usage` differs from a recount at the end.
    pub(crate) bytes_drift: AtomicU64,
    pub(crate) keys_drift: AtomicU64,
}

impl Numbers {
    /// Whether the usage is within a quota.
    pub(crate) fn within(&self, used: Usage, quota: Budget) -> bool {
        let over = used - Usage { bytes: quota.max_bytes, keys: quota.max_keys };
        self.bytes_over.fetch_max(over.bytes, Ordering::Relaxed);
        self.keys_over.fetch_max(over.keys, Ordering::Relaxed);
        over == Usage::default()
    }

    /// Whether the reported usage equals a recount.
    pub(crate) fn agree(&self, reported: Usage, counted: Usage) -> bool {
        self.bytes_drift.fetch_add(reported.bytes.abs_diff(counted.bytes), Ordering::Relaxed);
        self.keys_drift.fetch_add(reported.keys.abs_diff(counted.keys), Ordering::Relaxed);
        reported == counted
    }
}

/// What the tasks share.
struct Shared {
    store: Arc<dyn Store>,
    chains: Vec<Arc<ComponentChain>>,
    numbers: Numbers,
    next_op: AtomicU64,
    is_over: AtomicBool,
    findings: Mutex<Vec<String>>,
}

/// Runs the tasks, and reports the numbers and findings.
pub(crate) fn run(arguments: &TaskArguments) -> Result<()> {
    end_with_parent();
    let store: Arc<dyn Store> = match arguments.engine {
        Some(engine) => engine.open(arguments.mode, &arguments.store)?,
        None => Arc::new(MemoryStorage::new()),
    };
    let host = host(Arc::clone(&store))?;
    let chains: Result<Vec<_>> =
        COMPONENTS.iter().map(|(id, _)| Ok(host.component(&id.parse()?))).collect();
    let shared = Shared {
        store,
        chains: chains?,
        numbers: Numbers::default(),
        next_op: AtomicU64::new(arguments.seed << 40),
        is_over: AtomicBool::new(false),
        findings: Mutex::default(),
    };
    report(&Report::<Numbers>::Ready)?;
    std::thread::scope(|scope| {
        let shared = &shared;
        let tasks: Vec<_> = (0..arguments.tasks)
            .map(|task| scope.spawn(move || Task::new(shared, arguments.seed, task)?.work()))
            .collect();
        let samplers = [
            scope.spawn(|| shared.repeat(SAMPLE_EVERY, Shared::sample)),
            scope.spawn(|| shared.repeat(RECOUNT_EVERY, Shared::recount)),
        ];
        let begun = Instant::now();
        let limit = arguments.millis.map(Duration::from_millis);
        while limit.is_none_or(|limit| begun.elapsed() < limit)
            && !tasks.iter().any(|task| task.is_finished())
        {
            std::thread::sleep(REPORT_EVERY);
            report(&Report::Numbers(&shared.numbers))?;
        }
        shared.is_over.store(true, Ordering::Release);
        let mut own = Vec::new();
        for task in tasks {
            match task.join() {
                Ok(expected) => own.push(expected?),
                Err(_) => bail!("a task panicked"),
            }
        }
        for sampler in samplers {
            match sampler.join() {
                Ok(sampled) => sampled?,
                Err(_) => bail!("a sampler panicked"),
            }
        }
        shared.at_the_end(&own)
    })?;
    report(&Report::Numbers(&shared.numbers))?;
    for finding in shared.findings.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        report(&Report::<Numbers>::Finding(finding.clone()))?;
    }
    report(&Report::<Numbers>::Done)
}

/// Creates a host with the quotas.
fn host(store: Arc<dyn Store>) -> Result<StorageHost> {
    let mut builder = StorageHost::builder(store);
    for (id, quota) in COMPONENTS {
        let settings = ComponentSettings { quota, ..ComponentSettings::default() };
        builder = builder.component(id.parse()?, settings);
    }
    Ok(builder.build())
}

fn report(report: &Report<impl Serialize>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(report)?)?;
    Ok(out.flush()?)
}

/// Counts the usage of a component in user keys.
pub(crate) fn recount(storage: &dyn Store, prefix: &str) -> Result<Usage, StorageError> {
    let mut counted = Usage::default();
    for key in storage.list_keys(Some(prefix))? {
        let len = storage.get(&key)?.map_or(0, |value| value.len());
        counted = counted + Usage::of(split_full_key(&key).1, len);
    }
    Ok(counted)
}

impl Shared {
    fn find(&self, text: String) {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        if findings.len() < 100 {
            findings.push(text);
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn repeat(&self, every: Duration, check: fn(&Self) -> Result<(), StorageError>) -> Result<()> {
        while !self.is_over() {
            check(self)?;
            std::thread::sleep(every);
        }
        Ok(())
    }

    /// The reported usage never exceeds a quota.
    fn sample(&self) -> Result<(), StorageError> {
        for (chain, (id, quota)) in self.chains.iter().zip(COMPONENTS) {
            let usage = chain.component_usage()?;
            if usage.quota_bytes != quota.map_or(u64::MAX, |quota| quota.max_bytes) {
                self.find(format!("{id}: the reported quota is {}", usage.quota_bytes));
            }
            let used = Usage { bytes: usage.used_bytes, keys: usage.key_count };
            if let Some(quota) = quota
                && !self.numbers.within(used, quota)
            {
                self.find(format!("{id}: the reported usage is {used:?}, the quota {quota:?}"));
            }
            self.numbers.samples.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A recount of a snapshot never exceeds a quota either.
    fn recount(&self) -> Result<(), StorageError> {
        for (at, (id, quota)) in COMPONENTS.iter().enumerate() {
            let Some(quota) = *quota else { continue };
            let mut used = Usage::default();
            let mut count = |key: &str, value: StorageValue| {
                used = used + Usage::of(split_full_key(key).1, value.len());
                Ok(())
            };
            self.store.read_snapshot(&format!("{id}/"), None, &mut count)?;
            if at == 0 {
                self.numbers.peak.fetch_max(used.bytes, Ordering::Relaxed);
            }
            if !self.numbers.within(used, quota) {
                self.find(format!("{id}: a snapshot has {used:?}, the quota is {quota:?}"));
            }
            self.numbers.recounts.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// All keys are as the tasks left them, and the usage counters are right.
    fn at_the_end(&self, own: &[Vec<Expected>]) -> Result<()> {
        for ((chain, (id, quota)), at) in self.chains.iter().zip(COMPONENTS).zip(0..) {
            let prefix = format!("{id}/");
            let counted = recount(&*self.store, &prefix)?;
            let usage = chain.component_usage()?;
            let usage = Usage { bytes: usage.used_bytes, keys: usage.key_count };
            if !self.numbers.agree(usage, counted) {
                self.find(format!("{id}: the reported usage is {usage:?}, a recount {counted:?}"));
            }
            if let Some(quota) = quota {
                if !self.numbers.within(counted, quota) {
                    self.find(format!("{id}: a recount is {counted:?}, the quota {quota:?}"));
                }
                if let Err((_, problem)) = check::usage_counter(&*self.store, &prefix, true) {
                    self.find(format!("{id}: {problem}"));
                }
            }
            for (key, expected) in own.iter().filter_map(|own| own.get(at)).flatten() {
                let found = self.store.get(&format!("{prefix}{key}"))?;
                if found != *expected {
                    self.find(format!("{id}: {key} is not as its task left it"));
                }
            }
        }
        Ok(())
    }
}

/// The keys of a task in one component, and their expected values.
type Expected = BTreeMap<String, Option<StorageValue>>;

/// A key, and its new value or `None` to delete it.
type Change = (String, Option<StorageValue>);

struct Task<'a> {
    shared: &'a Shared,
    random: fastrand::Rng,
    own: Vec<Expected>,
}

impl<'a> Task<'a> {
    /// Creates a task, which reads what an earlier process left.
    fn new(shared: &'a Shared, seed: u64, task: u64) -> Result<Self> {
        let mut own = Vec::new();
        for chain in &shared.chains {
            let mut expected = Expected::new();
            for n in 0..KEYS_PER_TASK {
                // The first is too long for a file name.
                let tail = if n == 0 { "long-".repeat(60) } else { format!("k{n}") };
                let key = format!("t{task}/{tail}");
                let found = chain.get(&key)?;
                expected.insert(key, found);
            }
            own.push(expected);
        }
        let random = fastrand::Rng::with_seed(seed.rotate_left(32) ^ task.rotate_left(56));
        Ok(Self { shared, random, own })
    }

    fn work(mut self) -> Result<Vec<Expected>> {
        while !self.shared.is_over() {
            self.step()?;
        }
        Ok(self.own)
    }

    fn step(&mut self) -> Result<()> {
        let at = self.random.usize(0..COMPONENTS.len());
        match self.random.u64(0..100) {
            0..45 => {
                let key = self.key(at);
                let len = self.len();
                let change = self.value(key, len);
                self.write(at, vec![change], false)
            }
            45..57 => {
                let key = self.key(at);
                let len = self.len_to_the_limit(at, &key)?;
                let change = self.value(key, len);
                self.write(at, vec![change], false)
            }
            57..72 => {
                let change = (self.key(at), None);
                self.write(at, vec![change], false)
            }
            72..86 => {
                let changes = (0..self.random.u64(2..9))
                    .map(|_| {
                        let key = self.key(at);
                        let len = self.len();
                        if percent(&mut self.random, 40) {
                            (key, None)
                        } else {
                            self.value(key, len)
                        }
                    })
                    .collect();
                self.write(at, changes, true)
            }
            86..89 => {
                let changes = (0..3).map(|_| (self.key(at), None)).collect();
                self.write(at, changes, true)
            }
            89..92 => self.fail_a_check(at),
            _ => self.check_own(at),
        }
    }

    fn key(&mut self, at: usize) -> String {
        if percent(&mut self.random, 15) {
            return format!("shared/k{}", self.random.u64(0..SHARED_KEYS));
        }
        let nth = self.random.usize(0..KEYS_PER_TASK as usize);
        let own = self.own.get(at).and_then(|own| own.keys().nth(nth));
        own.cloned().unwrap_or_default()
    }

    fn len(&mut self) -> usize {
        let end = match self.random.u64(0..100) {
            0..10 => 1,
            10..70 => 600,
            70..95 => 3_000,
            _ => 12_000,
        };
        self.random.usize(0..end)
    }

    fn value(&self, key: String, len: usize) -> Change {
        let op = self.shared.next_op.fetch_add(1, Ordering::Relaxed);
        let value = content(&key, op, len).into();
        (key, Some(value))
    }

    /// A length that uses up the quota exactly, or exceeds it by one byte.
    fn len_to_the_limit(&mut self, at: usize, key: &str) -> Result<usize> {
        let Some((chain, (_, Some(quota)))) = self.shared.chains.get(at).zip(COMPONENTS.get(at))
        else {
            return Ok(self.len());
        };
        let used = chain.component_usage()?.used_bytes;
        let old = self.own.get(at).and_then(|own| own.get(key)).and_then(Option::as_ref);
        let freed = old.map_or(0, |old| Usage::of(key, old.len()).bytes);
        let free = quota.max_bytes.saturating_sub(used).saturating_add(freed);
        let len = free.saturating_sub(key.len() as u64).min(12_000);
        Ok(usize::try_from(len + self.random.u64(0..2))?)
    }

    /// Writes, and checks the keys if that fails.
    fn write(&mut self, at: usize, changes: Vec<Change>, together: bool) -> Result<()> {
        let Some((chain, (id, quota))) = self.shared.chains.get(at).zip(COMPONENTS.get(at)) else {
            return Ok(());
        };
        let grows = changes.iter().any(|(_, value)| value.is_some());
        let result = match changes.as_slice() {
            [(key, Some(value))] if !together => chain.set(key, value.clone()),
            [(key, None)] if !together => chain.delete(key),
            changes => chain.commit(commit_of(changes)).map(drop),
        };
        match result {
            Ok(()) => {
                let numbers = &self.shared.numbers;
                let number = if grows { &numbers.writes } else { &numbers.deletes };
                number.fetch_add(1, Ordering::Relaxed);
                for (key, value) in changes {
                    if let Some(known) = self.own.get_mut(at).and_then(|own| own.get_mut(&key)) {
                        *known = value;
                    }
                }
                Ok(())
            }
            Err(StorageError::QuotaExceeded) if grows && quota.is_some() => {
                self.shared.numbers.refused.fetch_add(1, Ordering::Relaxed);
                changes.iter().try_for_each(|(key, _)| self.check(at, key, "after a refusal"))
            }
            Err(error) => {
                self.shared.find(format!("{id}: a write (grows: {grows}) failed: {error}"));
                changes.iter().try_for_each(|(key, _)| self.check(at, key, "after an error"))
            }
        }
    }

    /// A commit whose check fails changes nothing.
    fn fail_a_check(&mut self, at: usize) -> Result<()> {
        let Some((chain, own)) = self.shared.chains.get(at).zip(self.own.get(at)) else {
            return Ok(());
        };
        let Some(key) = own.iter().find_map(|(key, value)| value.as_ref().map(|_| key)) else {
            return Ok(());
        };
        let commit = Commit::new().require_absent(key).set(key, vec![0; 50].into());
        let result = chain.commit(commit).map(drop);
        if result != Err(StorageError::AlreadyExists(key.clone())) {
            self.shared.find(format!("a commit whose check fails returned {result:?}"));
        }
        self.check(at, key, "after a failed check")
    }

    fn check_own(&mut self, at: usize) -> Result<()> {
        let nth = self.random.usize(0..KEYS_PER_TASK as usize);
        match self.own.get(at).and_then(|own| own.keys().nth(nth)) {
            Some(key) => self.check(at, key, "later"),
            None => Ok(()),
        }
    }

    /// Checks a key, if only this task writes it.
    fn check(&self, at: usize, key: &str, when: &str) -> Result<()> {
        let expected = self.own.get(at).and_then(|own| own.get(key));
        let Some((chain, expected)) = self.shared.chains.get(at).zip(expected) else {
            return Ok(());
        };
        if chain.get(key)? != *expected {
            self.shared.find(format!("{}: {key} has changed, {when}", chain.id()));
        }
        Ok(())
    }
}

fn commit_of(changes: &[Change]) -> Commit {
    changes.iter().fold(Commit::new(), |commit, (key, value)| match value {
        Some(value) => commit.set(key, value.clone()),
        None => commit.delete(key),
    })
}
