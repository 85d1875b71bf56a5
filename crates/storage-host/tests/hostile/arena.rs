//! Where guests attack: a process, a store, a component with a secret, and what
//! must hold afterwards.

use std::any::type_name;
use std::collections::{BTreeSet, HashMap};
use std::panic;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use storage_host::guest::{self, ComponentState, SandboxLimits};
use storage_host::wasmtime::Engine;
use storage_host::wasmtime::component::{Component, InstancePre, Linker};
use storage_host::{
    ComponentId, ComponentStorage, Mode, StorageHost, StorageHostBuilder, Store, StoreUrl,
};
use tempfile::TempDir;

use crate::component::{Kind, text};
use crate::guest::Guest;
use crate::measure::{Baseline, remove_group_of};

/// The memory that the host may use in addition to that of the guests.
pub(crate) const ALLOWED: u64 = 64 << 20;

/// The guest that attacks, and the one that has something to lose.
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

/// When a case has hung: the longest takes half a minute on a machine that is busy.
const HUNG: Duration = Duration::from_secs(300);

/// Names the test that a process is for.
const CASE: &str = "STORAGE_HOST_HOSTILE_CASE";

/// What the arena is built with.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) url: &'static str,
    pub(crate) host: fn(StorageHostBuilder) -> StorageHostBuilder,
}

impl Setup {
    /// The store of files, and a host with nothing but its defaults.
    pub(crate) const PLAIN: Self = Self { url: "file:PATH?durability=os", host: |builder| builder };

    /// A store for many keys.
    pub(crate) const MANY_KEYS: Self =
        Self { url: "redb:PATH?durability=relaxed&cache_bytes=1048576", ..Self::PLAIN };
}

/// Runs a case in a new process.
pub(crate) fn alone<F: FnOnce(&mut Arena)>(case: F) {
    alone_with(Setup::PLAIN, case);
}

pub(crate) fn alone_with<F: FnOnce(&mut Arena)>(setup: Setup, case: F) {
    // hostile::sizes::a_test::{{closure}}
    let name = type_name::<F>().trim_end_matches("::{{closure}}");
    let (_, name) = name.split_once("::").unwrap();
    if std::env::var_os(CASE).is_some_and(|running| running == name) {
        return run(name, setup, case);
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(CASE, name);
    // glibc gives a large block back as soon as it is free, so that resident is what
    // is in use.
    command.env("MALLOC_MMAP_THRESHOLD_", "131072");
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let process = child.id();
    let ended = child.wait_with_output().unwrap();
    remove_group_of(process);
    let (stdout, stderr) =
        (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    let reports: Vec<&str> = stdout
        .lines()
        .filter(|line| line.starts_with("CASE ") || line.contains("SKIPPED "))
        .collect();
    println!("{}", reports.join("\n"));
    assert!(
        ended.status.success() && !reports.is_empty(),
        "{name} {}\n{stdout}\n{stderr}",
        ended.status
    );
}

fn run<F: FnOnce(&mut Arena)>(name: &str, setup: Setup, case: F) {
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
    let mut arena = Arena::new(setup);
    case(&mut arena);
    arena.finish(name);
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "something panicked");
}

/// What no guest may read, and which guests there were.
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

    /// Looks for what is forbidden in something that a guest has seen.
    pub(crate) fn scan(&self, seen: &[u8], what: &str) {
        let forbidden = self.forbidden.lock().unwrap().clone();
        let mut begins = [false; 256];
        for text in &forbidden {
            begins[usize::from(text[0])] = true;
        }
        // One look at each byte: guests have megabytes of them.
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
    pub(crate) place: TempDir,
    url: StoreUrl,
    watch: Arc<Watch>,
    kinds: Mutex<HashMap<Kind, InstancePre<ComponentState>>>,
    neighbour: Neighbour,
    baseline: Option<Baseline>,
}

impl Arena {
    fn new(setup: Setup) -> Self {
        let place = tempfile::Builder::new().prefix("hostile-").tempdir().unwrap();
        let path = place.path().join("store");
        let url: StoreUrl = setup.url.replace("PATH", path.to_str().unwrap()).parse().unwrap();
        let backend = url.open(Mode::ReadWrite).unwrap();
        let host = (setup.host)(StorageHost::builder(backend)).build();

        let watch = Arc::new(Watch::default());
        watch.forbid(SECRET);
        watch.forbid(place.path().file_name().unwrap().to_str().unwrap());

        let victim = host.component(&id(VICTIM));
        victim.set(OPEN_KEY, OPEN_VALUE.into()).unwrap();
        victim.set(SECRET_KEY, SECRET_VALUE.into()).unwrap();

        let mut config = guest::engine_config();
        config.epoch_interruption(true);
        let engine = Engine::new(&config).unwrap();
        let component = link(&engine, Kind::PLAIN);
        // Not watched: the victim may read its secret.
        let unwatched = Arc::new(Watch::default());
        let sandbox = SandboxLimits::default();
        let guest =
            Guest::new(&engine, &component, Kind::PLAIN, &host, &id(VICTIM), sandbox, unwatched);
        let neighbour = Neighbour::new(guest);
        let kinds = Mutex::new(HashMap::from([(Kind::PLAIN, component)]));
        Self { host, engine, place, url, watch, kinds, neighbour, baseline: None }
    }

    /// The guest that attacks.
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
        Guest::new(&self.engine, &component, kind, &self.host, &id, sandbox, watch)
    }

    /// The component of a kind, ready to run. Compiling takes memory: before
    /// [`begin`](Self::begin).
    pub(crate) fn linked(&self, kind: Kind) -> InstancePre<ComponentState> {
        let mut kinds = self.kinds.lock().unwrap();
        kinds.entry(kind).or_insert_with(|| link(&self.engine, kind)).clone()
    }

    /// The attack begins: from now on memory counts. Beside it the guests' own
    /// memories grow by at most so much.
    pub(crate) fn begin(&mut self, guests_own: u64) {
        assert!(self.baseline.is_none(), "it has begun");
        self.baseline = Some(Baseline::new(guests_own, ALLOWED));
    }

    /// How often the neighbour has called storage and been answered.
    pub(crate) fn neighbours_calls(&self) -> u64 {
        self.neighbour.calls.load(Ordering::SeqCst)
    }

    /// Waits until the neighbour has called so many times more. Where it cannot go
    /// on, the case hangs and is ended.
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
            // Also on failure, to stop the clock.
            let result = panic::catch_unwind(panic::AssertUnwindSafe(run));
            done.store(true, Ordering::SeqCst);
            result.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
        })
    }

    fn finish(mut self, name: &str) {
        let peaks = self.baseline.take().expect("the attack never began").peaks();
        let neighbour = self.neighbour.leave();
        let shown = |bytes: u64| format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64);
        let resident = peaks.resident.map_or("SKIPPED: no /proc".to_owned(), shown);
        let group = peaks.group.clone().map_or_else(|why| format!("SKIPPED: {why}"), shown);
        println!(
            "\nCASE {name}: allocated {}, resident {resident}, cgroup {group}; the neighbour called \
             {} times, at most {:?} each",
            shown(peaks.allocated),
            neighbour.calls,
            neighbour.slowest,
        );
        assert!(peaks.allocated <= ALLOWED, "the host allocated {} bytes", peaks.allocated);
        if let Some(resident) = peaks.resident {
            assert!(resident <= ALLOWED, "{resident} bytes more are resident");
        }

        // The victim has what it had, and the guests have nothing of it.
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
        assert!(found.is_empty(), "guests saw what is not theirs: {found:?}");

        // Nothing is left open, and the store is whole.
        let backend = Arc::downgrade(self.host.store());
        drop(self.host);
        assert!(backend.upgrade().is_none(), "somebody holds the store still");
        let mut problems = Vec::new();
        self.url.verify(&mut |problem| problems.push(problem)).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(names_in(self.place.path()), ["store"], "a guest wrote beside the store");
    }
}

