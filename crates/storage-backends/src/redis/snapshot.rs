//! Reading many keys of a shard at one point in time, while others write.
//!
//! A snapshot begins with the number of the last commit. From then on, commits keep the values
//! that they replace or delete and that the snapshot could still see, with the numbers of the
//! commits that wrote and replaced them. A value belongs to the snapshot if it was written by the
//! last commit or an earlier one, and was not replaced by then. Each part of the snapshot reads
//! the values that are stored, and then those that were kept: a value that is replaced between
//! the two is found by the second, and one that is replaced after them was found by the first.
//!
//! Commits keep values until a time that the reader puts off. If it is late, the kept values are
//! removed, and it notices that its snapshot is gone.

use std::time::{Duration, Instant};

use redis::Value;
use storage_core::{KeyPage, PageRequest, SnapshotVisitor, StorageError, split_full_key};

use super::database::{Database, command};
use super::listing::{self, exclusive};
use super::script::Script;
use super::shard::Shard;
use super::{replies, values};
use crate::identity;

static SNAPSHOT: Script = Script::new(include_str!("snapshot.lua"));

/// How long commits keep values for a reader that is not heard of.
const LIFETIME: Duration = Duration::from_secs(300);

/// How many keys are listed at once, and how many bytes of values are read at once unless one
/// value has more.
const PAGE: usize = 1_000;
const MAX_BYTES: usize = 8 << 20;

/// Calls `visit` with the keys that begin with `prefix` and follow `after`, and their values.
pub(super) fn read(
    database: &Database,
    prefix: &str,
    after: Option<&str>,
    visit: &mut SnapshotVisitor<'_>,
) -> Result<(), StorageError> {
    let (component, user_prefix) = split_full_key(prefix);
    if database.is_cluster() && component.is_empty() {
        return Err(StorageError::Unsupported(
            "a store on a Redis cluster has no snapshots of several components, which may be on \
             different nodes; read each component by itself"
                .to_owned(),
        ));
    }
    let mut visit = |key: &str, stored: &[u8]| visit(key, values::decode(key, stored)?.value);
    let scope = if component.is_empty() {
        Scope::Prefix(prefix)
    } else {
        Scope::Component(component, user_prefix)
    };
    let (mut snapshot, _) = Snapshot::begin(database, database.shard(component), None)?;
    snapshot.read(scope, after, &mut visit)?;
    snapshot.end()
}

/// Which keys of a shard are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope<'a> {
    /// Those that begin with a prefix, which is shorter than a component prefix.
    Prefix(&'a str),
    /// Those of a component whose user keys begin with a prefix.
    Component(&'a str, &'a str),
}

impl Scope<'_> {
    fn prefix(self) -> String {
        match self {
            Self::Prefix(prefix) => prefix.to_owned(),
            Self::Component(component, user_prefix) => [component, user_prefix].concat(),
        }
    }

    fn page(self, database: &Database, after: Option<&str>) -> Result<KeyPage, StorageError> {
        let mut request = PageRequest::new(PAGE);
        request.after = after;
        match self {
            Self::Prefix(prefix) => listing::page(database, request.with_prefix(prefix)),
            Self::Component(component, user_prefix) => {
                listing::page_of(database, component, request.with_prefix(user_prefix))
            }
        }
    }

    fn has(self, key: &str) -> bool {
        match self {
            Self::Prefix(_) => true,
            Self::Component(component, _) => split_full_key(key).0 == component,
        }
    }
}

/// A snapshot of one shard. It ends when it is dropped.
pub(super) struct Snapshot<'d> {
    database: &'d Database,
    shard: Shard,
    /// Its member of the server's list.
    name: String,
    /// The number of the last commit that it has.
    last: u64,
    continued: Instant,
    is_open: bool,
}

/// The counter of a component when a snapshot began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counter {
    pub(super) bytes: String,
    pub(super) keys: String,
    pub(super) revision: String,
}

