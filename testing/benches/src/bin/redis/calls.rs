//! Calls of the store, and the commands that they send.

use anyhow::{Context as _, Result, ensure};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Connection};
use storage_backends::RedisStorage;
use storage_core::{ComponentStorage as _, StorageValue};
use test_servers::Redis;

use crate::recorder::{Recorded, record};
use crate::{COMPONENT, VALUE};

const KEYS: usize = 1_000;

/// The full key of an operation.
pub(crate) fn full_key(number: usize) -> String {
    format!("{COMPONENT}key:{:05}", number % KEYS)
}

/// A call of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Get,
    Set,
    /// A set of the store, and a plain SET of the same value on the other side.
    SetAlone,
}

/// Calls the store.
pub(crate) fn call(store: &RedisStorage, call: Call, number: usize) -> Result<()> {
    let key = full_key(number);
    match call {
        Call::Get => ensure!(store.get(&key)?.is_some(), "the key is missing"),
        Call::Set | Call::SetAlone => store.set(&key, StorageValue::from(VALUE))?,
    }
    Ok(())
}

/// The commands of the calls with each key.
#[derive(Debug)]
pub(crate) struct Commands {
    gets: Vec<Recorded>,
    sets: Vec<Recorded>,
}

impl Commands {
    /// Writes every key, and records the commands for it.
    pub(crate) fn record(server: &Redis, store: &RedisStorage) -> Result<Self> {
        Ok(Self {
            sets: record(server, "EVALSHA", KEYS, |number| call(store, Call::Set, number))?,
            gets: record(server, "GET", KEYS, |number| call(store, Call::Get, number))?,
        })
    }

    /// The command of an operation.
    pub(crate) fn command(&self, call: Call, number: usize) -> Result<Cmd> {
        let at = number % KEYS;
        let (get, set) = (self.gets.get(at), self.sets.get(at));
        Ok(match call {
            Call::Get => get.context("no such key")?.command(),
            Call::Set => set.context("no such key")?.command(),
            Call::SetAlone => {
                let name = get.context("no such key")?.argument(1)?;
                // In another key, since the store would find no record in this one.
                redis::cmd("SET").arg([name, b":alone"].concat()).arg(VALUE).take()
            }
        })
    }

    /// Sends the command of an operation.
    pub(crate) fn run(&self, connection: &mut Connection, call: Call, number: usize) -> Result<()> {
        let command = self.command(call, number)?;
        match call {
            Call::Get => checked_value(command.query(connection)?),
            Call::Set => checked_reply(&command.query::<[Vec<String>; 1]>(connection)?),
            Call::SetAlone => Ok(command.exec(connection)?),
        }
    }

    /// As [`run`](Self::run), on a connection that tasks share.
    pub(crate) async fn run_shared(
        &self,
        connection: &mut MultiplexedConnection,
        call: Call,
        number: usize,
    ) -> Result<()> {
        let command = self.command(call, number)?;
        match call {
            Call::Get => checked_value(command.query_async(connection).await?),
            Call::Set => checked_reply(&command.query_async::<[Vec<String>; 1]>(connection).await?),
            Call::SetAlone => Ok(command.exec_async(connection).await?),
        }
    }
}

fn checked_value(value: Option<Vec<u8>>) -> Result<()> {
    ensure!(value.is_some(), "the key is missing");
    Ok(())
}

fn checked_reply([reply]: &[Vec<String>; 1]) -> Result<()> {
    ensure!(reply.first().is_some_and(|word| word == "written"), "the script wrote nothing");
    Ok(())
}
