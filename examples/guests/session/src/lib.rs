//! Calls stores as it is told, one call at a time, and keeps the handles that it
//! has opened. The host's tests use it to see what happens between two calls: a
//! grant that is taken back, another instance that writes.
//!
//! The first word is an interface, `draft`, `draft2` or `extended`, the second
//! one a function, and the rest its arguments; `open` replaces the handle that
//! all later calls of that interface use. The answer is a value as it is, `none`,
//! `ok`, or an error's variant with its text behind a colon.

// The bindings of an export are unsafe code.
#![deny(unsafe_op_in_unsafe_fn)]

mod draft;
mod draft2;
mod extended;
mod keyvalue;

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "session" });
}

use std::cell::RefCell;

use conformance::table::Failure;

struct Session;

impl bindings::Guest for Session {
    fn call(words: Vec<String>) -> String {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let answer = match words.as_slice() {
            ["draft", call @ ..] => draft::call(call),
            ["draft2", call @ ..] => draft2::call(call),
            ["extended", call @ ..] => extended::call(call),
            _ => None,
        };
        answer.unwrap_or_else(|| format!("no such call: {}", words.join(" ")))
    }
}

bindings::export!(Session with_types_in bindings);

/// A handle that later calls use. A component runs on one thread.
type Kept<T> = RefCell<Option<T>>;

/// A value as text.
fn text(value: Option<Vec<u8>>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| String::from_utf8_lossy(&value).into_owned())
}

/// The answer of a call, or its error.
fn told<E: Failure>(answer: Result<String, E>) -> String {
    answer.unwrap_or_else(|error| match error.text() {
        Some(text) => format!("{}: {text}", error.variant()),
        None => error.variant().to_owned(),
    })
}
