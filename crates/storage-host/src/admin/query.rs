//! The parameters of a request, percent-encoded so that every key is exact.

use std::fmt::Write;

use storage_core::ComponentId;

use super::wire::{Refusal, usage};
use crate::store_path::decode_percent;

/// The parameters of a request. Each is taken once.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses what follows the question mark.
    ///
    /// # Errors
    /// If a parameter is repeated, or a value is not percent-encoded UTF-8.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for parameter in text.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(usage(format!("the parameter {name:?} is given twice")));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// The same, of an HTML form, in which a `+` is a space.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub(super) fn parse_form(text: &str) -> Result<Self, Refusal> {
        Self::parse(&text.replace('+', "%20"))
    }

    /// Takes an optional parameter.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes a required parameter.
    pub(super) fn require(&mut self, name: &str) -> Result<String, Refusal> {
        self.take(name).ok_or_else(|| usage(format!("the parameter {name:?} is missing")))
    }

    /// Takes the id of a component.
    pub(super) fn component(&mut self) -> Result<ComponentId, Refusal> {
        self.require("component")?
            .parse()
            .map_err(|error| usage(format!("invalid component id: {error}")))
    }

    /// Takes the number of items of a page: at most `most`, which is the default.
    pub(super) fn limit(&mut self, most: usize) -> Result<usize, Refusal> {
        let Some(text) = self.take("limit") else { return Ok(most) };
        match text.parse::<usize>() {
            Ok(limit) => Ok(limit.min(most)),
            Err(_) => Err(usage(format!("limit={text:?} is not a number"))),
        }
    }

    /// Refuses parameters that were not taken.
    pub(super) fn end(self) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(usage(format!("unknown parameter {name:?}"))),
        }
    }
}

fn decode(text: &str) -> Result<String, Refusal> {
    if text.contains('+') {
        // To some programs it is a plus sign, to others a space.
        return Err(usage("write %2B for + and %20 for a space".to_owned()));
    }
    decode_percent(text.as_bytes())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| usage("a parameter is not percent-encoded UTF-8".to_owned()))
}

/// Adds a parameter to the target of a request.
pub(super) fn add(target: &mut String, name: &str, value: &str) {
    target.push(if target.contains('?') { '&' } else { '?' });
    target.push_str(name);
    target.push('=');
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                target.push(byte.into());
            }
            // Writing to a String cannot fail.
            _ => drop(write!(target, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, String)>, String> {
        Query::parse(text).map(|query| query.0).map_err(|refusal| refusal.message().to_owned())
    }

    #[test]
    fn every_character_survives() {
        let keys = ["..", "a/../b", "%2e", "a b+c", "&key=x", "?#", "\u{e9}", "\u{202e}", ""];
        let characters: Vec<char> = ('\u{20}'..='\u{10ffff}').collect();
        let all: Vec<String> = characters.chunks(256).map(|chunk| chunk.iter().collect()).collect();
        for key in keys.into_iter().chain(all.iter().map(String::as_str)) {
            let mut target = "/v1/value".to_owned();
            add(&mut target, "component", "a+b/c:d/@e");
            add(&mut target, "key", key);
            let uri: hyper::Uri = target.parse().unwrap();
            let mut query = Query::parse(uri.query().unwrap()).unwrap();
            assert_eq!(query.component().unwrap().as_str(), "a+b/c:d/@e");
            assert_eq!(query.require("key").unwrap(), key);
            query.end().unwrap();
        }
    }

    #[test]
    fn ambiguous_and_invalid_parameters_are_refused() {
        for (text, problem) in [
            ("key=a+b", "write %2B for +"),
            ("key=%2", "not percent-encoded"),
            ("key=%zz", "not percent-encoded"),
            ("key=%ff", "not percent-encoded"),
            ("key=a&key=b", "\"key\" is given twice"),
        ] {
            let message = parsed(text).unwrap_err();
            assert!(message.contains(problem), "{text}: {message}");
        }
        assert_eq!(parsed("a&b=").unwrap().len(), 2);
        assert!(Query::parse("kye=a").unwrap().end().is_err());
        assert!(Query::parse("").unwrap().require("key").is_err());
        assert_eq!(Query::parse("limit=5").unwrap().limit(3).unwrap(), 3);
        assert!(Query::parse("limit=-1").unwrap().limit(3).is_err());
    }
}
