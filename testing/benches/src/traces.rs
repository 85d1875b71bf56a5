//! Which key is asked for after which: what a cache is tried on. The same each
//! time.

use anyhow::{Result, ensure};
use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Distribution as _, Zipf};

use crate::keys::{Keys, PREFIX};
use crate::{Size, measure};

/// Numbers of keys, in the order in which they are asked for.
#[derive(Debug)]
pub struct Trace {
    /// Its name.
    pub name: String,
    /// Whether scans run through it.
    pub has_scans: bool,
    accesses: Vec<u32>,
}

/// How large the traces are.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// The number of keys that are asked for again and again.
    pub keys: usize,
    /// The length of a trace.
    pub accesses: usize,
}

impl Extent {
    /// That of a measurement of this size.
    pub fn of(size: Size) -> Self {
        Self { keys: size.pick(100_000, 10_000), accesses: size.pick(1_000_000, 100_000) }
    }

    /// The capacities in which the traces are tried: how many in a hundred of the
    /// keys, and how many that is.
    pub fn rooms(self) -> [(usize, usize); 3] {
        [1, 5, 20].map(|percent| (percent, self.keys * percent / 100))
    }

    /// The capacity in bytes in which they are tried: [`PERCENT_IN_BYTES`] of those of
    /// all keys and values.
    pub fn budget(self, key_bytes: usize, value_bytes: usize) -> usize {
        self.keys * PERCENT_IN_BYTES / 100 * (key_bytes + value_bytes)
    }
}

/// The part of the bytes that there is room for, in percent.
pub const PERCENT_IN_BYTES: usize = 5;

/// How skewed the Zipf distributions are.
const SKEWS: [f64; 3] = [0.7, 0.9, 1.1];

/// All traces.
pub fn all(extent: Extent) -> Result<Vec<Trace>> {
    let mut traces = Vec::new();
    for skew in SKEWS {
        let name = format!("Zipf {skew}");
        traces.push(Trace { name, has_scans: false, accesses: zipf(extent, skew)? });
    }
    for skew in SKEWS {
        let name = format!("Zipf {skew}, scans");
        traces.push(Trace { name, has_scans: true, accesses: with_scans(extent, skew)? });
    }
    traces.push(Trace { name: "loop".to_owned(), has_scans: false, accesses: looping(extent) });
    Ok(traces)
}

/// The keys that are asked for in them, in full.
pub fn keys(traces: &[Trace]) -> Keys {
    Keys::new(PREFIX, traces.iter().map(Trace::keys).max().unwrap_or_default())
}

/// Each key as often as its rank says, at random.
fn zipf(extent: Extent, skew: f64) -> Result<Vec<u32>> {
    let mut source = Source::new(extent, skew)?;
    Ok((0..extent.accesses).map(|_| source.next()).collect())
}

/// A fifth as many accesses as there are keys, then a scan of a tenth as many new
/// keys, which nobody asks for again; and so on.
fn with_scans(extent: Extent, skew: f64) -> Result<Vec<u32>> {
    let mut source = Source::new(extent, skew)?;
    let mut accesses = Vec::with_capacity(extent.accesses);
    let mut scanned = extent.keys as u32;
    while accesses.len() < extent.accesses {
        accesses.extend((0..extent.keys / 5).map(|_| source.next()));
        let end = scanned + (extent.keys / 10) as u32;
        accesses.extend(scanned..end);
        scanned = end;
    }
    accesses.truncate(extent.accesses);
    Ok(accesses)
}

/// All keys in order, over and over.
fn looping(extent: Extent) -> Vec<u32> {
    (0..extent.keys as u32).cycle().take(extent.accesses).collect()
}

/// Random keys, the same each time.
struct Source {
    random: Xoshiro256PlusPlus,
    ranks: Zipf<f64>,
}

impl Source {
    fn new(extent: Extent, skew: f64) -> Result<Self> {
        let random = Xoshiro256PlusPlus::seed_from_u64(skew.to_bits());
        Ok(Self { random, ranks: Zipf::new(extent.keys as f64, skew)? })
    }

    fn next(&mut self) -> u32 {
        // Ranks count from one.
        self.ranks.sample(&mut self.random) as u32 - 1
    }
}

