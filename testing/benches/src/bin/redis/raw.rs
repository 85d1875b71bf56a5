//! Connections of the crate redis.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Connection, ConnectionAddr};
use test_servers::Redis;
use tokio::runtime::Runtime;

use crate::calls::{Call, Commands};

pub(crate) fn connect(server: &Redis) -> Result<Connection> {
    Ok(client(server)?.get_connection()?)
}

/// A connection that tasks of this runtime share.
pub(crate) fn connect_shared(runtime: &Runtime, server: &Redis) -> Result<MultiplexedConnection> {
    let client = client(server)?;
    // Half a second is the default.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    Ok(runtime.block_on(connecting)?)
}

fn client(server: &Redis) -> Result<Client> {
    let address = server.address();
    Ok(Client::open(ConnectionAddr::Tcp(address.ip().to_string(), address.port()))?)
}

/// A connection for each caller.
pub(crate) struct Connections(Mutex<Vec<Connection>>);

impl Connections {
    pub(crate) fn open(server: &Redis, callers: usize) -> Result<Self> {
        let connections: Result<_> = (0..callers).map(|_| connect(server)).collect();
        Ok(Self(Mutex::new(connections?)))
    }

    /// Takes a connection for these operations.
    pub(crate) fn run(&self, commands: &Commands, call: Call, numbers: Range<usize>) -> Result<()> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connection = lock().pop().context("there are too few connections")?;
        for number in numbers {
            commands.run(&mut connection, call, number)?;
        }
        lock().push(connection);
        Ok(())
    }
}
