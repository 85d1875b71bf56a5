//! Makes one storage call at a time and keeps the handles that it opens. The
//! host's tests use it to change something between two calls, for example to
//! revoke a grant.
//!
//! The first word of a call is an interface (`draft`, `draft2`, `extended` or `spin`), the
//! second a function, and the rest its arguments. `open` replaces the handle that
//! later calls of the interface use. The result is the value, `none`, `ok`, or the
//! variant of the error, a colon and its message.

// The bindings of an export are unsafe code.
#![deny(unsafe_op_in_unsafe_fn)]

mod draft;
mod draft2;
mod extended;
mod keyvalue;
mod spin;

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "session" });
}

use std::cell::RefCell;

use conformance::table::Failure;

struct Session;

impl bindings::Guest for Session {
    fn call(words: Vec<String>) -> String {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let result = match words.as_slice() {
            ["draft", call @ ..] => draft::call(call),
            ["draft2", call @ ..] => draft2::call(call),
            ["extended", call @ ..] => extended::call(call),
            ["spin", call @ ..] => spin::call(call),
            _ => None,
        };
        result.unwrap_or_else(|| format!("no such call: {}", words.join(" ")))
    }
}

bindings::export!(Session with_types_in bindings);

/// A handle that later calls use. A component runs on one thread.
type Handle<T> = RefCell<Option<T>>;

/// A value as text.
fn text(value: Option<Vec<u8>>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| String::from_utf8_lossy(&value).into_owned())
}

/// The result of a call, or its error.
fn shown<E: Failure>(result: Result<String, E>) -> String {
    result.unwrap_or_else(|error| match error.text() {
        Some(text) => format!("{}: {text}", error.variant()),
        None => error.variant().to_owned(),
    })
}