/// A part of a scope: keys with a prefix, after one and up to and including another.
#[derive(Clone, Copy)]
struct Range<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    until: Option<&'a String>,
}

impl Range<'_> {
    /// The bounds of the names of kept values.
    fn bounds(self) -> (Vec<u8>, Vec<u8>) {
        let min = match self.after {
            Some(after) => kept_after(after),
            None => [b"[", self.prefix.as_bytes()].concat(),
        };
        let max = match self.until {
            Some(until) => kept_after(until),
            None => listing::end_of_prefix(self.prefix),
        };
        (min, max)
    }
}

/// Is called with each key and its stored value.
type Visit<'v> = dyn FnMut(&str, &[u8]) -> Result<(), StorageError> + 'v;

/// Keys and stored values that were read together, in order.
type Stored = Vec<(String, Vec<u8>)>;

impl<'d> Snapshot<'d> {
    /// Begins a snapshot. Also returns the counter of a component at the same time.
    pub(super) fn begin(
        database: &'d Database,
        shard: Shard,
        component: Option<&str>,
    ) -> Result<(Self, Counter), StorageError> {
        let id = identity::new_store_id();
        let continued = Instant::now();
        let reply = run(database, shard, component, "begin", &id)?;
        let (name, last, counter) =
            begun(reply).ok_or_else(|| replies::unexpected("to the script of snapshots"))?;
        let snapshot = Self { database, shard, name, last, continued, is_open: true };
        Ok((snapshot, counter))
    }

