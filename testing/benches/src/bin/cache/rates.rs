//! How often there is a hit, and what asking costs: the caches tried on traces.

use std::time::Instant;

use anyhow::Result;
use benches::Size;
use benches::caches::{self, Bound, Kind};
use benches::keys::{Keys, Maker};
use benches::measure;
use benches::traces::{Extent, Trace};

use crate::rate_tables;

/// How the caches are asked: the number of threads, and the size of values.
pub(crate) const SETTINGS: [(usize, usize); 4] = [(1, 100), (1, 4096), (2, 100), (2, 4096)];

/// How many points a hit rate may be below the best of the others.
const MOST_BELOW_BEST: f64 = 1.5;

/// How many points it has to be above that of an LRU, where there are scans.
const LEAST_ABOVE_LRU: f64 = 3.0;

/// What a cache did with a trace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// In percent of the accesses.
    pub(crate) hits: f64,
    /// From one access to the next, of all threads together.
    pub(crate) seconds: f64,
    /// What it held at the end.
    pub(crate) entries: f64,
}

/// What each cache did, in the order of [`Kind::ALL`].
pub(crate) type Outcomes = [Outcome; Kind::ALL.len()];

/// A trace tried with room for a part of its keys.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) trace: String,
    pub(crate) has_scans: bool,
    /// How many in a hundred of the keys there is room for.
    pub(crate) percent: usize,
    /// In the order of [`SETTINGS`].
    pub(crate) outcomes: Vec<Outcomes>,
}

impl Tried {
    /// The hit rates of the first setting.
    pub(crate) fn hits(&self) -> [f64; Kind::ALL.len()] {
        self.outcomes.first().map_or([f64::NAN; 3], |outcomes| outcomes.map(|one| one.hits))
    }

    /// By how much ours is above the best of the others, and above the LRU, in
    /// the settings where that is least.
    pub(crate) fn margins(&self) -> [f64; 2] {
        let margins = self
            .outcomes
            .iter()
            .map(|[ours, moka, lru]| [ours.hits - moka.hits.max(lru.hits), ours.hits - lru.hits]);
        margins
            .fold([f64::INFINITY; 2], |[a, b], [to_best, to_lru]| [a.min(to_best), b.min(to_lru)])
    }

    /// What they have to be at least.
    pub(crate) fn target(&self) -> String {
        let to_lru = if self.has_scans { format!("; +{LEAST_ABOVE_LRU}") } else { String::new() };
        format!("-{MOST_BELOW_BEST}{to_lru}")
    }

    /// Whether ours meets its targets.
    pub(crate) fn is_met(&self) -> bool {
        let [to_best, to_lru] = self.margins();
        to_best >= -MOST_BELOW_BEST && (!self.has_scans || to_lru >= LEAST_ABOVE_LRU)
    }
}

/// Tries all traces with a bound in entries.
pub(crate) fn by_entries(
    traces: &[Trace],
    keys: &Keys,
    rooms: &[(usize, usize)],
    size: Size,
) -> Result<Vec<Tried>> {
    let mut tried = Vec::new();
    for trace in traces {
        for (percent, entries) in rooms {
            let of_setting = |&(threads, value_bytes): &(usize, usize)| {
                Replay { trace, keys, threads, value_bytes }
                    .outcomes(Bound::Entries(*entries), size.pick(3, 1))
            };
            let one = Tried {
                trace: trace.name.clone(),
                has_scans: trace.has_scans,
                percent: *percent,
                outcomes: SETTINGS.iter().map(of_setting).collect::<Result<_>>()?,
            };
            eprintln!("{}", rate_tables::rates_line(&one));
            tried.push(one);
        }
    }
    Ok(tried)
}

/// A trace tried with room for a part of the bytes of its keys and values.
#[derive(Debug)]
pub(crate) struct TriedInBytes {
    pub(crate) trace: String,
    pub(crate) value_bytes: usize,
    pub(crate) budget: usize,
    pub(crate) outcomes: Outcomes,
}

