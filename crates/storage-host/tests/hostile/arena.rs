//! The environment of an attack: a process, a store, a component with a secret, and the checks
//! afterwards.

use std::any::type_name;
use std::collections::{BTreeSet, HashMap};
use std::panic;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use storage_host::guest::{ComponentState, SandboxLimits};
use storage_host::wasmtime::Engine;
use storage_host::wasmtime::component::{Component, InstancePre, Linker};
use storage_host::{
    ComponentId, ComponentStorage, Mode, StorageHost, StorageHostBuilder, Store, StoreUrl,
};
use tempfile::TempDir;

use crate::component::{Kind, text};
use crate::guest::Guest;
use crate::linkage::Linkage;
use crate::measure::Baseline;

/// The memory that the host may use in addition to that of the guests.
pub(crate) const ALLOWED: u64 = 64 << 20;

/// The component that attacks, and the one with a secret.
pub(crate) const EVIL: &str = "evil/guest/1";
pub(crate) const VICTIM: &str = "good/vault/1";

/// A public key of the victim, and its secret.
pub(crate) const OPEN_KEY: &str = "greeting";
const OPEN_VALUE: &str = "hello";
const SECRET_KEY: &str = "T0P-7f3a91c2d5-key";
const SECRET_VALUE: &str = "T0P-7f3a91c2d5-value";
const SECRET: &str = "T0P-7f3a91c2d5";

/// An epoch's deadline that no test reaches.
pub(crate) const NEVER: u64 = 1 << 60;

/// A case hangs if it takes longer: the longest takes half a minute on a busy machine.
const HUNG: Duration = Duration::from_secs(300);

/// The environment variable with the test that a process runs, and its linkage.
const CASE: &str = "STORAGE_HOST_HOSTILE_CASE";

/// The store and the host of an arena.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) url: &'static str,
    pub(crate) host: fn(StorageHostBuilder) -> StorageHostBuilder,
}

impl Setup {
    /// A file store, and a host with its defaults.
    pub(crate) const PLAIN: Self = Self { url: "file:PATH?durability=os", host: |builder| builder };

    /// A store for many keys.
    pub(crate) const MANY_KEYS: Self =
        Self { url: "redb:PATH?durability=relaxed&cache_bytes=1048576", ..Self::PLAIN };
}

/// Runs a case with each linkage, in new processes.
pub(crate) fn alone<F: FnOnce(&mut Arena)>(case: F) {
    alone_with(Setup::PLAIN, case);
}

pub(crate) fn alone_with<F: FnOnce(&mut Arena)>(setup: Setup, case: F) {
    // hostile::sizes::a_test::{{closure}}
    let name = type_name::<F>().trim_end_matches("::{{closure}}");
    let (_, name) = name.split_once("::").unwrap();
    let running = std::env::var(CASE).unwrap_or_default();
    for linkage in Linkage::ALL {
        let value = format!("{name} {linkage:?}");
        if running == value {
            return run(name, linkage, setup, case);
        }
        if running.is_empty() {
            run_alone(name, &value);
        }
    }
}

fn run_alone(name: &str, case: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(CASE, case);
    // glibc returns a large block as soon as it is free, so that resident memory is in use.
    command.env("MALLOC_MMAP_THRESHOLD_", "131072");
    // And the small ones of all threads come from one heap, which they reuse.
    command.env("MALLOC_ARENA_MAX", "1");
    let ended = command.output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    let reports: Vec<&str> = stdout
        .lines()
        .filter(|line| line.starts_with("CASE ") || line.contains("SKIPPED "))
        .collect();
    println!("{}", reports.join("\n"));
    assert!(
        ended.status.success() && !reports.is_empty(),
        "{case} {}\n{stdout}\n{stderr}",
        ended.status
    );
}

fn run<F: FnOnce(&mut Arena)>(name: &str, linkage: Linkage, setup: Setup, case: F) {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let shown = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        shown(what);
    }));
    let watched = name.to_owned();
    thread::spawn(move || {
        thread::sleep(HUNG);
        eprintln!("{watched} has not ended in {HUNG:?}");
        std::process::exit(1);
    });
    let mut arena = Arena::new(linkage, setup);
    case(&mut arena);
    arena.finish(&format!("{name} {linkage:?}"));
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "something panicked");
}

/// What no guest may read, and the ids of all guests.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    forbidden: Mutex<BTreeSet<Vec<u8>>>,
    found: Mutex<Vec<String>>,
    ids: Mutex<BTreeSet<ComponentId>>,
}

