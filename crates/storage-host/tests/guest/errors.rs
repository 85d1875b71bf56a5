//! Errors of the store, as the guest and the log get them.

use std::sync::Arc;

use rstest::rstest;
use storage_core::conformance::{FailingStorage, Fault, ReferenceStorage};
use storage_host::{CacheConfig, StorageError, StorageHost};

use crate::log::Log;
use crate::raw::{DATA, INVALID_KEY, IO_ERROR, RawGuest};

/// The text of a backend, which a guest must not see.
const SECRET: &str = "cannot read /srv/tenants/app/notes/home/kkkk: key app/notes/home/kkkk, \
                      next to app/other/tenant/key";

fn corrupt() -> StorageError {
    StorageError::Corrupt { key: Some("app/notes/home/kkkk".into()), detail: SECRET.into() }
}

fn unavailable() -> StorageError {
    StorageError::Unavailable { key: Some("app/notes/home/kkkk".into()), detail: SECRET.into() }
}

#[rstest]
#[case(StorageError::IoError(SECRET.into()), IO_ERROR, "storage failed (incident ")]
#[case(corrupt(), IO_ERROR, "what is stored is damaged (incident ")]
#[case(unavailable(), IO_ERROR, "storage is unavailable now (incident ")]
#[case(StorageError::Locked(SECRET.into()), IO_ERROR, "storage is in use elsewhere (incident ")]
#[case(StorageError::ReadOnly, IO_ERROR, "storage is read-only (incident ")]
#[case(StorageError::Unsupported(SECRET.into()), IO_ERROR, "storage cannot do this (incident ")]
#[case(StorageError::InvalidKey(SECRET.into()), INVALID_KEY, "the store cannot take this key (incident ")]
fn a_guest_gets_a_reason_and_the_log_gets_the_error(
    #[case] error: StorageError,
    #[case] code: u32,
    #[case] reason: &str,
    #[values("get", "set", "delete")] call: &str,
) {
    let backend = Arc::new(FailingStorage::new(ReferenceStorage::new()));
    let host = StorageHost::new(backend.clone());
    let mut guest = RawGuest::new(&host, "app/notes/home");
    guest.fill(DATA, b'k', 4);
    backend.inject(Fault::error(error.clone()));

    let mut told = String::new();
    let log = Log::of(|| {
        let answer = match call {
            "set" => guest.call::<_, u32>("set", (DATA, 4_u32, DATA, 4_u32)),
            _ => guest.call(call, (DATA, 4_u32)),
        };
        assert_eq!(answer, code);
        told = guest.text();
    });

    let incident = told.strip_prefix(reason).and_then(|rest| rest.strip_suffix(')'));
    let incident = incident.unwrap_or_else(|| panic!("{told:?} should begin with {reason:?}"));
    assert!(incident.len() == 8 && incident.bytes().all(|b| b.is_ascii_hexdigit()), "{told}");
    assert!(log.contains(&format!("incident={incident}")), "{log}");
    assert!(log.contains("ERROR") && log.contains("component=app/notes/home"), "{log}");
    assert!(log.contains(&format!("operation=\"{call}\"")), "{log}");
    assert!(log.contains("key=\"kkkk\""), "{log}");
    if error != StorageError::ReadOnly {
        assert!(log.contains("/srv/tenants/"), "{log}");
    }
}

#[test]
fn each_incident_has_a_number_of_its_own() {
    let backend = Arc::new(FailingStorage::new(ReferenceStorage::new()));
    let host = StorageHost::new(backend.clone());
    let mut guest = RawGuest::new(&host, "app/notes/home");
    guest.fill(DATA, b'k', 4);
    backend.inject(Fault::error(StorageError::IoError(SECRET.into())));
    guest.call::<_, u32>("get", (DATA, 4_u32));
    let first = guest.text();
    guest.call::<_, u32>("get", (DATA, 4_u32));
    assert_ne!(first, guest.text());
}

#[rstest]
// The user key replaces the text of a backend.
#[case(StorageError::NotFound(SECRET.into()), 0x001, "kkkk")]
#[case(StorageError::AlreadyExists(SECRET.into()), 0x101, "kkkk")]
#[case(StorageError::Conflict(SECRET.into()), IO_ERROR, "the key was changed meanwhile: try again")]
#[case(
    StorageError::LimitExceeded { limit: "bytes of a name", max: 1, actual: 2 },
    IO_ERROR,
    "2 bytes of a name are over the limit of 1"
)]
fn errors_of_the_guest_are_not_logged(
    #[case] error: StorageError,
    #[case] code: u32,
    #[case] text: &str,
) {
    let backend = Arc::new(FailingStorage::new(ReferenceStorage::new()));
    let host = StorageHost::new(backend.clone());
    let mut guest = RawGuest::new(&host, "app/notes/home");
    guest.fill(DATA, b'k', 4);
    backend.inject(Fault::error(error));
    let log = Log::of(|| {
        assert_eq!(guest.call::<_, u32>("get", (DATA, 4_u32)), code);
        assert_eq!(guest.text(), text);
    });
    assert_eq!(log, "");
}

#[test]
fn a_failed_listing_does_not_expose_other_keys() {
    let backend = Arc::new(FailingStorage::new(ReferenceStorage::new()));
    let host = StorageHost::builder(backend.clone()).cache(CacheConfig::default()).build();
    let mut guest = RawGuest::new(&host, "app/notes/home");
    backend.inject(Fault::error(StorageError::IoError(SECRET.into())));
    assert_eq!(guest.call::<_, u32>("list", (DATA, 0_u32)), 1);
    assert!(guest.text().starts_with("storage failed (incident "), "{}", guest.text());
}
