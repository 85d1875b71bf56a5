//! What calls observed, and whether the versions of a key explain it.

use storage_core::{StorageValue, VersionedValue};

use crate::storage::Version;

/// What a call returned about a key.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    Value(Option<StorageValue>),
    Versioned(Option<VersionedValue>),
    Present(bool),
}

impl Seen {
    pub(crate) fn matches(&self, version: &Version) -> bool {
        match self {
            Self::Value(value) => *value == version.value,
            Self::Versioned(None) => version.value.is_none(),
            Self::Versioned(Some(found)) => {
                found.revision == version.revision && version.value.as_ref() == Some(&found.value)
            }
            Self::Present(present) => *present == version.value.is_some(),
        }
    }
}

/// What a call that ran from `began` to `ended` saw of a key.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) key: usize,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) seen: Seen,
}

/// Checks that each write and each observation of a key can have happened at one
/// moment of its call. The observations come in the order in which they began;
/// `returned` says when a call that wrote returned.
///
/// The storage recorded the order of the writes, so it suffices to assign to each
/// observation the oldest version that it matches and that is no older than what
/// it must know: that leaves the most room for later ones.
///
/// A write that bypasses the cache need only be seen in the end, so with `around` some
/// observations may see it before others do.
pub(crate) fn check<'a>(
    versions: &[Version],
    returned: impl Fn(usize) -> u64,
    around: bool,
    observations: impl Iterator<Item = &'a Observation>,
) -> Result<(), String> {
    let mut assigned: Vec<(u64, usize)> = Vec::new();
    for observation in observations {
        let Observation { began, ended, seen, .. } = observation;
        let written = versions.iter().rposition(|version| returned(version.call) < *began);
        let earlier = assigned.iter().filter(|(ended, _)| !around && ended < began);
        let oldest = written.max(earlier.map(|(_, version)| *version).max()).unwrap_or(0);
        let matches = |version: &Version| version.time < *ended && seen.matches(version);
        match versions[oldest..].iter().position(matches) {
            Some(newer) => assigned.push((*ended, oldest + newer)),
            None => return Err(format!("{observation:?} matches no version from {oldest} on")),
        }
    }
    Ok(())
}

/// A key that was absent, got a value from 10 to 20 and another from 30 to 40, each
/// with effect halfway.
#[test]
fn observations_match_what_a_register_could_show() {
    let version = |call: usize, value: Option<&str>, time| Version {
        value: value.map(StorageValue::from),
        revision: storage_core::Revision::new(call as u64),
        call,
        time,
    };
    let versions = [version(0, None, 0), version(1, Some("one"), 15), version(2, Some("two"), 35)];
    let saw = |began, ended, value: Option<&str>| Observation {
        key: 0,
        began,
        ended,
        seen: Seen::Value(value.map(StorageValue::from)),
    };
    let holds = |around, observations: &[Observation]| {
        check(&versions, |call| [0, 20, 40][call], around, observations.iter()).is_ok()
    };
    assert!(holds(false, &[saw(1, 2, None), saw(21, 22, Some("one"))]));
    assert!(holds(false, &[saw(11, 19, None)]));
    assert!(holds(false, &[saw(11, 19, Some("one"))]));
    assert!(holds(false, &[saw(14, 38, Some("two")), saw(16, 17, Some("one"))]));
    for around in [false, true] {
        assert!(!holds(around, &[saw(21, 22, None)]), "overwritten before it began");
        assert!(!holds(around, &[saw(11, 14, Some("one"))]), "written after it ended");
        assert!(!holds(around, &[saw(21, 22, Some("three"))]), "never written");
    }
    let older_after_newer = [saw(16, 17, Some("one")), saw(18, 19, None)];
    assert!(!holds(false, &older_after_newer));
    assert!(holds(true, &older_after_newer));
}
