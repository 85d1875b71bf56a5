//! Requests and their answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use storage_core::{
    Compacted, ComponentId, PageRequest, StorageError, StorageValue, Store, validate_key,
};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::query::Query;
use super::stream::{ClientGone, Sender, stream};
use super::top::activity;
use super::wire::{
    CompactedTo, ComponentsPage, Deleted, ErrorDocument, KeysPage, QuotaAndUsage, Refusal,
    Reloaded, StoreInfo, Stored, VerifyLine, Wiped, usage,
};
use crate::host::StorageHost;
use crate::metrics::PROMETHEUS_CONTENT_TYPE;
use crate::settings::Applied;

/// The items of a page, at most.
const PAGE: usize = 1_000;

/// How long a client may take to send a value.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The type of values and snapshots.
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Lines of JSON.
const JSON_LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// What is served.
pub(super) struct Served {
    pub(super) host: StorageHost,
    pub(super) store: StoreInfo,
    pub(super) reload: Option<Box<Reload>>,
}

/// Reads the settings of a host again and applies them. An error says why nothing changed.
pub(super) type Reload = dyn Fn() -> Result<Applied, String> + Send + Sync;

type AnswerBody = UnsyncBoxBody<Bytes, std::io::Error>;
pub(super) type Answer = Response<AnswerBody>;

/// Answers a request. Every failure is an answer too.
pub(super) async fn answer(served: Arc<Served>, request: Request<Incoming>) -> Answer {
    if served.host.is_shut_down() {
        return refused(&Refusal::shutting_down());
    }
    let is_ending = served.host.clone();
    match route(served, request).await {
        Ok(answer) => answer,
        // The store refuses calls during a shutdown.
        Err(_) if is_ending.is_shut_down() => refused(&Refusal::shutting_down()),
        Err(refusal) => refused(&refusal),
    }
}

async fn route(served: Arc<Served>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let mut query = Query::parse(head.uri.query().unwrap_or_default())?;
    match (head.uri.path(), &head.method) {
        ("/v1/store", &Method::GET) => {
            query.end()?;
            json(&served.store)
        }
        ("/v1/components", &Method::GET) => {
            let (after, limit) = (query.take("after"), query.limit(PAGE)?);
            query.end()?;
            on_blocking_thread(move || components(&served.host, after.as_deref(), limit)).await
        }
        ("/v1/keys", &Method::GET) => {
            let id = query.component()?;
            let (prefix, after) = (query.take("prefix").unwrap_or_default(), query.take("after"));
            let limit = query.limit(PAGE)?;
            query.end()?;
            on_blocking_thread(move || keys(&served.host, &id, &prefix, after.as_deref(), limit))
                .await
        }
        ("/v1/value", method) => {
            let (id, key) = (query.component()?, query.require("key")?);
            query.end()?;
            match *method {
                Method::GET => on_blocking_thread(move || get(&served.host, &id, &key)).await,
                Method::PUT => {
                    validate_key(&key)?;
                    let most = served.host.component(&id).limits().value_bytes;
                    let value = read_value(body, most).await?;
                    on_blocking_thread(move || put(&served.host, &id, &key, value)).await
                }
                Method::DELETE => on_blocking_thread(move || delete(&served.host, &id, &key)).await,
                _ => Err(Refusal::no_such_method("/v1/value")),
            }
        }
        ("/v1/usage", &Method::GET) => {
            let id = query.component()?;
            query.end()?;
            on_blocking_thread(move || {
                let chain = served.host.component(&id);
                json(&QuotaAndUsage::new(served.host.usage(&id)?, chain.quota()))
            })
            .await
        }
        ("/v1/verify", &Method::GET) => {
            query.end()?;
            Ok(streamed(JSON_LINES, move |sender| verify(&**served.host.store(), sender)))
        }
        ("/v1/snapshot", &Method::GET) => {
            let prefix = query.take("prefix").unwrap_or_default();
            query.end()?;
            Ok(streamed(BYTES, move |sender| snapshot(&**served.host.store(), &prefix, sender)))
        }
        ("/v1/wipe", &Method::POST) => {
            let id = query.component()?;
            query.end()?;
            on_blocking_thread(move || wipe(&served.host, &id)).await
        }
        ("/v1/compact", &Method::POST) => {
            query.end()?;
            on_blocking_thread(move || compact(&served.host)).await
        }
        ("/v1/reload", &Method::POST) => {
            query.end()?;
            on_blocking_thread(move || reload(&served)).await
        }
        ("/v1/top", &Method::GET) => {
            query.end()?;
            on_blocking_thread(move || json(&activity(&served.host)?)).await
        }
        ("/metrics", &Method::GET) => {
            query.end()?;
            on_blocking_thread(move || Ok(metrics(&served.host))).await
        }
        (
            path @ ("/v1/store" | "/v1/components" | "/v1/keys" | "/v1/usage" | "/v1/verify"
            | "/v1/snapshot" | "/v1/top" | "/v1/wipe" | "/v1/compact" | "/v1/reload"
            | "/metrics"),
            _,
        ) => Err(Refusal::no_such_method(path)),
        (path, _) => Err(Refusal::no_such_path(path)),
    }
}

/// Calls the store on a thread that may block.
pub(super) async fn on_blocking_thread(
    call: impl FnOnce() -> Result<Answer, Refusal> + Send + 'static,
) -> Result<Answer, Refusal> {
    match spawn_blocking(call).await {
        Ok(answered) => answered,
        Err(_) => Err(Refusal::internal("the host failed while it answered")),
    }
}

