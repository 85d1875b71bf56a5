//! Reading a whole store, and comparing its counters, indexes and registries with its values.
//!
//! Each component is read as a snapshot that begins together with its counter, so that writes
//! meanwhile are no problems. Then all keys of the servers are scanned for those that no
//! component has.

use redis::{Cmd, Value};
use storage_core::{
    Problem, ProblemKind, StorageError, Usage, Verified, split_full_key, validate_full_key,
};

use super::database::{Database, command, failed};
use super::deployment::RedisAddress;
use super::keys::Keys;
use super::listing;
use super::script::Script;
use super::shard::Shard;
use super::snapshot::{Counter, Scope, Snapshot};
use super::{replies, values};

static CONSISTENCY: Script = Script::new(include_str!("consistency.lua"));

/// How many components are listed at once, and how many keys are scanned at once.
const COMPONENTS: usize = 1_000;
const SCANNED: usize = 1_000;

/// Reads the whole store.
pub(super) fn verify(
    database: &Database,
    report: &mut dyn FnMut(Problem),
) -> Result<Verified, StorageError> {
    let mut check = Check { database, verified: Verified::default(), report };
    check.component("")?;
    let mut after: Option<String> = None;
    loop {
        let page = listing::components(database, after.as_deref(), COMPONENTS)?;
        for component in &page.keys {
            check.component(component)?;
        }
        if !page.more {
            break;
        }
        after = page.keys.last().cloned();
    }
    for address in database.client.masters() {
        check.scan(&address)?;
    }
    Ok(check.verified)
}

struct Check<'r> {
    database: &'r Database,
    verified: Verified,
    report: &'r mut dyn FnMut(Problem),
}

/// What the servers say of a key at one point in time.
struct Consistency {
    is_registered: bool,
    has_keys: bool,
    is_indexed: bool,
    is_stored: bool,
}

