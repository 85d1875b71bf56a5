//! Parsers of arguments. An argument may be any bytes; errors say what must be UTF-8.

use std::ffi::OsString;
use std::ops::RangeInclusive;

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

/// A whole number in a range.
pub(super) fn number<T>(range: RangeInclusive<u64>) -> impl TypedValueParser<Value = T>
where
    T: TryFrom<u64> + Clone + Send + Sync + 'static,
{
    OsStringValueParser::new().try_map(move |text| {
        let number = text.to_str().and_then(|text| text.parse().ok());
        let number = number.filter(|number| range.contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            format!("write a whole number from {} to {}", range.start(), range.end())
        })
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
