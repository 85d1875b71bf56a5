//! Sequences of keys on which hit rates are measured. They are the same each time.

/// The numbers of the keys, in the order of the accesses.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) name: String,
    pub(crate) has_scans: bool,
    pub(crate) accesses: Vec<u32>,
}

/// The size of all traces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Keys that are accessed repeatedly.
    pub(crate) keys: usize,
    /// Accesses per trace.
    pub(crate) accesses: usize,
}

const SKEWS: [f64; 3] = [0.7, 0.9, 1.1];

/// Zipf distributions, the same with scans, and a loop over all keys.
pub(crate) fn all(extent: Extent) -> Vec<Trace> {
    let mut traces = Vec::new();
    for skew in SKEWS {
        let mut zipf = Zipf::new(extent.keys, skew);
        let accesses = (0..extent.accesses).map(|_| zipf.next()).collect();
        traces.push(Trace { name: format!("Zipf {skew}"), has_scans: false, accesses });
    }
    for skew in SKEWS {
        let accesses = with_scans(extent, &mut Zipf::new(extent.keys, skew));
        traces.push(Trace { name: format!("Zipf {skew}, scans"), has_scans: true, accesses });
    }
    let accesses = (0..extent.keys as u32).cycle().take(extent.accesses).collect();
    traces.push(Trace { name: "loop".to_owned(), has_scans: false, accesses });
    traces
}

/// Alternates between random accesses (a fifth of the number of keys) and a scan of new
/// keys (a tenth), which are never accessed again.
fn with_scans(extent: Extent, zipf: &mut Zipf) -> Vec<u32> {
    let mut accesses = Vec::with_capacity(extent.accesses);
    let mut scanned = extent.keys as u32;
    while accesses.len() < extent.accesses {
        accesses.extend((0..extent.keys / 5).map(|_| zipf.next()));
        let end = scanned + (extent.keys / 10) as u32;
        accesses.extend(scanned..end);
        scanned = end;
    }
    accesses.truncate(extent.accesses);
    accesses
}

/// Random keys: the weight of the key of rank `n` is `n` to the power of `-skew`.
struct Zipf {
    random: fastrand::Rng,
    /// The sum of the weights up to each key.
    sums: Vec<f64>,
}

impl Zipf {
    fn new(keys: usize, skew: f64) -> Self {
        let mut sum = 0.0;
        let add = |rank: usize| {
            sum += (rank as f64).powf(-skew);
            sum
        };
        let sums = (1..=keys).map(add).collect();
        Self { random: fastrand::Rng::with_seed(skew.to_bits()), sums }
    }

    fn next(&mut self) -> u32 {
        let drawn = self.random.f64() * self.sums.last().copied().unwrap_or_default();
        self.sums.partition_point(|sum| *sum <= drawn) as u32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn traces_have_their_length_and_distribution() {
        let extent = Extent { keys: 1_000, accesses: 200_000 };
        let traces = all(extent);
        assert_eq!(traces.len(), 2 * SKEWS.len() + 1);
        assert!(traces.iter().all(|trace| trace.accesses.len() == extent.accesses));
        let sum = |skew: f64, count: u32| (1..=count).map(|rank| f64::from(rank).powf(-skew)).sum();
        for (trace, skew) in traces.iter().zip(SKEWS) {
            let first_ten = trace.accesses.iter().filter(|number| **number < 10).count() as f64;
            let (ten, all): (f64, f64) = (sum(skew, 10), sum(skew, 1_000));
            assert!((first_ten / 200_000.0 - ten / all).abs() < 0.01, "{}", trace.name);
        }
        for trace in traces.iter().filter(|trace| trace.has_scans) {
            let scanned: Vec<_> =
                trace.accesses.iter().filter(|number| **number >= 1_000).collect();
            assert!((scanned.len() as f64 / 200_000.0 - 1.0 / 3.0).abs() < 0.001);
            assert_eq!(scanned.iter().collect::<HashSet<_>>().len(), scanned.len());
        }
    }
}
