//! Bytes on disk: whatever they are, they are read as what somebody wrote or as
//! damage, in memory in proportion to them.

use std::fmt::Debug;

use storage_backends::internals as disk;
use storage_backends::internals::Log;
use storage_core::{Revision, StorageValue, Usage, VersionedValue};

use crate::allocated_by;
use crate::input::{Choices, valid_start};

/// The kind of what is read, and its bytes; or what it is written from.
pub(crate) fn run(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    match kind % 12 {
        0 => raw_record(rest),
        1 => raw_record_beside_key(rest),
        2 => raw_journal(rest),
        3 => raw_counter(rest),
        4 => raw_ledger(rest),
        5 => raw_log(rest),
        6 => whole_record(Choices::new(rest)),
        7 => whole_journal(Choices::new(rest)),
        8 => whole_counter(Choices::new(rest)),
        9 => whole_ledger(Choices::new(rest)),
        10 => whole_log(Choices::new(rest)),
        _ => end_of_prefix(Choices::new(rest)),
    }
}

/// Reads bytes as they are, and with a checksum that is right, as only somebody
/// who means harm would write it.
fn read_both<T>(bytes: &[u8], sealed: &[u8], read: impl Fn(&[u8]) -> T) -> [T; 2] {
    [bytes, sealed].map(|bytes| {
        let (result, allocated) = allocated_by(|| read(bytes));
        // A list of small entries doubles as it grows.
        assert!(allocated <= 64 * bytes.len() + 1_024, "{allocated} for {}", bytes.len());
        result
    })
}

/// No bit of it can change without being noticed, and no end be missing, unless
/// what is there before has a checksum at its end: a value can be made so.
fn damaged<T: Debug>(
    choices: &mut Choices<'_>,
    bytes: &[u8],
    sealed: impl Fn(&[u8]) -> Vec<u8>,
    read: impl Fn(&[u8]) -> Option<T>,
) {
    let mut flipped = bytes.to_vec();
    let at = choices.below(bytes.len());
    flipped[at] ^= 1 << choices.below(8);
    assert!(read(&flipped).is_none(), "a flip at {at} is not noticed: {:?}", read(&flipped));
    let cut = &bytes[..choices.below(bytes.len())];
    let is_sealed = cut.len() >= 4 && sealed(&cut[..cut.len() - 4]) == cut;
    assert!(is_sealed || read(cut).is_none(), "cut to {}: {:?}", cut.len(), read(cut));
}

fn raw_record(bytes: &[u8]) {
    for read in read_both(bytes, &disk::sealed(bytes), disk::read_record) {
        let Ok((key, found)) = read else { continue };
        let again = disk::record(&key, &found.value, found.revision);
        assert_eq!(disk::read_record(&again), Ok((key, found)));
    }
    read_both(bytes, bytes, disk::key_at_start_of_record);
}

fn whole_record(mut choices: Choices<'_>) {
    let (revision, key) = (Revision::new(choices.number()), choices.text(1_411));
    let damage = (choices.number(), choices.number());
    let value = StorageValue::from(choices.rest());
    let bytes = disk::record(key, &value, revision);
    assert_eq!(disk::key_at_start_of_record(&bytes).as_deref(), Some(key));
    let beside = disk::record_beside_key(key, value.as_bytes(), revision);
    assert_eq!(
        disk::read_record_beside_key(key, &beside),
        Ok((value.as_bytes(), revision)),
        "beside {key:?}"
    );
    let found = VersionedValue { value, revision };
    assert_eq!(disk::read_record(&bytes), Ok((key.to_owned(), found)));

    let place = [damage.0.to_le_bytes(), damage.1.to_le_bytes()].concat();
    damaged(&mut Choices::new(&place), &bytes, disk::sealed, |bytes| disk::read_record(bytes).ok());
    let sealed = |bytes: &[u8]| disk::sealed_beside_key(key.as_bytes(), bytes);
    damaged(&mut Choices::new(&place), &beside, sealed, |bytes| {
        disk::read_record_beside_key(key, bytes).ok().map(|(value, _)| value.to_vec())
    });
    for other in [format!("{key}0"), key.chars().skip(1).collect()] {
        let read = disk::read_record_beside_key(&other, &beside);
        assert!(other == key || read.is_err(), "{key:?} is read as {other:?}");
    }
}

