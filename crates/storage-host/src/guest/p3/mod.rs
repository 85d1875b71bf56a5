//! The dialects whose functions are `async`: calls of one instance may overlap.
//!
//! A call reads all its arguments from the guest's memory before it waits for anything,
//! because the guest may use that memory again as soon as the call has begun. What then
//! runs contains nothing of the guest: one that drops a call, or ends, leaves the old
//! value or the new one.

mod calls;
mod cas;
mod linkage;
mod listing;
mod spin;
mod wasmcloud;

use wasmtime::component::Linker;

use super::call::StateOf;

pub use calls::CONCURRENT_CALLS;
pub(super) use calls::Calls;
pub(super) use linkage::Size;

/// Adds all interfaces to a linker, if its engine can run calls concurrently.
pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    if !linker.engine().get_concurrency_support() {
        return Ok(());
    }
    spin::add_to_linker(linker, state)?;
    wasmcloud::add_to_linker(linker, state)
}

/// Whether an import is one of these interfaces.
pub(super) fn has(import: &str) -> bool {
    import == spin::NAME || wasmcloud::has(import)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use storage_core::StorageError;
    use storage_core::conformance::ReferenceStorage;

    use super::wasmcloud;
    use crate::StorageHost;
    use crate::guest::bucket::Bucket;
    use crate::guest::errors::{Call, CallError};
    use crate::guest::spin;
    use crate::offload::Refused;

    #[test]
    fn errors_have_the_cases_of_their_dialect() {
        let host = StorageHost::new(Arc::new(ReferenceStorage::new()));
        let own = host.component(&"a/b/1".parse().unwrap());
        let bucket = Bucket::Own(Arc::clone(&own));
        let call = Call { own: &own, bucket: &bucket, operation: "set", copied: 0 };
        let text = || "text".to_owned();
        let limit = |limit| StorageError::LimitExceeded { limit, max: 1, actual: 2 };
        for (error, spins, wasmclouds) in [
            (StorageError::QuotaExceeded, "Other", "QuotaExceeded"),
            (StorageError::InvalidKey(text()), "Other", "InvalidArgument"),
            (StorageError::AccessDenied(text()), "AccessDenied", "AccessDenied"),
            (StorageError::AlreadyExists(text()), "Other", "PreconditionFailed"),
            (StorageError::Unavailable { key: None, detail: text() }, "Other", "StoreUnavailable"),
            (StorageError::IoError(text()), "Other", "Other"),
            (limit("handles"), "StoreTableFull", "Other"),
            (limit("bytes of a value"), "Other", "Other"),
        ] {
            // An empty key breaks the rule for keys.
            let spin = format!("{:?}", spin::Error::from_storage(&call, Some(""), &error));
            let wasmcloud = wasmcloud::Error::from_storage(&call, Some(""), &error);
            let wasmcloud = format!("{wasmcloud:?}");
            assert!(spin.starts_with(spins), "{error}: {spin}");
            assert!(wasmcloud.starts_with(wasmclouds), "{error}: {wasmcloud}");
        }
        let overloaded = || Refused::Overloaded(Duration::from_secs(1));
        let spin = spin::Error::from_refused(&call, overloaded());
        assert!(matches!(spin, spin::Error::Other(text) if text.contains("overloaded")));
        let wasmcloud = wasmcloud::Error::from_refused(&call, overloaded());
        assert_eq!(wasmcloud, wasmcloud::Error::StoreUnavailable);
    }

    #[test]
    fn the_interfaces_are_known_by_name() {
        for import in [
            "spin:key-value/key-value@3.0.0",
            "wasmcloud:keyvalue/types@0.2.0",
            "wasmcloud:keyvalue/cas@0.2.0",
            "wasi:keyvalue/store@0.2.0-draft2",
        ] {
            assert!(crate::guest::provides_async(import), "{import}");
        }
        for import in [
            "spin:key-value/key-value@2.0.0",
            "wasmcloud:keyvalue/types@0.1.0",
            "wasmcloud:keyvalue/watcher@0.2.0",
            "wasmcloud:keyvalue/types",
        ] {
            assert!(!crate::guest::provides_async(import), "{import}");
        }
        assert!(!crate::guest::provides("spin:key-value/key-value@3.0.0"), "a synchronous linker");
    }
}