impl Watch {
    fn forbid(&self, text: &str) {
        let mut forbidden = self.forbidden.lock().unwrap();
        forbidden.insert(text.as_bytes().to_vec());
        forbidden.insert(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
    }

    /// Searches what a guest has seen for forbidden text.
    pub(crate) fn scan(&self, seen: &[u8], what: &str) {
        let forbidden = self.forbidden.lock().unwrap().clone();
        let mut begins = [false; 256];
        for text in &forbidden {
            begins[usize::from(text[0])] = true;
        }
        for (at, _) in seen.iter().enumerate().filter(|(_, byte)| begins[usize::from(**byte)]) {
            if let Some(text) = forbidden.iter().find(|text| seen[at..].starts_with(text)) {
                let text = String::from_utf8_lossy(text);
                self.found.lock().unwrap().push(format!("{text:?} is in {what}"));
            }
        }
    }

    fn meet(&self, id: &ComponentId) {
        if self.ids.lock().unwrap().insert(id.clone()) {
            self.forbid(id.key_prefix());
        }
    }
}

pub(crate) struct Arena {
    pub(crate) host: StorageHost,
    pub(crate) engine: Engine,
    pub(crate) directory: TempDir,
    pub(crate) linkage: Linkage,
    url: StoreUrl,
    watch: Arc<Watch>,
    kinds: Mutex<HashMap<Kind, InstancePre<ComponentState>>>,
    neighbour: Neighbour,
    baseline: Option<Baseline>,
}

impl Arena {
    fn new(linkage: Linkage, setup: Setup) -> Self {
        let directory = tempfile::Builder::new().prefix("hostile-").tempdir().unwrap();
        let path = directory.path().join("store");
        let url: StoreUrl = setup.url.replace("PATH", path.to_str().unwrap()).parse().unwrap();
        let backend = url.open(Mode::ReadWrite).unwrap();
        let host = (setup.host)(linkage.host(StorageHost::builder(backend))).build();

        let watch = Arc::new(Watch::default());
        watch.forbid(SECRET);
        watch.forbid(directory.path().file_name().unwrap().to_str().unwrap());

        let victim = host.component(&id(VICTIM));
        victim.set(OPEN_KEY, OPEN_VALUE.into()).unwrap();
        victim.set(SECRET_KEY, SECRET_VALUE.into()).unwrap();

        let engine = linkage.engine();
        let component = link(linkage, &engine, Kind::PLAIN);
        // The victim may read its own data.
        let unwatched = Arc::default();
        let sandbox = SandboxLimits::default();
        let guest =
            Guest::new(linkage, &component, Kind::PLAIN, &host, &id(VICTIM), sandbox, unwatched);
        let neighbour = Neighbour::new(guest);
        let kinds = Mutex::new(HashMap::from([(Kind::PLAIN, component)]));
        Self { host, engine, directory, linkage, url, watch, kinds, neighbour, baseline: None }
    }

    pub(crate) fn guest(&self) -> Guest {
        self.guest_of(Kind::PLAIN, EVIL)
    }

    pub(crate) fn guest_of(&self, kind: Kind, id: &str) -> Guest {
        self.guest_with(kind, id, SandboxLimits::default())
    }

    pub(crate) fn guest_with(&self, kind: Kind, id: &str, sandbox: SandboxLimits) -> Guest {
        let id: ComponentId = id.parse().unwrap();
        self.watch.meet(&id);
        let component = self.linked(kind);
        let watch = Arc::clone(&self.watch);
        Guest::new(self.linkage, &component, kind, &self.host, &id, sandbox, watch)
    }

    /// The component of a kind, ready to run. Compiling takes memory: before
    /// [`begin`](Self::begin).
    pub(crate) fn linked(&self, kind: Kind) -> InstancePre<ComponentState> {
        let mut kinds = self.kinds.lock().unwrap();
        kinds.entry(kind).or_insert_with(|| link(self.linkage, &self.engine, kind)).clone()
    }

    /// Begins the attack: memory counts from now on. The guests' own memories grow by at most
    /// `guests_own` bytes.
    pub(crate) fn begin(&mut self, guests_own: u64) {
        assert!(self.baseline.is_none(), "the attack has begun already");
        self.baseline = Some(Baseline::new(guests_own));
    }

    /// The number of calls that the neighbour has completed.
    pub(crate) fn neighbours_calls(&self) -> u64 {
        self.neighbour.calls.load(Ordering::SeqCst)
    }