    /// Calls `visit` with the keys of a scope that follow `after`, and their stored values.
    pub(super) fn read(
        &mut self,
        scope: Scope<'_>,
        after: Option<&str>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StorageError> {
        let prefix = scope.prefix();
        let mut after = after.filter(|after| *after >= prefix.as_str()).map(str::to_owned);
        loop {
            let page = scope.page(self.database, after.as_deref())?;
            let lengths = listing::lengths(self.database, self.shard, &page.keys)?;
            let mut rest = page.keys.as_slice();
            let mut lengths = lengths.as_slice();
            loop {
                let (part, others) = rest.split_at(count_of(lengths));
                lengths = lengths.get(part.len()..).unwrap_or_default();
                rest = others;
                let is_last = rest.is_empty() && !page.more;
                let until = if is_last { None } else { part.last() };
                let range = Range { prefix: &prefix, after: after.as_deref(), until };
                self.read_part(scope, range, part, visit)?;
                if is_last {
                    return Ok(());
                }
                after = part.last().cloned().or(after);
                if rest.is_empty() {
                    break;
                }
            }
        }
    }

    /// Visits the keys of a range. `listed` are those of them that the index has.
    fn read_part(
        &mut self,
        scope: Scope<'_>,
        range: Range<'_>,
        listed: &[String],
        visit: &mut Visit<'_>,
    ) -> Result<(), StorageError> {
        self.go_on()?;
        let mut stored = self.stored(listed)?.into_iter().peekable();
        let (mut min, max) = range.bounds();
        loop {
            let (kept, next) = self.kept(&min, &max)?;
            for (key, value) in kept.into_iter().filter(|(key, _)| scope.has(key)) {
                while let Some((key, value)) = stored.next_if(|(other, _)| *other < key) {
                    visit(&key, &value)?;
                }
                // It was replaced after it had been read.
                stored.next_if(|(other, _)| *other == key);
                visit(&key, &value)?;
            }
            match next {
                Some(next) => min = next,
                None => break,
            }
        }
        stored.try_for_each(|(key, value)| visit(&key, &value))
    }

    /// The values of listed keys that belong to the snapshot and are still stored.
    fn stored(&self, listed: &[String]) -> Result<Stored, StorageError> {
        if listed.is_empty() {
            return Ok(Vec::new());
        }
        let keys = &self.database.keys;
        let names = listed.iter().map(|key| keys.value(self.shard, key));
        let reply = self.database.read(self.shard, command("MGET", names))?;
        let found = listed.iter().zip(replies::all_bytes(reply)?);
        let belongs = |stored: &Vec<u8>| {
            // The caller reports a damaged value when it decodes it.
            values::revision(stored).is_none_or(|revision| values::number(revision) <= self.last)
        };
        Ok(found.filter_map(|(key, stored)| Some((key.clone(), stored.filter(belongs)?))).collect())
    }

    /// Values of a range that belong to the snapshot and were kept for it: as many as can be
    /// read at once, and where the range goes on.
    fn kept(&self, min: &[u8], max: &[u8]) -> Result<(Stored, Option<Vec<u8>>), StorageError> {
        let keys = &self.database.keys;
        let (old_index, old_values) = (keys.old_index(self.shard), keys.old_values(self.shard));
        let bounds = listing::Bounds { min: min.to_vec(), max: max.to_vec() };
        let members = self.database.read_all(
            self.shard,
            &[
                bounds.read(&old_index, PAGE),
                command("ZSCORE", [keys.snapshots(self.shard), self.name.clone()]),
            ],
        )?;
        let members = replies::texts(self.still_there(members)?)?;
        let wanted: Vec<Kept<'_>> = members.iter().filter_map(|member| Kept::of(member)).collect();
        let wanted: Vec<Kept<'_>> =
            wanted.into_iter().filter(|kept| kept.is_in(self.last)).collect();
        let commands: Vec<redis::Cmd> = wanted
            .iter()
            .map(|kept| command("HSTRLEN", [old_values.as_str(), kept.member]))
            .collect();
        let mut lengths = Vec::new();
        for reply in self.database.read_all(self.shard, &commands)? {
            lengths.push(usize::try_from(replies::integer(reply)?).unwrap_or_default());
        }
        let taken = wanted.get(..count_of(&lengths)).unwrap_or_default();
        let mut next = (members.len() == PAGE).then_some(members.last()).flatten();
        if taken.len() < wanted.len() {
            next = taken.last().and_then(|last| members.iter().find(|one| *one == last.member));
        }
        let next = next.map(|member| exclusive(member.as_bytes()));
        if taken.is_empty() {
            return Ok((Vec::new(), next));
        }
        let fields = std::iter::once(old_values.as_str()).chain(taken.iter().map(|k| k.member));
        let found = self.database.read_all(
            self.shard,
            &[
                command("HMGET", fields),
                command("ZSCORE", [keys.snapshots(self.shard), self.name.clone()]),
            ],
        )?;
        let found = replies::all_bytes(self.still_there(found)?)?;
        let found = taken.iter().zip(found).map(|(kept, value)| match value {
            Some(value) => Ok((kept.key.to_owned(), value)),
            None => Err(StorageError::Corrupt {
                key: Some(kept.key.to_owned()),
                detail: format!("its old value is missing in {old_values}; start again"),
            }),
        });
        Ok((found.collect::<Result<Stored, StorageError>>()?, next))
    }

    /// The first of two replies, if the second says that the snapshot was not gone by then.
    fn still_there(&self, replies: Vec<Value>) -> Result<Value, StorageError> {
        let mut replies = replies.into_iter();
        let reply = replies::next(&mut replies)?;
        match replies::next(&mut replies)? {
            Value::Nil => Err(gone()),
            _ => Ok(reply),
        }
    }

    /// Puts off the time at which the snapshot ends.
    fn go_on(&mut self) -> Result<(), StorageError> {
        if self.continued.elapsed() < LIFETIME / 10 {
            return Ok(());
        }
        self.continued = Instant::now();
        match &*run(self.database, self.shard, None, "continue", &self.name)? {
            [there] if there == "there" => Ok(()),
            _ => Err(gone()),
        }
    }

    /// The number of the last commit that the snapshot has.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Ends the snapshot, so that commits need not keep values for it.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it was gone before.
    pub(super) fn end(mut self) -> Result<(), StorageError> {
        self.is_open = false;
        match &*run(self.database, self.shard, None, "end", &self.name)? {
            [there] if there == "there" => Ok(()),
            _ => Err(gone()),
        }
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        if self.is_open {
            // If this fails, commits keep values until the snapshot's time is over.
            let _ = run(self.database, self.shard, None, "end", &self.name);
        }
    }
}

fn run(
    database: &Database,
    shard: Shard,
    component: Option<&str>,
    step: &str,
    name: &str,
) -> Result<Vec<String>, StorageError> {
    let keys = &database.keys;
    let mut names = vec![
        keys.store(shard),
        keys.last_number(shard),
        keys.snapshots(shard),
        keys.old_values(shard),
        keys.old_index(shard),
    ];
    names.extend(component.map(|component| keys.counter(shard, component)));
    let lifetime = LIFETIME.as_micros().to_string();
    let reply =
        database.run(shard, &SNAPSHOT, &names, &[&database.store_id, step, &lifetime, name])?;
    match reply.first() {
        Some(first) if first == "other store" => Err(database.replaced()),
        _ => Ok(reply),
    }
}

/// The name of a snapshot that has begun, the number of its last commit, and the counter of its
/// component.
pub(super) fn begun(reply: Vec<String>) -> Option<(String, u64, Counter)> {
    let [begun, name, bytes, keys, revision] = <[String; 5]>::try_from(reply).ok()?;
    if begun != "begun" {
        return None;
    }
    let (last, _) = name.split_once(':')?;
    let last = last.parse().ok()?;
    Some((name, last, Counter { bytes, keys, revision }))
}

fn gone() -> StorageError {
    StorageError::Unavailable {
        key: None,
        detail: format!(
            "the snapshot ended early: nothing was read from it for {} s, or the Redis server \
             restarted; start again",
            LIFETIME.as_secs()
        ),
    }
}

/// How many of the next values are read at once; at least one, if there is one.
fn count_of(lengths: &[usize]) -> usize {
    let mut sum = 0_usize;
    let fits = lengths.iter().take_while(|length| {
        let is_first = sum == 0;
        sum = sum.saturating_add(**length).max(1);
        is_first || sum <= MAX_BYTES
    });
    fits.count()
}

/// The bound after the kept values of a key. What follows a key in their names is a zero, which
/// no key has.
fn kept_after(key: &str) -> Vec<u8> {
    [b"(", key.as_bytes(), &[1]].concat()
}

/// A value that was kept: its name has the key, and the numbers of the commits that wrote it and
/// replaced it.
pub(super) struct Kept<'m> {
    member: &'m str,
    pub(super) key: &'m str,
    written: u64,
    replaced: u64,
}

impl<'m> Kept<'m> {
    pub(super) fn of(member: &'m str) -> Option<Self> {
        let mut parts = member.split('\0');
        let (key, written, replaced) = (parts.next()?, parts.next()?, parts.next()?);
        let (written, replaced) = (written.parse().ok()?, replaced.parse().ok()?);
        Some(Self { member, key, written, replaced })
    }

    fn is_in(&self, last: u64) -> bool {
        self.written <= last && last < self.replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_value_is_in_snapshots_between_its_commits() {
        let kept = Kept::of("a/b/c/k\x0010\x0020").unwrap();
        assert_eq!(kept.key, "a/b/c/k");
        assert_eq!([9, 10, 19, 20].map(|last| kept.is_in(last)), [false, true, true, false]);
        assert!(Kept::of("a/b/c/k").is_none());
    }

    #[test]
    fn parts_have_bounded_bytes() {
        assert_eq!(count_of(&[]), 0);
        assert_eq!(count_of(&[0, 0, 0]), 3);
        assert_eq!(count_of(&[MAX_BYTES + 1, 1]), 1);
        assert_eq!(count_of(&[1, MAX_BYTES, 1]), 1);
        assert_eq!(count_of(&[1, MAX_BYTES - 1, 1]), 2);
    }
}
