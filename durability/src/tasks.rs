//! The process in which many tasks write at the edge of quotas, through a host
//! as a guest's calls go.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use storage_backends::MemoryStorage;
use storage_core::{
    Budget, Commit, ComponentStorage, StorageError, StorageValue, Store, Usage, split_full_key,
};
use storage_host::{ComponentChain, ComponentSettings, StorageHost};

use crate::check;
use crate::content::content;
use crate::engine::{Engine, Mode};
use crate::random::Random;
use crate::workload::end_with_parent;

/// The components that every task writes in, and their quotas.
pub(crate) const COMPONENTS: [(&str, Option<Budget>); 4] = [
    ("quota/app/bytes", Some(Budget { max_bytes: 64 << 10, max_keys: u64::MAX })),
    ("quota/app/keys", Some(Budget { max_bytes: u64::MAX, max_keys: 200 })),
    ("quota/app/both", Some(Budget { max_bytes: 48 << 10, max_keys: 150 })),
    ("quota/app/free", None),
];

/// The keys of one task in a component; of all of them a part has room.
const OWN_KEYS: u64 = 10;
/// The keys of a component that every task writes.
const SHARED_KEYS: u64 = 16;

/// How often the numbers so far are told, for whoever kills this process.
const TELL_EVERY: Duration = Duration::from_millis(20);
/// How long between two looks at what is used.
const SAMPLE_EVERY: Duration = Duration::from_millis(2);
const RECOUNT_EVERY: Duration = Duration::from_millis(40);

#[derive(Debug, Clone, Args)]
pub(crate) struct TaskArguments {
    /// The store; in memory without it.
    #[arg(long)]
    pub(crate) engine: Option<Engine>,
    #[arg(long)]
    pub(crate) mode: Mode,
    #[arg(long)]
    pub(crate) store: PathBuf,
    #[arg(long)]
    pub(crate) seed: u64,
    #[arg(long)]
    pub(crate) tasks: u64,
    /// How long; without it until killed.
    #[arg(long)]
    pub(crate) millis: Option<u64>,
}

impl TaskArguments {
    /// The command line, without the program.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = vec!["tasks".to_owned()];
        let mut add = |name: &str, value: String| words.extend([format!("--{name}"), value]);
        if let Some(engine) = self.engine {
            add("engine", engine.to_string());
        }
        add("mode", self.mode.to_string());
        add("store", self.store.display().to_string());
        add("seed", self.seed.to_string());
        add("tasks", self.tasks.to_string());
        if let Some(millis) = self.millis {
            add("millis", millis.to_string());
        }
        words
    }
}

/// What the tasks have done and the samples have shown.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) writes: AtomicU64,
    pub(crate) deletes: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) samples: AtomicU64,
    pub(crate) recounts: AtomicU64,
    /// The most bytes of the first component that a recount has shown.
    pub(crate) peak: AtomicU64,
    /// By how many bytes, and keys, a quota was exceeded at most.
    pub(crate) bytes_over: AtomicU64,
    pub(crate) keys_over: AtomicU64,
    /// By how many bytes, and keys, `usage` was wrong at the end.
    pub(crate) bytes_drift: AtomicU64,
    pub(crate) keys_drift: AtomicU64,
}

