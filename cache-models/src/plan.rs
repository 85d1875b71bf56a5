//! Which models there are, and whose turn it is.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum as _;

use crate::operation::Operation;
use crate::random::Random;

/// How much there is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Budget {
    /// So many executions of each model.
    Executions { pairs: u64, triples: u64 },
    /// As many as are done in this time, each model's turn after the other's.
    Time(Duration),
}

/// Some executions of one model.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) operations: Vec<Operation>,
    pub(crate) seeds: Vec<u64>,
}

/// How many executions are a turn.
const TURN: u64 = 200;

/// The models, and how far they are.
#[derive(Debug)]
pub(crate) struct Plan {
    models: Vec<Vec<Operation>>,
    budget: Budget,
    seed: u64,
    began: Instant,
    /// The number of the next turn: they go round.
    next: Mutex<usize>,
}

impl Plan {
    /// All models in which each of `wanted` takes part.
    pub(crate) fn new(wanted: &[Operation], budget: Budget, seed: u64) -> Self {
        let mut models = combinations();
        models.retain(|model| takes_part(model, wanted));
        Self { models, budget, seed, began: Instant::now(), next: Mutex::new(0) }
    }

    /// How many executions it comes to, if that is not left to the time.
    pub(crate) fn total(&self) -> Option<u64> {
        match self.budget {
            Budget::Executions { .. } => {
                Some(self.models.iter().map(|model| self.executions(model)).sum())
            }
            Budget::Time(_) => None,
        }
    }

    /// How many models there are, pairs and triples.
    pub(crate) fn models(&self) -> (usize, usize) {
        let pairs = self.models.iter().filter(|model| model.len() == 2).count();
        (pairs, self.models.len() - pairs)
    }

    /// The next turn, if there is one.
    pub(crate) fn turn(&self) -> Option<Turn> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let models = self.models.len().max(1);
        loop {
            let (round, number) = (*next / models, *next % models);
            let operations = self.models.get(number)?;
            let first = round as u64 * TURN;
            if self.is_over() || first >= self.most() {
                return None;
            }
            *next += 1;
            let last = self.executions(operations).min(first + TURN);
            if first < last {
                let seeds = (first..last).map(|n| self.seed_of(number, n)).collect();
                return Some(Turn { operations: operations.clone(), seeds });
            }
        }
    }

    fn is_over(&self) -> bool {
        match self.budget {
            Budget::Executions { .. } => false,
            Budget::Time(time) => self.began.elapsed() >= time,
        }
    }

    /// How many executions of a model there are to be.
    fn executions(&self, model: &[Operation]) -> u64 {
        match self.budget {
            Budget::Executions { pairs, .. } if model.len() == 2 => pairs,
            Budget::Executions { triples, .. } => triples,
            Budget::Time(_) => u64::MAX,
        }
    }

    fn most(&self) -> u64 {
        self.models.iter().map(|model| self.executions(model)).max().unwrap_or(0)
    }

    fn seed_of(&self, model: usize, execution: u64) -> u64 {
        let mut of_model = Random::new(self.seed ^ (model as u64).rotate_left(32));
        Random::new(of_model.next() ^ execution).next()
    }
}

/// Every two and every three operations, one of them perhaps with itself.
fn combinations() -> Vec<Vec<Operation>> {
    let all = Operation::value_variants();
    let mut found = Vec::new();
    for first in all {
        for second in all.iter().filter(|second| *second >= first) {
            found.push(vec![*first, *second]);
            for third in all.iter().filter(|third| *third >= second) {
                found.push(vec![*first, *second, *third]);
            }
        }
    }
    found
}

/// Whether each of `wanted` is in the model, as often as it is named.
fn takes_part(model: &[Operation], wanted: &[Operation]) -> bool {
    let count = |of: &[Operation], which| of.iter().filter(|one| *one == which).count();
    wanted.iter().all(|which| count(model, which) >= count(wanted, which))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_two_and_every_three_meet() {
        let plan = Plan::new(&[], Budget::Executions { pairs: 1, triples: 1 }, 1);
        assert_eq!(plan.models(), (66, 286));
        let both = Plan::new(
            &[Operation::Get, Operation::Get],
            Budget::Executions { pairs: 1, triples: 1 },
            1,
        );
        assert_eq!(both.models(), (1, 11));
    }

    #[test]
    fn each_model_gets_its_executions_and_no_seed_comes_twice() {
        let (pairs, triples) = (2 * TURN + 1, TURN / 2);
        let plan = Plan::new(&[Operation::Panic], Budget::Executions { pairs, triples }, 1);
        let mut seeds: BTreeMap<Vec<Operation>, Vec<u64>> = BTreeMap::new();
        while let Some(turn) = plan.turn() {
            seeds.entry(turn.operations).or_default().extend(turn.seeds);
        }
        assert_eq!(seeds.len(), 11 + 66);
        for (model, seeds) in &seeds {
            assert_eq!(seeds.len() as u64, if model.len() == 2 { pairs } else { triples });
        }
        let mut all: Vec<u64> = seeds.into_values().flatten().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
