//! What a guest passes to the host: any address, any length, any bytes.

use std::sync::Arc;

use rstest::rstest;
use storage_core::conformance::{CountingStorage, ReferenceStorage};
use storage_host::{Budget, ComponentStorage, Limits, StorageHost};

use crate::raw::{DATA, INVALID_KEY, IO_ERROR, OK, OK_SOME, QUOTA_EXCEEDED, RawGuest};

fn counted() -> (StorageHost, Arc<CountingStorage<ReferenceStorage>>) {
    let backend = Arc::new(CountingStorage::new(ReferenceStorage::new()));
    (StorageHost::new(backend.clone()), backend)
}

/// Memory for lengths up to 100 MiB.
const MANY_PAGES: u32 = 1_600;

#[test]
fn values_come_back_byte_for_byte() {
    let (host, _) = counted();
    let mut guest = RawGuest::new(&host, "a/b/1");
    guest.fill(DATA, b'k', 4);
    assert_eq!(guest.call::<_, u32>("get", (DATA, 4_u32)), OK, "absent is no error");
    guest.call::<_, i32>("grow", (MANY_PAGES,));
    for len in [0_u32, 1, 65_535, 65_536, 1 << 20] {
        guest.fill(DATA + 16, 0xe9, len);
        assert_eq!(guest.call::<_, u32>("set", (DATA, 4_u32, DATA + 16, len)), OK);
        assert_eq!(guest.call::<_, u32>("get", (DATA, 4_u32)), OK_SOME);
        assert_eq!(guest.call::<_, Vec<u8>>("bytes", ()), vec![0xe9; len as usize]);
    }
    let kept = guest.chain().get("kkkk").unwrap().unwrap();
    assert_eq!(kept.as_bytes(), vec![0xe9; 1 << 20]);
    assert_eq!(guest.call::<_, u32>("delete", (DATA, 4_u32)), OK);
    assert_eq!(guest.call::<_, u32>("get", (DATA, 4_u32)), OK);
}

#[rstest]
#[case::pointer_outside(0xffff_0000, 4)]
#[case::end_outside(0x000f_fffe, 4)]
#[case::length_outside(DATA, 0xffff_ffff)]
#[case::sum_overflows(0xffff_ffff, 0xffff_ffff)]
fn addresses_outside_its_memory_end_the_guest_alone(#[case] at: u32, #[case] len: u32) {
    let (host, backend) = counted();
    host.component(&"a/b/1".parse().unwrap()).set("kkkk", "kept".into()).unwrap();
    backend.reset();
    for call in ["get", "delete", "list"] {
        let reason = RawGuest::new(&host, "a/b/1").trap(call, (at, len));
        assert!(reason.contains("out of bounds"), "{call}: {reason}");
    }
    let mut guest = RawGuest::new(&host, "a/b/1");
    guest.fill(DATA, b'k', 4);
    let reason = guest.trap("set", (DATA, 4_u32, at, len));
    assert!(reason.contains("out of bounds"), "set: {reason}");
    assert_eq!(backend.total(), 0, "the storage was not called");

    // The host and its other guests continue.
    let mut other = RawGuest::new(&host, "a/b/1");
    other.fill(DATA, b'k', 4);
    assert_eq!(other.call::<_, u32>("get", (DATA, 4_u32)), OK_SOME);
    assert_eq!(other.text(), "kept");
}

#[test]
fn a_key_that_is_no_utf8_ends_the_guest() {
    let (host, backend) = counted();
    for call in ["get", "delete", "list"] {
        let mut guest = RawGuest::new(&host, "a/b/1");
        guest.fill(DATA, 0xff, 4);
        let reason = guest.trap(call, (DATA, 4_u32));
        assert!(reason.contains("utf-8"), "{reason}");
    }
    assert_eq!(backend.total(), 0);
}

#[rstest]
#[case::empty(b'k', 0, "a key has at least 1 byte; this one is empty")]
#[case::nul(0, 1, "a key has no control characters; \"\\0\" has one at byte 0")]
#[case::a_byte_too_long(b'k', 1_025, "a key has at most 1024 bytes;")]
#[case::ten_mebibytes(b'k', 10 << 20, "a key has at most 1024 bytes;")]
fn an_invalid_key_is_refused_with_the_rule(#[case] byte: u8, #[case] len: u32, #[case] rule: &str) {
    let (host, backend) = counted();
    let mut guest = RawGuest::new(&host, "a/b/1");
    guest.call::<_, i32>("grow", (MANY_PAGES,));
    guest.fill(DATA, byte, len);
    for call in ["get", "delete"] {
        assert_eq!(guest.call::<_, u32>(call, (DATA, len)), INVALID_KEY, "{call}");
        let text = guest.text();
        assert!(text.contains(rule) && text.len() < 200, "{call}: {text}");
    }
    assert_eq!(guest.call::<_, u32>("set", (DATA, len, DATA, 1_u32)), INVALID_KEY);
    assert!(guest.text().contains(rule));
    assert_eq!(backend.total(), 0, "the backend was not called");
}