fn raw_record_beside_key(bytes: &[u8]) {
    let (key, bytes) = bytes.split_at(bytes.len() / 4);
    let key = valid_start(key);
    let read = |bytes: &[u8]| {
        disk::read_record_beside_key(key, bytes).map(|(value, revision)| (value.len(), revision))
    };
    let sealed = disk::sealed_beside_key(key.as_bytes(), bytes);
    for (len, _) in read_both(bytes, &sealed, read).into_iter().flatten() {
        assert!(len <= bytes.len());
    }
}

fn raw_journal(bytes: &[u8]) {
    for (revision, writes) in
        read_both(bytes, &disk::sealed(bytes), disk::read_journal).into_iter().flatten()
    {
        let again = disk::journal(revision, &writes);
        assert_eq!(disk::read_journal(&again), Ok((revision, writes)));
    }
}

fn whole_journal(mut choices: Choices<'_>) {
    let (revision, damage) = (Revision::new(choices.number()), choices.number().to_le_bytes());
    let mut writes = Vec::new();
    while !choices.is_empty() {
        writes.push((choices.text(1_411).to_owned(), choices.once_in(2)));
    }
    let bytes = disk::journal(revision, &writes);
    assert_eq!(disk::read_journal(&bytes), Ok((revision, writes)));
    damaged(&mut Choices::new(&damage), &bytes, disk::sealed, |bytes| {
        disk::read_journal(bytes).ok()
    });
}

fn raw_counter(bytes: &[u8]) {
    let slot = disk::sealed(bytes);
    let sealed = [slot.as_slice(), &vec![0; 4_096_usize.saturating_sub(slot.len())], &slot];
    read_both(bytes, &sealed.concat(), disk::read_counter);
}

/// Whichever slot is damaged, no number comes back.
fn whole_counter(mut choices: Choices<'_>) {
    let (first, second) = (choices.number(), choices.number());
    let mut bytes = disk::counter_slot(first);
    bytes.resize(4_096, 0);
    bytes.extend(disk::counter_slot(second));
    assert_eq!(disk::read_counter(&bytes), Some(first.max(second)));
    let slot = choices.below(2);
    bytes[slot * 4_096 + choices.below(12)] ^= 1 << choices.below(8);
    let left = [second, first][slot];
    // The lost one may have been a block further.
    assert_eq!(disk::read_counter(&bytes), Some(left.saturating_add(65_536)));
    bytes[(1 - slot) * 4_096 + choices.below(12)] ^= 1 << choices.below(8);
    assert_eq!(disk::read_counter(&bytes), None);
}

fn raw_ledger(bytes: &[u8]) {
    let (partition, bytes) = bytes.split_at(bytes.len() / 2);
    let sealed = disk::sealed_beside_key(partition, bytes);
    let [raw, whole] = read_both(bytes, &sealed, |bytes| disk::read_ledger(partition, bytes));
    assert_eq!(whole.is_some(), bytes.len() == 16);
    if let Some(usage) = whole {
        assert_eq!(disk::ledger(partition, usage), sealed);
    }
    if let Some(usage) = raw {
        assert_eq!(disk::ledger(partition, usage), bytes);
    }
}

fn whole_ledger(mut choices: Choices<'_>) {
    let usage = Usage { bytes: choices.number(), keys: choices.number() };
    let damage = choices.number().to_le_bytes();
    let partition = choices.rest();
    let bytes = disk::ledger(partition, usage);
    assert_eq!(disk::read_ledger(partition, &bytes), Some(usage));
    let sealed = |bytes: &[u8]| disk::sealed_beside_key(partition, bytes);
    damaged(&mut Choices::new(&damage), &bytes, sealed, |bytes| {
        disk::read_ledger(partition, bytes)
    });
    let other = [partition, b"/"].concat();
    assert_eq!(disk::read_ledger(&other, &bytes), None);
}

