//! Walks over the keys: pages, partitions, and everything as of one moment.

use ::rocksdb::{DBRawIterator, ReadOptions, Snapshot};
use storage_core::{
    KeyPage, PageRequest, SnapshotVisitor, StorageError, StorageValue, Usage, split_full_key,
};

use super::keys::{self, Kind, Range};
use super::store::RocksDbStorage;
use super::{errors, read};
use crate::record;

/// What a walk reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Keys, which stay in the cache for the next page.
    Keys,
    /// Everything once, which is not to push other blocks out of the cache.
    Everything,
}

/// A walk over the keys of one kind that a request asks for.
pub(super) struct Cursor<'a> {
    store: &'a RocksDbStorage,
    iterator: DBRawIterator<'a>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(
        store: &'a RocksDbStorage,
        request: PageRequest<'_>,
        kind: Kind,
        reads: Reads,
        as_of: Option<&Snapshot<'a>>,
    ) -> Self {
        let Range { start, end } = Range::of(request, kind);
        let mut options = ReadOptions::default();
        if let Some(end) = end {
            options.set_iterate_upper_bound(end);
        }
        if reads == Reads::Everything {
            options.fill_cache(false);
        }
        if let Some(snapshot) = as_of {
            options.set_snapshot(snapshot);
        }
        let mut iterator = store.db.raw_iterator_opt(options);
        iterator.seek(&start);
        let mut cursor = Self { store, iterator };
        if request
            .after
            .is_some_and(|after| cursor.iterator.key().and_then(keys::full) == Some(after))
        {
            cursor.next();
        }
        cursor
    }

    /// The full key that it stands at; `None` at the end.
    pub(super) fn key(&self) -> Result<Option<&str>, StorageError> {
        let Some(stored) = self.iterator.key() else {
            let root = &self.store.root;
            self.iterator.status().map_err(|error| errors::failed("list", root, &error))?;
            return Ok(None);
        };
        match keys::full(stored) {
            Some(key) => Ok(Some(key)),
            None => Err(errors::corrupt(
                &self.store.root,
                None,
                &format!("it holds a key that is not UTF-8: {}", stored.escape_ascii()),
            )),
        }
    }

    /// The record that it stands at.
    pub(super) fn record(&self) -> &[u8] {
        self.iterator.value().unwrap_or_default()
    }

    pub(super) fn next(&mut self) {
        self.iterator.next();
    }

    /// Goes on behind everything that begins with a text.
    pub(super) fn skip(&mut self, text: &str) {
        self.iterator.seek(keys::behind(text));
    }
}

/// A walk over all the keys that a request asks for, in ascending byte order.
pub(super) struct Walk<'a> {
    in_partitions: Cursor<'a>,
    /// `None` where the prefix reaches into a partition.
    loose: Option<Cursor<'a>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        store: &'a RocksDbStorage,
        request: PageRequest<'_>,
        reads: Reads,
        as_of: Option<&Snapshot<'a>>,
    ) -> Self {
        let cursor = |kind| Cursor::new(store, request, kind, reads, as_of);
        let reaches_in = !split_full_key(request.prefix).0.is_empty();
        Self {
            in_partitions: cursor(Kind::InPartitions),
            loose: (!reaches_in).then(|| cursor(Kind::Loose)),
        }
    }

    /// Calls `visit` with each key and where it stands, until it answers `false`.
    pub(super) fn each(
        mut self,
        mut visit: impl FnMut(&str, &Cursor<'a>) -> Result<bool, StorageError>,
    ) -> Result<(), StorageError> {
        loop {
            let cursor = match &mut self.loose {
                Some(loose) => match (self.in_partitions.key()?, loose.key()?) {
                    (_, None) => &mut self.in_partitions,
                    (Some(key), Some(loose_key)) if key < loose_key => &mut self.in_partitions,
                    _ => loose,
                },
                None => &mut self.in_partitions,
            };
            match cursor.key()? {
                Some(key) if visit(key, cursor)? => {}
                _ => return Ok(()),
            }
            cursor.next();
        }
    }
}

impl RocksDbStorage {
    pub(super) fn page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        // One key more than the limit tells whether more follow.
        let wanted = request.limit.saturating_add(1);
        let mut found = Vec::new();
        Walk::new(self, request, Reads::Keys, None).each(|key, _| {
            found.push(key.to_owned());
            Ok(found.len() < wanted)
        })?;
        Ok(KeyPage::cut(found, request.limit))
    }

    /// The partitions behind `after`: one look for each.
    pub(super) fn partitions(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<KeyPage, StorageError> {
        let request = PageRequest { prefix: "", after, limit };
        let mut cursor = Cursor::new(self, request, Kind::InPartitions, Reads::Keys, None);
        let mut found = Vec::new();
        while found.len() <= limit {
            let Some(key) = cursor.key()? else { break };
            let name = split_full_key(key).0.to_owned();
            if name.is_empty() {
                return Err(errors::corrupt(
                    &self.root,
                    None,
                    &format!("the loose key {key:?} stands among those of components"),
                ));
            }
            cursor.skip(&name);
            // `after` may lie in the first.
            if after.is_none_or(|after| name.as_str() > after) {
                found.push(name);
            }
        }
        Ok(KeyPage::cut(found, limit))
    }

    /// What the keys take up that begin with `prefix`, with the partition's name
    /// in each.
    pub(super) fn usage_of(&self, prefix: &str) -> Result<Usage, StorageError> {
        let (partition, own_prefix) = split_full_key(prefix);
        if !partition.is_empty()
            && own_prefix.is_empty()
            && let Some(own) = self.stored_total(partition)?
        {
            let names = own.keys.saturating_mul(partition.len() as u64);
            return Ok(own + Usage { bytes: names, keys: 0 });
        }
        let mut total = Usage::default();
        let request = PageRequest::new(usize::MAX).with_prefix(prefix);
        Walk::new(self, request, Reads::Everything, None).each(|key, cursor| {
            total = total + Usage::of(key, record::value_len_beside_key(cursor.record()));
            Ok(true)
        })?;
        Ok(total)
    }

    /// Visits every key behind `after` that begins with `prefix`, as of one
    /// moment, while writers go on.
    pub(super) fn visit_as_of_now(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        let request = PageRequest { prefix, after, limit: usize::MAX };
        let snapshot = self.db.snapshot();
        // A key in doubt may be missing here, and be back later.
        if let Some(writer) = &self.writer {
            writer.unsettled.check_all(|key| request.wants(key))?;
        }
        Walk::new(self, request, Reads::Everything, Some(&snapshot)).each(|key, cursor| {
            let (value, _) = read::decode(key, cursor.record(), &self.root)?;
            visit(key, StorageValue::from(value))?;
            Ok(true)
        })
    }
}