impl Numbers {
    pub(crate) fn named(&self) -> [(&'static str, &AtomicU64); 10] {
        [
            ("writes", &self.writes),
            ("deletes", &self.deletes),
            ("refused", &self.refused),
            ("samples", &self.samples),
            ("recounts", &self.recounts),
            ("peak", &self.peak),
            ("bytes-over", &self.bytes_over),
            ("keys-over", &self.keys_over),
            ("bytes-drift", &self.bytes_drift),
            ("keys-drift", &self.keys_drift),
        ]
    }

    /// Compares what is used with a quota; false if that is exceeded.
    pub(crate) fn within(&self, used: Usage, quota: Budget) -> bool {
        let over = used - Usage { bytes: quota.max_bytes, keys: quota.max_keys };
        self.bytes_over.fetch_max(over.bytes, Ordering::Relaxed);
        self.keys_over.fetch_max(over.keys, Ordering::Relaxed);
        over == Usage::default()
    }

    /// Compares what `usage` says with a recount; false if they differ.
    pub(crate) fn agree(&self, told: Usage, counted: Usage) -> bool {
        self.bytes_drift.fetch_add(told.bytes.abs_diff(counted.bytes), Ordering::Relaxed);
        self.keys_drift.fetch_add(told.keys.abs_diff(counted.keys), Ordering::Relaxed);
        told == counted
    }
}

/// What the tasks share.
struct Shared {
    backend: Arc<dyn Store>,
    chains: Vec<Arc<ComponentChain>>,
    numbers: Numbers,
    next_op: AtomicU64,
    over: AtomicBool,
    findings: Mutex<Vec<String>>,
}

/// Lets the tasks write, and tells what came of it.
pub(crate) fn run(arguments: &TaskArguments) -> Result<()> {
    end_with_parent();
    let backend: Arc<dyn Store> = match arguments.engine {
        Some(engine) => engine.open(arguments.mode, &arguments.store)?,
        None => Arc::new(MemoryStorage::new()),
    };
    let host = host(Arc::clone(&backend))?;
    let chains: Result<Vec<_>> =
        COMPONENTS.iter().map(|(id, _)| Ok(host.component(&id.parse()?))).collect();
    let shared = Shared {
        backend,
        chains: chains?,
        numbers: Numbers::default(),
        next_op: AtomicU64::new(arguments.seed << 40),
        over: AtomicBool::new(false),
        findings: Mutex::default(),
    };
    say("ready")?;
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
            std::thread::sleep(TELL_EVERY);
            shared.tell_numbers()?;
        }
        shared.over.store(true, Ordering::Release);
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
    shared.tell_numbers()?;
    for finding in shared.findings.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        say(&format!("finding\t{}", finding.replace(['\t', '\n'], " ")))?;
    }
    say("done")
}

