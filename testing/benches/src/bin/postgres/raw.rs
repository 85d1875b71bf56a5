//! The statements of the store through tokio-postgres.

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Statement};

use crate::{SCHEMA, VALUE};

/// One connection of the raw client.
pub(crate) struct Raw<'r> {
    runtime: &'r Runtime,
    client: Client,
    get: Statement,
    write: Statement,
    page: Statement,
}

impl<'r> Raw<'r> {
    pub(crate) fn connect(
        runtime: &'r Runtime,
        config: &tokio_postgres::Config,
        unsynced: bool,
    ) -> Result<Self> {
        runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            let synchronous_commit = if unsynced { "off" } else { "on" };
            client
                .batch_execute(&format!(
                    "set storage.session = 'raw'; set search_path = {SCHEMA};
                     set synchronous_commit = {synchronous_commit};
                     set jit = off; set plan_cache_mode = force_generic_plan;
                     set enable_seqscan = off; set enable_bitmapscan = off;
                     set enable_hashjoin = off; set enable_mergejoin = off; set enable_sort = off"
                ))
                .await?;
            let get = "select e.value, e.revision from component c \
                join entry e on e.component = c.id and e.key = $2 where c.name = $1";
            let write = "select status, written, previous from write_v1('raw', $1, $2, $3, $4, $5)";
            let page = "select e.key from entry e \
                where e.component = (select id from component where name = $1) \
                and e.key >= $2 and e.key < $3 order by e.key limit $4";
            Ok(Self {
                runtime,
                get: client.prepare(get).await?,
                write: client.prepare(write).await?,
                page: client.prepare(page).await?,
                client,
            })
        })
    }

    pub(crate) fn get(&self, component: &str, key: &str) -> Result<Vec<u8>> {
        let (name, key) = (component.as_bytes(), key.as_bytes());
        let row = self.runtime.block_on(self.client.query_opt(&self.get, &[&name, &key]));
        let row = row?.context("the key is missing")?;
        Ok(row.try_get(0)?)
    }

    pub(crate) fn set(&self, component: &str, key: &str) -> Result<i64> {
        self.set_to(component, key, VALUE)
    }

    pub(crate) fn set_to(&self, component: &str, key: &str, value: &[u8]) -> Result<i64> {
        let (name, key) = (component.as_bytes(), key.as_bytes());
        let none: Option<i64> = None;
        let row = self
            .runtime
            .block_on(self.client.query_one(&self.write, &[&name, &key, &value, &none, &none]));
        Ok(row?.try_get(1)?)
    }

    pub(crate) fn page(&self, component: &str, from: &str, limit: i64) -> Result<usize> {
        let (name, from, to) = (component.as_bytes(), from.as_bytes(), &[0xff_u8][..]);
        let rows =
            self.runtime.block_on(self.client.query(&self.page, &[&name, &from, &to, &limit]))?;
        let keys: Result<Vec<Vec<u8>>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        Ok(keys?.len())
    }
}
