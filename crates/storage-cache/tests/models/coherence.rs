//! One host with a cache, and another one that writes to the same store: notices, polls,
//! reads, writes and the clock in any order.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use fastrand::Rng;
use shuttle::Runner;
use shuttle::thread::{self, yield_now};
use storage_cache::{CacheConfig, CachedStorage, Coherence, ManualClock};
use storage_core::{
    Change, Commit, ComponentStorage, Revision, SharedStore, StorageError, StorageValue,
    VersionedValue, Watcher,
};

use crate::scheduler::SeededScheduler;
use crate::{config, silence_shuttle};

const PREFIX: &str = "a/b/1/";
const KEYS: [&str; 2] = ["a/b/1/k", "a/b/1/other"];

/// The maximum staleness, in nanoseconds of the manual clock.
const L: u64 = 1_000;

const SCHEDULES: u64 = 30_000;

#[test]
fn a_read_is_no_older_than_the_maximum_staleness_or_an_own_write() {
    silence_shuttle();
    let first = std::env::var("MODELS_SEED").ok().map_or(1, |text| text.parse().unwrap());
    let (current, problem) = (Arc::new(AtomicU64::new(first)), Arc::new(Mutex::new(None)));
    let seeds = {
        let problem = Arc::clone(&problem);
        (first..first + SCHEDULES).take_while(move |_| problem.lock().unwrap().is_none())
    };
    let scheduler = SeededScheduler::new(seeds, Arc::clone(&current));
    let once = {
        let (current, problem) = (Arc::clone(&current), Arc::clone(&problem));
        move || *problem.lock().unwrap() = execute(current.load(Ordering::Relaxed)).err()
    };
    let ended = catch_unwind(AssertUnwindSafe(|| Runner::new(scheduler, config()).run(once)));
    let (seed, problem) = (current.load(Ordering::Relaxed), problem.lock().unwrap().take());
    assert!(problem.is_none(), "seed {seed}: {}", problem.unwrap_or_default());
    assert!(ended.is_ok(), "seed {seed}: a deadlock or a panic");
}

/// A value of a key, and when another one replaced it.
#[derive(Debug, Clone)]
struct Version {
    value: u64,
    revision: u64,
    /// By the clock, at the latest.
    replaced: Option<u64>,
    /// The event at which it was written.
    written: u64,
}

#[derive(Default)]
struct State {
    versions: [Vec<Version>; KEYS.len()],
    revision: Option<Revision>,
    /// Changes of the other host that were not delivered.
    notices: Vec<Change>,
}

/// The store, and the connection of the host with the cache.
struct Store {
    /// Never locked across a yield.
    state: Mutex<State>,
    watcher: OnceLock<Coherence>,
    clock: ManualClock,
    /// The time, at most and at least that of the clock.
    late: AtomicU64,
    early: AtomicU64,
    events: AtomicU64,
}

impl Store {
    fn new() -> Self {
        let store = Self {
            state: Mutex::default(),
            watcher: OnceLock::new(),
            clock: ManualClock::new(),
            late: AtomicU64::new(0),
            early: AtomicU64::new(0),
            events: AtomicU64::new(1),
        };
        for key in KEYS {
            store.write(&[(key, 0)]);
        }
        store
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn event(&self) -> u64 {
        self.events.fetch_add(1, Ordering::Relaxed)
    }

    fn advance(&self, time: u64, sleeps: bool) {
        self.early.fetch_add(time + 2, Ordering::Relaxed);
        let duration = Duration::from_nanos(time);
        if sleeps {
            self.clock.sleep(duration)
        } else {
            self.clock.advance(duration)
        }
        self.late.fetch_add(time, Ordering::Relaxed);
    }

    fn write(&self, writes: &[(&str, u64)]) -> Change {
        let mut state = self.state();
        let (now, written) = (self.early.load(Ordering::Relaxed), self.event());
        let revision = Revision::new(state.revision.map_or(1, |last| last.get() + 1));
        for (key, value) in writes {
            let versions = &mut state.versions[index(key)];
            if let Some(last) = versions.last_mut() {
                last.replaced = Some(now);
            }
            let (value, revision) = (*value, revision.get());
            versions.push(Version { value, revision, replaced: None, written });
        }
        Change {
            prefix: PREFIX.to_owned(),
            previous: state.revision.replace(revision),
            revision,
            keys: Some(writes.iter().map(|(key, _)| (*key).to_owned()).collect()),
            is_own: true,
        }
    }

    fn report(&self, change: &Change) {
        if let Some(watcher) = self.watcher.get() {
            watcher.changed(change);
        }
    }
}

fn index(key: &str) -> usize {
    KEYS.iter().position(|one| *one == key).unwrap()
}

fn number(value: &StorageValue) -> u64 {
    String::from_utf8(value.as_ref().to_vec()).unwrap().parse().unwrap()
}

impl ComponentStorage for Store {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        Ok(self.get_versioned(key)?.map(|found| found.value))
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.commit(Commit::new().set(key, value)).map(drop)
    }

