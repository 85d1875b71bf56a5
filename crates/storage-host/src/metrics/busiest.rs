//! Which components have series of their own.

use std::collections::{BTreeMap, HashMap};

use storage_core::ComponentId;

use super::counters::{ALL, Counts};

/// How many components without a series are remembered, for each with one.
const REMEMBERED: usize = 10;

/// The components with series of their own, and the sum of all others.
///
/// What a component counts between two readings goes to one series: its own if it has one at
/// the second reading, and otherwise the common one. So no series ever goes back, and all
/// together count each call once. A component keeps its series, also while it is not in use,
/// until all places are taken and another one is more than twice as busy. If it comes back soon,
/// its series continues; after many others, it begins at zero again, as after a restart.
#[derive(Debug)]
pub(crate) struct Busiest {
    places: usize,
    shown: BTreeMap<ComponentId, Shown>,
    /// The calls of others since the last reading. Those with few are forgotten first.
    candidates: HashMap<ComponentId, u64>,
    /// Those that had a series, and when they lost it.
    left: HashMap<ComponentId, (u64, Counts)>,
    losses: u64,
    other: Counts,
    all: Counts,
}

#[derive(Debug, Default)]
struct Shown {
    counts: Counts,
    /// Recent calls: halved with each reading.
    score: u64,
}

impl Busiest {
    pub(crate) fn new(places: usize) -> Self {
        Self {
            places,
            shown: BTreeMap::new(),
            candidates: HashMap::new(),
            left: HashMap::new(),
            losses: 0,
            other: Counts::default(),
            all: Counts::default(),
        }
    }

    /// Adds what components have counted since the last reading, and decides which of them have
    /// a series.
    pub(crate) fn read(&mut self, since: Vec<(ComponentId, Counts)>) {
        for shown in self.shown.values_mut() {
            shown.score /= 2;
        }
        let mut others = HashMap::new();
        for (id, counts) in since {
            self.all.add(&counts);
            if !self.add_to_shown(&id, &counts) {
                let before = self.candidates.remove(&id).unwrap_or_default();
                others.insert(id, (before.saturating_add(counts.get(ALL)), counts));
            }
        }
        // Those that were in use and are not any more.
        for (id, calls) in self.candidates.drain() {
            others.entry(id).or_insert((calls, Counts::default()));
        }
        let mut others: Vec<_> = others.into_iter().collect();
        others.sort_by(|(a, (some, _)), (b, (more, _))| more.cmp(some).then_with(|| a.cmp(b)));
        for (id, (calls, counts)) in others {
            if self.has_place(calls) {
                self.show(id, calls, &counts);
            } else {
                self.other.add(&counts);
            }
        }
    }

    /// Adds what a component has counted that is not in use any more.
    pub(crate) fn add(&mut self, id: &ComponentId, counts: &Counts) {
        self.all.add(counts);
        if self.add_to_shown(id, counts) {
            return;
        }
        if self.shown.len() < self.places {
            return self.show(id.clone(), counts.get(ALL), counts);
        }
        self.other.add(counts);
        if self.candidates.len() >= self.places.saturating_mul(REMEMBERED) {
            self.candidates.retain(|_, calls| {
                *calls /= 2;
                *calls > 0
            });
        }
        let calls = self.candidates.entry(id.clone()).or_default();
        *calls = calls.saturating_add(counts.get(ALL));
    }

    fn add_to_shown(&mut self, id: &ComponentId, counts: &Counts) -> bool {
        let Some(shown) = self.shown.get_mut(id) else { return false };
        shown.counts.add(counts);
        shown.score = shown.score.saturating_add(counts.get(ALL));
        true
    }

