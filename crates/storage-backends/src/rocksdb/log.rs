//! RocksDB's log format, in which its write-ahead logs and manifests are
//! written, as far as it takes to tell damage from what a power cut leaves.
//!
//! RocksDB takes the first record that is not whole for the end of a log. After a
//! power cut that is right: what follows was never acknowledged. After a flipped
//! bit it would drop what was. So whatever stands behind the first bad record
//! is looked at:
//!
//! - Writes are synced one log record at a time. Where a whole record begins
//!   behind a bad one, the bad one was durable, and so it is damaged.
//! - A record at the end that a power cut tore is cut short, or lacks a sector.
//!   One that has all of its bytes is damaged.
//!
//! ```text
//! The file is a row of blocks of 32,768 bytes, a block a row of records:
//! offset  size  what
//! 0       4     CRC-32C, masked, of the type and all that follows
//! 4       2     length of the payload
//! 6       1     type: 1 whole, 2 first part, 3 middle part, 4 last part, others
//! 7       n     payload
//! No record begins in the last six bytes of a block.
//! ```

use std::path::{Path, PathBuf};

use storage_core::StorageError;

use crate::disk::{self, Kind as FileKind};

const BLOCK_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 7;
/// What a disk writes as a whole, at least.
const SECTOR_BYTES: usize = 512;

const WHOLE: u8 = 1;
const FIRST_PART: u8 = 2;
const MIDDLE_PART: u8 = 3;
const LAST_PART: u8 = 4;

/// What a log is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Writes, synced one at a time.
    Writes,
    /// Lists of files, synced several at a time.
    Manifest,
}

/// What was found in a log. Offsets are of the first record that is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it is right.
    Whole {
        /// Whether there is anything.
        empty: bool,
    },
    /// Its end is as a power cut leaves it, or a writer that is not done.
    Torn { offset: usize },
    /// What was durable is not what was written.
    Damaged { offset: usize },
}

/// A write-ahead log, judged.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) number: u64,
    path: PathBuf,
    verdict: Verdict,
}

/// Reads the write-ahead logs in a folder, in their order.
pub(super) fn read_all(root: &Path) -> Result<Vec<LogFile>, StorageError> {
    let mut numbers: Vec<(u64, String)> = disk::names(root, FileKind::File)?
        .into_iter()
        .filter_map(|name| Some((name.strip_suffix(".log")?.parse().ok()?, name)))
        .collect();
    numbers.sort_unstable();
    let mut logs = Vec::with_capacity(numbers.len());
    for (number, name) in numbers {
        let path = root.join(name);
        // One that is gone meanwhile was needed no more.
        if let Some(bytes) = disk::read(&path)? {
            let verdict = judge(&bytes, Kind::Writes);
            logs.push(LogFile { number, path, verdict });
        }
    }
    Ok(logs)
}

/// The first damage in logs that follow each other, and where.
pub(super) fn first_damaged<'a>(
    logs: impl IntoIterator<Item = &'a LogFile>,
) -> Option<(&'a Path, usize)> {
    let mut torn = None;
    for log in logs {
        match log.verdict {
            Verdict::Damaged { offset } => return torn.or(Some((log.path.as_path(), offset))),
            // A log is complete before the next is written to.
            Verdict::Whole { empty: false } if torn.is_some() => return torn,
            Verdict::Torn { .. } if torn.is_some() => return torn,
            Verdict::Torn { offset } => torn = Some((log.path.as_path(), offset)),
            Verdict::Whole { .. } => {}
        }
    }
    None
}

/// Judges a log.
pub(super) fn judge(bytes: &[u8], kind: Kind) -> Verdict {
    let mut at = 0;
    // Where the record began of which the last part is yet to come.
    let mut begun = None;
    while let Some(next) = next_header(bytes, at) {
        at = next;
        match parse(bytes, at) {
            Some(Part { kind, end }) => {
                match kind {
                    FIRST_PART => begun = Some(at),
                    MIDDLE_PART => {}
                    _ => begun = None,
                }
                at = end;
            }
            None => return judge_bad(bytes, at, begun.unwrap_or(at), kind),
        }
    }
    match begun {
        Some(offset) => Verdict::Torn { offset },
        None if at < bytes.len() && !is_zero(bytes.get(at..).unwrap_or_default()) => {
            // Less than a header: the beginning of one.
            Verdict::Torn { offset: at }
        }
        None => Verdict::Whole { empty: at == 0 },
    }
}

