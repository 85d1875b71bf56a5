//! Asks a host through its socket.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use storage_core::{
    Compacted, ComponentId, KeyPage, MAX_KEY_BYTES, PageRequest, Problem, SnapshotVisitor,
    StorageError, StorageValue, Verified,
};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::query::add;
use super::socket;
use super::stream::{Record, Records};
use super::top::Activity;
use super::wire::{
    CompactedTo, ComponentsPage, Deleted, ErrorDocument, KeysPage, QuotaAndUsage, Refusal,
    Reloaded, StoreInfo, Stored, VerifyLine, Wiped,
};
use crate::settings::Applied;
use crate::store_url::StoreUrl;

/// How long a host may take to say which store it has. It needs no storage for this.
const GREETING: Duration = Duration::from_secs(5);

/// Why a host did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The host has ended, or is ending, before it answered. A write may have been done.
    #[error("the process that has the store open ended before it answered; try again")]
    HostEnded,
    /// The call failed in the host.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The host refused the request, or its answer is not understood.
    #[error("the process that has the store open answered: {0}")]
    Refused(String),
    /// The host has not read its settings again; nothing changed.
    #[error("{0}")]
    NotReloaded(String),
    /// The socket belongs to another user, who could read what is written.
    #[error(
        "its admin socket {path:?} is not used, because the process that listens there belongs to \
         user {user}"
    )]
    Untrusted {
        /// The path of the socket.
        path: String,
        /// The id of the user.
        user: u32,
    },
    /// No connection is possible.
    #[error("cannot connect to its admin socket: {0}")]
    Connect(#[source] io::Error),
}

impl From<hyper::Error> for ClientError {
    fn from(error: hyper::Error) -> Self {
        tracing::debug!(%error, "the connection to the admin socket failed");
        Self::HostEnded
    }
}

impl From<Refusal> for ClientError {
    fn from(refusal: Refusal) -> Self {
        if refusal.is_shutting_down() {
            return Self::HostEnded;
        }
        if refusal.is_not_reloaded() {
            return Self::NotReloaded(refusal.message().to_owned());
        }
        match refusal.to_storage_error() {
            Some(error) => Self::Storage(error),
            None => Self::Refused(refusal.message().to_owned()),
        }
    }
}

/// A connection to the host that has a store open for writing.
///
/// Calls block. Do not use it in an asynchronous function.
pub struct Client {
    url: StoreUrl,
    connection: Connection,
    store: StoreInfo,
}

/// A connection, and the runtime that it needs.
struct Connection {
    runtime: Runtime,
    requests: SendRequest<Full<Bytes>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the host that has this store open. `None` if no process serves this store
    /// at its socket.
    ///
    /// # Errors
    /// [`ClientError::Untrusted`] if the process is neither of this user nor of root, nor, for
    /// a client of root's, of the store's owner; [`ClientError::Connect`];
    /// [`ClientError::HostEnded`] if it does not answer within 5 seconds.
    pub fn connect(url: &StoreUrl) -> Result<Option<Self>, ClientError> {
        let Some(store) = url.path() else { return Ok(None) };
        let Ok(identity) = socket::identity_of(store) else { return Ok(None) };
        let Ok(path) = socket::path_of(store) else { return Ok(None) };
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let Some(mut connection) = Connection::open(&path, store)? else { return Ok(None) };
        let store: StoreInfo =
            connection.json(Method::GET, "/v1/store", Bytes::new(), Some(GREETING))?;
        // The host's store may have been moved away, and another one put here.
        let is_same = (store.device, store.inode) == identity;
        Ok(is_same.then_some(Self { url: url.clone(), connection, store }))
    }

    /// The store and the process of the host.
    pub fn store(&self) -> &StoreInfo {
        &self.store
    }

    /// The id of the store, if it has one.
    pub fn store_id(&self) -> Option<&str> {
        self.store.store_id.as_deref()
    }

    /// Lists component prefixes, as [`Store::list_components`](storage_core::Store).
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn list_components(
        &mut self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<KeyPage, ClientError> {
        let mut target = "/v1/components".to_owned();
        add_page(&mut target, after, limit);
        let ComponentsPage { prefixes, more } = self.read(&target)?;
        Ok(KeyPage { keys: prefixes, more })
    }

    /// Lists a page of keys of a component. It may have fewer keys than its limit although
    /// more follow.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn list_page(
        &mut self,
        id: &ComponentId,
        request: PageRequest<'_>,
    ) -> Result<KeyPage, ClientError> {
        if request.prefix.len() > MAX_KEY_BYTES {
            return Ok(KeyPage::default());
        }
        let mut target = of_component("/v1/keys", id);
        if !request.prefix.is_empty() {
            add(&mut target, "prefix", request.prefix);
        }
        add_page(&mut target, request.after.map(comparable), request.limit);
        let KeysPage { keys, more } = self.read(&target)?;
        Ok(KeyPage { keys, more })
    }

