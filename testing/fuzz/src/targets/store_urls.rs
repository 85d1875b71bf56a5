//! The URL of a store. None is opened: the path may be any.

use std::path::Path;

use storage_host::{StoreUrl, StoreUrlError};

use crate::input::valid_start;

/// A URL.
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

/// Its text names the same store.
fn same(url: &StoreUrl) {
    assert_eq!(url.to_string().parse::<StoreUrl>().as_ref(), Ok(url), "{url}");
}

/// A path without `%` and `?` is taken as it stands, or refused for a `~`, `$`, control
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
