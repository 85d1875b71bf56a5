//! Listings and counts: ranges of keys in the order of their bytes.
//!
//! A component has one sorted set, so its pages are one request each. Where a listing spans
//! components, their names come from the registries of all shards and are merged with the
//! unscoped keys; then the counters say how many of the components fill the page.

use redis::{Cmd, Value};
use storage_core::{KeyPage, PageRequest, StorageError, Usage, split_full_key};

use super::database::{Database, command};
use super::shard::Shard;
use super::{replies, values};

/// The largest page, so that each takes a short time and little memory.
const MAX_PAGE: usize = 10_000;

/// How many components are asked for their counters at once.
const MAX_COMPONENTS: usize = 256;

/// How many keys are counted at once where there is no counter.
const COUNTED: usize = 1_000;

/// Where a range of a sorted set begins and ends, as ZRANGE takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) min: Vec<u8>,
    pub(super) max: Vec<u8>,
}

impl Bounds {
    /// The texts that begin with `prefix` and follow `after`.
    fn new(prefix: &str, after: Option<&str>) -> Self {
        let min = match after.filter(|after| *after >= prefix) {
            Some(after) => exclusive(after.as_bytes()),
            None => [b"[", prefix.as_bytes()].concat(),
        };
        Self { min, max: end_of_prefix(prefix) }
    }

    /// The command that reads at most `limit` members.
    pub(super) fn read(&self, name: &str, limit: usize) -> Cmd {
        let mut command = redis::cmd("ZRANGE");
        command.arg(name).arg(&self.min).arg(&self.max).arg("BYLEX").arg("LIMIT").arg(0).arg(limit);
        command
    }
}

/// The bound after a text.
pub(super) fn exclusive(text: &[u8]) -> Vec<u8> {
    [b"(", text].concat()
}

/// The bound before the first text after all texts that begin with `prefix`.
pub(super) fn end_of_prefix(prefix: &str) -> Vec<u8> {
    match prefix.as_bytes() {
        [] => b"+".to_vec(),
        // No byte of a text is 255.
        [start @ .., last] => [b"(", start, &[last.saturating_add(1)]].concat(),
    }
}

/// One page, possibly shorter than its limit.
pub(super) fn page(database: &Database, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
    let limit = request.limit.min(MAX_PAGE);
    let (component, user_prefix) = split_full_key(request.prefix);
    if component.is_empty() {
        let keys = Scan::new(database, request.prefix, request.after, limit + 1).run()?;
        return Ok(KeyPage::cut(keys, limit));
    }
    page_of(database, component, PageRequest { prefix: user_prefix, limit, ..request })
}

/// One page of a component, the prefix of whose user keys is that of the request. `after` is a
/// full key.
pub(super) fn page_of(
    database: &Database,
    component: &str,
    request: PageRequest<'_>,
) -> Result<KeyPage, StorageError> {
    let after = match request.after {
        Some(after) if after >= component => match after.strip_prefix(component) {
            Some(after) => Some(after),
            // It is after the whole component.
            None => return Ok(KeyPage::default()),
        },
        _ => None,
    };
    let bounds = Bounds::new(request.prefix, after);
    let keys = keys(database, component, &bounds, request.limit.saturating_add(1))?;
    Ok(KeyPage::cut(keys, request.limit))
}

/// The full keys of a part of a component.
fn keys(
    database: &Database,
    component: &str,
    bounds: &Bounds,
    limit: usize,
) -> Result<Vec<String>, StorageError> {
    let shard = database.shard(component);
    let reply = database.read(shard, bounds.read(&database.keys.index(shard, component), limit))?;
    full_keys(component, reply)
}

/// User keys as full keys.
pub(super) fn full_keys(component: &str, reply: Value) -> Result<Vec<String>, StorageError> {
    let user_keys = replies::all_bytes(reply)?.into_iter().flatten();
    user_keys.map(|user_key| full_key(component, &user_key)).collect()
}

