//! Commands beside a running host: they ask the process that has the store locked.

#[cfg(unix)]
use storage_host::admin::ClientError;
use storage_host::{StorageError, StoreUrl};

use super::failure::Failure;
use super::wait::Wait;

#[cfg(not(unix))]
pub(super) use super::no_client::Client;
#[cfg(unix)]
pub(super) use storage_host::admin::Client;

/// The kind of a failure after which the store may be free.
const HOST_ENDED: &str = "host_ended";

#[cfg(unix)]
impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Storage(error) => error.into(),
            ClientError::NotReloaded(message) => Self::new("manifest", message),
            ClientError::HostEnded => Self::new(HOST_ENDED, error.to_string()),
            error => Self::new("host", error.to_string()),
        }
    }
}

/// Why a host did not do what it was asked, as an error of its store.
#[cfg(unix)]
pub(super) fn storage_error(error: ClientError) -> StorageError {
    match error {
        ClientError::Storage(error) => error,
        error => StorageError::Unavailable { key: None, detail: error.to_string() },
    }
}

#[cfg(not(unix))]
pub(super) fn storage_error(failure: Failure) -> StorageError {
    StorageError::Unavailable { key: None, detail: failure.to_string() }
}

/// Uses the store `here`. If another process has it locked, asks that process, `there`. If it
/// does not answer, repeats both within the time.
pub(super) fn here_or_there<T>(
    url: &StoreUrl,
    wait: Wait,
    mut here: impl FnMut() -> Result<T, Failure>,
    mut there: impl FnMut(Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    wait.until_unlocked(|| {
        let locked = match here() {
            Err(failure) if failure.is_of_kind("locked") => failure,
            other => return other,
        };
        let Some(client) = connect(url, &locked)? else { return Err(locked) };
        match there(client) {
            // The store is free soon.
            Err(failure) if failure.is_of_kind(HOST_ENDED) => Err(locked),
            other => other,
        }
    })
}

/// Connects to the host of a store.
///
/// # Errors
/// `locked`, with the reason why its host cannot be asked.
#[cfg(unix)]
pub(super) fn connect(url: &StoreUrl, locked: &Failure) -> Result<Option<Client>, Failure> {
    match Client::connect(url) {
        Ok(client) => Ok(client),
        Err(ClientError::HostEnded) => Ok(None),
        Err(error) => {
            let locked = locked.to_string();
            Err(Failure::new("locked", format!("{locked}; {error}")))
        }
    }
}

/// Connects to the host of a store, if one answers.
pub(super) fn host_if_any(url: &StoreUrl) -> Option<Client> {
    #[cfg(unix)]
    return Client::connect(url).ok().flatten();
    #[cfg(not(unix))]
    return None;
}

/// The process of that host.
pub(super) fn host_process(url: &StoreUrl) -> Option<u32> {
    #[cfg(unix)]
    return host_if_any(url).map(|client| client.store().pid);
    #[cfg(not(unix))]
    return host_if_any(url).map(|client| match client {});
}

/// Connects to the host of a store for what only a host can do.
///
/// # Errors
/// `no_host`, with this reason, if there is none.
#[cfg(unix)]
pub(super) fn require_host(
    url: &StoreUrl,
    no_host: impl FnOnce() -> String,
) -> Result<Client, Failure> {
    match Client::connect(url) {
        Ok(Some(client)) => Ok(client),
        Ok(None) | Err(ClientError::HostEnded) => Err(Failure::new("no_host", no_host())),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(unix))]
pub(super) fn connect(_url: &StoreUrl, _locked: &Failure) -> Result<Option<Client>, Failure> {
    Ok(None)
}
