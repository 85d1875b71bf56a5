//! Which thread runs next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

/// How a schedule chooses. A bug that one policy finds at once may take another
/// a hundred times as long. Probabilities are in 64ths.
#[derive(Debug, Clone, Copy)]
enum Policy {
    /// Any thread may come next, with this probability of a switch at each step.
    Random { switch: u8 },
    /// The runnable thread of the highest rank runs (Burckhardt et al., 2010). With
    /// these probabilities, at each step and at each yield, it drops to the lowest
    /// rank: so one thread stops somewhere while several others come and go.
    Ranked { drop: u8, drop_at_yield: u8 },
}

const POLICIES: [Policy; 8] = [
    Policy::Random { switch: 0 },
    Policy::Random { switch: 2 },
    Policy::Random { switch: 8 },
    Policy::Random { switch: 32 },
    Policy::Ranked { drop: 0, drop_at_yield: 16 },
    Policy::Ranked { drop: 0, drop_at_yield: 32 },
    Policy::Ranked { drop: 1, drop_at_yield: 16 },
    Policy::Ranked { drop: 4, drop_at_yield: 16 },
];

/// One schedule for each seed.
#[derive(Debug)]
pub(crate) struct SeededScheduler<I> {
    seeds: I,
    /// The seed of the current execution.
    current: Arc<AtomicU64>,
    random: Rng,
    policy: Policy,
    /// The threads by rank, the lowest first.
    ranks: Vec<TaskId>,
}

impl<I: Iterator<Item = u64>> SeededScheduler<I> {
    pub(crate) fn new(seeds: I, current: Arc<AtomicU64>) -> Self {
        let (random, policy) = (Rng::with_seed(0), POLICIES[0]);
        Self { seeds, current, random, policy, ranks: Vec::new() }
    }

    fn happens(&mut self, probability: u8) -> bool {
        self.random.u8(..64) < probability
    }

    /// The runnable thread of the highest rank. A new thread gets a random rank.
    fn highest(&mut self, runnable: &[&Task]) -> Option<TaskId> {
        for task in runnable {
            if !self.ranks.contains(&task.id()) {
                let rank = self.random.usize(..=self.ranks.len());
                self.ranks.insert(rank, task.id());
            }
        }
        let is_runnable = |id: &&TaskId| runnable.iter().any(|task| task.id() == **id);
        self.ranks.iter().rev().find(is_runnable).copied()
    }
}

impl<I: Iterator<Item = u64>> Scheduler for SeededScheduler<I> {
    fn new_execution(&mut self) -> Option<Schedule> {
        let seed = self.seeds.next()?;
        self.current.store(seed, Ordering::Relaxed);
        self.random = Rng::with_seed(seed);
        self.policy = POLICIES[self.random.usize(..POLICIES.len())];
        self.ranks.clear();
        Some(Schedule::new(seed))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        yields: bool,
    ) -> Option<TaskId> {
        // The main thread first, until it has started all others.
        let main = runnable.iter().map(|task| task.id()).find(|id| usize::from(*id) == 0);
        let (None, Some(current)) = (main, current) else { return main };
        match self.policy {
            Policy::Random { switch } => {
                let may_stay = !yields && runnable.iter().any(|task| task.id() == current);
                if may_stay && !self.happens(switch) {
                    return Some(current);
                }
                Some(runnable[self.random.usize(..runnable.len())].id())
            }
            Policy::Ranked { drop, drop_at_yield } => {
                if self.happens(if yields { drop_at_yield } else { drop }) {
                    self.ranks.retain(|ranked| *ranked != current);
                    self.ranks.insert(0, current);
                }
                self.highest(runnable)
            }
        }
    }

    fn next_u64(&mut self) -> u64 {
        self.random.u64(..)
    }
}
