//! The keys of the target, in order.

use storage_core::{PageRequest, StorageError, StorageValue, Store};

use super::error::CopyError;

/// The number of keys of a page of the target.
const PAGE: usize = 1_000;

/// The keys of the target with a prefix, in order, of which one page is in memory.
pub(crate) struct TargetKeys<'a> {
    /// `None` if there are no keys.
    to: Option<&'a dyn Store>,
    prefix: String,
    keys: std::vec::IntoIter<String>,
    after: Option<String>,
    more: bool,
}

impl<'a> TargetKeys<'a> {
    /// The keys that begin with `prefix`.
    pub(crate) fn new(to: Option<&'a dyn Store>, prefix: &str) -> Self {
        let keys = Vec::new().into_iter();
        Self { to, prefix: prefix.to_owned(), keys, after: None, more: to.is_some() }
    }

    pub(crate) fn peek(&mut self) -> Result<Option<&str>, CopyError> {
        while self.keys.as_slice().is_empty()
            && self.more
            && let Some(to) = self.to
        {
            let after = self.after.as_deref();
            let request = PageRequest { prefix: &self.prefix, after, limit: PAGE };
            let page = to.list_page(request).map_err(CopyError::Target)?;
            if let Some(last) = page.keys.last() {
                self.after = Some(last.clone());
            }
            self.more = page.more && !page.keys.is_empty();
            self.keys = page.keys.into_iter();
        }
        Ok(self.keys.as_slice().first().map(String::as_str))
    }

    pub(crate) fn next(&mut self) -> Result<Option<String>, CopyError> {
        self.peek()?;
        Ok(self.keys.next())
    }
}

/// What the target holds under a key, compared with the value that it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// No value, or a damaged one.
    Nothing,
    Same,
    Other,
}

/// Reads a key of the target.
pub(crate) fn held(to: &dyn Store, key: &str, value: &StorageValue) -> Result<Held, CopyError> {
    match to.get(key) {
        Ok(Some(found)) if found == *value => Ok(Held::Same),
        Ok(Some(_)) => Ok(Held::Other),
        Ok(None) | Err(StorageError::Corrupt { .. }) => Ok(Held::Nothing),
        Err(error) => Err(CopyError::Target(error)),
    }
}