fn end_of_prefix(mut choices: Choices<'_>) {
    let prefix = choices.bytes(64);
    let key = choices.rest();
    let end = disk::end_of_prefix(prefix);
    let within = key >= prefix && end.as_deref().is_none_or(|end| key < end);
    assert_eq!(key.starts_with(prefix), within, "{key:?} begins with {prefix:?}");
}

fn raw_log(bytes: &[u8]) {
    for manifest in [false, true] {
        let ([log, _], len) =
            (read_both(bytes, bytes, |bytes| disk::judge_log(bytes, manifest)), bytes.len());
        if let Log::Torn(at) | Log::Damaged(at) = log {
            assert!(at < len);
        }
    }
}

const BLOCK_BYTES: usize = 32 * 1_024;

/// A log as RocksDB writes one, whole, cut short, and with a flipped bit.
fn whole_log(mut choices: Choices<'_>) {
    let mut log = Vec::new();
    let mut begins = Vec::new();
    for _ in 0..1 + choices.below(4) {
        begins.push(log.len());
        // A few cross blocks: each byte of them is read many times.
        let len = match choices.below(16) {
            0 => choices.pick(&[32_761, 40_000]),
            _ => choices.pick(&[0, 1, 7, 100, 700]),
        } + choices.below(16);
        // No zeros, which would look like a sector that is missing, nor what each
        // would be the beginning of a record, which takes long to tell.
        write_log(&mut log, &vec![3 + choices.below(253) as u8; len]);
    }
    let cut = choices.number() as usize % (log.len() + 1);
    let (at, bit) = (choices.number() as usize % log.len(), choices.below(8));
    for manifest in [false, true] {
        assert_eq!(disk::judge_log(&log, manifest), Log::Whole);
        // As a power cut leaves it.
        let judged = disk::judge_log(&log[..cut], manifest);
        assert!(!matches!(judged, Log::Damaged(_)), "cut at {cut}: {judged:?}");
        if begins.contains(&cut) {
            assert_eq!(judged, Log::Whole);
        }
    }
    if begins.last().is_some_and(|last| at < *last) {
        let mut flipped = log.clone();
        flipped[at] ^= 1 << bit;
        let judged = disk::judge_log(&flipped, false);
        let padding = log[at] == 0 && BLOCK_BYTES - at % BLOCK_BYTES < 7;
        let noticed = matches!(judged, Log::Damaged(_));
        assert!(noticed || padding, "flip at {at}: {judged:?}, records at {begins:?}");
    }
}

/// Appends a record, in parts where it crosses blocks.
fn write_log(log: &mut Vec<u8>, mut payload: &[u8]) {
    let mut is_first = true;
    loop {
        let left = BLOCK_BYTES - log.len() % BLOCK_BYTES;
        if left < 7 {
            log.resize(log.len() + left, 0);
            continue;
        }
        let (part, rest) = payload.split_at(payload.len().min(left - 7));
        payload = rest;
        let kind = match (is_first, payload.is_empty()) {
            (true, true) => 1,
            (true, false) => 2,
            (false, false) => 3,
            (false, true) => 4,
        };
        is_first = false;
        let checked = [&[kind], part].concat();
        log.extend(crc32c(&checked).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes());
        log.extend(u16::try_from(part.len()).unwrap().to_le_bytes());
        log.extend(checked);
        if payload.is_empty() {
            return;
        }
    }
}

/// CRC-32C, a bit at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |state: u32, byte: &u8| {
        (0..8).fold(state ^ u32::from(*byte), |state, _| {
            if state & 1 == 1 { (state >> 1) ^ 0x82f6_3b78 } else { state >> 1 }
        })
    };
    !bytes.iter().fold(!0, step)
}