    /// Reads the value of a key; `None` for a missing key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get(
        &mut self,
        id: &ComponentId,
        key: &str,
    ) -> Result<Option<StorageValue>, ClientError> {
        let found = self.begin(&of_key(id, key)).and_then(|answer| self.connection.rest(answer));
        match found {
            Ok(value) => Ok(Some(value.as_ref().into())),
            Err(ClientError::Storage(StorageError::NotFound(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores a value durably.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn put(
        &mut self,
        id: &ComponentId,
        key: &str,
        value: StorageValue,
    ) -> Result<(), ClientError> {
        let value = Bytes::copy_from_slice(value.as_bytes());
        self.connection.json(Method::PUT, &of_key(id, key), value, None).map(|Stored { .. }| ())
    }

    /// Deletes a key durably.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn delete(&mut self, id: &ComponentId, key: &str) -> Result<(), ClientError> {
        self.connection
            .json(Method::DELETE, &of_key(id, key), Bytes::new(), None)
            .map(|Deleted {}| ())
    }

    /// Returns how much a component stores and may store.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn usage(&mut self, id: &ComponentId) -> Result<QuotaAndUsage, ClientError> {
        self.read(&of_component("/v1/usage", id))
    }

    /// Returns what the components in use have done.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn top(&mut self) -> Result<Activity, ClientError> {
        self.read("/v1/top")
    }

    /// Reads the whole store and calls `report` with each problem, as
    /// [`Store::verify`](storage_core::Store::verify).
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn verify(&mut self, report: &mut dyn FnMut(Problem)) -> Result<Verified, ClientError> {
        let mut answer = self.begin("/v1/verify")?;
        let mut bytes = Vec::new();
        while let Some(chunk) = self.connection.chunk(&mut answer)? {
            bytes.extend_from_slice(&chunk);
            while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = bytes.drain(..=end).collect();
                match parse(&line)? {
                    VerifyLine::Problem(problem) => report(problem.into()),
                    VerifyLine::Verified(totals) => return Ok(totals.into()),
                    VerifyLine::Error(refusal) => return Err(refusal.into()),
                }
            }
        }
        Err(ClientError::HostEnded)
    }

    /// Calls `visit` with every full key that begins with `prefix`, and its value, all at one
    /// point in time, as
    /// [`Store::read_snapshot`](storage_core::Store::read_snapshot). Writers in the host may
    /// wait for `visit`. The host ends the snapshot if it takes longer than a minute for
    /// 64 KiB.
    ///
    /// # Errors
    /// [`ClientError`]; the error of `visit`.
    pub fn read_snapshot(
        &mut self,
        prefix: &str,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), ClientError> {
        let mut target = "/v1/snapshot".to_owned();
        if !prefix.is_empty() {
            add(&mut target, "prefix", prefix);
        }
        let mut answer = self.begin(&target)?;
        let mut records = Records::default();
        while let Some(chunk) = self.connection.chunk(&mut answer)? {
            records.add(&chunk);
            while let Some(record) = records.next()? {
                match record {
                    Record::Entry(key, value) => visit(&key, value)?,
                    Record::End => return Ok(()),
                    Record::Failed(refusal) => return Err((*refusal).into()),
                }
            }
        }
        Err(ClientError::HostEnded)
    }

    /// Deletes all keys of a component, durably, and returns their number
    /// ([`StorageHost::wipe`](crate::StorageHost::wipe)).
    ///
    /// # Errors
    /// [`ClientError`]. Some keys may be deleted.
    pub fn wipe(&mut self, id: &ComponentId) -> Result<u64, ClientError> {
        self.post(&of_component("/v1/wipe", id)).map(|Wiped { removed_keys }| removed_keys)
    }

    /// Returns the space of deleted values to the file system
    /// ([`Store::compact`](storage_core::Store::compact)). Calls of components may wait.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn compact(&mut self) -> Result<Compacted, ClientError> {
        let CompactedTo { bytes_before, bytes_after } = self.post("/v1/compact")?;
        Ok(Compacted { bytes_before, bytes_after })
    }

    /// Has the host read its settings again, and returns what changed and what needs a restart.
    ///
    /// # Errors
    /// [`ClientError::NotReloaded`] if the host cannot do this or the settings are invalid;
    /// nothing changed. [`ClientError`].
    pub fn reload(&mut self) -> Result<Applied, ClientError> {
        let reloaded: Reloaded = self.post("/v1/reload")?;
        reloaded.into_applied().map_err(|error| {
            ClientError::Refused(format!("an answer that is not understood: {error}"))
        })
    }

    fn post<T: DeserializeOwned>(&mut self, target: &str) -> Result<T, ClientError> {
        self.connection.json(Method::POST, target, Bytes::new(), None)
    }

    /// Reads a document.
    fn read<T: DeserializeOwned>(&mut self, target: &str) -> Result<T, ClientError> {
        let answer = self.begin(target)?;
        parse(&self.connection.rest(answer)?)
    }

    /// Sends a request that changes nothing. Connects again if the host has closed the
    /// connection, because it was idle or an answer was not read to its end.
    fn begin(&mut self, target: &str) -> Result<Response<Incoming>, ClientError> {
        let ended = match self.connection.send(Method::GET, target, Bytes::new(), None) {
            Err(ended @ ClientError::HostEnded) => ended,
            other => return other,
        };
        let again = Self::connect(&self.url)?.filter(|again| again.store == self.store);
        self.connection = again.ok_or(ended)?.connection;
        self.connection.send(Method::GET, target, Bytes::new(), None)
    }
}

