//! A page of a listing: its request and its result.

/// Selects the keys of a page.
///
/// ```
/// use storage_core::PageRequest;
///
/// let first = PageRequest::new(100).with_prefix("user:");
/// let next = first.after("user:0099");
/// assert_eq!((next.prefix, next.after, next.limit), ("user:", Some("user:0099"), 100));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest<'a> {
    /// Only keys that begin with this text; `""` for all keys.
    pub prefix: &'a str,
    /// Only keys after this one in byte order. It need not exist, so a listing
    /// continues correctly when keys are written and deleted between pages. It may
    /// be any text and need not begin with the prefix.
    pub after: Option<&'a str>,
    /// The maximum number of keys of the page, up to [`usize::MAX`]. A page with limit 0
    /// has no keys, but [`KeyPage::more`] shows whether there are any.
    pub limit: usize,
}

impl<'a> PageRequest<'a> {
    /// The first page of all keys, with at most `limit` of them.
    pub const fn new(limit: usize) -> Self {
        Self { prefix: "", after: None, limit }
    }

    /// Selects only keys that begin with `prefix`.
    #[must_use]
    pub const fn with_prefix(mut self, prefix: &'a str) -> Self {
        self.prefix = prefix;
        self
    }

    /// Selects only keys after `key`, the last key of the previous page.
    #[must_use]
    pub const fn after(mut self, key: &'a str) -> Self {
        self.after = Some(key);
        self
    }

    /// Whether the request selects this key, regardless of its limit.
    pub fn wants(&self, key: &str) -> bool {
        key.starts_with(self.prefix) && self.after.is_none_or(|after| key > after)
    }
}

/// Keys in ascending byte order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// The keys. There may be fewer than the limit although more follow.
    pub keys: Vec<String>,
    /// Whether more keys follow the last one. Use this, not the number of keys,
    /// to detect the end of a listing.
    pub more: bool,
}

impl KeyPage {
    /// Creates a page of the first `limit` of these ordered keys, and sets
    /// [`more`](Self::more) if there are others.
    ///
    /// For implementations of `list_page`. Takes at most `limit + 1` keys from the iterator.
    ///
    /// ```
    /// # use storage_core::KeyPage;
    /// let page = KeyPage::cut((1..).map(|n| format!("key{n}")), 2);
    /// assert_eq!((page.keys, page.more), (vec!["key1".into(), "key2".into()], true));
    /// ```
    pub fn cut(keys: impl IntoIterator<Item = String>, limit: usize) -> Self {
        // The standard library collects a vector in place.
        let mut keys: Vec<String> = keys.into_iter().take(limit.saturating_add(1)).collect();
        let more = keys.len() > limit;
        keys.truncate(limit);
        Self { keys, more }
    }
}