/// A host with the quotas.
fn host(backend: Arc<dyn Store>) -> Result<StorageHost> {
    let mut builder = StorageHost::builder(backend);
    for (id, quota) in COMPONENTS {
        let settings = ComponentSettings { quota, ..ComponentSettings::default() };
        builder = builder.component(id.parse()?, settings);
    }
    Ok(builder.build())
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// What the own keys of a component take up, by its listing and every value.
pub(crate) fn recount(
    storage: &dyn ComponentStorage,
    partition: &str,
) -> Result<Usage, StorageError> {
    let mut counted = Usage::default();
    for key in storage.list_keys(Some(partition))? {
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

    fn tell_numbers(&self) -> Result<()> {
        let numbers = self.numbers.named();
        let words = numbers.map(|(name, number)| {
            let number = number.load(Ordering::Relaxed);
            format!("{name}={number}")
        });
        say(&format!("numbers\t{}", words.join("\t")))
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn repeat(&self, every: Duration, look: fn(&Self) -> Result<(), StorageError>) -> Result<()> {
        while !self.is_over() {
            look(self)?;
            std::thread::sleep(every);
        }
        Ok(())
    }

    /// What the ledgers say is never above a quota.
    fn sample(&self) -> Result<(), StorageError> {
        for (chain, (id, quota)) in self.chains.iter().zip(COMPONENTS) {
            let told = chain.component_usage()?;
            if told.quota_bytes != quota.map_or(u64::MAX, |quota| quota.max_bytes) {
                self.find(format!("{id}: the quota is told as {}", told.quota_bytes));
            }
            let used = Usage { bytes: told.used_bytes, keys: told.key_count };
            if let Some(quota) = quota
                && !self.numbers.within(used, quota)
            {
                self.find(format!("{id}: usage says {used:?}, the quota is {quota:?}"));
            }
            self.numbers.samples.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Nor is what is there, counted as of one moment without any ledger.
    fn recount(&self) -> Result<(), StorageError> {
        for (at, (id, quota)) in COMPONENTS.iter().enumerate() {
            let Some(quota) = *quota else { continue };
            let mut used = Usage::default();
            let mut count = |key: &str, value: StorageValue| {
                used = used + Usage::of(split_full_key(key).1, value.len());
                Ok(())
            };
            self.backend.read_snapshot(&format!("{id}/"), None, &mut count)?;
            if at == 0 {
                self.numbers.peak.fetch_max(used.bytes, Ordering::Relaxed);
            }
            if !self.numbers.within(used, quota) {
                self.find(format!(
                    "{id}: {used:?} was there at one moment, the quota is {quota:?}"
                ));
            }
            self.numbers.recounts.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Everything is as the tasks were told, and the ledgers say so.
    fn at_the_end(&self, own: &[Vec<Expected>]) -> Result<()> {
        for ((chain, (id, quota)), at) in self.chains.iter().zip(COMPONENTS).zip(0..) {
            let partition = format!("{id}/");
            let counted = recount(&*self.backend, &partition)?;
            let told = chain.component_usage()?;
            let told = Usage { bytes: told.used_bytes, keys: told.key_count };
            if !self.numbers.agree(told, counted) {
                self.find(format!("{id}: usage says {told:?}, a recount {counted:?}"));
            }
            if let Some(quota) = quota {
                if !self.numbers.within(counted, quota) {
                    self.find(format!("{id}: {counted:?} is there, the quota is {quota:?}"));
                }
                if let Err((_, problem)) = check::ledger(&*self.backend, &partition, true) {
                    self.find(format!("{id}: {problem}"));
                }
            }
            for (key, expected) in own.iter().filter_map(|own| own.get(at)).flatten() {
                let found = self.backend.get(&format!("{partition}{key}"))?;
                if found != *expected {
                    self.find(format!("{id}: {key} is not as its task left it"));
                }
            }
        }
        Ok(())
    }
}

/// The own keys of a task in one component, and what it knows to be there.
type Expected = BTreeMap<String, Option<StorageValue>>;

/// A write: a key, and its new value or `None` to delete it.
type Change = (String, Option<StorageValue>);

struct Task<'a> {
    shared: &'a Shared,
    random: Random,
    own: Vec<Expected>,
}

impl<'a> Task<'a> {
    /// A task that knows what an earlier process has left.
    fn new(shared: &'a Shared, seed: u64, task: u64) -> Result<Self> {
        let mut own = Vec::new();
        for chain in &shared.chains {
            let mut expected = Expected::new();
            for n in 0..OWN_KEYS {
                // The first is too long for the name of a file.
                let tail = if n == 0 { "long-".repeat(60) } else { format!("k{n}") };
                let key = format!("t{task}/{tail}");
                let found = chain.get(&key)?;
                expected.insert(key, found);
            }
            own.push(expected);
        }
        let random = Random::new(seed.rotate_left(32) ^ task.rotate_left(56));
        Ok(Self { shared, random, own })
    }

    fn work(mut self) -> Result<Vec<Expected>> {
        while !self.shared.is_over() {
            self.step()?;
        }
        Ok(self.own)
    }

    fn step(&mut self) -> Result<()> {
        let at = self.random.index(COMPONENTS.len());
        match self.random.below(100) {
            0..45 => {
                let key = self.key(at);
                let len = self.len();
                let change = self.value(key, len);
                self.write(at, vec![change], false)
            }
            45..57 => {
                let key = self.key(at);
                let len = self.len_to_the_edge(at, &key)?;
                let change = self.value(key, len);
                self.write(at, vec![change], false)
            }
            57..72 => {
                let change = (self.key(at), None);
                self.write(at, vec![change], false)
            }
            72..86 => {
                let changes = (0..2 + self.random.below(7))
                    .map(|_| {
                        let key = self.key(at);
                        let len = self.len();
                        if self.random.chance(40) { (key, None) } else { self.value(key, len) }
                    })
                    .collect();
                self.write(at, changes, true)
            }
            86..89 => {
                let changes = (0..3).map(|_| (self.key(at), None)).collect();
                self.write(at, changes, true)
            }
            89..92 => self.fail_a_check(at),
            _ => self.look_at_own(at),
        }
    }

    fn key(&mut self, at: usize) -> String {
        if self.random.chance(15) {
            return format!("shared/k{}", self.random.below(SHARED_KEYS));
        }
        let nth = self.random.index(OWN_KEYS as usize);
        let own = self.own.get(at).and_then(|own| own.keys().nth(nth));
        own.cloned().unwrap_or_default()
    }

    fn len(&mut self) -> usize {
        let below = match self.random.below(100) {
            0..10 => 1,
            10..70 => 600,
            70..95 => 3_000,
            _ => 12_000,
        };
        self.random.index(below)
    }

    fn value(&self, key: String, len: usize) -> Change {
        let op = self.shared.next_op.fetch_add(1, Ordering::Relaxed);
        let value = content(&key, op, len).into();
        (key, Some(value))
    }

    /// A length that fills the component to the byte, or to one byte more.
    fn len_to_the_edge(&mut self, at: usize, key: &str) -> Result<usize> {
        let Some((chain, (_, Some(quota)))) = self.shared.chains.get(at).zip(COMPONENTS.get(at))
        else {
            return Ok(self.len());
        };
        let used = chain.component_usage()?.used_bytes;
        let old = self.own.get(at).and_then(|own| own.get(key)).and_then(Option::as_ref);
        let freed = old.map_or(0, |old| Usage::of(key, old.len()).bytes);
        let room = quota.max_bytes.saturating_sub(used).saturating_add(freed);
        let len = room.saturating_sub(key.len() as u64).min(12_000);
        Ok(usize::try_from(len + self.random.below(2))?)
    }

    /// Writes, and compares what is there afterwards with the answer.
    fn write(&mut self, at: usize, changes: Vec<Change>, together: bool) -> Result<()> {
        let Some((chain, (id, quota))) = self.shared.chains.get(at).zip(COMPONENTS.get(at)) else {
            return Ok(());
        };
        let grows = changes.iter().any(|(_, value)| value.is_some());
        let answer = match changes.as_slice() {
            [(key, Some(value))] if !together => chain.set(key, value.clone()),
            [(key, None)] if !together => chain.delete(key),
            changes => chain.commit(commit_of(changes)).map(drop),
        };
        match answer {
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
                changes.iter().try_for_each(|(key, _)| self.look(at, key, "after a refusal"))
            }
            Err(error) => {
                self.shared.find(format!("{id}: a write (grows: {grows}) ended with: {error}"));
                changes.iter().try_for_each(|(key, _)| self.look(at, key, "after an error"))
            }
        }
    }

    /// A commit whose check fails changes nothing, and takes up no room.
    fn fail_a_check(&mut self, at: usize) -> Result<()> {
        let Some((chain, own)) = self.shared.chains.get(at).zip(self.own.get(at)) else {
            return Ok(());
        };
        let Some(key) = own.iter().find_map(|(key, value)| value.as_ref().map(|_| key)) else {
            return Ok(());
        };
        let commit = Commit::new().require_absent(key).set(key, vec![0; 50].into());
        let answer = chain.commit(commit).map(drop);
        if answer != Err(StorageError::AlreadyExists(key.clone())) {
            self.shared.find(format!("a commit whose check fails gave {answer:?}"));
        }
        self.look(at, key, "after a failed check")
    }

    fn look_at_own(&mut self, at: usize) -> Result<()> {
        let nth = self.random.index(OWN_KEYS as usize);
        match self.own.get(at).and_then(|own| own.keys().nth(nth)) {
            Some(key) => self.look(at, key, "in passing"),
            None => Ok(()),
        }
    }

    /// Compares a key with what this task knows of it, if it is its own.
    fn look(&self, at: usize, key: &str, when: &str) -> Result<()> {
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
