//! Errors of the TOML parser, in the words of a manifest.

use crate::manifest::ManifestError;

/// What is wrong and where. Does not quote the text, which may contain a secret.
pub(crate) fn syntax_error(text: &str, error: &toml::de::Error) -> ManifestError {
    let start = error.span().map(|span| span.start);
    let at = start.and_then(|start| text.get(..start)).map(|before| {
        let line = before.matches('\n').count().saturating_add(1);
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("line {line}, column {column}: ")
    });
    let mut message = in_words(error.message().trim_end());
    if start.and_then(|start| text.get(start..)).is_some_and(|rest| rest.starts_with("[component]"))
    {
        message.push_str("; write [[component]]");
    }
    ManifestError::Syntax(format!("{}{message}", at.unwrap_or_default()))
}

/// The message without the names of Rust types.
fn in_words(message: &str) -> String {
    let types = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        // A text that was found may contain this too.
        .and_then(|types| types.rsplit_once(", expected "));
    match types {
        Some((found, expected)) => format!("expected {}, found {}", wanted(expected), given(found)),
        None => message.to_owned(),
    }
}

fn wanted(expected: &str) -> &str {
    match expected {
        "u16" | "u32" | "u64" | "usize" => "a whole number, at least 0",
        "f32" | "f64" => "a number",
        "a string" | "path string" => "a text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        expected if expected.starts_with("struct ") => "a table, such as { NAME = VALUE }",
        expected => expected,
    }
}

fn given(found: &str) -> &str {
    match found.split_once(' ').map_or(found, |(kind, _)| kind) {
        "integer" if found.ends_with("128") => "a number that is too large",
        "integer" if found.contains("`-") => "a negative number",
        "integer" | "floating" => "a number",
        "string" => "a text",
        "boolean" => "true or false",
        "sequence" => "a list",
        "map" => "a table",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use crate::Manifest;

    #[test]
    fn errors_have_no_rust_types_and_no_values() {
        for (text, error) in [
            ("quota = 10", "expected a table, such as { NAME = VALUE }, found a number"),
            ("store = 5", "expected a text in quotes, found a number"),
            (
                "http.body_bytes = 'secret, expected u64'",
                "expected a whole number, at least 0, found a text",
            ),
            (
                "http.body_bytes = -1",
                "expected a whole number, at least 0, found a negative number",
            ),
            (
                "limits.value_bytes = 99999999999999999999",
                "expected a whole number, at least 0, found a number that is too large",
            ),
            ("rate.burst_seconds = [1]", "expected a number, found a list"),
            ("cache.shared = 1.5", "expected true or false, found a number"),
            (
                "cache = 'on'",
                "expected a table, or \"off\" to read from the store each time, found a text",
            ),
            ("[component]\nid = 'a/b/c'", "expected a list, found a table; write [[component]]"),
            (
                "[[component]]\nid = 'a/b/c'\nroutes = ['/']",
                "expected a table, such as { NAME = VALUE }, found a text",
            ),
            (
                "[[component]]\nid = 'a/b/c'\nwasm = true",
                "expected a text in quotes, found true or false",
            ),
        ] {
            let message = text.parse::<Manifest>().unwrap_err().to_string();
            let (_, message) = message.split_once(": ").unwrap();
            assert_eq!(message, error, "{text}");
        }
    }
}
