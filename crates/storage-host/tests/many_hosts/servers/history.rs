//! What two hosts wrote and read, in the order of revisions.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use storage_host::Revision;

use super::KEYS;

/// A write that was acknowledged. Each has another value.
pub(super) struct Write {
    pub(super) key: usize,
    pub(super) value: u64,
    pub(super) revision: Revision,
    pub(super) host: usize,
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

pub(super) struct Read {
    pub(super) key: usize,
    pub(super) value: Option<u64>,
    pub(super) host: usize,
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

#[derive(Default)]
pub(super) struct History {
    pub(super) writes: Vec<Write>,
    pub(super) reads: Vec<Read>,
}

/// The first of some times, of all writes and of those of each host.
#[derive(Clone, Copy, Default)]
struct Ends {
    all: Option<Instant>,
    of_host: [Option<Instant>; 2],
}

impl Ends {
    fn with(mut self, write: &Write) -> Self {
        for end in [&mut self.all, &mut self.of_host[write.host]] {
            *end = Some(end.map_or(write.ended, |end| end.min(write.ended)));
        }
        self
    }
}

impl History {
    pub(super) fn add(&mut self, mut other: Self) {
        self.writes.append(&mut other.writes);
        self.reads.append(&mut other.reads);
    }

    /// Checks every read whose value is of an acknowledged write, and returns how many were of
    /// a value that had been replaced.
    pub(super) fn check(mut self, max_staleness: Duration) -> Result<usize, String> {
        self.writes.sort_by_key(|write| write.revision);
        self.reads.sort_by_key(|read| read.began);
        let mut stale = 0;
        for key in 0..KEYS.len() {
            let writes: Vec<&Write> = self.writes.iter().filter(|one| one.key == key).collect();
            let reads: Vec<&Read> = self.reads.iter().filter(|one| one.key == key).collect();
            stale += check_key(&writes, &reads, max_staleness)?;
        }
        Ok(stale)
    }
}

fn ensure(holds: bool, failure: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(failure()) }
}

/// Checks the reads of one key. Version 0 is the missing value.
fn check_key(writes: &[&Write], reads: &[&Read], max_staleness: Duration) -> Result<usize, String> {
    let versions: HashMap<Option<u64>, usize> = writes
        .iter()
        .enumerate()
        .map(|(number, write)| (Some(write.value), number + 1))
        .chain([(None, 0)])
        .collect();
    // When a write after each version had certainly taken effect.
    let mut later = vec![Ends::default(); writes.len() + 1];
    for number in (0..writes.len()).rev() {
        later[number] = later[number + 1].with(writes[number]);
    }
    let mut stale = 0;
    // The latest version that each host had read, with the reads by their ends.
    let mut by_end: Vec<&Read> = reads.to_vec();
    by_end.sort_by_key(|read| read.ended);
    let mut by_end = by_end.into_iter().peekable();
    let mut seen = [0; 2];
    for read in reads {
        while let Some(earlier) = by_end.next_if(|earlier| earlier.ended < read.began) {
            if let Some(version) = versions.get(&earlier.value) {
                seen[earlier.host] = seen[earlier.host].max(*version);
            }
        }
        // The write of other values had an unknown outcome.
        let Some(version) = versions.get(&read.value).copied() else { continue };
        let Ends { all, of_host } = later[version];
        let age = all.map_or(Duration::ZERO, |end| read.began.saturating_duration_since(end));
        ensure(age <= max_staleness, || format!("replaced {age:?} before the read began"))?;
        stale += usize::from(age > Duration::ZERO);
        let host = read.host;
        let sees_own_writes = of_host[host].is_none_or(|end| end >= read.began);
        ensure(sees_own_writes, || format!("host {host} did not see its own write"))?;
        ensure(version >= seen[host], || format!("host {host} went back in time"))?;
        let write = version.checked_sub(1).and_then(|number| writes.get(number));
        let had_begun = write.is_none_or(|write| write.began <= read.ended);
        ensure(had_begun, || "a read saw a write before it began".to_owned())?;
    }
    Ok(stale)
}

fn at(start: Instant, milliseconds: u64) -> Instant {
    start + Duration::from_millis(milliseconds)
}

/// The check of a history in which host 0 wrote 1 at 10 ms and 2 at 20 ms, and then a host read.
fn check_read(host: usize, value: u64, began: u64) -> Result<usize, String> {
    let start = Instant::now();
    let write = |value: u64, revision| Write {
        key: 0,
        value,
        revision: Revision::new(revision),
        host: 0,
        began: at(start, value * 10),
        ended: at(start, value * 10 + 1),
    };
    let read = |value, began| Read {
        key: 0,
        value: Some(value),
        host,
        began: at(start, began),
        ended: at(start, began + 1),
    };
    let history =
        History { writes: vec![write(1, 5), write(2, 6)], reads: vec![read(value, began)] };
    history.check(Duration::from_millis(100))
}

// Its name is in the runs for either engine.
#[test]
fn the_check_of_a_history_on_postgres_or_redis_accepts_and_rejects() {
    assert_eq!(check_read(1, 2, 500), Ok(0));
    assert_eq!(check_read(1, 1, 120), Ok(1));
    assert!(check_read(1, 1, 122).unwrap_err().starts_with("replaced 101ms before"));
    assert_eq!(check_read(0, 1, 30), Err("host 0 did not see its own write".into()));
    assert_eq!(check_read(0, 2, 5), Err("a read saw a write before it began".into()));
}
