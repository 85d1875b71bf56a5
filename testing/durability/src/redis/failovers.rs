//! How many acknowledged writes a failover loses, and whether it breaks anything else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use fastrand::Rng;
use storage_backends::RedisStorage;
use storage_core::Store;
use test_servers::Redis;

use super::chains::{History, Host};
use super::groups::{Group, GroupKind};
use super::judge::{self, Contents, Numbers, between};
use super::location::Location;
use crate::content::hash;
use crate::report::{Fault, Findings, Outcome};
use crate::trial::Expected;

/// Threads that commit at the same time.
const WRITERS: usize = 6;

/// How many of them are in the host that is idle during the failover.
const IDLE_WRITERS: usize = 2;

/// How a primary fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Killed, and started again as a replica after the failover.
    Kill,
    /// Stopped, and continued after the failover. It then still takes itself for the primary.
    Pause,
    /// Killed while its replica hangs, which continues then and takes over.
    KillWithLag,
}

impl Failure {
    /// Each with and without waiting for the replica.
    pub(crate) const CASES: [(Self, u32); 6] = [
        (Self::Kill, 0),
        (Self::Kill, 1),
        (Self::Pause, 0),
        (Self::Pause, 1),
        (Self::KillWithLag, 0),
        (Self::KillWithLag, 1),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Pause => "SIGSTOP",
            Self::KillWithLag => "SIGKILL, replica hung",
        }
    }
}

/// A series of failovers in one group of servers.
#[derive(Debug, Clone)]
pub(crate) struct Failovers {
    pub(crate) kind: GroupKind,
    /// How primaries fail, and the replicas that hosts wait for.
    pub(crate) cases: Vec<(Failure, u32)>,
    /// The replicas that a primary needs to accept writes.
    pub(crate) min_replicas: u32,
    /// How long a replica hangs before its primary is killed.
    pub(crate) hang: Duration,
    pub(crate) rounds: u64,
    pub(crate) seed: u64,
}

/// A case that is running.
struct Trial<'a> {
    group: &'a mut Group,
    failure: Failure,
    min_replicas: u32,
    hang: Duration,
    location: Location,
    store: Arc<RedisStorage>,
    idle: Arc<RedisStorage>,
    random: Rng,
    findings: Findings,
    /// The rounds so far, whose components no one writes any more.
    past: Vec<(History, Contents)>,
    sums: Numbers,
    worst: u64,
    longest: Duration,
    errors: BTreeMap<String, u64>,
}

impl Failovers {
    /// Runs the cases one after another, and prints what each lost.
    pub(crate) fn run(self) -> Result<Outcome> {
        if let Some(reason) = Redis::missing() {
            println!("  SKIPPED: {reason}");
            return Ok(Outcome::Skipped);
        }
        let mut group = Group::start(self.kind, self.min_replicas)?;
        let (mut round, mut outcome) = (0, Outcome::Passed);
        for (failure, wait) in &self.cases {
            outcome = outcome.and(self.case(&mut group, *failure, *wait, &mut round)?);
        }
        Ok(outcome)
    }

    fn case(
        &self,
        group: &mut Group,
        failure: Failure,
        wait: u32,
        round: &mut u64,
    ) -> Result<Outcome> {
        let start = Instant::now();
        let location = group.location()?.with_wait(wait);
        let mut name = format!("{} {} wait={wait}", self.kind.name(), failure.name());
        if self.min_replicas > 0 {
            name.push_str(&format!(" min-replicas-to-write={}", self.min_replicas));
        }
        // A store writes when it is opened.
        group.need_replicas(0)?;
        let mut trial = Trial {
            store: Arc::new(RedisStorage::open(&location.options())?),
            idle: Arc::new(RedisStorage::open(&location.options())?),
            location,
            group,
            failure,
            min_replicas: self.min_replicas,
            hang: self.hang,
            random: Rng::with_seed(self.seed ^ hash(&name)),
            findings: Findings::default(),
            past: Vec::new(),
            sums: Numbers::default(),
            worst: 0,
            longest: Duration::ZERO,
            errors: BTreeMap::new(),
        };
        for number in 1..=self.rounds {
            *round += 1;
            trial.findings.context = format!("{name} round {number}");
            trial.round(*round)?;
        }
        trial.look_back();
        let Trial { findings, sums, worst, longest, errors, .. } = trial;
        println!(
            "  {name}: {} failovers, {} acknowledged commits, {} lost (at most {worst} at once, acknowledged up to {:.2} s before the failure and {:.2} s after it), {} indeterminate, {} refused; longest call {:.1} s; {findings}; {:.0} s",
            self.rounds,
            sums.acked,
            sums.lost,
            sums.before.as_secs_f64(),
            sums.after.as_secs_f64(),
            sums.indeterminate,
            sums.refused,
            longest.as_secs_f64(),
            start.elapsed().as_secs_f64(),
        );
        for (error, count) in errors {
            println!("    {count} x {error}");
        }
        Ok(match expected(wait).evaluate(&findings, 0) {
            Ok(()) => Outcome::Passed,
            Err(why) => findings.fail(why),
        })
    }
}