impl Connection {
    /// Connects to a socket. `None` if no process listens on it.
    fn open(path: &Path, store: &Path) -> Result<Option<Self>, ClientError> {
        use io::ErrorKind::{ConnectionRefused, NotFound};

        let stream = match socket::connect(path) {
            Ok(stream) => stream,
            // A killed process left it.
            Err(error) if matches!(error.kind(), ConnectionRefused | NotFound) => return Ok(None),
            Err(error) => return Err(ClientError::Connect(error)),
        };
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_io().enable_time().build().map_err(ClientError::Connect)?;
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| {
                let _entered = runtime.enter();
                UnixStream::from_std(stream)
            })
            .map_err(ClientError::Connect)?;
        let user = stream.peer_cred().map_err(ClientError::Connect)?.uid();
        if !socket::is_trusted(user, store) {
            return Err(ClientError::Untrusted { path: path.display().to_string(), user });
        }
        let (requests, connection) = runtime.block_on(http1::handshake(TokioIo::new(stream)))?;
        // It runs while this client waits for an answer.
        drop(runtime.spawn(connection));
        Ok(Some(Self { runtime, requests }))
    }

    fn json<T: DeserializeOwned>(
        &mut self,
        method: Method,
        target: &str,
        body: Bytes,
        within: Option<Duration>,
    ) -> Result<T, ClientError> {
        parse(&self.whole(method, target, body, within)?)
    }

    /// The whole body of a successful answer.
    fn whole(
        &mut self,
        method: Method,
        target: &str,
        body: Bytes,
        within: Option<Duration>,
    ) -> Result<Bytes, ClientError> {
        let answer = self.send(method, target, body, within)?;
        self.rest(answer)
    }

    /// The whole body of an answer.
    fn rest(&mut self, answer: Response<Incoming>) -> Result<Bytes, ClientError> {
        Ok(self.runtime.block_on(answer.into_body().collect())?.to_bytes())
    }

    /// Sends a request. An answer that is an error is one.
    fn send(
        &mut self,
        method: Method,
        target: &str,
        body: Bytes,
        within: Option<Duration>,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, "storage-host")
            .body(Full::new(body))
            .map_err(|error| ClientError::Refused(error.to_string()))?;
        let requests = &mut self.requests;
        let sent = self.runtime.block_on(async {
            requests.ready().await?;
            match within {
                None => Ok(requests.send_request(request).await?),
                Some(time) => match timeout(time, requests.send_request(request)).await {
                    Ok(answered) => Ok(answered?),
                    Err(_) => Err(ClientError::HostEnded),
                },
            }
        });
        let answer: Response<Incoming> = sent?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let ErrorDocument { error } = parse(&self.rest(answer)?)?;
        Err(error.into())
    }

    /// The next part of a body.
    fn chunk(&mut self, answer: &mut Response<Incoming>) -> Result<Option<Bytes>, ClientError> {
        loop {
            let Some(frame) = self.runtime.block_on(answer.frame()) else { return Ok(None) };
            if let Ok(chunk) = frame?.into_data() {
                return Ok(Some(chunk));
            }
        }
    }
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, ClientError> {
    let wrong = |error| ClientError::Refused(format!("an answer that is not understood: {error}"));
    serde_json::from_slice(text).map_err(wrong)
}

fn of_component(path: &str, id: &ComponentId) -> String {
    let mut target = path.to_owned();
    add(&mut target, "component", id.as_str());
    target
}

fn of_key(id: &ComponentId, key: &str) -> String {
    let mut target = of_component("/v1/value", id);
    add(&mut target, "key", key);
    target
}

/// The part of a text that decides which keys follow it: a key is not longer. A request has a
/// maximum size.
fn comparable(after: &str) -> &str {
    let end = (MAX_KEY_BYTES..after.len()).find(|end| after.is_char_boundary(*end));
    end.and_then(|end| after.get(..end)).unwrap_or(after)
}

fn add_page(target: &mut String, after: Option<&str>, limit: usize) {
    if let Some(after) = after {
        add(target, "after", after);
    }
    add(target, "limit", &limit.to_string());
}
