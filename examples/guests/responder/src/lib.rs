//! Handles a request as the last segment of its path says, for the tests of `serve`:
//!
//! | path | what it does |
//! |---|---|
//! | `/target` | answers with the authority and the path that it sees |
//! | `/echo` | answers with the body |
//! | `/stream?N` | answers with N bytes |
//! | `/add?N` | adds N to the key `sum` in the store, and answers with the sum |
//! | `/add-and-sleep?N` | the same, and then sleeps instead of answering |
//! | `/fetch?HOST/PATH` | sends a request, and answers with the status and the body, or the error |
//! | `/fetch?https:HOST/PATH` | the same over HTTPS |
//! | `/print` | writes to standard output and error |
//! | `/sleep`, `/spin` | does not end |
//! | `/trap`, `/exit` | traps, or calls `exit` with the status 1 |
//! | `/silent`, `/refuse` | returns without an answer, or with an error |
//! | `/late-trap` | begins an answer and traps |
//! | `/grow` | takes memory until it gets no more, and traps |
//! | `/hoard` | prepares as many and as large requests as it can, and sends none |
//! | `/hold?N` | takes N bytes of memory, and answers until the client has gone |

// The bindings of an export are unsafe code.
#![deny(unsafe_op_in_unsafe_fn)]

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/keyvalue-draft", world: "imports" });
}

use std::io::Write as _;

use bindings::wasi::keyvalue::{atomics, store};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// What `blocking-write-and-flush` accepts.
const CHUNK: usize = 4_096;
/// Large texts and bodies.
const MEBIBYTE: usize = 1 << 20;
/// Longer than any test.
const FOREVER: u64 = 3_600_000_000_000;

struct Responder;

impl wasip2::exports::http::incoming_handler::Guest for Responder {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path.rsplit('/').next().unwrap_or_default() {
            "target" => {
                let authority = request.authority().unwrap_or_default();
                send(answer, format!("{authority} {target}").as_bytes());
            }
            "echo" => match incoming(&request) {
                Some(body) => send(answer, &body),
                None => send(answer, b"the body did not arrive"),
            },
            "stream" => {
                let len = query.parse().unwrap_or(0_usize);
                begin(answer, |stream| {
                    let mut left = len;
                    while left > 0 {
                        let part = left.min(CHUNK);
                        if stream.blocking_write_and_flush(&vec![b'x'; part]).is_err() {
                            return;
                        }
                        left -= part;
                    }
                });
            }
            "add" => send(answer, add(query).as_bytes()),
            "add-and-sleep" => {
                add(query);
                sleep();
            }
            "fetch" => send(answer, fetch(query).as_bytes()),
            "print" => {
                let _ =
                    std::io::stdout().write_all(b"to standard output\nand a line without an end");
                // Rust keeps such a line until it is told not to.
                let _ = std::io::stdout().flush();
                let _ = std::io::stderr().write_all(b"to standard \x1b[31merror\n");
                send(answer, b"printed");
            }
            "sleep" => sleep(),
            "spin" => loop {
                std::hint::spin_loop();
            },
            "trap" => std::process::abort(),
            "exit" => std::process::exit(1),
            "silent" => {}
            "refuse" => {
                let code = ErrorCode::InternalError(Some("a secret\nof the guest".to_owned()));
                ResponseOutparam::set(answer, Err(code));
            }
            "late-trap" => begin(answer, |stream| {
                let _ = stream.blocking_write_and_flush(b"begun");
                std::process::abort();
            }),
            "grow" => {
                let mut taken: Vec<Vec<u8>> = Vec::new();
                loop {
                    taken.push(vec![1; 16 << 20]);
                }
            }
            "hoard" => {
                hoard();
            }
            "hold" => {
                let taken = vec![1_u8; query.parse().unwrap_or(0_usize)];
                begin(answer, |stream| {
                    let part = vec![b'x'; CHUNK];
                    while stream.blocking_write_and_flush(&part).is_ok() {}
                });
                std::hint::black_box(taken);
            }
            _ => send(answer, b"no such path"),
        }
    }
}

wasip2::http::proxy::export!(Responder);

fn send(answer: ResponseOutparam, bytes: &[u8]) {
    begin(answer, |stream| {
        for chunk in bytes.chunks(CHUNK) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                return;
            }
        }
    });
}

/// Sends the status, and then what `write` writes.
fn begin(answer: ResponseOutparam, write: impl FnOnce(&OutputStream)) {
    let response = OutgoingResponse::new(Fields::new());
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(answer, Ok(response));
    if let Ok(stream) = body.write() {
        write(&stream);
    }
    let _ = OutgoingBody::finish(body, None);
}

fn incoming(request: &IncomingRequest) -> Option<Vec<u8>> {
    let body = request.consume().ok()?;
    let stream = body.stream().ok()?;
    read(&stream)
}

fn read(stream: &InputStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(65_536) {
            Ok(more) => bytes.extend(more),
            Err(StreamError::Closed) => return Some(bytes),
            Err(StreamError::LastOperationFailed(_)) => return None,
        }
    }
}

fn add(number: &str) -> String {
    let sum = store::open("default")
        .and_then(|bucket| atomics::increment(&bucket, "sum", number.parse().unwrap_or_default()));
    match sum {
        Ok(sum) => sum.to_string(),
        Err(error) => format!("{error:?}"),
    }
}

/// Makes the host keep as much as it lets a component.
fn hoard() -> ! {
    let text = "a".repeat(MEBIBYTE);
    let mut kept = Vec::new();
    loop {
        let request = OutgoingRequest::new(Fields::new());
        let _ = request.set_authority(Some(&text));
        let _ = request.set_method(&Method::Other(text.clone()));
        if let Ok(body) = request.body()
            && let Ok(stream) = body.write()
        {
            while let Ok(room @ 1..) = stream.check_write() {
                let part = text.as_bytes().get(..room as usize).unwrap_or(text.as_bytes());
                if stream.write(part).is_err() {
                    break;
                }
            }
        }
        kept.push(request);
    }
}

fn sleep() {
    wasip2::clocks::monotonic_clock::subscribe_duration(FOREVER).block();
}

fn fetch(target: &str) -> String {
    let (scheme, target) = match target.strip_prefix("https:") {
        Some(target) => (Scheme::Https, target),
        None => (Scheme::Http, target),
    };
    let (authority, path) = target.split_once('/').unwrap_or((target, ""));
    let request = OutgoingRequest::new(Fields::new());
    let is_set = request.set_scheme(Some(&scheme)).is_ok()
        && request.set_authority(Some(authority)).is_ok()
        && request.set_path_with_query(Some(&format!("/{path}"))).is_ok();
    if !is_set {
        return "not a URL".to_owned();
    }
    let response = match outgoing_handler::handle(request, None) {
        Ok(response) => response,
        Err(code) => return format!("{code:?}"),
    };
    response.subscribe().block();
    let response = match response.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(code))) => return format!("{code:?}"),
        _ => return "no response".to_owned(),
    };
    let body = response.consume().ok().and_then(|body| {
        let stream = body.stream().ok()?;
        read(&stream)
    });
    let body = body.unwrap_or_default();
    format!("{} {}", response.status(), String::from_utf8_lossy(&body))
}
