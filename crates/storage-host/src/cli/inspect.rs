//! What is in a store: `components`, `keys`, `usage`.

use serde::Serialize;
use storage_host::{ComponentId, ComponentStorage, Mode, PageRequest, StorageHost};

use super::failure::Failure;
use super::output::{Output, note, shell_quoted};
use super::progress::counted;
use super::target::Target;

/// Components or keys asked for at a time.
const PAGE: usize = 1_000;

/// Opens a store that is there, to read.
pub(super) fn open_to_read(store: &Target) -> Result<StorageHost, Failure> {
    open(store, Mode::ReadOnly)
}

/// Opens a store.
pub(super) fn open(store: &Target, mode: Mode) -> Result<StorageHost, Failure> {
    store.open(mode)
}

pub(super) fn components(store: &Target, output: &mut Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Components {
        components: Vec<String>,
    }

    let host = open_to_read(store)?;
    let mut all = Vec::new();
    let mut nobodys = 0;
    let mut after: Option<String> = None;
    loop {
        let page = host.backend().list_partitions(after.as_deref(), PAGE)?;
        after = page.keys.last().cloned();
        for partition in page.keys {
            // A partition is a prefix, `app/notes/home/`; the id has no slash
            // behind it.
            let id = partition.strip_suffix('/').and_then(|id| id.parse::<ComponentId>().ok());
            match id {
                Some(id) if output.json() => all.push(id.to_string_id()),
                Some(id) => output.line(id)?,
                None => nobodys += 1,
            }
        }
        if !page.more || after.is_none() {
            break;
        }
    }
    if nobodys > 0 {
        note(format_args!(
            "{nobodys} not listed: keys lie under prefixes that are no component's id"
        ));
    }
    if output.json() { output.document(&Components { components: all }) } else { Ok(()) }
}

pub(super) fn keys(
    store: &Target,
    id: &ComponentId,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
    output: &mut Output,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Keys<'a> {
        id: &'a str,
        keys: &'a [String],
        more: bool,
        next_after: Option<&'a str>,
    }

    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let host = open_to_read(store)?;
    let chain = host.component(id);
    let mut keys: Vec<String> = Vec::new();
    let mut more = true;
    while more && keys.len() < limit {
        let after = keys.last().map(String::as_str).or(after);
        let page =
            chain.list_page(PageRequest { prefix, after, limit: PAGE.min(limit - keys.len()) })?;
        more = page.more && !page.keys.is_empty();
        keys.extend(page.keys);
    }
    let next_after = keys.last().map(String::as_str).filter(|_| more);
    if output.json() {
        return output.document(&Keys { id: id.as_str(), keys: &keys, more, next_after });
    }
    for key in &keys {
        output.line(key)?;
    }
    output.finish()?;
    if let Some(last) = next_after {
        note(format_args!("more keys follow: go on with --after {}", shell_quoted(last)));
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

    let chain = open_to_read(store)?.component(id);
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
