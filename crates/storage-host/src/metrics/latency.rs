//! Histograms of how long calls take.

use std::time::Duration;

/// The upper bounds of the buckets in nanoseconds: 1, 2 and 5 of each power of ten from 1 µs to
/// 10 s. A last bucket has everything longer.
#[rustfmt::skip]
pub(crate) const BOUNDS: [u64; 22] = [
    1_000, 2_000, 5_000,
    10_000, 20_000, 50_000,
    100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000,
    10_000_000, 20_000_000, 50_000_000,
    100_000_000, 200_000_000, 500_000_000,
    1_000_000_000, 2_000_000_000, 5_000_000_000,
    10_000_000_000,
];

pub(crate) const BUCKETS: usize = BOUNDS.len() + 1;

/// The bucket of a duration.
pub(crate) fn bucket(nanos: u64) -> usize {
    BOUNDS.partition_point(|bound| *bound < nanos)
}

/// How many calls took how long, in buckets from 1 µs to 10 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatencyHistogram {
    buckets: [u64; BUCKETS],
    nanos: u64,
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], nanos: 0 }
    }
}

impl LatencyHistogram {
    pub(crate) fn new(buckets: [u64; BUCKETS], nanos: u64) -> Self {
        Self { buckets, nanos }
    }

    /// The number of calls.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The time of all calls together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// The buckets: the longest duration of each, `None` for no bound, and the number of calls
    /// in it that are in no earlier one.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bounds = BOUNDS.into_iter().map(|bound| Some(Duration::from_nanos(bound)));
        bounds.chain([None]).zip(self.buckets)
    }

    /// Returns a duration that this part of the calls did not exceed, such as 0.99: the upper
    /// bound of a bucket, and 10 s for longer ones. `None` without calls.
    ///
    /// ```
    /// use storage_host::LatencyHistogram;
    ///
    /// assert_eq!(LatencyHistogram::default().quantile(0.5), None);
    /// ```
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        let rank = ((count as f64 * part).ceil() as u64).clamp(1, count.max(1));
        let mut below = 0;
        let mut buckets = self.buckets().filter(|(_, calls)| *calls > 0);
        let found = buckets.find(|(_, calls)| {
            below += calls;
            below >= rank
        });
        let longest = BOUNDS.last().copied().unwrap_or_default();
        found.map(|(bound, _)| bound.unwrap_or(Duration::from_nanos(longest)))
    }

    /// Returns the calls since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = *self;
        for (count, before) in since.buckets.iter_mut().zip(earlier.buckets) {
            *count = count.saturating_sub(before);
        }
        since.nanos = since.nanos.saturating_sub(earlier.nanos);
        since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_are_from_a_microsecond_to_ten_seconds() {
        assert_eq!(BOUNDS[..5], [1_000, 2_000, 5_000, 10_000, 20_000]);
        assert_eq!(BOUNDS[19..], [2_000_000_000, 5_000_000_000, 10_000_000_000]);
        assert!(BOUNDS.is_sorted());
        let of = |nanos| bucket(nanos);
        assert_eq!((of(0), of(1_000), of(1_001), of(2_000)), (0, 0, 1, 1));
        assert_eq!((of(10_000_000_000), of(10_000_000_001), of(u64::MAX)), (21, 22, 22));
    }

    #[test]
    fn a_quantile_is_the_bound_of_the_bucket_with_its_call() {
        let mut buckets = [0; BUCKETS];
        (buckets[0], buckets[3], buckets[BUCKETS - 1]) = (50, 49, 1);
        let histogram = LatencyHistogram::new(buckets, 0);
        let micros = |micros| Some(Duration::from_micros(micros));
        assert_eq!(histogram.quantile(0.0), micros(1));
        assert_eq!(histogram.quantile(0.5), micros(1));
        assert_eq!(histogram.quantile(0.51), micros(10));
        assert_eq!(histogram.quantile(0.99), micros(10));
        assert_eq!(histogram.quantile(1.0), micros(10_000_000));
        let later = LatencyHistogram::new(buckets.map(|count| count * 2), 7);
        assert_eq!(later.since(&histogram), LatencyHistogram::new(buckets, 7));
    }
}
