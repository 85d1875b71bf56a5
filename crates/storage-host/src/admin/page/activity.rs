//! What the host and its components did, as tables.

use std::fmt::Write;
use std::time::Duration;

use hyper::StatusCode;

use super::super::routes::Answer;
use super::super::top::{ActiveComponent, activity};
use super::super::wire::Refusal;
use super::html::{Attribute, Escaped};
use super::{html, link};
use crate::host::StorageHost;
use crate::metrics::{Metrics, OperationMetrics};
use crate::operation::Outcome;

/// The page with the metrics of a host and of its busiest components.
pub(super) fn page(host: &StorageHost) -> Result<Answer, Refusal> {
    let mut content = "<p>Since the host started. The numbers for Prometheus are at \
                       <a href=\"/metrics\">/metrics</a>.</p>\n"
        .to_owned();
    add_operations(&mut content, &host.metrics());
    add_components(&mut content, host)?;
    Ok(html(StatusCode::OK, "Activity", &content))
}

fn add_operations(content: &mut String, metrics: &Metrics) {
    *content += "<h2>Operations</h2>\n<table>\n<tr><th>operation<th>calls<th>from memory\
                 <th>refused<th>failed<th>mean<th>99 % within\n";
    for one in &metrics.operations {
        let calls = |outcomes: &[Outcome]| -> u64 {
            outcomes.iter().map(|outcome| one.calls(*outcome)).sum()
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            content,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}",
            one.operation.as_str(),
            calls(&Outcome::ALL),
            one.from_memory,
            calls(&[Outcome::Limit, Outcome::Quota, Outcome::Rate, Outcome::Denied]),
            calls(&[Outcome::Error]),
            micros(mean(one)),
            micros(one.latency.quantile(0.99)),
        );
    }
    let cache = &metrics.cache;
    let _ = writeln!(
        content,
        "</table>\n<p>{} bytes read, {} bytes written. Caches: {} hits, {} misses, {} evictions; \
         {} entries of {} bytes.</p>",
        metrics.read_bytes,
        metrics.written_bytes,
        cache.hits,
        cache.misses,
        cache.evictions,
        cache.entries,
        cache.bytes
    );
}

/// The mean time of the calls that were not answered from memory.
fn mean(operation: &OperationMetrics) -> Option<Duration> {
    let count = u32::try_from(operation.latency.count()).ok()?;
    operation.latency.sum().checked_div(count)
}

fn micros(time: Option<Duration>) -> String {
    time.map_or_else(none, |time| format!("{} us", time.as_micros()))
}

fn none() -> String {
    "-".to_owned()
}

fn add_components(content: &mut String, host: &StorageHost) -> Result<(), Refusal> {
    let activity = activity(host)?;
    let _ = writeln!(
        content,
        "<h2>Components</h2>\n<p>{} in use.</p>\n<table>\n<tr><th>component<th>calls<th>bytes\
         <th>refused<th>memory hits<th>memory misses<th>used bytes<th>quota",
        activity.components_in_use
    );
    for one in &activity.components {
        let target = link("/component", &[("component", &one.id)]);
        let name = format!("<a href=\"{}\">{}</a>", Attribute(&target), Escaped(&one.id));
        add_row(content, &name, one);
    }
    add_row(content, "all others", &activity.other);
    *content += "</table>\n";
    Ok(())
}

fn add_row(content: &mut String, name: &str, one: &ActiveComponent) {
    let number = |number: Option<u64>| number.map_or_else(none, |number| number.to_string());
    // Writing to a String cannot fail.
    let _ = writeln!(
        content,
        "<tr><td>{name}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}",
        one.operations,
        one.bytes,
        one.refusals,
        one.memory_hits,
        one.memory_misses,
        number(one.usage.map(|usage| usage.used_bytes)),
        number(one.usage.and_then(|usage| usage.quota_bytes)),
    );
}