/// Answers with what `produce` writes on a thread that may block.
fn streamed(
    content_type: HeaderValue,
    produce: impl FnOnce(&mut Sender) -> Result<(), ClientGone> + Send + 'static,
) -> Answer {
    let (mut sender, body) = stream();
    spawn_blocking(move || {
        if let Err(ClientGone) = produce(&mut sender) {
            tracing::debug!("a client of the admin socket did not read the whole answer");
        }
    });
    with_body(StatusCode::OK, content_type, UnsyncBoxBody::new(body))
}

/// Reads the value of a `PUT`.
async fn read_value(body: Incoming, most: usize) -> Result<StorageValue, Refusal> {
    let read = timeout(BODY_TIME, Limited::new(body, most).collect()).await;
    let Ok(read) = read else {
        return Err(usage("the value did not arrive in time".to_owned()));
    };
    match read {
        Ok(collected) => Ok(collected.to_bytes().as_ref().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(StorageError::LimitExceeded {
            limit: "bytes of a value",
            max: most as u64,
            actual: (most as u64).saturating_add(1),
        }
        .into()),
        Err(_) => Err(usage("the value is incomplete".to_owned())),
    }
}

fn components(host: &StorageHost, after: Option<&str>, limit: usize) -> Result<Answer, Refusal> {
    let page = host.store().list_components(after, limit)?;
    json(&ComponentsPage { prefixes: page.keys, more: page.more })
}

fn keys(
    host: &StorageHost,
    id: &ComponentId,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Answer, Refusal> {
    let page = host.component(id).for_operator().list_page(PageRequest { prefix, after, limit })?;
    json(&KeysPage { keys: page.keys, more: page.more })
}

fn get(host: &StorageHost, id: &ComponentId, key: &str) -> Result<Answer, Refusal> {
    match host.component(id).for_operator().get(key)? {
        Some(value) => Ok(bytes(Bytes::copy_from_slice(value.as_bytes()))),
        None => Err(StorageError::NotFound(key.to_owned()).into()),
    }
}

fn put(
    host: &StorageHost,
    id: &ComponentId,
    key: &str,
    value: StorageValue,
) -> Result<Answer, Refusal> {
    let value_bytes = value.len();
    host.component(id).for_operator().set(key, value)?;
    host.store().flush()?;
    json(&Stored { value_bytes })
}

fn delete(host: &StorageHost, id: &ComponentId, key: &str) -> Result<Answer, Refusal> {
    host.component(id).for_operator().delete(key)?;
    host.store().flush()?;
    json(&Deleted {})
}

fn verify(store: &dyn Store, sender: &mut Sender) -> Result<(), ClientGone> {
    let mut sent = Ok(());
    let mut send = |line: &VerifyLine| {
        if sent.is_ok() {
            sent = send_line(line, sender);
        }
    };
    let verified = store.verify(&mut |problem| send(&VerifyLine::Problem(problem.into())));
    send(&match verified {
        Ok(verified) => VerifyLine::Verified(verified.into()),
        Err(error) => VerifyLine::Error(error.into()),
    });
    sent
}

/// Sends a line at once: the next one may take long.
fn send_line(line: &VerifyLine, sender: &mut Sender) -> Result<(), ClientGone> {
    // Cannot fail: it holds only texts and numbers.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    sender.write(&text)?;
    sender.flush()
}

fn wipe(host: &StorageHost, id: &ComponentId) -> Result<Answer, Refusal> {
    let removed_keys = host.wipe(id, &mut |_| {})?;
    host.store().flush()?;
    json(&Wiped { removed_keys })
}

fn compact(host: &StorageHost) -> Result<Answer, Refusal> {
    let Compacted { bytes_before, bytes_after } = host.store().compact()?;
    json(&CompactedTo { bytes_before, bytes_after })
}

fn reload(served: &Served) -> Result<Answer, Refusal> {
    let Some(reload) = &served.reload else {
        let message = "the host was started without a manifest (--config), so it has no settings \
                       to read again";
        return Err(Refusal::not_reloaded(message.to_owned()));
    };
    json(&Reloaded::from(reload().map_err(Refusal::not_reloaded)?))
}

fn snapshot(store: &dyn Store, prefix: &str, sender: &mut Sender) -> Result<(), ClientGone> {
    let mut gone = false;
    let read = store.read_snapshot(prefix, None, &mut |key, value| {
        sender.record(key.as_bytes(), value.as_bytes()).map_err(|ClientGone| {
            gone = true;
            // Ends the snapshot; not reported.
            StorageError::Unavailable { key: None, detail: String::new() }
        })
    });
    if gone {
        return Err(ClientGone);
    }
    sender.end_records(read.map_err(Refusal::from))
}

/// The metrics of a host, for Prometheus.
pub(super) fn metrics(host: &StorageHost) -> Answer {
    let content_type = HeaderValue::from_static(PROMETHEUS_CONTENT_TYPE);
    with_body(StatusCode::OK, content_type, whole(host.metrics().to_prometheus()))
}

fn json(document: &impl Serialize) -> Result<Answer, Refusal> {
    match serde_json::to_vec(document) {
        Ok(text) => Ok(with_body(StatusCode::OK, JSON, whole(text))),
        Err(_) => Err(Refusal::internal("the answer cannot be written as JSON")),
    }
}

fn bytes(value: Bytes) -> Answer {
    with_body(StatusCode::OK, BYTES, whole(value))
}

fn refused(refusal: &Refusal) -> Answer {
    let status = StatusCode::from_u16(refusal.status());
    // Cannot fail: it holds only texts and numbers.
    let text = serde_json::to_vec(&ErrorDocument { error: refusal.clone() }).unwrap_or_default();
    with_body(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), JSON, whole(text))
}

pub(super) fn whole(bytes: impl Into<Bytes>) -> AnswerBody {
    UnsyncBoxBody::new(Full::new(bytes.into()).map_err(|never| match never {}))
}

fn with_body(status: StatusCode, content_type: HeaderValue, body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}