/// Tries all traces with a bound in bytes.
pub(crate) fn by_bytes(traces: &[Trace], keys: &Keys, extent: Extent) -> Result<Vec<TriedInBytes>> {
    let mut tried = Vec::new();
    for value_bytes in [100, 4096] {
        let budget = extent.budget(keys.len_each(), value_bytes);
        for trace in traces {
            let replay = Replay { trace, keys, threads: 1, value_bytes };
            let outcomes = replay.outcomes(Bound::Bytes(budget), 1)?;
            let one = TriedInBytes { trace: trace.name.clone(), value_bytes, budget, outcomes };
            eprintln!("{}", rate_tables::bytes_line(&one));
            tried.push(one);
        }
    }
    Ok(tried)
}

/// A trace as it is replayed.
#[derive(Debug, Clone, Copy)]
struct Replay<'a> {
    trace: &'a Trace,
    keys: &'a Keys,
    threads: usize,
    value_bytes: usize,
}

impl Replay<'_> {
    /// The medians of the rounds. In each, the caches come one after another.
    fn outcomes(self, bound: Bound, rounds: usize) -> Result<Outcomes> {
        let mut of_kinds = [const { Vec::new() }; Kind::ALL.len()];
        for _ in 0..rounds {
            for (kind, outcomes) in Kind::ALL.into_iter().zip(&mut of_kinds) {
                outcomes.push(self.outcome(kind, bound)?);
            }
        }
        let median = |outcomes: &[Outcome], figure: fn(&Outcome) -> f64| {
            measure::median(outcomes.iter().map(figure).collect())
        };
        Ok(of_kinds.map(|outcomes| Outcome {
            hits: median(&outcomes, |one| one.hits),
            seconds: median(&outcomes, |one| one.seconds),
            entries: median(&outcomes, |one| one.entries),
        }))
    }

    fn outcome(self, kind: Kind, bound: Bound) -> Result<Outcome> {
        let maker = Maker::new(self.value_bytes);
        let cache = kind.build(bound, &maker);
        let start = Instant::now();
        caches::replay(self.trace, self.keys, self.threads, &*cache)?;
        let seconds = start.elapsed().as_secs_f64();
        let accesses = self.trace.len() as f64;
        Ok(Outcome {
            hits: 100.0 * (1.0 - maker.made() as f64 / accesses),
            seconds: seconds / accesses,
            entries: cache.entries() as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use benches::traces;

    fn tried(has_scans: bool, of_settings: &[[f64; 3]]) -> Tried {
        let outcome = |hits| Outcome { hits, seconds: 1e-7, entries: 10.0 };
        Tried {
            trace: "trace".to_owned(),
            has_scans,
            percent: 5,
            outcomes: of_settings.iter().map(|hits| hits.map(outcome)).collect(),
        }
    }

    #[test]
    fn the_worst_setting_decides() {
        let one = tried(true, &[[50.0, 51.0, 40.0], [50.0, 49.0, 48.0]]);
        assert_eq!((one.hits(), one.margins()), ([50.0, 51.0, 40.0], [-1.0, 2.0]));
    }

    #[test]
    fn targets_are_met_at_their_borders() {
        assert!(tried(false, &[[50.0, 51.5, 51.0]]).is_met());
        assert!(!tried(false, &[[50.0, 51.6, 40.0]]).is_met());
        assert!(!tried(false, &[[50.0, 50.0, 51.6]]).is_met());
        assert!(tried(true, &[[50.0, 50.0, 47.0]]).is_met());
        assert!(!tried(true, &[[50.0, 50.0, 47.1]]).is_met());
    }

    #[test]
    fn all_caches_see_the_same_accesses() {
        let extent = Extent { keys: 1_000, accesses: 10_000 };
        let traces = traces::all(extent).unwrap();
        let keys = traces::keys(&traces);
        // With room for everything only the first access of each key is none.
        let tried = by_entries(&traces, &keys, &[(100, 20_000)], Size::Quick).unwrap();
        assert_eq!(tried.len(), traces.len());
        for one in &tried {
            assert_eq!(one.outcomes.len(), SETTINGS.len());
            let [ours, moka, lru] = one.hits();
            assert!(ours == moka && moka == lru, "{one:?}");
        }
        let tried = by_bytes(&traces, &keys, extent).unwrap();
        assert!(tried.iter().all(|one| one.outcomes.iter().all(|one| one.entries > 0.0)));
    }
}