/// What a failover may lose. The one replica that confirmed a write is the one that takes over.
fn expected(wait: u32) -> Expected {
    match wait {
        0 => Expected::Only(&[Fault::Lost]),
        _ => Expected::Survival,
    }
}

impl Trial<'_> {
    fn round(&mut self, round: u64) -> Result<()> {
        let primary = self.group.primary(round)?;
        let components = self.group.components(primary, round, WRITERS + 1)?;
        // Attempts of different rounds have different numbers.
        let history = History::new(components, (round << 32) + 1);
        let (store, idle) = (Arc::clone(&self.store), Arc::clone(&self.idle));
        let seed = self.random.u64(..);
        let fault = thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (host, store) = match writer < IDLE_WRITERS {
                    true => (Host::Idle, &idle),
                    false => (Host::Busy, &store),
                };
                let history = &history;
                scope.spawn(move || history.write(host, &**store, writer, seed));
            }
            let failed = self.fail_over(primary, &history);
            history.end();
            failed
        })?;
        let first = judge::read(&*store, &history);
        let numbers = judge::count(&history, &first, fault);
        // Another host finds the same.
        let second = RedisStorage::open(&self.location.options())?;
        judge::compare(&history, &first, &judge::read(&second, &history));
        if let Err(error) = second.verify(&mut |problem| {
            history.find(Fault::UsageCounter, problem.to_string());
        }) {
            history.find(Fault::Unreadable, error.to_string());
        }
        if numbers.acked == 0 {
            bail!("no commit was acknowledged");
        }
        for _ in 0..numbers.lost {
            self.findings.add(Fault::Lost, format!("{} acknowledged commits", numbers.lost));
        }
        self.take_findings(&history);
        self.sums.acked += numbers.acked;
        self.sums.lost += numbers.lost;
        self.worst = self.worst.max(numbers.lost);
        self.sums.before = self.sums.before.max(numbers.before);
        self.sums.after = self.sums.after.max(numbers.after);
        self.sums.indeterminate += numbers.indeterminate;
        self.sums.refused += numbers.refused;
        self.longest = self.longest.max(history.longest());
        for (error, count) in history.errors() {
            *self.errors.entry(error).or_default() += count;
        }
        self.past.push((history, first));
        Ok(())
    }

    /// Compares all rounds with what was found at their end: later failovers change nothing.
    fn look_back(&mut self) {
        for (history, contents) in std::mem::take(&mut self.past) {
            judge::compare(&history, &contents, &judge::read(&*self.store, &history));
            self.take_findings(&history);
        }
    }

    fn take_findings(&mut self, history: &History) {
        for (fault, text) in history.take_findings() {
            self.findings.add(fault, text);
        }
    }

    /// Makes a primary fail, waits until its replica has taken over, and brings it back.
    /// Returns the time of its failure.
    fn fail_over(&mut self, primary: usize, history: &History) -> Result<Instant> {
        let replica = self.group.replica_of(primary)?;
        self.group.need_replicas(self.min_replicas)?;
        thread::sleep(between(&mut self.random, 400, 900));
        history.pause_idle(true);
        let fault = match self.failure {
            Failure::Kill => {
                let fault = Instant::now();
                self.group.server_mut(primary)?.kill()?;
                fault
            }
            Failure::Pause => {
                let fault = Instant::now();
                self.group.server_mut(primary)?.pause()?;
                fault
            }
            Failure::KillWithLag => {
                self.group.server_mut(replica)?.pause()?;
                thread::sleep(self.hang);
                let fault = Instant::now();
                self.group.server_mut(primary)?.kill()?;
                self.group.server_mut(replica)?.resume()?;
                fault
            }
        };
        self.group.wait_until_healthy()?;
        thread::sleep(between(&mut self.random, 200, 800));
        let former = self.group.server_mut(primary)?;
        match self.failure {
            Failure::Pause => former.resume()?,
            Failure::Kill | Failure::KillWithLag => former.restart()?,
        }
        history.pause_idle(false);
        self.group.wait_until_healthy()?;
        thread::sleep(between(&mut self.random, 100, 500));
        // What is read afterwards is also tried with writes.
        self.group.need_replicas(0)?;
        Ok(fault)
    }
}