fn full_key(component: &str, user_key: &[u8]) -> Result<String, StorageError> {
    let key = [component.as_bytes(), user_key].concat();
    String::from_utf8(key).map_err(|error| StorageError::Corrupt {
        key: None,
        detail: format!("a key is not UTF-8: \"{}\"", error.as_bytes().escape_ascii()),
    })
}

/// A listing of several components and of unscoped keys.
struct Scan<'a> {
    database: &'a Database,
    prefix: &'a str,
    wanted: usize,
    found: Vec<String>,
    /// The component that the listing begins in, and the user key in it.
    inside: Option<(&'a str, &'a str)>,
    /// What follows: unscoped keys and component prefixes.
    rest: Bounds,
}

/// What a listing of the whole store is made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    text: String,
    is_component: bool,
}

impl<'a> Scan<'a> {
    fn new(database: &'a Database, prefix: &'a str, after: Option<&'a str>, wanted: usize) -> Self {
        let after = after.filter(|after| *after >= prefix);
        let inside = after
            .map(split_full_key)
            .filter(|(component, _)| !component.is_empty() && component.starts_with(prefix));
        // No unscoped key is in a component, so those after its prefix are after its keys.
        let after = inside.map_or(after, |(component, _)| Some(component));
        let rest = Bounds::new(prefix, after);
        Self { database, prefix, wanted, found: Vec::new(), inside, rest }
    }

    /// Returns as many keys as are wanted, or all.
    fn run(mut self) -> Result<Vec<String>, StorageError> {
        if let Some((component, user_key)) = self.inside {
            let bounds = Bounds::new("", Some(user_key));
            self.found = keys(self.database, component, &bounds, self.wanted)?;
        }
        while self.missing() > 0 {
            let (entries, is_end) = self.entries()?;
            self.add(&entries)?;
            if is_end {
                break;
            }
            let Some(last) = entries.last() else { break };
            self.rest.min = exclusive(last.text.as_bytes());
        }
        Ok(self.found)
    }

    fn missing(&self) -> usize {
        self.wanted.saturating_sub(self.found.len())
    }

    /// The next components and unscoped keys, in order, and whether these are all.
    fn entries(&self) -> Result<(Vec<Entry>, bool), StorageError> {
        let Self { database, rest, .. } = self;
        let components = merge(database, rest, self.missing().min(MAX_COMPONENTS))?;
        let unscoped = keys(database, "", rest, self.missing())?;
        let mut lists = [
            (components, true),
            (Merged { horizon: last_of(&unscoped, self.missing()), texts: unscoped }, false),
        ];
        let horizon = lists.iter().filter_map(|(list, _)| list.horizon.clone()).min();
        let mut entries = Vec::new();
        for (list, is_component) in &mut lists {
            let texts = std::mem::take(&mut list.texts).into_iter();
            let known = texts.filter(|text| horizon.as_ref().is_none_or(|end| text <= end));
            let is_component = *is_component;
            entries.extend(known.map(|text| Entry { text, is_component }));
        }
        entries.sort_unstable();
        Ok((entries, horizon.is_none()))
    }