    fn delete(&self, _: &str) -> Result<(), StorageError> {
        Err(StorageError::Unsupported("the model deletes nothing".into()))
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        Ok(self.get_versioned(key)?.is_some())
    }

    fn list_keys(&self, _: Option<&str>) -> Result<Vec<String>, StorageError> {
        Err(StorageError::Unsupported("the model lists no keys".into()))
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        yield_now();
        let found = self.state().versions[index(key)].last().cloned();
        yield_now();
        Ok(found.map(|version| VersionedValue {
            value: version.value.to_string().as_str().into(),
            revision: Revision::new(version.revision),
        }))
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        yield_now();
        let value = |write: &storage_core::Write| number(write.value.as_ref().unwrap());
        let writes: Vec<_> =
            commit.writes.iter().map(|write| (&*write.key, value(write))).collect();
        let change = self.write(&writes);
        yield_now();
        self.report(&change);
        yield_now();
        Ok(change.revision)
    }
}

impl SharedStore for Store {
    fn watch(&self, _: Arc<dyn Watcher>) {}

    fn component_revisions(&self, _: &[&str]) -> Result<Vec<Option<Revision>>, StorageError> {
        yield_now();
        let revision = self.state().revision;
        yield_now();
        Ok(vec![revision])
    }
}

#[derive(Debug, Clone)]
enum Action {
    Get(usize),
    GetVersioned(usize),
    TryGet(usize),
    Set(usize, u64),
    Commit(u64),
    /// The other host writes, and its notice arrives at once, later or never.
    Foreign(usize, u64, Notice),
    Deliver {
        last: bool,
        names_keys: bool,
    },
    Poll,
    Advance {
        time: u64,
        sleeps: bool,
    },
    Clear,
}

#[derive(Debug, Clone, Copy)]
enum Notice {
    Now,
    Later,
    Lost,
}

impl Action {
    fn choose(random: &mut Rng, value: u64) -> Self {
        let key = random.usize(..KEYS.len()) * random.usize(..2);
        match random.u8(..20) {
            0..4 => Self::Get(key),
            4 => Self::GetVersioned(key),
            5..8 => Self::TryGet(key),
            8 | 9 => Self::Set(key, value),
            10 => Self::Commit(value),
            11..14 => {
                let notices = [Notice::Now, Notice::Now, Notice::Later, Notice::Lost];
                Self::Foreign(key, value, notices[random.usize(..notices.len())])
            }
            14 => Self::Deliver { last: random.bool(), names_keys: random.u8(..4) != 0 },
            15..18 => Self::Poll,
            18 => {
                let time = [L / 4, L / 2, L][random.usize(..3)];
                Self::Advance { time, sleeps: random.bool() }
            }
            _ => Self::Clear,
        }
    }
}

struct Observation {
    key: usize,
    value: u64,
    began: u64,
    ended: u64,
    /// By the clock, at the latest.
    began_at: u64,
    is_write: bool,
}

struct Host {
    store: Arc<Store>,
    cached: CachedStorage<Arc<Store>>,
    coherence: Coherence,
    observations: Mutex<Vec<Observation>>,
}

impl Host {
    fn perform(&self, action: &Action) {
        let (began, began_at) = (self.store.event(), self.store.late.load(Ordering::Relaxed));
        let observe = |key: usize, value: Option<StorageValue>, is_write: bool| {
            let (value, ended) = (value.map_or(0, |value| number(&value)), self.store.event());
            let seen = Observation { key, value, began, ended, began_at, is_write };
            self.observations.lock().unwrap().push(seen);
        };
        match action {
            Action::Get(key) => observe(*key, self.cached.get(KEYS[*key]).unwrap(), false),
            Action::GetVersioned(key) => {
                let found = self.cached.get_versioned(KEYS[*key]).unwrap();
                observe(*key, found.map(|found| found.value), false);
            }
            Action::TryGet(key) => {
                if let Some(found) = self.cached.try_get("", KEYS[*key]) {
                    observe(*key, found, false);
                }
            }
            Action::Set(key, value) => {
                let value: StorageValue = value.to_string().as_str().into();
                self.cached.set(KEYS[*key], value.clone()).unwrap();
                observe(*key, Some(value), true);
            }
            Action::Commit(value) => {
                let value: StorageValue = value.to_string().as_str().into();
                let commit = Commit::new().set(KEYS[0], value.clone());
                self.cached.commit(commit.set(KEYS[1], value.clone())).unwrap();
                observe(0, Some(value.clone()), true);
                observe(1, Some(value), true);
            }
            Action::Foreign(key, value, notice) => {
                let change = self.store.write(&[(KEYS[*key], *value)]);
                let change = Change { is_own: false, ..change };
                yield_now();
                match notice {
                    Notice::Now => self.store.report(&change),
                    Notice::Later => self.store.state().notices.push(change),
                    Notice::Lost => {}
                }
            }
            Action::Deliver { last, names_keys } => {
                let mut state = self.store.state();
                let count = state.notices.len();
                let taken = if *last { count.checked_sub(1) } else { (count > 0).then_some(0) };
                let notice = taken.map(|position| state.notices.remove(position));
                drop(state);
                if let Some(mut change) = notice {
                    change.keys = change.keys.filter(|_| *names_keys);
                    self.store.report(&change);
                }
            }
            Action::Poll => self.coherence.poll(&*self.store).unwrap(),
            Action::Advance { time, sleeps } => self.store.advance(*time, *sleeps),
            Action::Clear => self.cached.clear(),
        }
    }

