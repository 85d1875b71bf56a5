//! `get`, `put` and `delete`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use storage_host::{ComponentId, Mode, StorageError, StorageValue, validate_key};

use super::ending::OnSignal;
use super::failure::Failure;
use super::output::Output;
use super::quota_usage::QuotaUsage;
use super::target::Target;
use super::value::Given;

/// The most bytes that are read of a value for a running host, whose limit is not known here.
const MOST_BESIDE: usize = 256 << 20;

/// The kind of the failure of a value over the limit.
const LIMIT: &str = "limit_exceeded";

pub(super) fn get(
    store: &Target,
    id: &ComponentId,
    key: &str,
    output: &mut Output,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Found<'a> {
        id: &'a str,
        key: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        value_utf8: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        value_base64: Option<String>,
    }

    validate_key(key)?;
    let found = store.here_or_there(
        Mode::ReadOnly,
        |host| Ok(host.component(id).for_operator().get(key)?),
        |mut client| Ok(client.get(id, key)?),
    )?;
    let Some(value) = found else {
        return Err(StorageError::NotFound(key.to_owned()).into());
    };
    if !output.json() {
        return output.bytes(value.as_bytes());
    }
    let value_utf8 = std::str::from_utf8(value.as_bytes()).ok();
    let value_base64 = value_utf8.is_none().then(|| STANDARD.encode(value.as_bytes()));
    output.document(&Found { id: id.as_str(), key, value_utf8, value_base64 })
}

pub(super) fn put(
    store: &Target,
    id: &ComponentId,
    key: &str,
    value: Given,
    is_base64: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Stored<'a> {
        id: &'a str,
        key: &'a str,
        value_bytes: usize,
    }

    // Checked before the store is opened: an invalid value must not create a store.
    validate_key(key)?;
    let limits = store.limits(id);
    let value = match store.host_if_any() {
        // Its limits count, and it checks them.
        Some(_) => value.read(is_base64, MOST_BESIDE)?,
        None => {
            limits.check_key(key)?;
            let value = value.read(is_base64, limits.value_bytes)?;
            limits.check_value_len(value.len()).map_err(|error| over_limit(&error.into(), key))?;
            value
        }
    };
    let value_bytes = value.len();
    let value = StorageValue::from(value);
    store.here_or_there(
        Mode::ReadWrite,
        |host| {
            let _on_signal = OnSignal::shut_down(&host);
            let chain = host.component(id);
            chain
                .for_operator()
                .set(key, value.clone())
                .map_err(|error| not_stored(error.into(), id, key, || QuotaUsage::of(&chain)))?;
            Ok(host.store().flush()?)
        },
        |mut client| {
            client
                .put(id, key, value.clone())
                .map_err(|error| not_stored(error.into(), id, key, || Ok(client.usage(id)?.into())))
        },
    )?;
    if output.json() {
        output.document(&Stored { id: id.as_str(), key, value_bytes })?;
    }
    Ok(())
}

fn over_limit(failure: &Failure, key: &str) -> Failure {
    let message = format!(
        "cannot store the key {key:?}: {failure}; to raise it, set value_bytes in the limits of the \
         manifest"
    );
    Failure::new(LIMIT, message)
}

/// Why a value was not stored. If the quota is the reason, with the quota and its usage.
fn not_stored(
    failure: Failure,
    id: &ComponentId,
    key: &str,
    usage: impl FnOnce() -> Result<QuotaUsage, Failure>,
) -> Failure {
    if failure.is_of_kind(LIMIT) {
        return over_limit(&failure, key);
    }
    if !failure.is_of_kind("quota_exceeded") {
        return failure;
    }
    let Ok(used) = usage() else { return failure };
    let bounds =
        [(used.used_bytes, used.quota_bytes, "bytes"), (used.key_count, used.quota_keys, "keys")];
    let bounds = bounds.into_iter().filter_map(|(used, max, unit)| Some((used, max?, unit)));
    let bounds: Vec<String> =
        bounds.map(|(used, max, unit)| format!("{used} of {max} {unit}")).collect();
    if bounds.is_empty() {
        return failure;
    }
    Failure::new(
        "quota_exceeded",
        format!(
            "cannot store the key {key:?}: it does not fit in the quota of {id} ({} used); delete \
             keys or raise the quota",
            bounds.join(" and ")
        ),
    )
}

pub(super) fn delete(
    store: &Target,
    id: &ComponentId,
    key: &str,
    output: &mut Output,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Deleted<'a> {
        id: &'a str,
        key: &'a str,
    }

    validate_key(key)?;
    store.here_or_there(
        Mode::ReadWriteExisting,
        |host| {
            let _on_signal = OnSignal::shut_down(&host);
            host.component(id).for_operator().delete(key)?;
            Ok(host.store().flush()?)
        },
        |mut client| Ok(client.delete(id, key)?),
    )?;
    if output.json() {
        output.document(&Deleted { id: id.as_str(), key })?;
    }
    Ok(())
}