    /// Adds the keys of these entries, until there are enough.
    fn add(&mut self, entries: &[Entry]) -> Result<(), StorageError> {
        let components: Vec<&str> = entries
            .iter()
            .filter(|entry| entry.is_component)
            .map(|entry| entry.text.as_str())
            .collect();
        let mut counts = counters(self.database, &components)?.into_iter();
        // A counter may be out of date, but then only more entries are read.
        let (mut expected, mut chosen) = (0_u64, Vec::new());
        for entry in entries {
            let count = match entry.is_component {
                true => counts.next().unwrap_or_default().keys,
                false => 1,
            };
            if entry.is_component && expected < self.missing() as u64 {
                chosen.push(entry.text.as_str());
            }
            expected = expected.saturating_add(count);
        }
        let (database, limit) = (self.database, self.missing());
        let read = |component: &&str| {
            let name = database.keys.index(database.shard(component), component);
            Bounds::new("", None).read(&name, limit)
        };
        let keys = database.read_each(&chosen, |component| database.shard(component), read)?;
        let mut keys = chosen.iter().zip(keys).peekable();
        for entry in entries {
            if self.missing() == 0 {
                break;
            }
            if !entry.is_component {
                self.found.push(entry.text.clone());
            } else if let Some((component, reply)) =
                keys.next_if(|(component, _)| ***component == entry.text)
            {
                self.found.extend(full_keys(component, reply)?);
            } else {
                // It was not read, because those before seemed to be enough.
                let bounds = Bounds::new("", None);
                self.found.extend(self::keys(database, &entry.text, &bounds, self.missing())?);
            }
        }
        self.found.truncate(self.wanted);
        debug_assert!(self.found.iter().all(|key| key.starts_with(self.prefix)));
        Ok(())
    }
}

/// Texts in order.
struct Merged {
    texts: Vec<String>,
    /// The last text up to which they are known; `None` if these are all.
    horizon: Option<String>,
}

/// The last text of a list that was cut off at a limit.
fn last_of(texts: &[String], limit: usize) -> Option<String> {
    if texts.len() < limit { None } else { texts.last().cloned() }
}

/// The component prefixes of a range, from the registries of all shards: about as many as are
/// wanted, at least one.
fn merge(database: &Database, bounds: &Bounds, wanted: usize) -> Result<Merged, StorageError> {
    let shards: Vec<Shard> = database.shards().collect();
    // Components are spread evenly, so twice the average is enough most of the time.
    let limit =
        if database.is_cluster() { (2 * wanted).div_ceil(shards.len()) + 4 } else { wanted };
    let limit = limit.max(1);
    let requests: Vec<(Shard, Vec<Cmd>)> = shards
        .iter()
        .map(|shard| (*shard, vec![bounds.read(&database.keys.components(*shard), limit)]))
        .collect();
    let mut merged = Merged { texts: Vec::new(), horizon: None };
    for reply in database.read_shards(&requests)?.into_iter().flatten() {
        let texts = full_keys("", reply)?;
        merged.horizon = [merged.horizon, last_of(&texts, limit)].into_iter().flatten().min();
        merged.texts.extend(texts);
    }
    if let Some(horizon) = &merged.horizon {
        merged.texts.retain(|text| text <= horizon);
    }
    merged.texts.sort_unstable();
    Ok(merged)
}

/// The usage counters of components, in user keys.
fn counters(database: &Database, components: &[&str]) -> Result<Vec<Usage>, StorageError> {
    let read = |component: &&str| {
        let name = database.keys.counter(database.shard(component), component);
        command("HMGET", [name.as_str(), "bytes", "keys"])
    };
    let replies = database.read_each(components, |component| database.shard(component), read)?;
    replies.into_iter().map(counter).collect()
}

pub(super) fn counter(reply: Value) -> Result<Usage, StorageError> {
    let fields = replies::texts(reply)?;
    let field = |at: usize| fields.get(at).map(|text| replies::number(text)).unwrap_or_default();
    Ok(Usage { bytes: field(0), keys: field(1) })
}

/// All keys that begin with a prefix, page by page.
pub(super) fn all_keys(database: &Database, prefix: &str) -> Result<Vec<String>, StorageError> {
    let mut keys: Vec<String> = Vec::new();
    loop {
        let mut request = PageRequest::new(MAX_PAGE).with_prefix(prefix);
        request.after = keys.last().map(String::as_str);
        let next = page(database, request)?;
        keys.extend(next.keys);
        if !next.more {
            return Ok(keys);
        }
    }
}