#[test]
fn a_value_over_the_limit_is_an_error_that_names_it() {
    let (host, backend) = counted();
    let mut guest = RawGuest::new(&host, "a/b/1");
    guest.call::<_, i32>("grow", (MANY_PAGES,));
    guest.fill(DATA, b'k', 4);
    for len in [(1_u32 << 20) + 1, 10 << 20] {
        assert_eq!(guest.call::<_, u32>("set", (DATA, 4_u32, DATA, len)), IO_ERROR);
        assert_eq!(guest.text(), format!("{len} bytes of a value are over the limit of 1048576"));
    }
    assert_eq!(backend.total(), 0);
    // The guest continues.
    assert_eq!(guest.call::<_, u32>("set", (DATA, 4_u32, DATA, 1_u32 << 20)), OK);
}

#[test]
fn more_than_any_legal_call_passes_ends_the_guest_and_names_the_limit() {
    let (host, backend) = counted();
    for call in ["get", "delete", "list"] {
        let mut guest = RawGuest::new(&host, "a/b/1");
        guest.call::<_, i32>("grow", (MANY_PAGES,));
        let reason = guest.trap(call, (DATA, 90_u32 << 20));
        assert_eq!(
            reason,
            "it passed more to the host in one call than the limit of 21131520 bytes"
        );
    }
    let mut guest = RawGuest::new(&host, "a/b/1");
    guest.call::<_, i32>("grow", (MANY_PAGES,));
    guest.fill(DATA, b'k', 4);
    let reason = guest.trap("set", (DATA, 4_u32, DATA, 90_u32 << 20));
    assert!(reason.contains("21131520 bytes"), "{reason}");
    assert_eq!(backend.total(), 0);
}

#[test]
fn a_long_prefix_lists_nothing() {
    let (host, _) = counted();
    let mut guest = RawGuest::new(&host, "a/b/1");
    guest.chain().set("kkkk", "".into()).unwrap();
    guest.call::<_, i32>("grow", (MANY_PAGES,));
    guest.fill(DATA, b'k', 10 << 20);
    assert_eq!(guest.call::<_, u32>("list", (DATA, 2_u32)), OK);
    assert_eq!(guest.call::<_, u32>("listed", ()), 1);
    for len in [5_u32, 1_025, 10 << 20] {
        assert_eq!(guest.call::<_, u32>("list", (DATA, len)), OK);
        assert_eq!(guest.call::<_, u32>("listed", ()), 0);
    }
}

#[test]
fn a_listing_over_its_limit_is_an_error() {
    let mut limits = Limits::default();
    limits.listing_keys = 3;
    let host = StorageHost::builder(Arc::new(ReferenceStorage::new())).limits(limits).build();
    let mut guest = RawGuest::new(&host, "a/b/1");
    for key in ["1", "2", "3"] {
        guest.chain().set(key, "".into()).unwrap();
    }
    assert_eq!(guest.call::<_, u32>("list", (DATA, 0_u32)), OK);
    assert_eq!(guest.call::<_, u32>("listed", ()), 3);
    guest.chain().set("4", "".into()).unwrap();
    // `list` returns the answer's first byte alone.
    assert_eq!(guest.call::<_, u32>("list", (DATA, 0_u32)), IO_ERROR & 0xff);
    assert_eq!(guest.text(), "4 keys of a listing are over the limit of 3");
}

#[test]
fn an_exceeded_quota_has_its_own_error() {
    let quota = Budget { max_bytes: 5, max_keys: 9 };
    let host = StorageHost::builder(Arc::new(ReferenceStorage::new())).quota(quota).build();
    let mut guest = RawGuest::new(&host, "a/b/1");
    guest.fill(DATA, b'k', 4);
    assert_eq!(guest.call::<_, u32>("set", (DATA, 4_u32, DATA, 2_u32)), QUOTA_EXCEEDED);
    assert_eq!(guest.call::<_, u32>("set", (DATA, 4_u32, DATA, 1_u32)), OK);
    assert_eq!(guest.call::<_, u32>("delete", (DATA, 4_u32)), OK);
}

#[test]
fn strings_in_utf16_are_the_same_keys() {
    let (host, backend) = counted();
    let mut guest = RawGuest::utf16(&host, "a/b/1");
    guest.chain().set("\u{6b6b}\u{6b6b}", "here".into()).unwrap();
    guest.fill(DATA, b'k', 4);
    // A length counts code units: two of 0x6b6b.
    assert_eq!(guest.call::<_, u32>("get", (DATA, 2_u32)), OK_SOME);
    assert_eq!(guest.call::<_, Vec<u8>>("bytes", ()), b"here");

    backend.reset();
    guest.call::<_, i32>("grow", (MANY_PAGES,));
    guest.fill(DATA, b'k', 10 << 20);
    assert_eq!(guest.call::<_, u32>("get", (DATA, 4_u32 << 20)), INVALID_KEY);
    // Half a surrogate pair is not valid text.
    guest.fill(DATA, 0xd8, 2);
    let reason = guest.trap("get", (DATA, 1_u32));
    assert!(reason.contains("surrogate"), "{reason}");
    assert_eq!(backend.total(), 0);
}

#[test]
fn memory_and_tables_grow_no_further_than_the_sandbox() {
    let (host, _) = counted();
    let mut guest = RawGuest::new(&host, "a/b/1");
    // 512 MiB are 8,192 pages, of which 16 are there.
    assert_eq!(guest.call::<_, i32>("grow", (8_192 - 16 + 1_u32,)), -1);
    assert_eq!(guest.call::<_, i32>("grow", (8_192 - 16_u32,)), 16);
    assert_eq!(guest.call::<_, i32>("grow-table", (100_000_u32,)), -1);
    assert_eq!(guest.call::<_, i32>("grow-table", (99_999_u32,)), 1);
}