    /// Whether there is a place for a component with this many calls; makes one if another
    /// component has far fewer.
    fn has_place(&mut self, calls: u64) -> bool {
        if self.shown.len() < self.places {
            return true;
        }
        let least = self.shown.iter().min_by_key(|(_, shown)| shown.score);
        let Some((id, least)) = least else { return false };
        if calls <= least.score.max(1).saturating_mul(2) {
            return false;
        }
        let id = id.clone();
        if let Some(shown) = self.shown.remove(&id) {
            self.losses += 1;
            self.left.insert(id, (self.losses, shown.counts));
        }
        if self.left.len() > self.places.saturating_mul(REMEMBERED) {
            let oldest = self.left.iter().min_by_key(|(_, (loss, _))| *loss);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.left.remove(&oldest);
            }
        }
        true
    }

    fn show(&mut self, id: ComponentId, score: u64, counts: &Counts) {
        let (_, mut before) = self.left.remove(&id).unwrap_or_default();
        before.add(counts);
        self.shown.insert(id, Shown { counts: before, score });
    }

    pub(crate) fn shown(&self) -> impl Iterator<Item = (&ComponentId, &Counts)> {
        self.shown.iter().map(|(id, shown)| (id, &shown.counts))
    }

    /// The sum of all components.
    pub(crate) fn all(&self) -> &Counts {
        &self.all
    }

    pub(crate) fn other(&self) -> &Counts {
        &self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(number: u64) -> Counts {
        let mut counts = Counts::default();
        counts.0[ALL] = number;
        counts
    }

    fn id(number: usize) -> ComponentId {
        ComponentId::new("a", "b", &number.to_string()).unwrap()
    }

    fn total(busiest: &Busiest) -> u64 {
        let shown = busiest.shown().map(|(_, counts)| counts.get(ALL));
        let left = busiest.left.values().map(|(_, counts)| counts.get(ALL));
        shown.chain(left).sum::<u64>() + busiest.other().get(ALL)
    }

    #[test]
    fn no_series_goes_back_and_all_together_count_each_call_once() {
        let mut busiest = Busiest::new(3);
        let mut random = fastrand::Rng::with_seed(7);
        let (mut all, mut seen) = (0, HashMap::<ComponentId, u64>::new());
        let mut other = 0;
        for _ in 0..2_000 {
            let mut since = Vec::new();
            for number in 0..20 {
                let most = 1 << random.u64(0..12);
                let number_of_calls = random.u64(0..most);
                all += number_of_calls;
                since.push((id(number), calls(number_of_calls)));
            }
            let (last, last_counts) = since.pop().unwrap();
            busiest.add(&last, &last_counts);
            busiest.read(since);
            assert!(busiest.shown.len() <= 3);
            assert_eq!(total(&busiest), all, "20 components are all remembered");
            assert_eq!(busiest.all().get(ALL), all);
            assert!(busiest.other().get(ALL) >= other);
            other = busiest.other().get(ALL);
            for (id, counts) in busiest.shown() {
                let before = seen.insert(id.clone(), counts.get(ALL)).unwrap_or(0);
                assert!(counts.get(ALL) >= before, "{id} went back");
            }
        }
        assert!(seen.len() > 10, "components changed places");
    }

    #[test]
    fn the_busiest_have_a_series_and_keep_it_in_a_draw() {
        let mut busiest = Busiest::new(2);
        busiest.read((0..10).map(|number| (id(number), calls(number as u64))).collect());
        // A component whose chains end is a candidate too.
        let shown = |busiest: &Busiest| {
            busiest.shown().map(|(id, counts)| (id.clone(), counts.get(ALL))).collect::<Vec<_>>()
        };
        assert_eq!(shown(&busiest), [(id(8), 8), (id(9), 9)]);
        assert_eq!(busiest.other().get(ALL), 28);
        busiest.read(vec![(id(0), calls(8))]);
        assert_eq!(shown(&busiest), [(id(8), 8), (id(9), 9)]);
        busiest.read(vec![(id(0), calls(8))]);
        assert_eq!(shown(&busiest), [(id(0), 8), (id(9), 9)]);
        assert_eq!(busiest.other().get(ALL), 36);
        busiest.read(vec![(id(8), calls(100)), (id(0), calls(1))]);
        assert_eq!(shown(&busiest), [(id(0), 9), (id(8), 108)]);
        // A component whose chains end soon counts for the others until it has a series.
        for _ in 0..50 {
            busiest.add(&id(5), &calls(10));
        }
        assert_eq!(busiest.other().get(ALL), 536);
        busiest.read(Vec::new());
        busiest.add(&id(5), &calls(10));
        assert_eq!(shown(&busiest), [(id(5), 10), (id(8), 108)]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut busiest = Busiest::new(2);
        for number in 0..100 {
            busiest.read(vec![(id(number), calls(1 << number.min(40)))]);
            busiest.read(Vec::new());
        }
        assert!(busiest.left.len() <= 2 * REMEMBERED);
        for number in 0..100 {
            busiest.add(&id(1_000 + number), &calls(1));
        }
        assert!(busiest.candidates.len() <= 2 * REMEMBERED);
        assert_eq!(busiest.shown.len(), 2);
        let mut none = Busiest::new(0);
        none.read(vec![(id(1), calls(3))]);
        assert_eq!((none.shown().count(), none.other().get(ALL)), (0, 3));
    }
}