/// Judges a log whose first bad header is at `at`, in a record that began at
/// `begun`.
fn judge_bad(bytes: &[u8], at: usize, begun: usize, kind: Kind) -> Verdict {
    let rest = bytes.get(at..).unwrap_or_default();
    if is_zero(rest) && begun == at {
        // Room that was made and not used.
        return Verdict::Whole { empty: at == 0 };
    }
    let hole = lacks_a_sector(bytes, at, (at + SECTOR_BYTES).min(bytes.len()));
    if begins_behind(bytes, at) && !(kind == Kind::Manifest && hole) {
        return Verdict::Damaged { offset: at };
    }
    if is_whole_but_for_its_length(bytes, at) {
        return Verdict::Damaged { offset: at };
    }
    let cut_short = stored_end(bytes, at).is_none_or(|end| end > bytes.len());
    if cut_short || lacks_a_sector(bytes, begun, bytes.len()) {
        Verdict::Torn { offset: begun }
    } else {
        Verdict::Damaged { offset: at }
    }
}

/// Where the next header is, from `at` on, if all of one is there.
fn next_header(bytes: &[u8], at: usize) -> Option<usize> {
    let left_in_block = BLOCK_BYTES - at % BLOCK_BYTES;
    let at = if left_in_block < HEADER_BYTES { at + left_in_block } else { at };
    (at + HEADER_BYTES <= bytes.len()).then_some(at)
}

/// A record, or a part of one that spans blocks.
struct Part {
    kind: u8,
    end: usize,
}

/// Reads the part at `at`; `None` if it is not whole.
fn parse(bytes: &[u8], at: usize) -> Option<Part> {
    let end = stored_end(bytes, at)?;
    let block_end = at - at % BLOCK_BYTES + BLOCK_BYTES;
    let kind = *bytes.get(at + 6)?;
    if end > block_end || kind == 0 {
        return None;
    }
    let checked = bytes.get(at + 6..end)?;
    (stored_checksum(bytes, at)? == crc32c(checked)).then_some(Part { kind, end })
}

/// Where the part at `at` ends, by its length.
fn stored_end(bytes: &[u8], at: usize) -> Option<usize> {
    let len: [u8; 2] = bytes.get(at + 4..at + 6)?.try_into().ok()?;
    Some(at + HEADER_BYTES + usize::from(u16::from_le_bytes(len)))
}

fn stored_checksum(bytes: &[u8], at: usize) -> Option<u32> {
    let masked: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    let rotated = u32::from_le_bytes(masked).wrapping_sub(0xa282_ead8);
    Some(rotated.rotate_left(15))
}

/// Whether a record begins anywhere behind the bad one at `at`.
fn begins_behind(bytes: &[u8], at: usize) -> bool {
    let begins = |at: usize| {
        let kind = bytes.get(at + 6).copied();
        matches!(kind, Some(WHOLE | FIRST_PART)) && parse(bytes, at).is_some()
    };
    if stored_end(bytes, at).is_some_and(begins) {
        return true;
    }
    // Where the next one would be, a bad length does not tell. A value may hold
    // bytes that look like a record, but then what follows does not fit.
    let block_end = at - at % BLOCK_BYTES + BLOCK_BYTES;
    if (at + 1..block_end.min(bytes.len())).any(|at| begins(at) && goes_on_to_the_end(bytes, at)) {
        return true;
    }
    // At the beginning of a block there is always a header.
    (block_end..bytes.len()).step_by(BLOCK_BYTES).any(|mut at| {
        let end = at + BLOCK_BYTES;
        while at < end {
            if begins(at) {
                return true;
            }
            match parse(bytes, at) {
                Some(part) => at = part.end,
                None => return false,
            }
        }
        false
    })
}

/// Whether records follow each other from here to the end.
fn goes_on_to_the_end(bytes: &[u8], mut at: usize) -> bool {
    let mut in_parts = false;
    while let Some(next) = next_header(bytes, at) {
        let Some(Part { kind, end }) = parse(bytes, next) else {
            at = next;
            break;
        };
        match (kind, in_parts) {
            (WHOLE, false) => {}
            (FIRST_PART, false) => in_parts = true,
            (MIDDLE_PART, true) => {}
            (LAST_PART, true) => in_parts = false,
            (WHOLE..=LAST_PART, _) => return false,
            _ => {}
        }
        at = end;
    }
    !in_parts && is_zero(bytes.get(at..).unwrap_or_default())
}

