//! `components`, `keys` and `usage`.

use std::io::{self, IsTerminal};

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use storage_host::{ComponentId, KeyPage, Mode, PageRequest};

use super::beside::Client;
use super::escape::shell_quoted;
use super::failure::Failure;
use super::host_store::HostStore;
use super::listing::{List, Query};
use super::output::{Output, note};
use super::progress::counted;
use super::quota_usage::QuotaUsage;
use super::target::Target;
use super::unreadable::Pages;

pub(super) fn components(store: &Target, output: &mut Output) -> Result<(), Failure> {
    let store = store.here_or_there(
        Mode::ReadOnly,
        |host| Ok(Arc::clone(host.store())),
        |client| Ok(Arc::new(HostStore::new(client))),
    )?;
    let mut pages = Pages::new(&*store);
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

/// Reads a page of keys.
type PageOf = dyn FnMut(PageRequest<'_>) -> Result<KeyPage, Failure>;

pub(super) fn keys(
    store: &Target,
    id: &ComponentId,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
    output: &mut Output,
) -> Result<(), Failure> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut keys: Box<PageOf> = store.here_or_there(
        Mode::ReadOnly,
        |host| -> Result<Box<PageOf>, _> {
            let chain = host.component(id);
            Ok(Box::new(move |request| Ok(chain.for_operator().list_page(request)?)))
        },
        |mut client: Client| {
            let id = id.clone();
            Ok(Box::new(move |request| Ok(client.list_page(&id, request)?)))
        },
    )?;
    let query = Query { id, prefix, after, limit };
    let next_after = query.write(&mut keys, output)?;
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

    // Also of a store that can be read here, because only its host knows the quota.
    let there = |mut client: Client| Ok(client.usage(id)?.into());
    let known = match store.host_if_any() {
        Some(client) => there(client).ok(),
        None => None,
    };
    let QuotaUsage { key_count, used_bytes, quota_bytes, quota_keys } = match known {
        Some(known) => known,
        None => store.here_or_there(
            Mode::ReadOnly,
            |host| QuotaUsage::of(&host.component(id)),
            there,
        )?,
    };
    if output.json() {
        return output.document(&UsageOfComponent {
            id: id.as_str(),
            key_count,
            used_bytes,
            quota_bytes,
            quota_keys,
        });
    }
    output.line(format_args!("component  {id}"))?;
    output.line(format_args!("keys       {key_count}"))?;
    output.line(format_args!("used       {used_bytes} bytes"))?;
    let quota = match (quota_bytes, quota_keys) {
        (Some(bytes), Some(keys)) => format!("{bytes} bytes, {}", counted(keys, "key")),
        (Some(bytes), None) => format!("{bytes} bytes"),
        (None, Some(keys)) => counted(keys, "key"),
        (None, None) => "none".to_owned(),
    };
    output.line(format_args!("quota      {quota}"))
}
