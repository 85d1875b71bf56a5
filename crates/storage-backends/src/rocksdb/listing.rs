//! Listings, usage and snapshots: scans over the keys.

use ::rocksdb::{DBRawIterator, ReadOptions, Snapshot};
use storage_core::{
    KeyPage, PageRequest, SnapshotVisitor, StorageError, StorageValue, Usage, split_full_key,
};

use super::database::Database;
use super::error;
use super::keys::{self, Kind, Range};
use crate::record;

/// What a scan reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Keys, which stay in the block cache for the next page.
    Keys,
    /// Everything once. Does not fill the block cache.
    Everything,
}

/// A scan over the keys of one kind.
pub(super) struct Cursor<'a> {
    database: &'a Database,
    iterator: DBRawIterator<'a>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(
        database: &'a Database,
        request: PageRequest<'_>,
        kind: Kind,
        reads: Reads,
        snapshot: Option<&Snapshot<'a>>,
    ) -> Self {
        let Range { start, end } = Range::of(request, kind);
        let mut options = ReadOptions::default();
        if let Some(end) = end {
            options.set_iterate_upper_bound(end);
        }
        if reads == Reads::Everything {
            options.fill_cache(false);
        }
        if let Some(snapshot) = snapshot {
            options.set_snapshot(snapshot);
        }
        let mut iterator = database.db.raw_iterator_opt(options);
        iterator.seek(&start);
        let mut cursor = Self { database, iterator };
        if request
            .after
            .is_some_and(|after| cursor.iterator.key().and_then(keys::full) == Some(after))
        {
            cursor.next();
        }
        cursor
    }

    /// The current full key; `None` at the end.
    pub(super) fn key(&self) -> Result<Option<&str>, StorageError> {
        let Some(stored) = self.iterator.key() else {
            let root = &self.database.root;
            self.iterator.status().map_err(|source| error::failed("list", root, &source))?;
            return Ok(None);
        };
        match keys::full(stored) {
            Some(key) => Ok(Some(key)),
            None => Err(error::corrupt(
                &self.database.root,
                None,
                &format!("a key is not UTF-8: {}", stored.escape_ascii()),
            )),
        }
    }

    /// The current record.
    pub(super) fn record(&self) -> &[u8] {
        self.iterator.value().unwrap_or_default()
    }

    pub(super) fn next(&mut self) {
        self.iterator.next();
    }

    /// Skips all keys that begin with `text`.
    pub(super) fn skip(&mut self, text: &str) {
        self.iterator.seek(keys::end_of_prefix(text));
    }
}

/// A scan over keys of both kinds, in ascending byte order.
struct Scan<'a> {
    scoped: Cursor<'a>,
    /// `None` if the prefix contains a component prefix.
    unscoped: Option<Cursor<'a>>,
}

impl<'a> Scan<'a> {
    fn new(
        database: &'a Database,
        request: PageRequest<'_>,
        reads: Reads,
        snapshot: Option<&Snapshot<'a>>,
    ) -> Self {
        let cursor = |kind| Cursor::new(database, request, kind, reads, snapshot);
        let has_component = !split_full_key(request.prefix).0.is_empty();
        Self {
            scoped: cursor(Kind::Scoped),
            unscoped: (!has_component).then(|| cursor(Kind::Unscoped)),
        }
    }

    /// Calls `visit` with each key and its cursor, until it returns `false`.
    fn each(
        mut self,
        mut visit: impl FnMut(&str, &Cursor<'a>) -> Result<bool, StorageError>,
    ) -> Result<(), StorageError> {
        loop {
            let cursor = match &mut self.unscoped {
                Some(unscoped) => match (self.scoped.key()?, unscoped.key()?) {
                    (_, None) => &mut self.scoped,
                    (Some(key), Some(unscoped_key)) if key < unscoped_key => &mut self.scoped,
                    _ => unscoped,
                },
                None => &mut self.scoped,
            };
            match cursor.key()? {
                Some(key) if visit(key, cursor)? => {}
                _ => return Ok(()),
            }
            cursor.next();
        }
    }
}

pub(super) fn page(database: &Database, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
    // One key more than the limit shows whether more follow.
    let wanted = request.limit.saturating_add(1);
    let mut found = Vec::new();
    Scan::new(database, request, Reads::Keys, None).each(|key, _| {
        found.push(key.to_owned());
        Ok(found.len() < wanted)
    })?;
    Ok(KeyPage::cut(found, request.limit))
}

/// Lists components, with one lookup for each.
pub(super) fn components(
    database: &Database,
    after: Option<&str>,
    limit: usize,
) -> Result<KeyPage, StorageError> {
    let request = PageRequest { prefix: "", after, limit };
    let mut cursor = Cursor::new(database, request, Kind::Scoped, Reads::Keys, None);
    let mut found = Vec::new();
    while found.len() <= limit {
        let Some(key) = cursor.key()? else { break };
        let component = split_full_key(key).0.to_owned();
        if component.is_empty() {
            return Err(error::corrupt(
                &database.root,
                None,
                &format!("the unscoped key {key:?} is stored among those of components"),
            ));
        }
        cursor.skip(&component);
        // `after` may be a key of the first component.
        if after.is_none_or(|after| component.as_str() > after) {
            found.push(component);
        }
    }
    Ok(KeyPage::cut(found, limit))
}

/// The usage of the full keys that begin with `prefix`.
pub(super) fn usage(database: &Database, prefix: &str) -> Result<Usage, StorageError> {
    let mut total = Usage::default();
    let request = PageRequest::new(usize::MAX).with_prefix(prefix);
    Scan::new(database, request, Reads::Everything, None).each(|key, cursor| {
        total = total + Usage::of(key, record::keyless_value_len(cursor.record()));
        Ok(true)
    })?;
    Ok(total)
}

/// Counts the usage of a component, in user keys. The count sees the keys that exist
/// when `cursor` is created.
pub(super) fn count(component: &str, mut cursor: Cursor<'_>) -> Result<Usage, StorageError> {
    let mut total = Usage::default();
    while let Some(key) = cursor.key()? {
        let user_key = key.strip_prefix(component).unwrap_or(key);
        total = total + Usage::of(user_key, record::keyless_value_len(cursor.record()));
        cursor.next();
    }
    Ok(total)
}

pub(super) fn keys_of<'a>(database: &'a Database, component: &str) -> Cursor<'a> {
    let request = PageRequest::new(usize::MAX).with_prefix(component);
    let kind = if component.is_empty() { Kind::Unscoped } else { Kind::Scoped };
    Cursor::new(database, request, kind, Reads::Everything, None)
}

/// Visits the keys and values of a request at one point in time, while others write.
/// `check` runs after the snapshot is taken.
pub(super) fn read_snapshot(
    database: &Database,
    request: PageRequest<'_>,
    check: impl FnOnce() -> Result<(), StorageError>,
    visit: &mut SnapshotVisitor<'_>,
) -> Result<(), StorageError> {
    let snapshot = database.db.snapshot();
    check()?;
    Scan::new(database, request, Reads::Everything, Some(&snapshot)).each(|key, cursor| {
        let (value, _) = database.decode(key, cursor.record())?;
        visit(key, StorageValue::from(value))?;
        Ok(true)
    })
}
