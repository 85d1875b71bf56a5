//! Manifests: any text is either valid, so that a host can be built from it, or an error with
//! a position.

use std::collections::BTreeSet;
use std::sync::Arc;

use storage_backends::MemoryStorage;
use storage_core::{ComponentStorage, StorageError, validate_key};
use storage_host::{Applied, Manifest, ManifestError, RateLimit, StoreUrl};

use crate::input::valid_start;

/// Input: a manifest.
pub(crate) fn run(input: &[u8]) {
    let text = valid_start(input);
    match text.parse::<Manifest>() {
        Ok(manifest) => check(&manifest),
        Err(ManifestError::Syntax(message)) => assert!(message.starts_with("line "), "{message}"),
        Err(ManifestError::Contradiction(message)) => assert!(!message.is_empty()),
        Err(other) => panic!("{other}"),
    }
}

fn check(manifest: &Manifest) {
    if let Some(store) = &manifest.store {
        assert_eq!(store.to_string().parse::<StoreUrl>().as_ref(), Ok(store));
    }
    let ids: BTreeSet<_> = manifest.components.iter().map(|component| &component.id).collect();
    assert_eq!(ids.len(), manifest.components.len());

    // Not the store that it names, which may be anywhere, and not the rates: calls below must
    // not be refused.
    let mut unlimited = manifest.clone();
    unlimited.defaults.rate = RateLimit::default();
    for component in &mut unlimited.components {
        component.settings.rate = RateLimit::default();
    }
    let host = unlimited.host(Arc::new(MemoryStorage::new()));
    assert_eq!(host.settings(), unlimited.host_settings());
    assert_eq!(unlimited.apply_to(&host, &unlimited), Applied::default());
    for component in &manifest.components {
        assert_eq!(manifest.component(&component.id), Some(component));
        for grant in &component.grants {
            assert_ne!(grant.owner, component.id);
            let granted = host.granted(&component.id, &grant.owner).unwrap();
            assert_eq!(granted.list_keys(Some(&grant.prefix)), Ok(Vec::new()));
        }
        let chain = host.component(&component.id);
        assert_eq!((chain.quota(), chain.limits()), {
            let settings = &component.settings;
            (settings.quota, settings.limits)
        });
        assert_eq!(chain.config(), &component.settings.config);
        for (key, value) in &component.presets {
            assert!(validate_key(key).is_ok());
            match chain.set(key, value.as_str().into()) {
                Ok(()) => assert_eq!(chain.get(key), Ok(Some(value.as_str().into()))),
                Err(
                    StorageError::QuotaExceeded
                    | StorageError::LimitExceeded { .. }
                    | StorageError::InvalidKey(_),
                ) => assert_eq!(chain.get(key), Ok(None)),
                Err(other) => panic!("{other:?}"),
            }
        }
        let used = chain.component_usage().unwrap();
        let quota = component.settings.quota;
        assert_eq!(used.quota_bytes, quota.map_or(u64::MAX, |quota| quota.max_bytes));
        if let Some(quota) = quota {
            assert!(used.used_bytes <= quota.max_bytes && used.key_count <= quota.max_keys);
        }
        for key in component.presets.keys() {
            chain.delete(key).unwrap();
        }
    }
}
