//! Opening a store: the marker in each of its shards.
//!
//! Every shard has the store id, so that a node is noticed that was emptied or belongs to another
//! store. The first shard is created first, and marked as complete when all others have theirs.
//! If the host that creates a store dies before, the next one that opens it goes on.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use redis::Cmd;
use storage_core::{Durability, StorageError};

use super::client::Client;
use super::database::{Database, command, failed, is_wrong_type};
use super::error::Failure;
use super::keys::Keys;
use super::options::RedisOptions;
use super::script::Script;
use super::shard::Shard;
use super::{inspection, replies};
use crate::identity;

/// The version of the format.
pub(super) const FORMAT: u32 = 1;

static OPEN: Script = Script::new(include_str!("open.lua"));

/// How often the markers are read if they contradict each other. Shards are not read at the
/// same time, so another host may be creating them.
const MAX_READS: u32 = 10;
const BETWEEN_READS: Duration = Duration::from_millis(100);

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Create,
    Write,
    Read,
}

/// The marker of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marker {
    format: String,
    store_id: String,
    shards: String,
    is_complete: bool,
}

impl Marker {
    /// `None` if all fields are missing.
    pub(super) fn of(fields: Vec<String>) -> Result<Option<Self>, StorageError> {
        let [format, store_id, shards, complete] = <[String; 4]>::try_from(fields)
            .map_err(|_| replies::unexpected("not the fields of a store"))?;
        if format.is_empty() && store_id.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { format, store_id, shards, is_complete: !complete.is_empty() }))
    }
}

/// The state of all markers.
enum Found {
    Nothing,
    /// Created in part, with this id.
    Incomplete(String),
    Store(String),
    /// The first shard or another one is missing, or has another id.
    Contradiction,
}

/// Opens the store, or creates it. Also returns what its writes survive.
///
/// # Errors
/// [`StorageError::IoError`] if it is missing and must not be created, or the keys belong to
/// something else; [`StorageError::Unsupported`] for another format; [`StorageError::Unavailable`].
pub(super) fn open(
    options: &RedisOptions,
    purpose: Purpose,
) -> Result<(Database, Option<Durability>), StorageError> {
    let client = Client::open(options, purpose == Purpose::Read).map_err(failed)?;
    let servers = inspection::servers(&client)?;
    if purpose != Purpose::Read {
        inspection::check_eviction(&servers)?;
    }
    let mut database = Database {
        client: Arc::new(client),
        keys: Keys::new(&options.prefix),
        store_id: String::new(),
        read_only: purpose == Purpose::Read,
    };
    let opening = Opening { database: &database, prefix: &options.prefix };
    let store_id = match (opening.settle()?, purpose) {
        (Found::Store(store_id), Purpose::Read) => store_id,
        (Found::Store(store_id), _) => {
            opening.mark(Shard::FIRST, &store_id, "", "")?;
            store_id
        }
        (Found::Contradiction, _) => return Err(database.replaced()),
        (Found::Nothing | Found::Incomplete(_), Purpose::Read | Purpose::Write) => {
            return Err(opening.no_store());
        }
        (Found::Nothing, Purpose::Create) => opening.create(&identity::new_store_id())?,
        (Found::Incomplete(store_id), Purpose::Create) => opening.create(&store_id)?,
    };
    database.store_id = store_id;
    database.client.expect_store(database.check());
    Ok((database, inspection::durability(&servers)))
}

/// The servers for reading, whether or not they have a store.
pub(super) fn without_store(options: &RedisOptions) -> Result<Database, StorageError> {
    let client = Client::open(options, true).map_err(failed)?;
    Ok(Database {
        client: Arc::new(client),
        keys: Keys::new(&options.prefix),
        store_id: String::new(),
        read_only: true,
    })
}

/// Whether there is a store.
pub(super) fn exists(options: &RedisOptions) -> Result<bool, StorageError> {
    let database = without_store(options)?;
    let opening = Opening { database: &database, prefix: &options.prefix };
    match opening.settle()? {
        Found::Store(_) => Ok(true),
        Found::Nothing | Found::Incomplete(_) => Ok(false),
        Found::Contradiction => Err(database.replaced()),
    }
}

struct Opening<'a> {
    database: &'a Database,
    prefix: &'a str,
}

