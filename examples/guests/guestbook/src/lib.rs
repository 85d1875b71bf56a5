//! A guestbook: a page with a form, and an API.
//!
//! | request | answer |
//! |---|---|
//! | `GET /`, `GET /?after=ID` | the page with 20 entries, the latest first |
//! | `POST /entries` with the form's `name` and `text` | signs, and leads back to the page |
//! | `GET /api/entries?after=ID&limit=N` | `{"entries":[{"id","name","text"}],"count":N,"next":ID}`; at most 100, by default 20 |
//! | `POST /api/entries` with `{"name","text"}` | signs: status 201 with the entry |
//!
//! The paths follow the path under which the host serves the guestbook.

// The bindings of an export are unsafe code.
#![deny(unsafe_op_in_unsafe_fn)]

mod book;
mod form;
mod html;
mod http;

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit", "../../../wit/extended"],
        world: "airssys:storage/extended-guest",
        generate_all,
    });
}

use serde::Serialize;
use wasip2::http::types::{IncomingRequest, Method, ResponseOutparam};

use book::{Book, Entry, Page, Problem};
use http::Answer;

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Nothing of a page is loaded from elsewhere, and nothing runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'";

/// A form in which each character of the longest entry takes twelve bytes.
const MAX_BODY: usize = 32_768;
const MAX_PAGE: u32 = 100;
const DEFAULT_PAGE: u32 = 20;

struct Guestbook;

impl wasip2::exports::http::incoming_handler::Guest for Guestbook {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        respond(&request).send(answer);
    }
}

wasip2::http::proxy::export!(Guestbook);

fn respond(request: &IncomingRequest) -> Answer {
    let target = request.path_with_query().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let path = path.trim_end_matches('/');
    if let Some(_base) = path.strip_suffix("/api/entries") {
        return match request.method() {
            Method::Get | Method::Head => api_page(query),
            Method::Post => api_sign(request),
            _ => not_allowed("GET, HEAD, POST"),
        };
    }
    if let Some(base) = path.strip_suffix("/entries") {
        return match request.method() {
            Method::Post => form_sign(base, request),
            _ => not_allowed("POST"),
        };
    }
    match request.method() {
        Method::Get | Method::Head => show(path, query, 200, None),
        _ => not_allowed("GET, HEAD"),
    }
}

fn not_allowed(methods: &str) -> Answer {
    Answer::new(405, TEXT, "method not allowed\n").with("allow", methods)
}

fn api_page(query: &str) -> Answer {
    let limit = match form::field(query, "limit").map(|limit| limit.parse::<u32>()) {
        None => DEFAULT_PAGE,
        Some(Ok(limit)) if limit > 0 => limit.min(MAX_PAGE),
        Some(_) => return api_problem(Problem::Invalid("limit is not a number from 1 to 100")),
    };
    match read(query, limit) {
        Ok(page) => json(200, &page),
        Err(problem) => api_problem(problem),
    }
}

fn api_sign(request: &IncomingRequest) -> Answer {
    let Some(body) = http::body(request, MAX_BODY) else { return too_large() };
    let signed = serde_json::from_slice::<Entry>(&body)
        .map_err(|_| Problem::Invalid("the body is not {\"name\":TEXT,\"text\":TEXT}"))
        .and_then(|entry| Book::open()?.sign(entry));
    match signed {
        Ok(signed) => json(201, &signed),
        Err(problem) => api_problem(problem),
    }
}

fn form_sign(base: &str, request: &IncomingRequest) -> Answer {
    let Some(body) = http::body(request, MAX_BODY) else { return too_large() };
    let fields = String::from_utf8_lossy(&body);
    let [name, text] = ["name", "text"].map(|name| form::field(&fields, name).unwrap_or_default());
    match Book::open().and_then(|book| book.sign(Entry { name, text })) {
        Ok(_) => Answer::new(303, TEXT, "").with("location", format!("{base}/")),
        Err(problem) => {
            let (status, reason) = described(problem);
            show(base, "", status, Some(reason))
        }
    }
}

/// The page with the entries that a query asks for.
fn show(base: &str, query: &str, status: u16, notice: Option<&str>) -> Answer {
    let (status, html) = match (read(query, DEFAULT_PAGE), notice) {
        (Ok(page), notice) => (status, html::page(base, &page, notice)),
        (Err(problem), _) => {
            let (status, reason) = described(problem);
            let nothing = Page { entries: Vec::new(), count: 0, next: None };
            (status, html::page(base, &nothing, Some(reason)))
        }
    };
    Answer::new(status, HTML, html).with("content-security-policy", POLICY)
}

fn read(query: &str, limit: u32) -> Result<Page, Problem> {
    Book::open()?.page(form::field(query, "after").as_deref(), limit)
}

fn json(status: u16, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => Answer::new(status, JSON, body),
        Err(_) => Answer::new(500, TEXT, "internal error\n"),
    }
}

fn api_problem(problem: Problem) -> Answer {
    #[derive(Serialize)]
    struct Refusal {
        error: &'static str,
    }

    let (status, error) = described(problem);
    json(status, &Refusal { error })
}

/// The status and the reason for the visitor. The operator finds more in the log.
fn described(problem: Problem) -> (u16, &'static str) {
    match problem {
        Problem::Invalid(reason) => (400, reason),
        Problem::Full => (507, "the guestbook is full"),
        Problem::Store(reason) => {
            use std::io::Write;
            // Without a log there is no one to tell.
            let _ = writeln!(std::io::stderr(), "the store failed: {reason}");
            (500, "the guestbook is not available now")
        }
    }
}

fn too_large() -> Answer {
    Answer::new(413, TEXT, "the body is too large\n")
}
