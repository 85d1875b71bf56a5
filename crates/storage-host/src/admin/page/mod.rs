//! A page for a browser: components, keys, values and what components do. It changes nothing
//! and needs no scripts.

mod access;
mod activity;
mod html;
mod value;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
    REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use storage_core::{ComponentId, PageRequest};
use tokio::time::timeout;

pub use self::access::Token;
use self::access::has_safe_host;
use self::html::{Attribute, Escaped, STYLE, page};
use self::value::Form;
use super::query::{Query, add};
use super::routes::{Answer, metrics, on_blocking_thread, whole};
use super::wire::{QuotaAndUsage, Refusal};
use crate::host::StorageHost;

/// Components or keys of a page.
const PAGE: usize = 100;

/// The maximum bytes of the form with the token, and how long it may take.
const FORM: usize = 1 << 10;
const FORM_TIME: Duration = Duration::from_secs(10);

/// What the page shows, and to whom.
pub(super) struct Page {
    pub(super) host: StorageHost,
    /// The store's URL without a password.
    pub(super) url: String,
    pub(super) token: Token,
    /// The name of the cookie. Ports of a machine share their cookies.
    pub(super) cookie: String,
}

/// Answers a request of a browser.
pub(super) async fn answer(page: Arc<Page>, request: Request<Incoming>) -> Answer {
    let answered = route(page, request).await;
    let mut answer = answered.unwrap_or_else(|refusal| {
        let message = format!("<p>{}</p>", Escaped(refusal.message()));
        let status = StatusCode::from_u16(refusal.status());
        html(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "Error", &message)
    });
    let policy = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
                  frame-ancestors 'none'";
    let headers: [(HeaderName, &'static str); 6] = [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in headers {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

async fn route(page: Arc<Page>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    if !has_safe_host(&head.headers) {
        let message = "<p>Use the address of this server, or localhost, instead of a name.</p>\n";
        return Ok(html(StatusCode::FORBIDDEN, "Not this name", message));
    }
    match (head.uri.path(), &head.method) {
        ("/style.css", &Method::GET) => {
            return Ok(typed(StatusCode::OK, "text/css; charset=utf-8", STYLE.to_owned()));
        }
        ("/login", &Method::POST) => return log_in(&page, body).await,
        (_, &Method::GET) => {}
        (path, _) => return Err(Refusal::no_such_method(path)),
    }
    let mut query = Query::parse_form(head.uri.query().unwrap_or_default())?;
    if head.uri.path() == "/login" {
        // The address that the host showed its operator.
        let given = query.take("token").unwrap_or_default();
        return logged_in(&page, &given);
    }
    if !page.token.is_in(&head.headers, &page.cookie) {
        return Ok(html(StatusCode::UNAUTHORIZED, "storage-host", LOGIN));
    }
    match head.uri.path() {
        "/" => {
            let after = query.take("after");
            query.end()?;
            on_blocking_thread(move || components(&page, after.as_deref())).await
        }
        "/component" => {
            let id = query.component()?;
            let (prefix, after) = (query.take("prefix").unwrap_or_default(), query.take("after"));
            query.end()?;
            on_blocking_thread(move || keys(&page.host, &id, &prefix, after.as_deref())).await
        }
        "/value" => {
            let (id, key) = (query.component()?, query.require("key")?);
            let form = Form::parse(query.take("as").as_deref())?;
            query.end()?;
            on_blocking_thread(move || value::page(&page.host, &id, &key, form)).await
        }
        "/activity" => {
            query.end()?;
            on_blocking_thread(move || activity::page(&page.host)).await
        }
        "/metrics" => {
            query.end()?;
            on_blocking_thread(move || Ok(metrics(&page.host))).await
        }
        path => Err(Refusal::no_such_path(path)),
    }
}

const LOGIN: &str = "<form method=\"post\" action=\"/login\"><label>Token \
    <input name=\"token\" type=\"password\" autocomplete=\"off\" autofocus required></label> \
    <button>Show</button></form>\n";

/// Sets the cookie if the form has the token.
async fn log_in(page: &Page, body: Incoming) -> Result<Answer, Refusal> {
    let read = timeout(FORM_TIME, Limited::new(body, FORM).collect()).await;
    let form = read.ok().and_then(Result::ok).map(|form| form.to_bytes()).unwrap_or_default();
    // A token has no character that a form would encode.
    let given = form.strip_prefix(b"token=").and_then(|token| std::str::from_utf8(token).ok());
    logged_in(page, given.unwrap_or_default())
}

fn logged_in(page: &Page, given: &str) -> Result<Answer, Refusal> {
    if !page.token.matches(given) {
        return Ok(html(StatusCode::UNAUTHORIZED, "That is not the token", LOGIN));
    }
    let cookie =
        format!("{}={}; Path=/; HttpOnly; SameSite=Strict", page.cookie, page.token.as_str());
    let mut cookie = HeaderValue::from_str(&cookie)
        .map_err(|_| Refusal::internal("the token cannot be a cookie"))?;
    cookie.set_sensitive(true);
    let mut answer = html(StatusCode::SEE_OTHER, "storage-host", "");
    answer.headers_mut().insert(SET_COOKIE, cookie);
    answer.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
    Ok(answer)
}

fn components(page: &Page, after: Option<&str>) -> Result<Answer, Refusal> {
    let found = page.host.store().list_components(after, PAGE)?;
    let mut content = format!("<p>Store: {}</p>\n", Escaped(&page.url));
    if let Some(loss) = page.host.store().properties().failover_loss() {
        content += &format!("<p>Note: {loss}.</p>\n");
    }
    let items = found.keys.iter().map(|prefix| {
        let id = prefix.strip_suffix('/').unwrap_or(prefix);
        (link("/component", &[("component", id)]), id)
    });
    add_items(&mut content, items, "No components have keys.");
    if let Some(last) = found.keys.last().filter(|_| found.more) {
        add_more(&mut content, &link("/", &[("after", last)]));
    }
    Ok(html(StatusCode::OK, "Components", &content))
}

fn keys(
    host: &StorageHost,
    id: &ComponentId,
    prefix: &str,
    after: Option<&str>,
) -> Result<Answer, Refusal> {
    let chain = host.component(id);
    // The operator's calls are not the component's.
    let found = chain.for_operator().list_page(PageRequest { prefix, after, limit: PAGE })?;
    let used = QuotaAndUsage::new(host.usage(id)?, chain.quota());
    let of = |quota: Option<u64>| quota.map_or_else(String::new, |quota| format!(" of {quota}"));
    let mut content = format!(
        "<p>{}{} keys, {}{} bytes</p>\n<form action=\"/component\"><input type=\"hidden\" \
         name=\"component\" value=\"{}\"><label>Keys that begin with <input name=\"prefix\" \
         value=\"{}\"></label> <button>List</button></form>\n",
        used.key_count,
        of(used.quota_keys),
        used.used_bytes,
        of(used.quota_bytes),
        Attribute(id.as_str()),
        Attribute(prefix)
    );
    let items = found
        .keys
        .iter()
        .map(|key| (link("/value", &[("component", id.as_str()), ("key", key)]), key.as_str()));
    add_items(&mut content, items, "No such keys.");
    if let Some(last) = found.keys.last().filter(|_| found.more) {
        let parameters = [("component", id.as_str()), ("prefix", prefix), ("after", last)];
        add_more(&mut content, &link("/component", &parameters));
    }
    Ok(html(StatusCode::OK, &Escaped(id.as_str()).to_string(), &content))
}

/// A target with parameters, not escaped for HTML yet.
fn link(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut target = path.to_owned();
    parameters.iter().for_each(|(name, value)| add(&mut target, name, value));
    target
}

/// Adds a list of links, or says that it is empty.
fn add_items<'a>(
    content: &mut String,
    items: impl ExactSizeIterator<Item = (String, &'a str)>,
    none: &str,
) {
    if items.len() == 0 {
        *content += &format!("<p>{none}</p>\n");
        return;
    }
    *content += "<ul>\n";
    for (target, text) in items {
        // Writing to a String cannot fail.
        let _ =
            writeln!(content, "<li><a href=\"{}\">{}</a></li>", Attribute(&target), Escaped(text));
    }
    *content += "</ul>\n";
}

fn add_more(content: &mut String, target: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(content, "<p><a href=\"{}\">More</a></p>", Attribute(target));
}

fn html(status: StatusCode, title: &str, content: &str) -> Answer {
    typed(status, "text/html; charset=utf-8", page(title, content))
}

fn typed(status: StatusCode, content_type: &'static str, text: String) -> Answer {
    let mut answer = Response::new(whole(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
