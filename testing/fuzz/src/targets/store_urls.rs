//! Store URLs. No store is opened, since the path may be anything.

use std::path::Path;

use storage_host::{StoreUrl, StoreUrlError};

use crate::input::valid_start;

/// Input: a URL.
pub(crate) fn run(input: &[u8]) {
    let text = valid_start(input);
    let parsed = text.parse::<StoreUrl>();
    plain_path(text, &parsed);
    match parsed {
        Ok(url) => {
            same(&url);
            same(&url.relaxed());
            assert!(["file", "redb", "memory"].contains(&url.scheme()), "{url}");
            let path = url.path().map(|path| path.as_os_str().as_encoded_bytes());
            assert_eq!(path.is_none(), url.scheme() == "memory");
            assert!(path.is_none_or(|path| !path.is_empty() && !path.contains(&0)));
            if let Some(path) = url.path() {
                same(&StoreUrl::from_path(path));
            }
            assert_eq!(url.durability().is_none(), url.scheme() == "memory");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The text of a URL parses to the same URL.
fn same(url: &StoreUrl) {
    assert_eq!(url.to_string().parse::<StoreUrl>().as_ref(), Ok(url), "{url}");
}

/// A path without `%` and `?` is used unchanged, or refused because of a `~`, `$`, control
/// character or white space.
fn plain_path(text: &str, parsed: &Result<StoreUrl, StoreUrlError>) {
    let Some(path) = text.strip_prefix("file:").or_else(|| text.strip_prefix("redb:")) else {
        return;
    };
    if path.is_empty() || path.starts_with("//") || path.contains(['%', '?', '\0']) {
        return;
    }
    match parsed {
        Ok(url) => assert_eq!(url.path(), Some(Path::new(path))),
        Err(error) => {
            let odd = path.starts_with('~')
                || path.contains('$')
                || path.contains(char::is_control)
                || path.trim() != path;
            assert!(odd, "{text:?}: {error}");
        }
    }
}