    /// Checks every read.
    fn check(&self) -> Result<(), String> {
        let mut observations = std::mem::take(&mut *self.observations.lock().unwrap());
        observations.sort_by_key(|seen| seen.began);
        let state = self.store.state();
        // What was written or read by a call that ended, as key, event and version.
        let mut known: BTreeMap<(usize, u64), usize> = BTreeMap::new();
        for seen in &observations {
            let versions = &state.versions[seen.key];
            let Some(version) = versions.iter().position(|one| one.value == seen.value) else {
                return Err(format!("{} was never written", seen.value));
            };
            let ended =
                known.iter().filter(|((key, ended), _)| *key == seen.key && *ended < seen.began);
            let least = ended.map(|(_, version)| *version).max().unwrap_or(0);
            let found = &versions[version];
            let is_current = found.replaced.is_none_or(|replaced| replaced + L > seen.began_at);
            let problem = match () {
                () if version < least && !seen.is_write => "an older value than before",
                () if !is_current && !seen.is_write => "a value that is too old",
                () if found.written > seen.ended => "a value of the future",
                () => {
                    known.insert((seen.key, seen.ended), version);
                    continue;
                }
            };
            return Err(format!(
                "{problem}: {} of key {} from event {} at {}: {versions:?}",
                seen.value, seen.key, seen.began, seen.began_at
            ));
        }
        Ok(())
    }
}

/// A key is replaced while polls confirm its component.
fn replaced_during_polls() -> Vec<Vec<Action>> {
    let half = || Action::Advance { time: L / 2, sleeps: false };
    let foreign = vec![Action::Foreign(0, 1, Notice::Now)];
    vec![foreign, vec![half(), Action::Poll, half(), Action::Get(0)]]
}

/// A component that has lapsed is confirmed while a key is read that has changed.
fn confirmed_during_a_read() -> Vec<Vec<Action>> {
    let deliver = Action::Deliver { last: false, names_keys: true };
    vec![vec![Action::Get(0)], vec![deliver, Action::Poll]]
}

fn random_scripts(random: &mut Rng) -> Vec<Vec<Action>> {
    let mut value = 0;
    let mut scripts = Vec::new();
    for _ in 0..random.usize(2..=4) {
        let mut script = Vec::new();
        for _ in 0..random.usize(1..=4) {
            value += 1;
            script.push(Action::choose(random, value));
        }
        scripts.push(script);
    }
    scripts
}

fn execute(seed: u64) -> Result<(), String> {
    let mut random = Rng::with_seed(!seed);
    let store = Arc::new(Store::new());
    let coherence = Coherence::new(store.clock.clock());
    assert!(store.watcher.set(coherence.clone()).is_ok());
    let config = CacheConfig { ttl: None, ..CacheConfig::default() };
    let staleness = Duration::from_nanos(L);
    let cached = CachedStorage::coherent(Arc::clone(&store), config, PREFIX, staleness, &coherence);
    let observations = Mutex::default();
    let host = Arc::new(Host { store, cached, coherence, observations });
    if random.u8(..4) != 0 {
        // Its component is known, and both keys are cached.
        host.perform(&Action::Get(0));
        host.perform(&Action::Poll);
        (0..KEYS.len()).for_each(|key| host.perform(&Action::Get(key)));
    }
    let scripts = match random.u8(..8) {
        0 => replaced_during_polls(),
        1 => {
            host.perform(&Action::Foreign(0, 1, Notice::Later));
            host.perform(&Action::Advance { time: L, sleeps: false });
            confirmed_during_a_read()
        }
        _ => random_scripts(&mut random),
    };
    let threads: Vec<_> = scripts
        .iter()
        .map(|script| {
            let (host, script) = (Arc::clone(&host), script.clone());
            thread::spawn(move || script.iter().for_each(|action| host.perform(action)))
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| format!("a thread panicked: {scripts:?}"))?;
    }
    // Two polls find whatever no notice has told of.
    (0..2).for_each(|_| host.perform(&Action::Poll));
    for (key, name) in KEYS.iter().enumerate() {
        let found = host.cached.get(name).unwrap().map(|value| number(&value));
        let last = host.store.state().versions[key].last().map(|version| version.value);
        if found != last {
            return Err(format!("in the end {name} is {found:?}, not {last:?}: {scripts:?}"));
        }
    }
    host.check().map_err(|problem| format!("{problem}\n{scripts:?}"))
}