impl Trace {
    /// One more than the largest number in it.
    fn keys(&self) -> usize {
        self.accesses.iter().max().map_or(0, |last| *last as usize + 1)
    }

    /// The number of accesses.
    pub fn len(&self) -> usize {
        self.accesses.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.accesses.is_empty()
    }

    /// Asks for each key; of several threads each takes every so many-th access.
    ///
    /// # Errors
    /// If `ask` does not find a key.
    pub fn replay(&self, threads: usize, ask: &(impl Fn(usize) -> bool + Sync)) -> Result<()> {
        let part = |thread: usize| {
            for number in self.accesses.iter().skip(thread).step_by(threads) {
                ensure!(ask(*number as usize), "there is no value for key {number}");
            }
            Ok(())
        };
        match threads {
            1 => part(0),
            _ => measure::side_by_side((0..threads).map(|thread| move || part(thread))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const SMALL: Extent = Extent { keys: 1_000, accesses: 200_000 };

    #[test]
    fn a_trace_is_the_same_each_time_and_has_its_length() {
        let (once, again) = (all(SMALL).unwrap(), all(SMALL).unwrap());
        assert_eq!(once.len(), 7);
        for (one, other) in once.iter().zip(&again) {
            assert_eq!(one.accesses, other.accesses, "{}", one.name);
            assert_eq!(one.len(), SMALL.accesses);
        }
        let different: HashSet<&[u32]> = once.iter().map(|trace| &*trace.accesses).collect();
        assert_eq!(different.len(), once.len());
    }

    /// The share of the accesses that go to the first `most` keys.
    fn share(accesses: &[u32], most: u32) -> f64 {
        let hits = accesses.iter().filter(|number| **number < most).count();
        hits as f64 / accesses.len() as f64
    }

    /// What that share is by the definition of the distribution.
    fn expected(skew: f64, most: u32) -> f64 {
        let sum = |count: u32| (1..=count).map(|rank| f64::from(rank).powf(-skew)).sum::<f64>();
        sum(most) / sum(SMALL.keys as u32)
    }

    #[test]
    fn ranks_come_as_often_as_zipf_says() {
        for skew in SKEWS {
            let accesses = zipf(SMALL, skew).unwrap();
            for most in [1, 10, 100, 1_000] {
                let (found, expected) = (share(&accesses, most), expected(skew, most));
                assert!((found - expected).abs() < 0.01, "{skew}, {most}: {found}, {expected}");
            }
        }
    }

    #[test]
    fn a_third_is_scans_of_keys_that_come_once() {
        for skew in SKEWS {
            let accesses = with_scans(SMALL, skew).unwrap();
            let (again, once): (Vec<u32>, Vec<u32>) =
                accesses.iter().partition(|number| (**number as usize) < SMALL.keys);
            let part = once.len() as f64 / accesses.len() as f64;
            assert!((part - 1.0 / 3.0).abs() < 0.001, "{part}");
            assert_eq!(once.iter().collect::<HashSet<_>>().len(), once.len());
            assert!((share(&again, 10) - expected(skew, 10)).abs() < 0.01);
            // 200 accesses, then a scan of 100 keys.
            assert!(accesses[..200].iter().all(|number| *number < 1_000));
            assert_eq!(accesses[200..300], (1_000..1_100).collect::<Vec<_>>());
            assert_eq!(accesses[500..600], (1_100..1_200).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_loop_comes_to_every_key_equally_often() {
        let accesses = looping(SMALL);
        let of_last = accesses.iter().filter(|number| **number == 999).count();
        assert_eq!((of_last, accesses[1_000]), (200, 0));
    }

    #[test]
    fn threads_share_a_trace() {
        let trace = Trace { name: String::new(), has_scans: false, accesses: looping(SMALL) };
        assert_eq!((trace.keys(), trace.len()), (1_000, 200_000));
        for threads in [1, 2, 3] {
            let (sum, count) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let ask = |number| {
                sum.fetch_add(number, Ordering::Relaxed);
                count.fetch_add(1, Ordering::Relaxed);
                true
            };
            trace.replay(threads, &ask).unwrap();
            assert_eq!((sum.into_inner(), count.into_inner()), (200 * 999 * 500, 200_000));
        }
        assert!(trace.replay(1, &|number| number < 999).is_err());
    }
}
