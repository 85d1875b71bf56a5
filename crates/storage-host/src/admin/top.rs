//! What the components of a host do, for `storage-host top`.

use std::cmp::Reverse;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use storage_core::StorageError;

use super::wire::QuotaAndUsage;
use crate::host::StorageHost;
use crate::metrics::ComponentMetrics;

/// What the components of a host have done up to now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Activity {
    /// When it was read, in milliseconds since 1970.
    pub time_ms: u64,
    /// The number of components in use.
    pub components_in_use: u64,
    /// The busiest components, the one with the most operations first.
    pub components: Vec<ActiveComponent>,
    /// The sum of all other components.
    pub other: ActiveComponent,
}

/// What a component has done since the host started, as [`ComponentMetrics`] counts it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ActiveComponent {
    /// The component's id; `other` for the sum of several.
    pub id: String,
    /// Calls of storage, also refused ones.
    pub operations: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// Calls over a limit, the quota or the rate.
    pub refusals: u64,
    /// Reads that were answered from memory.
    pub memory_hits: u64,
    /// Reads of one key that were not.
    pub memory_misses: u64,
    /// Calls that were not answered from memory, and were made.
    pub timed_operations: u64,
    /// The time of these calls together, in microseconds.
    pub latency_us: u64,
    /// How much it stores; `None` without a quota, where it may have to be counted.
    pub usage: Option<QuotaAndUsage>,
}

impl ActiveComponent {
    fn new(metrics: &ComponentMetrics) -> Self {
        let id = metrics.component.as_ref().map_or("other", |id| id.as_str());
        Self {
            id: id.to_owned(),
            operations: metrics.operations,
            bytes: metrics.read_bytes.saturating_add(metrics.written_bytes),
            refusals: metrics.refused(),
            memory_hits: metrics.memory_hits,
            memory_misses: metrics.memory_misses,
            timed_operations: metrics.latency.count(),
            latency_us: u64::try_from(metrics.latency.sum().as_micros()).unwrap_or(u64::MAX),
            usage: None,
        }
    }
}

/// Reads what the components have done. Not a call of any component. May wait for the store,
/// to read how much components with a quota store.
pub(super) fn activity(host: &StorageHost) -> Result<Activity, StorageError> {
    let metrics = host.metrics();
    let with_usage = |one: &ComponentMetrics| {
        let mut component = ActiveComponent::new(one);
        if let Some(id) = &one.component
            && let Some(quota) = host.live().of(id).quota
        {
            component.usage = Some(QuotaAndUsage::new(host.usage(id)?, Some(quota)));
        }
        Ok::<_, StorageError>(component)
    };
    let mut components: Vec<_> =
        metrics.components.iter().map(with_usage).collect::<Result<_, _>>()?;
    // The sort is stable: equals stay in the order of their ids.
    components.sort_by_key(|component| Reverse(component.operations));
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Activity {
        time_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
        components_in_use: metrics.components_in_use,
        components,
        other: ActiveComponent::new(&metrics.other),
    })
}
