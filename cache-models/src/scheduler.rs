//! Which thread goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

use crate::random::Random;

/// Probabilities are so many of these.
const OUT_OF: usize = 64;

/// How a schedule goes about it. What one finds soon may take another a hundred
/// times as long.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// At every step anybody may come next, with this probability of a change.
    /// With many changes two calls are interleaved step by step.
    Any { change: usize },
    /// Who comes first goes on until he waits, or is stalled, and then comes last:
    /// with these probabilities at every step and where he yields. So one stops
    /// somewhere while several others come and go (Burckhardt et al., 2010).
    Ranked { stall: usize, stall_at_yield: usize },
}

const WAYS: [Way; 8] = [
    Way::Any { change: 0 },
    Way::Any { change: 2 },
    Way::Any { change: 8 },
    Way::Any { change: 32 },
    Way::Ranked { stall: 0, stall_at_yield: 16 },
    Way::Ranked { stall: 0, stall_at_yield: 32 },
    Way::Ranked { stall: 1, stall_at_yield: 16 },
    Way::Ranked { stall: 4, stall_at_yield: 16 },
];

/// Random schedules, each of which follows from a seed, as does all else that
/// happens in its execution.
#[derive(Debug)]
pub(crate) struct RandomSchedules<I> {
    seeds: I,
    /// The seed of the execution that runs.
    current: Arc<AtomicU64>,
    random: Random,
    way: Way,
    /// The threads by rank, the last first.
    ranks: Vec<TaskId>,
}

impl<I: Iterator<Item = u64>> RandomSchedules<I> {
    /// A schedule for each of these seeds. `current` shows where it is.
    pub(crate) fn new(seeds: I, current: Arc<AtomicU64>) -> Self {
        let [way, ..] = WAYS;
        Self { seeds, current, random: Random::new(0), way, ranks: Vec::new() }
    }

    fn chance(&mut self, probability: usize) -> bool {
        self.random.below(OUT_OF) < probability
    }

    /// The first by rank. Who is new gets one at random.
    fn first(&mut self, runnable: &[&Task]) -> Option<TaskId> {
        for task in runnable {
            if !self.ranks.contains(&task.id()) {
                let rank = self.random.below(self.ranks.len() + 1);
                self.ranks.insert(rank, task.id());
            }
        }
        let is_runnable = |id: &&TaskId| runnable.iter().any(|task| task.id() == **id);
        self.ranks.iter().rev().find(is_runnable).copied()
    }

    fn demote(&mut self, id: TaskId) {
        self.ranks.retain(|ranked| *ranked != id);
        self.ranks.insert(0, id);
    }
}

impl<I: Iterator<Item = u64>> Scheduler for RandomSchedules<I> {
    fn new_execution(&mut self) -> Option<Schedule> {
        let seed = self.seeds.next()?;
        self.current.store(seed, Ordering::Relaxed);
        self.random = Random::new(seed);
        self.way = self.random.pick(&WAYS);
        self.ranks.clear();
        Some(Schedule::new(seed))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        yields: bool,
    ) -> Option<TaskId> {
        // The main thread, so that all others are there before one begins.
        let main = runnable.iter().map(|task| task.id()).find(|id| usize::from(*id) == 0);
        let (None, Some(current)) = (main, current) else { return main };
        match self.way {
            Way::Any { change } => {
                let may_stay = !yields && runnable.iter().any(|task| task.id() == current);
                if may_stay && !self.chance(change) {
                    return Some(current);
                }
                Some(self.random.pick(runnable).id())
            }
            Way::Ranked { stall, stall_at_yield } => {
                if self.chance(if yields { stall_at_yield } else { stall }) {
                    self.demote(current);
                }
                self.first(runnable)
            }
        }
    }

    fn next_u64(&mut self) -> u64 {
        self.random.next()
    }
}
