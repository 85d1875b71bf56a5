//! A page of a listing: what is asked for, and what comes back.

/// Which keys a page shall hold.
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
    /// Only keys that begin with this text; `""` for every key.
    pub prefix: &'a str,
    /// Only keys after this one in byte order. It need not exist, so a listing
    /// goes on at the right place when keys come and go between pages.
    pub after: Option<&'a str>,
    /// The most keys that the page may hold. With 0 the page has none, and tells
    /// whether there are any.
    pub limit: usize,
}

impl<'a> PageRequest<'a> {
    /// The first page of all keys, with at most `limit` of them.
    pub const fn new(limit: usize) -> Self {
        Self { prefix: "", after: None, limit }
    }

    /// The same for keys that begin with `prefix`.
    #[must_use]
    pub const fn with_prefix(mut self, prefix: &'a str) -> Self {
        self.prefix = prefix;
        self
    }

    /// The same for keys after `key`, the last one seen.
    #[must_use]
    pub const fn after(mut self, key: &'a str) -> Self {
        self.after = Some(key);
        self
    }

    /// Whether the request asks for this key, its limit aside.
    pub fn wants(&self, key: &str) -> bool {
        key.starts_with(self.prefix) && self.after.is_none_or(|after| key > after)
    }
}

/// Keys in ascending byte order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// The keys. There may be fewer than the limit although more follow.
    pub keys: Vec<String>,
    /// Whether more keys follow the last one. This, not the number of keys,
    /// tells the end of a listing.
    pub more: bool,
}

impl KeyPage {
    /// The first `limit` of these ordered keys, with [`more`](Self::more) set if
    /// that left some out.
    ///
    /// For implementations, which collect one key more than the limit.
    pub fn cut(mut keys: Vec<String>, limit: usize) -> Self {
        let more = keys.len() > limit;
        keys.truncate(limit);
        Self { keys, more }
    }
}