/// Whether the part at `at` would be right with another length.
fn is_whole_but_for_its_length(bytes: &[u8], at: usize) -> bool {
    let block_end = (at - at % BLOCK_BYTES + BLOCK_BYTES).min(bytes.len());
    let (Some(wanted), Some(checked)) = (stored_checksum(bytes, at), bytes.get(at + 6..block_end))
    else {
        return false;
    };
    let mut state = !0;
    checked.iter().any(|byte| {
        state = crc32c_step(state, *byte);
        !state == wanted
    })
}

/// Whether a sector that lies between these offsets, or as much of it as does, is
/// nothing but zeros.
fn lacks_a_sector(bytes: &[u8], from: usize, to: usize) -> bool {
    let first = from - from % SECTOR_BYTES;
    (first..to).step_by(SECTOR_BYTES).any(|sector| {
        let sector = bytes.get(sector.max(from)..(sector + SECTOR_BYTES).min(to));
        sector.is_some_and(|sector| !sector.is_empty() && is_zero(sector))
    })
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// CRC-32C (Castagnoli).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |state, byte| crc32c_step(state, *byte))
}

fn crc32c_step(state: u32, byte: u8) -> u32 {
    let at = usize::from((state as u8) ^ byte);
    // A byte is always less than 256.
    TABLE.get(at).copied().unwrap_or_default() ^ (state >> 8)
}

const TABLE: [u32; 256] = table();