impl Check<'_> {
    fn report(&mut self, problem: Problem) {
        self.verified.count(&problem);
        (self.report)(problem);
    }

    /// Reads a component, and compares its counter.
    fn component(&mut self, component: &str) -> Result<(), StorageError> {
        let database = self.database;
        let shard = database.shard(component);
        let (mut snapshot, counter) = Snapshot::begin(database, shard, Some(component))?;
        let (last, mut counted) = (snapshot.last(), Usage::default());
        let revision = replies::revision(&counter.revision);
        let read = snapshot.read(Scope::Component(component, ""), None, &mut |key, stored| {
            let (_, user_key) = split_full_key(key);
            let length = stored.len().saturating_sub(values::OVERHEAD);
            counted = counted + Usage::of(user_key, length);
            match values::decode(key, stored) {
                Ok(found) => {
                    self.verified.usage = self.verified.usage + Usage::of(key, length);
                    if !values::is_of(found.revision, shard) || Some(found.revision) > revision {
                        self.report(wrong_revision(database, shard, key));
                    }
                }
                Err(error) => self.report(damaged(database, shard, key, &error)),
            }
            if let Err(error) = validate_full_key(key) {
                let location = database.keys.index(shard, component);
                self.report(Problem::new(location, error.to_string()).with_key(key));
            }
            Ok(())
        });
        match read {
            Ok(()) => snapshot.end()?,
            Err(StorageError::Corrupt { key, detail }) => {
                let problem = Problem::new(database.keys.index(shard, component), detail);
                self.report(match key {
                    Some(key) => problem.with_key(key),
                    None => problem,
                });
                return Ok(());
            }
            Err(other) => return Err(other),
        }
        if !component.is_empty() && counted.keys > 0 {
            self.verified.components += 1;
        }
        self.compare(component, &counter, counted, last)?;
        if counted.keys == 0 && !component.is_empty() {
            let found = self.look_again(component, "")?;
            if found.is_registered && !found.has_keys {
                let detail = format!(
                    "the component {component:?} is listed, but has no keys; write a key of it and \
                     delete it again"
                );
                self.report(Problem::new(database.keys.components(shard), detail));
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        component: &str,
        counter: &Counter,
        counted: Usage,
        last: u64,
    ) -> Result<(), StorageError> {
        let shard = self.database.shard(component);
        let location = self.database.keys.counter(shard, component);
        let stored =
            Usage { bytes: replies::number(&counter.bytes), keys: replies::number(&counter.keys) };
        if replies::revision(&counter.revision).is_some_and(|one| values::number(one) > last) {
            let detail = format!(
                "its revision {} is beyond the last one of its shard; a cache may not notice \
                 changes until the shard's revisions have passed it",
                counter.revision
            );
            self.report(Problem::new(&*location, detail));
        }
        if stored == counted {
            return Ok(());
        }
        let detail = format!(
            "the usage counter of {component:?} is {} bytes in {} keys, but there are {} bytes in \
             {} keys; copy the store to a new one, which counts again",
            stored.bytes, stored.keys, counted.bytes, counted.keys
        );
        self.report(Problem::new(location, detail));
        self.keys_that_are_missing(component)
    }

    /// Reports the keys of a component that a snapshot does not have: those without a value, and
    /// those with a revision that the shard has not reached.
    fn keys_that_are_missing(&mut self, component: &str) -> Result<(), StorageError> {
        let database = self.database;
        let shard = database.shard(component);
        let location = database.keys.index(shard, component);
        let mut after: Option<String> = None;
        loop {
            let mut request = storage_core::PageRequest::new(SCANNED);
            request.after = after.as_deref();
            let page = listing::page_of(database, component, request)?;
            let read =
                |key: &String| command("GETRANGE", [&*database.keys.value(shard, key), "0", "7"]);
            let mut commands: Vec<Cmd> = page.keys.iter().map(read).collect();
            // Read last, so it is not less than any revision before it.
            commands.push(command("GET", [database.keys.last_number(shard)]));
            let mut replies = database.read_all(shard, &commands)?;
            let last = replies.pop().map_or(Ok(String::new()), replies::text)?;
            let last = replies::number(&last);
            for (key, reply) in page.keys.iter().zip(replies) {
                let start = replies::bytes(reply)?.unwrap_or_default();
                let is_beyond = |revision| values::number(revision) > last;
                if values::revision(&start).is_some_and(is_beyond) {
                    self.report(wrong_revision(database, shard, key));
                } else if start.is_empty() {
                    let found = self.look_again(component, split_full_key(key).1)?;
                    if found.is_indexed && !found.is_stored {
                        let detail = "it is listed, but has no value; write it, or delete it";
                        self.report(Problem::new(location.as_str(), detail).with_key(key));
                    }
                }
            }
            if !page.more {
                return Ok(());
            }
            after = page.keys.last().cloned();
        }
    }

    fn look_again(&self, component: &str, user_key: &str) -> Result<Consistency, StorageError> {
        let Database { keys, .. } = self.database;
        let shard = self.database.shard(component);
        let names = [
            keys.components(shard),
            keys.index(shard, component),
            keys.value(shard, &[component, user_key].concat()),
        ];
        let reply = self.database.run(shard, &CONSISTENCY, &names, &[component, user_key])?;
        let is = |at: usize| reply.get(at).is_some_and(|text| !text.is_empty());
        Ok(Consistency {
            is_registered: is(0),
            has_keys: is(1),
            is_indexed: is(2),
            is_stored: is(3),
        })
    }

    /// Looks at all keys of a server that belong to the store.
    fn scan(&mut self, address: &RedisAddress) -> Result<(), StorageError> {
        let client = &self.database.client;
        let mut cursor = b"0".to_vec();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(self.database.keys.pattern());
            scan.arg("COUNT").arg(SCANNED);
            let mut replies = client.on_master(address, &[scan]).map_err(failed)?.into_iter();
            let reply = replies::next(&mut replies)?;
            if let Value::ServerError(error) = &reply {
                return Err(failed(client.failure(Shard::FIRST, error)));
            }
            let names;
            (cursor, names) = page(reply)?;
            self.scanned(names)?;
            if cursor == b"0" {
                return Ok(());
            }
        }
    }

    /// Checks that the values are in an index and the indexes in a registry.
    fn scanned(&mut self, names: Vec<Vec<u8>>) -> Result<(), StorageError> {
        let database = self.database;
        let mut owned = Vec::new();
        for name in names {
            match Owned::of(database, &name) {
                Some(Kind::Owned(one)) => owned.push(one),
                Some(Kind::Other) => {}
                None => {
                    let detail = "it is not a key of the store, and is ignored; remove it";
                    let problem = Problem::new(name.escape_ascii().to_string(), detail);
                    self.report(problem.with_kind(ProblemKind::ForeignFile));
                }
            }
        }
        let found = database.read_each(&owned, Owned::shard, |one| one.look(&database.keys))?;
        for (one, reply) in owned.iter().zip(found) {
            if !matches!(reply, Value::Nil) {
                continue;
            }
            let (component, user_key) = one.split();
            let found = self.look_again(component, user_key)?;
            match one {
                Owned::Value { shard, key } if found.is_stored && !found.is_indexed => {
                    let detail = "it has a value, but is not listed; write it again, or delete it";
                    let location = database.keys.value(*shard, key);
                    self.report(Problem::new(location, detail).with_key(key));
                }
                Owned::Index { shard, component } if found.has_keys && !found.is_registered => {
                    let detail = format!(
                        "the component {component:?} has keys, but is not listed; delete its keys, \
                         and write them again"
                    );
                    self.report(Problem::new(database.keys.index(*shard, component), detail));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Where SCAN goes on, and the keys that it found.
pub(super) fn page(reply: Value) -> Result<(Vec<u8>, Vec<Vec<u8>>), StorageError> {
    let mut parts = replies::array(reply)?.into_iter();
    let cursor = replies::bytes(replies::next(&mut parts)?)?.unwrap_or_default();
    let names = replies::all_bytes(replies::next(&mut parts)?)?;
    Ok((cursor, names.into_iter().flatten().collect()))
}

/// A key of a server.
enum Kind {
    /// One that another key must name.
    Owned(Owned),
    Other,
}

/// A value, which its index must name, or an index, which a registry must name.
enum Owned {
    Value { shard: Shard, key: String },
    Index { shard: Shard, component: String },
}

impl Owned {
    /// `None` for a key that the store does not have.
    fn of(database: &Database, name: &[u8]) -> Option<Kind> {
        let (kind, number, rest) = database.keys.split(name)?;
        let text = std::str::from_utf8(rest).ok()?;
        let is_here = |component: &str| {
            let shard = database.shard(component);
            (shard.number() == number).then_some(shard)
        };
        match kind {
            b'v' => {
                let shard = is_here(split_full_key(text).0)?;
                Some(Kind::Owned(Self::Value { shard, key: text.to_owned() }))
            }
            b'i' | b'm' => {
                let shard = is_here(text).filter(|_| split_full_key(text).0 == text)?;
                // Unscoped keys belong to no component, so no registry has them.
                if kind == b'm' || text.is_empty() {
                    return Some(Kind::Other);
                }
                Some(Kind::Owned(Self::Index { shard, component: text.to_owned() }))
            }
            b's' | b'n' | b'c' | b'r' | b'o' | b'x' | b't' if text.is_empty() => Some(Kind::Other),
            _ => None,
        }
    }

    fn shard(&self) -> Shard {
        match self {
            Self::Value { shard, .. } | Self::Index { shard, .. } => *shard,
        }
    }

    /// The component and the user key, which is `""` for an index.
    fn split(&self) -> (&str, &str) {
        match self {
            Self::Value { key, .. } => split_full_key(key),
            Self::Index { component, .. } => (component, ""),
        }
    }

    /// The command that finds it in what must name it.
    fn look(&self, keys: &Keys) -> Cmd {
        let (component, user_key) = self.split();
        match self {
            Self::Value { shard, .. } => {
                command("ZSCORE", [&*keys.index(*shard, component), user_key])
            }
            Self::Index { shard, .. } => command("ZSCORE", [&*keys.components(*shard), component]),
        }
    }
}

fn wrong_revision(database: &Database, shard: Shard, key: &str) -> Problem {
    let detail = "its revision is not one of its component's commits; a cache may not notice \
                  changes to it until it is written again";
    Problem::new(database.keys.value(shard, key), detail).with_key(key)
}

fn damaged(database: &Database, shard: Shard, key: &str, error: &StorageError) -> Problem {
    let detail = match error {
        StorageError::Corrupt { detail, .. } => detail.clone(),
        other => other.to_string(),
    };
    Problem::new(database.keys.value(shard, key), detail).with_key(key)
}
