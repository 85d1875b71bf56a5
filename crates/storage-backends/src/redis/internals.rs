//! The readers of replies that the fuzz targets use.

use std::io::Read;
use std::iter;

use redis::{Parser, Value};
use storage_core::{Change, StorageError, VersionedValue};

use super::connector::Purpose;
use super::deployment::RedisAddress;
use super::error::{Failure, Problem};
use super::inspection::{self, Server};
use super::keys::Keys;
use super::opening::Marker;
use super::part::Part;
use super::snapshot::{self, Kept};
use super::{cluster, listing, notices, replies, sentinel, values, verify};
use crate::changes::Changes;

/// Replies of a server.
#[derive(Debug, Clone)]
pub struct Replies {
    replies: Vec<Value>,
    keys: Keys,
    asked: RedisAddress,
}

/// What the nodes of a cluster say of its shards.
#[derive(Debug)]
pub struct ClusterView {
    /// The master of each shard.
    pub owners: Vec<Option<RedisAddress>>,
    /// All nodes.
    pub nodes: Vec<RedisAddress>,
}

impl Replies {
    /// Parses what a connection receives, up to its end or the first that is no reply. `prefix`
    /// is that of the store.
    pub fn parse(mut connection: impl Read, prefix: &str) -> Self {
        let mut parser = Parser::new();
        let replies = iter::from_fn(|| parser.parse_value(&mut connection).ok()).collect();
        Self { replies, keys: Keys::new(prefix), asked: RedisAddress::new("asked", 6379) }
    }

    /// Whether these begin with all of the others. Numbers that equal nothing are compared as text.
    pub fn start_with(&self, others: &Self) -> bool {
        self.replies.get(..others.replies.len()).is_some_and(|start| {
            start == others.replies || format!("{start:?}") == format!("{:?}", others.replies)
        })
    }

    /// The replies of a node of a cluster, at each place.
    pub fn clusters(&self) -> impl Iterator<Item = Result<ClusterView, StorageError>> {
        self.pairs().map(|pair| match cluster::view(&self.asked, pair, &self.keys) {
            Ok(view) => Ok(ClusterView { owners: view.owners, nodes: view.nodes }),
            Err(failure) => Err(failure.into_storage_error()),
        })
    }

    /// The primaries that a sentinel names, at each place.
    pub fn primaries(&self) -> impl Iterator<Item = Result<RedisAddress, StorageError>> {
        self.pairs().map(|pair| match sentinel::view(&self.asked, pair, "storage") {
            Ok(view) => Ok(view.primary),
            Err(failure) => Err(failure.into_storage_error()),
        })
    }

    /// Each error reply as the error of a write, and where it redirects to.
    pub fn errors(&self) -> impl Iterator<Item = (StorageError, Option<RedisAddress>)> {
        self.replies.iter().filter_map(|reply| {
            let Value::ServerError(error) = reply else { return None };
            let details = error.details().unwrap_or_default();
            let redirection = cluster::redirection(details, &self.asked);
            Some((Failure::reply(&self.asked, error).into_write_error(), redirection))
        })
    }

    /// Each reply as the keys of a component.
    pub fn listings(
        &self,
        component: &str,
    ) -> impl Iterator<Item = Result<Vec<String>, StorageError>> {
        self.replies.iter().map(|reply| listing::full_keys(component, reply.clone()))
    }

    /// Each reply as the stored value of a key.
    pub fn values(
        &self,
        key: &str,
    ) -> impl Iterator<Item = Result<Option<VersionedValue>, StorageError>> {
        self.replies.iter().map(|reply| match replies::bytes(reply.clone())? {
            Some(stored) => values::decode(key, &stored).map(Some),
            None => Ok(None),
        })
    }

    /// The notices among the replies.
    pub fn notices(&self) -> impl Iterator<Item = Change> {
        let changes = Changes::new();
        let texts = self.replies.iter().filter_map(|reply| notices::notice(reply).ok()?);
        texts.filter_map(move |text| changes.decode(text))
    }

    /// How many callers are answered if each reply is that to a run of this many commits.
    pub fn answered(&self, callers: usize) -> impl Iterator<Item = usize> {
        self.replies.iter().map(move |reply| Part::replies(reply.clone(), callers).len())
    }

    /// Reads each reply as every other kind, and all of them as those to the questions of
    /// `doctor`. Returns how many were what they were read as.
    pub fn read_as_others(&self) -> usize {
        let each = self.replies.iter().map(|reply| self.read_as_other(reply));
        let server = Server::of(&self.asked, self.replies.clone());
        let servers: Vec<_> =
            server.ok().map(|one| (self.asked.clone(), one)).into_iter().collect();
        let warnings = inspection::warnings(&servers, 0).len();
        let is_kept = inspection::check_eviction(&servers).is_ok();
        let durability = inspection::durability(&servers);
        let synced = servers.iter().filter(|(_, server)| server.has_synced()).count();
        each.sum::<usize>()
            + warnings
            + usize::from(is_kept)
            + usize::from(durability.is_some())
            + synced
    }

    fn read_as_other(&self, reply: &Value) -> usize {
        let login = [Purpose::Required, Purpose::Optional, Purpose::Role, Purpose::Store("id")];
        let logged_in = login.iter().filter(|one| one.check(reply.clone()).is_ok()).count();
        let refused = match reply {
            Value::ServerError(error) => {
                let failure = sentinel::login_failure(&self.asked, Problem::Reply(error.clone()));
                usize::from(!failure.into_storage_error().to_string().is_empty())
            }
            _ => 0,
        };
        let counter = listing::counter(reply.clone()).is_ok();
        let number = replies::integer(reply.clone()).is_ok();
        let mut found = logged_in + refused + usize::from(counter) + usize::from(number);
        if let Ok(texts) = replies::texts(reply.clone()) {
            found += texts.iter().filter(|text| replies::revision(text).is_some()).count();
            found += texts.iter().filter_map(|text| Kept::of(text)).count();
            found += usize::from(matches!(Marker::of(texts.clone()), Ok(Some(_))));
            found += usize::from(snapshot::begun(texts).is_some());
        }
        if let Ok((_, names)) = verify::page(reply.clone()) {
            found += names.iter().filter_map(|name| self.keys.split(name)).count();
        }
        found
    }

    fn pairs(&self) -> impl Iterator<Item = &[Value]> {
        self.replies.windows(2)
    }
}

/// A bulk string.
pub fn bulk_string(bytes: &[u8]) -> Vec<u8> {
    [b"$", bytes.len().to_string().as_bytes(), b"\r\n", bytes, b"\r\n"].concat()
}

/// The stored value of a key.
pub fn stored(key: &str, found: &VersionedValue) -> Vec<u8> {
    [&found.revision.get().to_be_bytes()[..], &values::record(key, &found.value)].concat()
}