impl Opening<'_> {
    /// Reads the markers until they agree.
    fn settle(&self) -> Result<Found, StorageError> {
        for _ in 1..MAX_READS {
            match self.look()? {
                Found::Contradiction => thread::sleep(BETWEEN_READS),
                found => return Ok(found),
            }
        }
        self.look()
    }

    fn look(&self) -> Result<Found, StorageError> {
        let keys = &self.database.keys;
        let read = |shard: &Shard| -> Cmd {
            command("HMGET", [&keys.store(*shard), "format", "store_id", "shards", "complete"])
        };
        let shards: Vec<Shard> = self.database.shards().collect();
        let requests: Vec<(Shard, Vec<Cmd>)> =
            shards.iter().map(|shard| (*shard, vec![read(shard)])).collect();
        let replies = self.database.client.read_shards(&requests);
        let replies = replies.map_err(|failure| self.foreign_or(failure))?;
        let mut markers = Vec::with_capacity(replies.len());
        for reply in replies.into_iter().flatten() {
            markers.push(Marker::of(replies::texts(reply)?)?);
        }
        for marker in markers.iter().flatten() {
            self.check_format(marker)?;
        }
        let Some(Some(first)) = markers.first() else {
            let is_empty = markers.iter().all(Option::is_none);
            return Ok(if is_empty { Found::Nothing } else { Found::Contradiction });
        };
        let is_same = |marker: &Option<Marker>| match marker {
            Some(marker) => marker.store_id == first.store_id,
            None => !first.is_complete,
        };
        if !markers.iter().all(is_same) {
            return Ok(Found::Contradiction);
        }
        let store_id = first.store_id.clone();
        Ok(if first.is_complete { Found::Store(store_id) } else { Found::Incomplete(store_id) })
    }

    fn check_format(&self, marker: &Marker) -> Result<(), StorageError> {
        let Marker { format, shards, .. } = marker;
        if *format != FORMAT.to_string() {
            return Err(StorageError::Unsupported(format!(
                "the store with the prefix {:?} has format {format}, but this program reads format \
                 {FORMAT}; use the release that wrote it",
                self.prefix
            )));
        }
        let expected = self.database.client.shards();
        if *shards != expected.to_string() {
            return Err(StorageError::Unsupported(format!(
                "the store with the prefix {:?} has {shards} shards, but a store {} has {expected}; \
                 open it as it was created, and copy it to a new store",
                self.prefix,
                if expected == 1 { "on one server" } else { "on a cluster" }
            )));
        }
        Ok(())
    }

    /// Creates what is missing. Returns the id of the store, which another host may have chosen.
    fn create(&self, store_id: &str) -> Result<String, StorageError> {
        let first = self.mark(Shard::FIRST, store_id, "create", "")?;
        for shard in self.database.shards().skip(1) {
            if self.mark(shard, &first.store_id, "create", "")?.store_id != first.store_id {
                return Err(self.database.replaced());
            }
        }
        if !first.is_complete {
            self.mark(Shard::FIRST, &first.store_id, "", "complete")?;
        }
        Ok(first.store_id)
    }

    /// Runs the script of opening in a shard. Returns the marker that the shard has then.
    fn mark(
        &self,
        shard: Shard,
        store_id: &str,
        create: &str,
        complete: &str,
    ) -> Result<Marker, StorageError> {
        let Database { client, keys, .. } = self.database;
        let names =
            [keys.store(shard), keys.last_number(shard), keys.components(shard), keys.tried(shard)];
        let (format, shards) = (FORMAT.to_string(), client.shards().to_string());
        let reply = OPEN.run(client, shard, |command| {
            command.arg(names.len()).arg(&names);
            command.arg(&[store_id, &format, &shards, create, complete]);
        });
        let changes_marker = !(create.is_empty() && complete.is_empty());
        let reply = match reply {
            // Replicas need not have what was only tried.
            Err(failure) if !changes_marker => failure.unconfirmed_reply().cloned().ok_or(failure),
            reply => reply,
        };
        let mut reply = replies::texts(reply.map_err(|failure| self.foreign_or(failure))?)?;
        match reply.first().map(String::as_str) {
            Some("found") => {
                let marker = Marker::of(reply.split_off(1))?;
                let marker = marker.ok_or_else(|| self.database.replaced())?;
                self.check_format(&marker)?;
                Ok(marker)
            }
            Some("other keys") => Err(self.foreign()),
            _ => Err(replies::unexpected("to the script of opening")),
        }
    }

    fn no_store(&self) -> StorageError {
        StorageError::IoError(format!(
            "the Redis server has no store with the prefix {:?}; a store is created when it is \
             first opened for writing",
            self.prefix
        ))
    }

    fn foreign(&self) -> StorageError {
        StorageError::IoError(format!(
            "the prefix {:?} is used by keys that do not belong to a store; use another prefix, or \
             remove them",
            self.prefix
        ))
    }

    /// A marker of another type belongs to something else.
    fn foreign_or(&self, failure: Failure) -> StorageError {
        if is_wrong_type(&failure) { self.foreign() } else { failed(failure) }
    }
}
