//! Store URLs. No store is opened, since the path may be anything.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use storage_host::{
    Location, Mode, Scheme, StorageError, Store, StoreRegistry, StoreUrl, StoreUrlError,
};

use crate::input::valid_start;

/// A store on a server, or on several.
struct Remote {
    name: &'static str,
    has_several: bool,
}

impl Scheme for Remote {
    fn name(&self) -> &'static str {
        self.name
    }

    fn has_path(&self) -> bool {
        false
    }

    fn has_server(&self) -> bool {
        !self.has_several
    }

    fn has_servers(&self) -> bool {
        self.has_several
    }

    fn open(&self, _: &Location, _: Mode) -> Result<Arc<dyn Store>, StorageError> {
        Err(StorageError::ReadOnly)
    }
}

/// The names are those whose passwords are hidden in every form.
static REMOTE: LazyLock<StoreRegistry> = LazyLock::new(|| {
    let mut registry = StoreRegistry::new();
    registry.register(Remote { name: "postgres", has_several: false });
    registry.register(Remote { name: "redis", has_several: true });
    registry
});

/// Input: a URL.
pub(crate) fn run(input: &[u8]) {
    let text = valid_start(input);
    on_servers(text);
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

/// A URL of servers is shown without its password, and is otherwise the same. Errors do not show
/// the password either.
fn on_servers(text: &str) {
    const SECRET: &str = "s3cret";
    for scheme in ["postgres", "redis"] {
        for url in [format!("{scheme}:{text}"), format!("{scheme}://u:{SECRET}{text}@h/d")] {
            let shown = match REMOTE.parse(&url) {
                Ok(parsed) => {
                    let shown = parsed.to_string();
                    let again = REMOTE.parse(&shown).map(|again| again.to_string());
                    assert_eq!(again.as_ref(), Ok(&shown), "{url:?}");
                    shown
                }
                Err(error) => error.to_string(),
            };
            assert!(text.contains(SECRET) || !shown.contains(SECRET), "{url:?}: {shown}");
        }
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
