//! Parsers of arguments. An argument may be any bytes; errors say what must be UTF-8.

use std::ffi::OsString;

use clap::builder::{OsStringValueParser, TypedValueParser};
use storage_host::{ComponentId, validate_key};

fn utf8(text: OsString, what: &str) -> Result<String, String> {
    text.into_string().map_err(|_| format!("{what} must be valid UTF-8"))
}

/// A key, or a prefix of keys.
pub(super) fn key() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().try_map(|text| utf8(text, "a key"))
}

/// A component id.
pub(super) fn id() -> impl TypedValueParser<Value = ComponentId> {
    OsStringValueParser::new().try_map(|text| {
        utf8(text, "an id")?.parse::<ComponentId>().map_err(|error| error.to_string())
    })
}

/// An address and a port to listen on.
#[cfg(feature = "serve")]
pub(super) fn address() -> impl TypedValueParser<Value = std::net::SocketAddr> {
    OsStringValueParser::new().try_map(|text| {
        let wrong = "write an address and a port: 127.0.0.1:8080 or [::1]:8080";
        utf8(text, "an address")?.parse().map_err(|_| wrong.to_owned())
    })
}

/// `KEY=VALUE`, split at the first equals sign.
pub(super) fn preset() -> impl TypedValueParser<Value = (String, String)> {
    OsStringValueParser::new().try_map(|text| {
        let text = utf8(text, "a preset")?;
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
        validate_key(key).map_err(|error| error.to_string())?;
        Ok::<_, String>((key.to_owned(), value.to_owned()))
    })
}
