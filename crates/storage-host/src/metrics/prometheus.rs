//! Metrics for Prometheus.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeLabelSet, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::latency::LatencyHistogram;
use super::{ComponentMetrics, Metrics};

/// The content type of [`Metrics::to_prometheus`].
pub const PROMETHEUS_CONTENT_TYPE: &str =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The component id of the sum of components without their own series. No id is like this.
const OTHER: &str = "other";

impl Metrics {
    /// Returns the metrics in the text format of OpenMetrics 1.0, which Prometheus reads.
    ///
    /// The number of lines is bounded by the number of operations and of the components with
    /// series of their own. The only texts in it are names of operations and outcomes, the kind of
    /// the store, and component ids.
    pub fn to_prometheus(&self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        // Writing to a String does not fail, and all numbers can be encoded.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

/// A family of counters or gauges.
struct Family<'a, 'e> {
    encoder: &'a mut DescriptorEncoder<'e>,
    name: &'a str,
    help: &'a str,
    unit: Option<Unit>,
}

impl Family<'_, '_> {
    fn counters<S: EncodeLabelSet, N: EncodeCounterValue>(
        self,
        series: impl IntoIterator<Item = (S, N)>,
    ) -> fmt::Result {
        let Self { encoder, name, help, unit } = self;
        let mut family =
            encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, number) in series {
            let mut one = family.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&number, None)?;
        }
        Ok(())
    }

    fn counter(self, number: u64) -> fmt::Result {
        let Self { encoder, name, help, unit } = self;
        encoder
            .encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&number, None)
    }

    fn gauge(self, number: f64) -> fmt::Result {
        let Self { encoder, name, help, unit } = self;
        encoder
            .encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?
            .encode_gauge(&number)
    }

    fn histograms<S: EncodeLabelSet>(
        self,
        series: impl IntoIterator<Item = (S, LatencyHistogram)>,
    ) -> fmt::Result {
        let Self { encoder, name, help, unit } = self;
        let mut family =
            encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?;
        for (labels, histogram) in series {
            encode_histogram(&mut family.encode_family(&labels)?, &histogram)?;
        }
        Ok(())
    }

    fn histogram(self, histogram: &LatencyHistogram) -> fmt::Result {
        let Self { encoder, name, help, unit } = self;
        let mut one =
            encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?;
        encode_histogram(&mut one, histogram)
    }
}

fn encode_histogram(encoder: &mut MetricEncoder<'_>, histogram: &LatencyHistogram) -> fmt::Result {
    let seconds = |bound: Option<Duration>| bound.map_or(f64::MAX, |bound| bound.as_secs_f64());
    let buckets: Vec<(f64, u64)> =
        histogram.buckets().map(|(bound, count)| (seconds(bound), count)).collect();
    let (sum, count) = (histogram.sum().as_secs_f64(), histogram.count());
    encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_operations(&mut encoder)?;
        self.encode_cache(&mut encoder)?;
        self.encode_host(&mut encoder)?;
        self.encode_components(&mut encoder)
    }
}

fn family<'a, 'e>(
    encoder: &'a mut DescriptorEncoder<'e>,
    name: &'static str,
    help: &'static str,
) -> Family<'a, 'e> {
    Family { encoder, name, help, unit: None }
}

fn in_unit<'a, 'e>(
    encoder: &'a mut DescriptorEncoder<'e>,
    name: &'static str,
    help: &'static str,
    unit: Unit,
) -> Family<'a, 'e> {
    Family { encoder, name, help, unit: Some(unit) }
}