/// The component prefixes after `after`.
pub(super) fn components(
    database: &Database,
    after: Option<&str>,
    limit: usize,
) -> Result<KeyPage, StorageError> {
    let limit = limit.min(MAX_PAGE);
    let mut bounds = Bounds::new("", after);
    let mut found = Vec::new();
    // Whether more follow is only known with one more, or at the end.
    while found.len() <= limit {
        let Merged { texts, horizon } = merge(database, &bounds, limit + 1 - found.len())?;
        found.extend(texts);
        match horizon {
            Some(horizon) => bounds.min = exclusive(horizon.as_bytes()),
            None => break,
        }
    }
    Ok(KeyPage::cut(found, limit))
}

/// The usage of the keys that begin with a prefix.
pub(super) fn usage(database: &Database, prefix: &str) -> Result<Usage, StorageError> {
    let (component, user_prefix) = split_full_key(prefix);
    if !component.is_empty() && !user_prefix.is_empty() {
        return count(database, component, user_prefix);
    }
    if !component.is_empty() {
        return usage_of_components(database, &[component]);
    }
    let mut total = match prefix {
        "" => usage_of_components(database, &[""])?,
        prefix => count(database, "", prefix)?,
    };
    let mut bounds = Bounds::new(prefix, None);
    loop {
        let Merged { texts, horizon } = merge(database, &bounds, MAX_PAGE)?;
        let components: Vec<&str> = texts.iter().map(String::as_str).collect();
        total = total + usage_of_components(database, &components)?;
        match horizon {
            Some(horizon) => bounds.min = exclusive(horizon.as_bytes()),
            None => return Ok(total),
        }
    }
}

/// The usage of components, in full keys.
fn usage_of_components(database: &Database, components: &[&str]) -> Result<Usage, StorageError> {
    let usages = counters(database, components)?.into_iter().zip(components);
    Ok(usages
        .map(|(usage, component)| {
            let prefixes = usage.keys.saturating_mul(component.len() as u64);
            Usage { bytes: usage.bytes.saturating_add(prefixes), keys: usage.keys }
        })
        .sum())
}

/// Counts a part of a component, in full keys.
fn count(database: &Database, component: &str, user_prefix: &str) -> Result<Usage, StorageError> {
    let shard = database.shard(component);
    let mut bounds = Bounds::new(user_prefix, None);
    let mut total = Usage::default();
    loop {
        let found = keys(database, component, &bounds, COUNTED)?;
        let lengths = lengths(database, shard, &found)?;
        // A key may be deleted after it was listed.
        for (key, length) in found.iter().zip(lengths).filter(|(_, length)| *length > 0) {
            total = total + Usage::of(key, length.saturating_sub(values::OVERHEAD));
        }
        let Some(last) = last_of(&found, COUNTED) else { return Ok(total) };
        bounds.min = exclusive(last.as_bytes().get(component.len()..).unwrap_or_default());
    }
}

/// The lengths of the stored values of keys of one shard; 0 for a missing one.
pub(super) fn lengths(
    database: &Database,
    shard: Shard,
    keys: &[String],
) -> Result<Vec<usize>, StorageError> {
    let commands: Vec<Cmd> =
        keys.iter().map(|key| command("STRLEN", [database.keys.value(shard, key)])).collect();
    let replies = database.read_all(shard, &commands)?.into_iter();
    replies.map(|reply| Ok(usize::try_from(replies::integer(reply)?).unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_the_texts_with_a_prefix_after_another() {
        let bounds = |prefix, after| {
            let Bounds { min, max } = Bounds::new(prefix, after);
            [min, max].map(|bound| String::from_utf8(bound).unwrap())
        };
        assert_eq!(bounds("", None), ["[", "+"]);
        assert_eq!(bounds("user:", None), ["[user:", "(user;"]);
        assert_eq!(bounds("user:", Some("user:1")), ["(user:1", "(user;"]);
        assert_eq!(bounds("user:", Some("a")), ["[user:", "(user;"]);
        assert_eq!(bounds("user:", Some("z")), ["(z", "(user;"]);
        assert_eq!(bounds("", Some("")), ["(", "+"]);
    }
}
