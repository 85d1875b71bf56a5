//! Bytes on disk: they are decoded as what was written or as damage, in memory that is
//! proportional to them.

use std::fmt::Debug;

use storage_backends::internals as disk;
use storage_core::{Revision, StorageValue, Usage, VersionedValue};

use crate::allocated_by;
use crate::input::{Choices, valid_start};

/// Input: a kind of record, and either its bytes or what to encode.
pub(crate) fn run(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    match kind % 10 {
        0 => raw_record(rest),
        1 => raw_keyless_record(rest),
        2 => raw_journal(rest),
        3 => raw_counter(rest),
        4 => raw_usage_counter(rest),
        5 => whole_record(Choices::new(rest)),
        6 => whole_journal(Choices::new(rest)),
        7 => whole_counter(Choices::new(rest)),
        8 => whole_usage_counter(Choices::new(rest)),
        _ => end_of_prefix(Choices::new(rest)),
    }
}

/// Reads bytes as they are, and with a valid checksum, as an attacker would write them.
fn read_both<T>(bytes: &[u8], sealed: &[u8], read: impl Fn(&[u8]) -> T) -> [T; 2] {
    [bytes, sealed].map(|bytes| {
        let (result, allocated) = allocated_by(|| read(bytes));
        // A growing list doubles its capacity.
        assert!(allocated <= 64 * bytes.len() + 1_024, "{allocated} for {}", bytes.len());
        result
    })
}

/// Every flipped bit and every truncation is detected, unless the rest happens to end with its
/// own checksum, which a value can be made to do.
fn damaged<T: Debug>(
    choices: &mut Choices<'_>,
    bytes: &[u8],
    sealed: impl Fn(&[u8]) -> Vec<u8>,
    read: impl Fn(&[u8]) -> Option<T>,
) {
    let mut flipped = bytes.to_vec();
    let at = choices.below(bytes.len());
    flipped[at] ^= 1 << choices.below(8);
    assert!(read(&flipped).is_none(), "a flip at {at} is not detected: {:?}", read(&flipped));
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
    let keyless = disk::keyless_record(key, value.as_bytes(), revision);
    assert_eq!(
        disk::read_keyless_record(key, &keyless),
        Ok((value.as_bytes(), revision)),
        "{key:?}"
    );
    let found = VersionedValue { value, revision };
    assert_eq!(disk::read_record(&bytes), Ok((key.to_owned(), found)));

    let seed = [damage.0.to_le_bytes(), damage.1.to_le_bytes()].concat();
    damaged(&mut Choices::new(&seed), &bytes, disk::sealed, |bytes| disk::read_record(bytes).ok());
    let sealed = |bytes: &[u8]| disk::sealed_with_key(key.as_bytes(), bytes);
    damaged(&mut Choices::new(&seed), &keyless, sealed, |bytes| {
        disk::read_keyless_record(key, bytes).ok().map(|(value, _)| value.to_vec())
    });
    for other in [format!("{key}0"), key.chars().skip(1).collect()] {
        let read = disk::read_keyless_record(&other, &keyless);
        assert!(other == key || read.is_err(), "{key:?} is read as {other:?}");
    }
}

fn raw_keyless_record(bytes: &[u8]) {
    let (key, bytes) = bytes.split_at(bytes.len() / 4);
    let key = valid_start(key);
    let read = |bytes: &[u8]| {
        disk::read_keyless_record(key, bytes).map(|(value, revision)| (value.len(), revision))
    };
    let sealed = disk::sealed_with_key(key.as_bytes(), bytes);
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

/// If one slot is damaged, the counter does not go back.
fn whole_counter(mut choices: Choices<'_>) {
    let (first, second) = (choices.number(), choices.number());
    let mut bytes = disk::counter_slot(first);
    bytes.resize(4_096, 0);
    bytes.extend(disk::counter_slot(second));
    assert_eq!(disk::read_counter(&bytes), Some(first.max(second)));
    let slot = choices.below(2);
    bytes[slot * 4_096 + choices.below(12)] ^= 1 << choices.below(8);
    let left = [second, first][slot];
    // The damaged slot may have been a block ahead.
    assert_eq!(disk::read_counter(&bytes), Some(left.saturating_add(65_536)));
    bytes[(1 - slot) * 4_096 + choices.below(12)] ^= 1 << choices.below(8);
    assert_eq!(disk::read_counter(&bytes), None);
}

fn raw_usage_counter(bytes: &[u8]) {
    let (prefix, bytes) = bytes.split_at(bytes.len() / 2);
    let sealed = disk::sealed_with_key(prefix, bytes);
    let [raw, whole] = read_both(bytes, &sealed, |bytes| disk::read_usage_counter(prefix, bytes));
    assert_eq!(whole.is_some(), bytes.len() == 16);
    if let Some(usage) = whole {
        assert_eq!(disk::usage_counter(prefix, usage), sealed);
    }
    if let Some(usage) = raw {
        assert_eq!(disk::usage_counter(prefix, usage), bytes);
    }
}

fn whole_usage_counter(mut choices: Choices<'_>) {
    let usage = Usage { bytes: choices.number(), keys: choices.number() };
    let damage = choices.number().to_le_bytes();
    let prefix = choices.rest();
    let bytes = disk::usage_counter(prefix, usage);
    assert_eq!(disk::read_usage_counter(prefix, &bytes), Some(usage));
    let sealed = |bytes: &[u8]| disk::sealed_with_key(prefix, bytes);
    damaged(&mut Choices::new(&damage), &bytes, sealed, |bytes| {
        disk::read_usage_counter(prefix, bytes)
    });
    let other = [prefix, b"/"].concat();
    assert_eq!(disk::read_usage_counter(&other, &bytes), None);
}

fn end_of_prefix(mut choices: Choices<'_>) {
    let prefix = choices.bytes(64);
    let key = choices.rest();
    let end = disk::end_of_prefix(prefix);
    let within = key >= prefix && end.as_deref().is_none_or(|end| key < end);
    assert_eq!(key.starts_with(prefix), within, "{key:?} begins with {prefix:?}");
}
