//! `components`, `keys` and `usage`.

use std::io::{self, IsTerminal};

use serde::Serialize;
use serde_json::json;
use storage_host::{ComponentId, ComponentStorage, Mode};

use super::escape::shell_quoted;
use super::failure::Failure;
use super::listing::{List, Query};
use super::output::{Output, note};
use super::progress::counted;
use super::target::Target;
use super::unreadable::Pages;

pub(super) fn components(store: &Target, output: &mut Output) -> Result<(), Failure> {
    let host = store.open(Mode::ReadOnly)?;
    let mut pages = Pages::new(host.store());
    // Read before anything is written: an unreadable store must print only an error.
    let mut page = pages.next()?;
    let mut without_id = 0;
    let written = (|| {
        let mut list = List::begin("{\"components\":", output)?;
        while let Some(prefixes) = page {
            for prefix in &prefixes {
                let id = prefix.strip_suffix('/').and_then(|id| id.parse::<ComponentId>().ok());
                match id {
                    Some(id) => list.add(id.as_str())?,
                    None => without_id += 1,
                }
            }
            list.show()?;
            page = pages.next()?;
        }
        list.end(&format!(",\"unreadable\":{}}}", json!(pages.unreadable())))
    })();
    if without_id > 0 {
        note(format_args!(
            "{} not listed, because the id is invalid",
            counted(without_id, "component")
        ));
    }
    Failure::outcome_of(written, pages.refuse("the list is incomplete"))
}

pub(super) fn keys(
    store: &Target,
    id: &ComponentId,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
    output: &mut Output,
) -> Result<(), Failure> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let host = store.open(Mode::ReadOnly)?;
    let chain = host.component(id);
    let query = Query { id, prefix, after, limit };
    let next_after = query.write(|request| chain.list_page(request), output)?;
    if let Some(last) = next_after.filter(|_| !output.json()) {
        let last = shell_quoted(&last, io::stderr().is_terminal());
        note(format_args!("more keys follow; continue with --after={last}"));
    }
    Ok(())
}

pub(super) fn usage(store: &Target, id: &ComponentId, output: &mut Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct UsageOfComponent<'a> {
        id: &'a str,
        key_count: u64,
        used_bytes: u64,
        quota_bytes: Option<u64>,
        quota_keys: Option<u64>,
    }

    let chain = store.open(Mode::ReadOnly)?.component(id);
    let usage = chain.component_usage()?;
    let bound = |bound: u64| Some(bound).filter(|bound| *bound != u64::MAX);
    let quota_bytes = chain.quota().and_then(|quota| bound(quota.max_bytes));
    let quota_keys = chain.quota().and_then(|quota| bound(quota.max_keys));
    if output.json() {
        return output.document(&UsageOfComponent {
            id: id.as_str(),
            key_count: usage.key_count,
            used_bytes: usage.used_bytes,
            quota_bytes,
            quota_keys,
        });
    }
    output.line(format_args!("component  {id}"))?;
    output.line(format_args!("keys       {}", usage.key_count))?;
    output.line(format_args!("used       {} bytes", usage.used_bytes))?;
    let quota = match (quota_bytes, quota_keys) {
        (Some(bytes), Some(keys)) => format!("{bytes} bytes, {}", counted(keys, "key")),
        (Some(bytes), None) => format!("{bytes} bytes"),
        (None, Some(keys)) => counted(keys, "key"),
        (None, None) => "none".to_owned(),
    };
    output.line(format_args!("quota      {quota}"))
}