    /// Waits until the neighbour has completed more calls. If it cannot, the case hangs and ends.
    pub(crate) fn let_the_neighbour_call(&self, times: u64) {
        let goal = self.neighbours_calls() + times;
        while self.neighbours_calls() < goal {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Runs something while the engine's epoch advances.
    pub(crate) fn with_epochs<R>(&self, run: impl FnOnce() -> R) -> R {
        self.with_epochs_after(|| (), run)
    }

    /// Like `with_epochs`, but the epoch advances only after `happened`.
    pub(crate) fn with_epochs_after<R>(
        &self,
        first: impl FnOnce() + Send,
        run: impl FnOnce() -> R,
    ) -> R {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                first();
                while !done.load(Ordering::SeqCst) {
                    self.engine.increment_epoch();
                    thread::sleep(Duration::from_millis(1));
                }
            });
            // The clock stops on a failure too.
            let result = panic::catch_unwind(panic::AssertUnwindSafe(run));
            done.store(true, Ordering::SeqCst);
            result.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
        })
    }

    fn finish(mut self, name: &str) {
        let peaks = self.baseline.take().expect("the attack never began").peaks();
        self.neighbour.leave();
        let shown = |bytes: u64| format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64);
        let resident = peaks.resident.map_or("SKIPPED: no /proc".to_owned(), shown);
        println!(
            "\nCASE {name}: allocated {}, resident {resident}; {} calls of the neighbour",
            shown(peaks.allocated),
            self.neighbours_calls(),
        );
        assert!(peaks.allocated <= ALLOWED, "the host allocated {} bytes", peaks.allocated);
        if let Some(resident) = peaks.resident {
            assert!(resident <= ALLOWED, "{resident} bytes more are resident");
        }

        // The victim's data is unchanged, and the guests have none of it.
        let victim = self.host.component(&id(VICTIM));
        victim.clear_cache();
        assert_eq!(victim.get(OPEN_KEY).unwrap(), Some(OPEN_VALUE.into()));
        assert_eq!(victim.get(SECRET_KEY).unwrap(), Some(SECRET_VALUE.into()));
        assert_eq!(victim.list_keys(None).unwrap(), [SECRET_KEY, OPEN_KEY, "tick"]);
        drop(victim);
        let ids = std::mem::take(&mut *self.watch.ids.lock().unwrap());
        for id in &ids {
            let prefix = id.key_prefix();
            self.host
                .store()
                .read_snapshot(prefix, None, &mut |key, value| {
                    let key = key.strip_prefix(prefix).unwrap();
                    self.watch.scan(key.as_bytes(), "a key that a guest has stored");
                    self.watch.scan(value.as_bytes(), "a value that a guest has stored");
                    Ok(())
                })
                .unwrap();
        }
        let found = std::mem::take(&mut *self.watch.found.lock().unwrap());
        assert!(found.is_empty(), "guests saw data of others: {found:?}");

        // Nothing is left open, and the store is undamaged.
        let backend = Arc::downgrade(self.host.store());
        drop(self.host);
        assert!(backend.upgrade().is_none(), "the store is still open");
        let mut problems = Vec::new();
        self.url.verify(&mut |problem| problems.push(problem)).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(
            names_in(self.directory.path()),
            ["store"],
            "a guest wrote outside of the store"
        );
    }
}

/// The contents of a directory.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

pub(crate) fn id(text: &str) -> ComponentId {
    text.parse().unwrap()
}

fn link(linkage: Linkage, engine: &Engine, kind: Kind) -> InstancePre<ComponentState> {
    let component = Component::new(engine, wat::parse_str(text(kind)).unwrap()).unwrap();
    let mut linker = Linker::new(engine);
    linkage.link(&component, &mut linker).unwrap();
    linker.instantiate_pre(&component).unwrap()
}

/// A guest of the victim, which calls storage all the time.
struct Neighbour {
    leave: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    fn new(mut guest: Guest) -> Self {
        let leave = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(AtomicU64::new(0));
        let (leaving, counted) = (Arc::clone(&leave), Arc::clone(&calls));
        // Allocations of the first call do not count.
        Self::call(&mut guest, 0);
        let thread = thread::spawn(move || {
            while !leaving.load(Ordering::SeqCst) {
                Self::call(&mut guest, counted.fetch_add(1, Ordering::SeqCst));
                thread::sleep(Duration::from_millis(1));
            }
            // At least once after the attack.
            Self::call(&mut guest, 0);
        });
        Self { leave, calls, thread: Some(thread) }
    }

    fn call(guest: &mut Guest, calls: u64) {
        let tick = calls.to_string();
        assert_eq!(guest.get(SECRET_KEY).unwrap().as_deref(), Some(SECRET_VALUE.as_bytes()));
        guest.set("tick", &tick).unwrap();
        assert_eq!(guest.get("tick").unwrap().as_deref(), Some(tick.as_bytes()));
    }

    fn leave(&mut self) {
        self.leave.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().expect("a call of the neighbour failed");
    }
}