#[expect(clippy::indexing_slicing, reason = "checked when it is compiled")]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut number = 0;
    while number < 256 {
        let mut value = number as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        table[number] = value;
        number += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    /// A log with payloads of these lengths, as RocksDB writes one, and where
    /// each begins.
    fn log_of(lens: &[usize]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut begins = Vec::new();
        for (number, len) in lens.iter().enumerate() {
            let mut payload: Vec<u8> =
                (0..*len).map(|at| (at * 7 + number * 31) as u8 | 1).collect();
            let mut first = true;
            while first || !payload.is_empty() {
                let left = BLOCK_BYTES - bytes.len() % BLOCK_BYTES;
                if left < HEADER_BYTES {
                    bytes.resize(bytes.len() + left, 0);
                    continue;
                }
                let part: Vec<u8> =
                    payload.drain(..payload.len().min(left - HEADER_BYTES)).collect();
                let kind = match (first, payload.is_empty()) {
                    (true, true) => WHOLE,
                    (true, false) => FIRST_PART,
                    (false, false) => MIDDLE_PART,
                    (false, true) => LAST_PART,
                };
                if first {
                    begins.push(bytes.len());
                }
                first = false;
                let mut checked = vec![kind];
                checked.extend_from_slice(&part);
                let masked = crc32c(&checked).rotate_right(15).wrapping_add(0xa282_ead8);
                bytes.extend_from_slice(&masked.to_le_bytes());
                bytes.extend_from_slice(&(part.len() as u16).to_le_bytes());
                bytes.extend_from_slice(&checked);
            }
        }
        (bytes, begins)
    }

    const LENS: [usize; 5] = [100, 3000, 70_000, 10, 900];

    #[test]
    fn a_whole_log_is_whole() {
        let (bytes, _) = log_of(&LENS);
        for kind in [Kind::Writes, Kind::Manifest] {
            assert_eq!(judge(&bytes, kind), Verdict::Whole { empty: false });
            assert_eq!(judge(b"", kind), Verdict::Whole { empty: true });
        }
        // Room that was made ahead.
        let longer = [bytes.as_slice(), &[0; 5000]].concat();
        assert_eq!(judge(&longer, Kind::Writes), Verdict::Whole { empty: false });
        assert_eq!(judge(&[0; 5000], Kind::Writes), Verdict::Whole { empty: true });
    }

    #[test]
    fn a_log_that_is_cut_short_is_torn() {
        let (bytes, begins) = log_of(&LENS);
        for len in (0..bytes.len()).filter(|len| len % 97 == 0 || begins.contains(len)) {
            let begun = begins.iter().rev().find(|begin| **begin <= len).copied();
            for kind in [Kind::Writes, Kind::Manifest] {
                match judge(&bytes[..len], kind) {
                    Verdict::Whole { .. } => assert!(begins.contains(&len), "{len}"),
                    Verdict::Torn { offset } => assert_eq!(Some(offset), begun, "{len}"),
                    Verdict::Damaged { offset } => panic!("{len}: damaged at {offset}"),
                }
            }
        }
    }

    #[test]
    fn a_last_record_that_lacks_sectors_is_torn() {
        for last in [900, 5000, 70_000] {
            let (bytes, begins) = log_of(&[100, 3000, last]);
            let begin = begins[2];
            for sector in (begin / SECTOR_BYTES..bytes.len() / SECTOR_BYTES).step_by(7) {
                let mut torn = bytes.clone();
                let end = ((sector + 1) * SECTOR_BYTES).min(bytes.len());
                torn[(sector * SECTOR_BYTES).max(begin)..end].fill(0);
                assert_eq!(judge(&torn, Kind::Writes), Verdict::Torn { offset: begin }, "{sector}");
            }
        }
    }

    #[test]
    fn every_flipped_byte_is_damage() {
        let (bytes, begins) = log_of(&LENS);
        let near = |at: usize| begins.iter().any(|begin| at.abs_diff(*begin) < 12);
        for at in (0..bytes.len()).filter(|at| at % 101 == 0 || near(*at)) {
            for mask in [0x01, 0x10, 0xff] {
                let mut flipped = bytes.clone();
                flipped[at] ^= mask;
                for kind in [Kind::Writes, Kind::Manifest] {
                    let verdict = judge(&flipped, kind);
                    let trailer = BLOCK_BYTES - at % BLOCK_BYTES < HEADER_BYTES;
                    assert!(
                        trailer || matches!(verdict, Verdict::Damaged { .. }),
                        "{at}: {verdict:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_hole_before_whole_records_is_damage_in_a_log_of_writes() {
        let (bytes, _) = log_of(&[100, 3000, 3000, 3000]);
        let mut holed = bytes;
        holed[1024..1536].fill(0);
        assert!(matches!(judge(&holed, Kind::Writes), Verdict::Damaged { .. }));
    }

    /// Whoever stores a log as a value shall not keep the store shut.
    #[test]
    fn a_log_in_a_torn_record_is_not_taken_for_the_log() {
        let (inner, _) = log_of(&[100, 700, 700]);
        let payload_at = 3200;
        for at in [0, 1, 600, 1500] {
            let mut payload = vec![7; payload_at];
            payload.splice(at..at, inner.iter().copied());
            let mut checked = vec![WHOLE];
            checked.extend_from_slice(&payload);
            let masked = crc32c(&checked).rotate_right(15).wrapping_add(0xa282_ead8);
            let (mut bytes, begins) = log_of(&[300, 300]);
            let begin = bytes.len();
            assert_eq!(begins.len(), 2);
            bytes.extend_from_slice(&masked.to_le_bytes());
            bytes.extend_from_slice(&(payload.len() as u16).to_le_bytes());
            bytes.extend_from_slice(&checked);
            assert_eq!(judge(&bytes, Kind::Writes), Verdict::Whole { empty: false });
            for sector in begin / SECTOR_BYTES..bytes.len() / SECTOR_BYTES {
                let mut torn = bytes.clone();
                torn[(sector * SECTOR_BYTES).max(begin)..(sector + 1) * SECTOR_BYTES].fill(0);
                assert_eq!(judge(&torn, Kind::Writes), Verdict::Torn { offset: begin }, "{sector}");
            }
        }
    }

    #[test]
    fn a_torn_log_before_one_that_was_written_to_is_damage() {
        let log = |number, verdict| LogFile { number, path: format!("{number}").into(), verdict };
        let torn = Verdict::Torn { offset: 5 };
        let (empty, full) = (Verdict::Whole { empty: true }, Verdict::Whole { empty: false });
        let found = |verdicts: &[Verdict]| {
            let logs: Vec<_> =
                verdicts.iter().enumerate().map(|(n, one)| log(n as u64, *one)).collect();
            first_damaged(&logs).map(|(path, offset)| (path.to_owned(), offset))
        };
        assert_eq!(found(&[full, torn]), None);
        assert_eq!(found(&[full, torn, empty]), None);
        assert_eq!(found(&[torn, full]), Some(("0".into(), 5)));
        assert_eq!(found(&[full, torn, torn]), Some(("1".into(), 5)));
        assert_eq!(found(&[full, Verdict::Damaged { offset: 9 }]), Some(("1".into(), 9)));
    }
}