impl Metrics {
    fn encode_operations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let calls = self.operations.iter().flat_map(|one| {
            one.outcomes.iter().filter(|(_, calls)| *calls > 0).map(|(outcome, calls)| {
                let labels =
                    [("db_operation_name", one.operation.as_str()), ("outcome", outcome.as_str())];
                (labels, *calls)
            })
        });
        family(encoder, "storage_operations", "Calls of components by how they ended")
            .counters(calls)?;
        let used = || self.operations.iter();
        let from_memory = used().filter(|one| one.from_memory > 0);
        family(encoder, "storage_memory_reads", "Calls that were answered from memory").counters(
            from_memory
                .map(|one| ([("db_operation_name", one.operation.as_str())], one.from_memory)),
        )?;
        let kind = self.store.kind;
        let timed = used().filter(|one| one.latency.count() > 0).map(|one| {
            let labels = [("db_system_name", kind), ("db_operation_name", one.operation.as_str())];
            (labels, one.latency)
        });
        let help = "How long calls took that were not answered from memory";
        in_unit(encoder, "db_client_operation_duration", help, Unit::Seconds).histograms(timed)?;
        let help = "How long reads from memory took: one of 1024 is timed";
        in_unit(encoder, "storage_memory_read_duration", help, Unit::Seconds)
            .histogram(&self.memory_latency)?;
        let help = "Bytes of values read and keys listed by components";
        in_unit(encoder, "storage_read", help, Unit::Bytes).counter(self.read_bytes)?;
        let help = "Bytes of keys and values written by components";
        in_unit(encoder, "storage_written", help, Unit::Bytes).counter(self.written_bytes)
    }

    fn encode_cache(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let cache = &self.cache;
        for (name, help, number) in [
            ("storage_cache_hits", "Keys read from caches", cache.hits),
            ("storage_cache_misses", "Keys read from below caches", cache.misses),
            ("storage_cache_fills", "Entries added by reads", cache.fills),
            ("storage_cache_evictions", "Entries removed to make room", cache.evictions),
            ("storage_cache_refusals", "Values too large to cache", cache.refusals),
            (
                "storage_cache_invalidations",
                "Entries removed because another host changed their keys",
                cache.invalidations,
            ),
            (
                "storage_cache_drops",
                "Times all entries of a component were dropped after a lost change",
                cache.drops,
            ),
            (
                "storage_cache_lapses",
                "Times all entries of a component reached the maximum staleness",
                cache.lapses,
            ),
        ] {
            family(encoder, name, help).counter(number)?;
        }
        family(encoder, "storage_cache_entries", "Cached keys").gauge(cache.entries as f64)?;
        in_unit(encoder, "storage_cache_size", "Bytes of cached keys and values", Unit::Bytes)
            .gauge(cache.bytes as f64)?;
        let Some(coherence) = &self.coherence else { return Ok(()) };
        family(encoder, "storage_coherence_polls", "Polls for the writes of other hosts")
            .counter(coherence.polls)?;
        family(encoder, "storage_coherence_failed_polls", "Polls that failed")
            .counter(coherence.failed_polls)?;
        family(encoder, "storage_coherence_components", "Components that are polled")
            .gauge(coherence.components as f64)?;
        match coherence.last_success {
            Some(age) => {
                let help = "Time since the last successful poll";
                in_unit(encoder, "storage_coherence_poll_age", help, Unit::Seconds)
                    .gauge(age.as_secs_f64())
            }
            None => Ok(()),
        }
    }

    fn encode_host(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let durability = self.store.durability.map(|durability| durability.to_string());
        let build = [
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("db_system_name", self.store.kind.to_owned()),
            ("durability", durability.unwrap_or("none".to_owned())),
            ("failover_can_lose_writes", self.store.failover_can_lose_writes.to_string()),
        ];
        encoder
            .encode_descriptor("storage_host", "The host and its store", None, MetricType::Info)?
            .encode_info(&build)?;
        family(encoder, "storage_components_in_use", "Components that have a chain")
            .gauge(self.components_in_use as f64)?;
        #[cfg(feature = "async")]
        {
            let offload = &self.offload;
            for (name, help, number) in [
                ("storage_offload_running", "Calls on blocking threads", offload.running),
                ("storage_offload_max_running", "The most such calls", offload.max_running),
                ("storage_offload_waiting", "Calls that wait for a permit", offload.waiting),
            ] {
                family(encoder, name, help).gauge(number as f64)?;
            }
            family(encoder, "storage_offload_refused", "Calls that failed as overloaded")
                .counter(offload.refused)?;
        }
        Ok(())
    }

    fn encode_components(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Number = fn(&ComponentMetrics) -> u64;
        let families: [(&str, &str, Option<Unit>, Number); 6] = [
            ("storage_component_operations", "Calls of a component", None, |one| one.operations),
            ("storage_component_memory_hits", "Reads answered from memory", None, |one| {
                one.memory_hits
            }),
            (
                "storage_component_memory_misses",
                "Reads of one key not answered from memory",
                None,
                |one| one.memory_misses,
            ),
            ("storage_component_errors", "Calls that failed because storage failed", None, |one| {
                one.errors
            }),
            (
                "storage_component_read",
                "Bytes of values read and keys listed",
                Some(Unit::Bytes),
                |one| one.read_bytes,
            ),
            (
                "storage_component_written",
                "Bytes of keys and values written",
                Some(Unit::Bytes),
                |one| one.written_bytes,
            ),
        ];
        for (name, help, unit, number) in families {
            let series = self.all_components();
            let series = series.map(|one| ([("db_namespace", namespace(one))], number(one)));
            Family { encoder, name, help, unit }.counters(series)?;
        }
        let refused = self.all_components().flat_map(|one| {
            let reasons =
                [("limit", one.over_limit), ("quota", one.over_quota), ("rate", one.over_rate)];
            reasons.map(|(reason, calls)| {
                ([("db_namespace", namespace(one)), ("reason", reason)], calls)
            })
        });
        family(encoder, "storage_component_refused", "Calls refused by a limit, quota or rate")
            .counters(refused)?;
        let help = "Time of calls that were not answered from memory";
        let busy = self.all_components();
        let busy =
            busy.map(|one| ([("db_namespace", namespace(one))], one.latency.sum().as_secs_f64()));
        in_unit(encoder, "storage_component_busy", help, Unit::Seconds).counters(busy)
    }

    fn all_components(&self) -> impl Iterator<Item = &ComponentMetrics> {
        self.components.iter().chain([&self.other])
    }
}

fn namespace(component: &ComponentMetrics) -> &str {
    component.component.as_ref().map_or(OTHER, |id| id.as_str())
}
