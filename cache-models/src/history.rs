//! What was seen, and whether a storage that does one thing at a time could have
//! shown it.

use storage_core::{StorageValue, VersionedValue};

use crate::below::Version;

/// What a call told about a key.
#[derive(Debug, Clone)]
pub(crate) enum Saw {
    Value(Option<StorageValue>),
    Versioned(Option<VersionedValue>),
    Present(bool),
}

impl Saw {
    /// Whether it can be said of this version.
    pub(crate) fn fits(&self, version: &Version) -> bool {
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

/// Something that was seen of a key between two moments.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) key: usize,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) saw: Saw,
}

/// Whether the observations of a key, ordered by when they began, are such that
/// each write and each observation can have happened at one moment of its call.
///
/// The storage below has told the order of the writes. So it is enough to give
/// each observation the oldest version that it fits and that is as new as what
/// had to be known by then: whatever is later has the most room left. `returned`
/// says when a call that wrote had returned.
///
/// Of what was written `around` the cache it promises less: it must be seen in the
/// end, but some may see it before others.
pub(crate) fn judge<'a>(
    versions: &[Version],
    returned: impl Fn(usize) -> u64,
    around: bool,
    observations: impl Iterator<Item = &'a Observation>,
) -> Result<(), String> {
    let mut placed: Vec<(u64, usize)> = Vec::new();
    for seen in observations {
        let written = versions.iter().rposition(|version| returned(version.call) < seen.began);
        let before = placed.iter().filter(|(ended, _)| !around && *ended < seen.began);
        let shown = before.map(|(_, at)| *at).max();
        let oldest = written.max(shown).unwrap_or(0);
        let fits = |version: &Version| version.stamp < seen.ended && seen.saw.fits(version);
        match versions.iter().skip(oldest).position(fits) {
            Some(further) => placed.push((seen.ended, oldest + further)),
            None => {
                let since = match shown > written {
                    true => "which an earlier call saw",
                    false => "which was there when it began",
                };
                return Err(format!("{seen:?} fits no version from {oldest} on, {since}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use storage_core::Revision;

    use super::*;

    /// A key that was absent, and got a value from 10 to 20 and another from 30 to
    /// 40, both with effect in the middle.
    fn versions() -> [Version; 3] {
        let version = |call: usize, value: Option<&str>, stamp| Version {
            value: value.map(StorageValue::from),
            revision: Revision::new(call as u64),
            call,
            stamp,
        };
        [version(0, None, 0), version(1, Some("one"), 15), version(2, Some("two"), 35)]
    }

    fn saw(began: u64, ended: u64, value: Option<&str>) -> Observation {
        let saw = Saw::Value(value.map(StorageValue::from));
        Observation { key: 0, began, ended, saw }
    }

    fn is_fine(around: bool, seen: &[Observation]) -> bool {
        let returned = |call| [0, 20, 40][call];
        judge(&versions(), returned, around, seen.iter()).is_ok()
    }

    #[test]
    fn a_read_may_see_what_it_overlaps_or_what_was_there() {
        assert!(is_fine(false, &[saw(1, 2, None), saw(21, 22, Some("one"))]));
        for value in [None, Some("one")] {
            assert!(is_fine(false, &[saw(11, 19, value)]));
        }
        assert!(is_fine(false, &[saw(14, 38, Some("two")), saw(16, 17, Some("one"))]));
    }

    #[test]
    fn a_read_never_sees_what_was_overwritten_or_is_to_come() {
        for around in [false, true] {
            assert!(!is_fine(around, &[saw(21, 22, None)]));
            assert!(!is_fine(around, &[saw(41, 42, Some("one"))]));
            assert!(!is_fine(around, &[saw(11, 14, Some("one"))]));
            assert!(!is_fine(around, &[saw(21, 22, Some("three"))]));
        }
    }

    #[test]
    fn time_does_not_go_back_but_for_what_was_written_around_the_cache() {
        let back = [saw(16, 17, Some("one")), saw(18, 19, None)];
        assert!(!is_fine(false, &back));
        assert!(is_fine(true, &back));
    }

    /// Absent twice over: the read before the delete and the one after it.
    #[test]
    fn what_is_said_of_two_versions_may_be_said_of_the_newer() {
        let mut versions = versions();
        versions[2].value = None;
        let seen = [saw(16, 17, Some("one")), saw(31, 39, None), saw(39, 45, None)];
        assert!(judge(&versions, |call| [0, 20, 40][call], false, seen.iter()).is_ok());
    }
}
