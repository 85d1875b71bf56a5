//! Answers of the server itself.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use wasmtime_wasi_http::WasiBody;

use crate::guest::incident::Incident;

/// Why a request is not answered by a component.
pub(super) enum Refusal {
    /// The method is for proxies.
    Connect,
    NoHost,
    NoRoute,
    TooLarge,
    /// As many requests as allowed are in progress, or the server ends.
    Busy,
    /// The component failed after it was refused memory, of which all instances have too much.
    Crowded(Incident),
    /// The component ran too long.
    Late(Incident),
    /// The component failed.
    Broken(Incident),
}

impl Refusal {
    pub(super) fn into_response(self) -> Response<WasiBody> {
        let (status, text) = match &self {
            Self::Connect => (StatusCode::NOT_IMPLEMENTED, "not implemented".to_owned()),
            Self::NoHost => (StatusCode::BAD_REQUEST, "no valid Host header".to_owned()),
            Self::NoRoute => (StatusCode::NOT_FOUND, "not found".to_owned()),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large".to_owned()),
            Self::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "too many requests in progress".to_owned())
            }
            Self::Crowded(incident) => {
                (StatusCode::SERVICE_UNAVAILABLE, format!("too little memory ({incident})"))
            }
            Self::Late(incident) => {
                (StatusCode::GATEWAY_TIMEOUT, format!("no answer in time ({incident})"))
            }
            Self::Broken(incident) => {
                (StatusCode::INTERNAL_SERVER_ERROR, format!("internal error ({incident})"))
            }
        };
        let body = Full::new(Bytes::from(text + "\n")).map_err(|never| match never {});
        let mut response = Response::new(body.boxed_unsync());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