/// The contents of a directory.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

pub(crate) fn id(text: &str) -> ComponentId {
    text.parse().unwrap()
}

fn link(engine: &Engine, kind: Kind) -> InstancePre<ComponentState> {
    let component = Component::new(engine, wat::parse_str(text(kind)).unwrap()).unwrap();
    let mut linker = Linker::new(engine);
    guest::add_to_linker_for(&component, &mut linker, |state: &mut ComponentState| state).unwrap();
    linker.instantiate_pre(&component).unwrap()
}

/// A guest of the victim's, which calls storage all the while.
struct Neighbour {
    leave: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    thread: Option<JoinHandle<Seen>>,
}

/// What it has seen.
struct Seen {
    calls: u64,
    slowest: Duration,
}

impl Neighbour {
    fn new(mut guest: Guest) -> Self {
        let leave = Arc::new(AtomicBool::new(false));
        let leaving = Arc::clone(&leave);
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        // What calls allocate once does not count.
        Seen::new().call(&mut guest);
        let thread = thread::spawn(move || {
            let mut seen = Seen::new();
            // At least once after the attack.
            while !leaving.load(Ordering::SeqCst) {
                seen.call(&mut guest);
                counted.store(seen.calls, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(1));
            }
            seen.call(&mut guest);
            seen
        });
        Self { leave, calls, thread: Some(thread) }
    }

    fn leave(&mut self) -> Seen {
        self.leave.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().expect("the neighbour was harmed")
    }
}

impl Seen {
    fn new() -> Self {
        Self { calls: 0, slowest: Duration::ZERO }
    }

    fn call(&mut self, guest: &mut Guest) {
        let start = Instant::now();
        let tick = self.calls.to_string();
        assert_eq!(guest.get(SECRET_KEY).unwrap().as_deref(), Some(SECRET_VALUE.as_bytes()));
        guest.set("tick", &tick).unwrap();
        assert_eq!(guest.get("tick").unwrap().as_deref(), Some(tick.as_bytes()));
        self.calls += 1;
        self.slowest = self.slowest.max(start.elapsed());
    }
}
