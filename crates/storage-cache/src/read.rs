//! The kinds of reads of one key.

use storage_core::{ComponentStorage, StorageError, StorageValue, VersionedValue};

use crate::entry::{Cached, KnownRevision, Marker, ReadKind};

/// What an entry yields for a read.
#[derive(Debug)]
pub(crate) enum Lookup<T> {
    Hit(T),
    /// The value is too large to cache: read it from the storage below, and return it
    /// if the marker with this id is still there.
    Bypass {
        id: u64,
    },
    Miss,
}

pub(crate) trait Read {
    type Output;
    const KIND: ReadKind;

    /// Reads from an entry.
    fn lookup(cached: Cached) -> Lookup<Self::Output>;

    /// Reads from a storage.
    fn fetch<S: ComponentStorage>(storage: &S, key: &str) -> Result<Self::Output, StorageError>;

    /// What to cache after the read.
    fn cached(output: &Self::Output) -> Cached;
}

pub(crate) struct Get;

impl Read for Get {
    type Output = Option<StorageValue>;
    const KIND: ReadKind = ReadKind::Get;

    #[inline]
    fn lookup(cached: Cached) -> Lookup<Self::Output> {
        match cached {
            Cached::Value(value, _) => Lookup::Hit(Some(value)),
            Cached::Marker(Marker::Absent { .. }) => Lookup::Hit(None),
            Cached::Marker(Marker::TooLarge { id }) => Lookup::Bypass { id },
            Cached::Marker(Marker::Present | Marker::Failed(_)) => Lookup::Miss,
        }
    }

    fn fetch<S: ComponentStorage>(storage: &S, key: &str) -> Result<Self::Output, StorageError> {
        storage.get(key)
    }

    fn cached(output: &Self::Output) -> Cached {
        match output {
            Some(value) => Cached::Value(value.clone(), KnownRevision::UNKNOWN),
            None => Cached::Marker(Marker::Absent { versioned: false }),
        }
    }
}

pub(crate) struct GetVersioned;

impl Read for GetVersioned {
    type Output = Option<VersionedValue>;
    const KIND: ReadKind = ReadKind::GetVersioned;

    fn lookup(cached: Cached) -> Lookup<Self::Output> {
        match cached {
            Cached::Value(value, revision) => match revision.get() {
                Some(revision) => Lookup::Hit(Some(VersionedValue { value, revision })),
                None => Lookup::Miss,
            },
            Cached::Marker(Marker::Absent { versioned: true }) => Lookup::Hit(None),
            Cached::Marker(Marker::TooLarge { id }) => Lookup::Bypass { id },
            Cached::Marker(_) => Lookup::Miss,
        }
    }

    fn fetch<S: ComponentStorage>(storage: &S, key: &str) -> Result<Self::Output, StorageError> {
        storage.get_versioned(key)
    }

    fn cached(output: &Self::Output) -> Cached {
        match output {
            Some(found) => Cached::Value(found.value.clone(), found.revision.into()),
            None => Cached::Marker(Marker::Absent { versioned: true }),
        }
    }
}

pub(crate) struct Exists;

impl Read for Exists {
    type Output = bool;
    const KIND: ReadKind = ReadKind::Exists;

    fn lookup(cached: Cached) -> Lookup<Self::Output> {
        match cached {
            Cached::Value(..) | Cached::Marker(Marker::Present | Marker::TooLarge { .. }) => {
                Lookup::Hit(true)
            }
            Cached::Marker(Marker::Absent { .. }) => Lookup::Hit(false),
            Cached::Marker(Marker::Failed(_)) => Lookup::Miss,
        }
    }

    fn fetch<S: ComponentStorage>(storage: &S, key: &str) -> Result<Self::Output, StorageError> {
        storage.exists(key)
    }

    fn cached(output: &Self::Output) -> Cached {
        Cached::Marker(if *output { Marker::Present } else { Marker::Absent { versioned: false } })
    }
}
