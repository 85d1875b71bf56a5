//! `wasi:keyvalue@0.2.0-draft` over redb with a transaction for each call.
//!
//! This is how wasmtime-wasi-keyvalue-redb 0.1.0 works. That crate needs wasmtime 44, so
//! its calls are rebuilt here: one table, whose keys are the name of the bucket, a zero
//! byte and the key; arguments and results are copied as generated bindings do.

use std::path::Path;

use anyhow::Result;
use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use wasmtime::component::{ComponentType, Linker, Lower, Resource, ResourceTable, ResourceType};
use wasmtime::{Engine, Store, StoreContextMut};

const TABLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("data");

pub(crate) struct PerCall {
    database: Database,
    durability: Durability,
    table: ResourceTable,
}

/// The resource of a handle: the name of a bucket.
struct Bucket(String);

#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
#[expect(dead_code, reason = "the type is that of the interface")]
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

#[derive(Debug, ComponentType, Lower)]
#[component(record)]
struct KeyResponse {
    keys: Vec<String>,
    cursor: Option<u64>,
}

impl PerCall {
    /// The key in the table.
    fn key(&self, handle: &Resource<Bucket>, key: &str) -> Result<String> {
        Ok(format!("{}\0{key}", self.table.get(handle)?.0))
    }

    fn get(&self, handle: &Resource<Bucket>, key: &str) -> Result<Option<Vec<u8>>> {
        let key = self.key(handle, key)?;
        let table = self.database.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key.as_str())?.map(|found| found.value().to_vec()))
    }

    fn exists(&self, handle: &Resource<Bucket>, key: &str) -> Result<bool> {
        let key = self.key(handle, key)?;
        let table = self.database.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key.as_str())?.is_some())
    }

    fn set(&self, handle: &Resource<Bucket>, key: &str, value: &[u8]) -> Result<()> {
        let key = self.key(handle, key)?;
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        transaction.open_table(TABLE)?.insert(key.as_str(), value)?;
        Ok(transaction.commit()?)
    }

    fn increment(&self, handle: &Resource<Bucket>, key: &str, delta: u64) -> Result<u64> {
        let key = self.key(handle, key)?;
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        let mut table = transaction.open_table(TABLE)?;
        let old = match table.get(key.as_str())? {
            Some(found) => std::str::from_utf8(found.value())?.parse()?,
            None => 0,
        };
        let sum = delta.checked_add(old).ok_or_else(|| anyhow::anyhow!("overflow"))?;
        table.insert(key.as_str(), sum.to_string().as_bytes())?;
        drop(table);
        transaction.commit()?;
        Ok(sum)
    }

    fn get_many(&self, handle: &Resource<Bucket>, keys: Vec<String>) -> Result<Vec<Option<Pair>>> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        keys.into_iter()
            .map(|key| {
                let found = table.get(self.key(handle, &key)?.as_str())?;
                Ok(found.map(|found| (key, found.value().to_vec())))
            })
            .collect()
    }

    fn list_keys(&self, handle: &Resource<Bucket>) -> Result<Vec<String>> {
        let prefix = self.key(handle, "")?;
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let mut keys = Vec::new();
        for found in table.range(prefix.as_str()..)? {
            match found?.0.value().strip_prefix(&prefix) {
                Some(key) => keys.push(key.to_owned()),
                None => break,
            }
        }
        Ok(keys)
    }
}

/// A key with its value, as `get-many` returns it.
type Pair = (String, Vec<u8>);
type Context<'a> = StoreContextMut<'a, PerCall>;
type Handle = Resource<Bucket>;

/// The result of a call for the guest.
fn answer<R>(result: Result<R>) -> wasmtime::Result<(Result<R, Error>,)> {
    Ok((result.map_err(|error| Error::Other(error.to_string())),))
}

/// A host over a new file. Without `sync`, no transaction waits for the disk.
pub(crate) fn host(
    engine: &Engine,
    file: &Path,
    sync: bool,
) -> wasmtime::Result<(Linker<PerCall>, Store<PerCall>)> {
    let database = Database::create(file)?;
    let transaction = database.begin_write()?;
    transaction.open_table(TABLE)?;
    transaction.commit()?;
    let durability = if sync { Durability::Immediate } else { Durability::None };

    let mut linker = Linker::new(engine);
    let mut interface = linker.instance("wasi:keyvalue/store@0.2.0-draft")?;
    interface.resource(
        "bucket",
        ResourceType::host::<Bucket>(),
        |mut store: Context<'_>, rep| {
            store.data_mut().table.delete(Handle::new_own(rep))?;
            Ok(())
        },
    )?;
    interface.func_wrap("open", |mut store: Context<'_>, (name,): (String,)| {
        answer(store.data_mut().table.push(Bucket(name)).map_err(Into::into))
    })?;
    interface.func_wrap(
        "[method]bucket.get",
        |store: Context<'_>, (handle, key): (Handle, String)| {
            answer(store.data().get(&handle, &key))
        },
    )?;
    interface.func_wrap(
        "[method]bucket.exists",
        |store: Context<'_>, (handle, key): (Handle, String)| {
            answer(store.data().exists(&handle, &key))
        },
    )?;
    interface.func_wrap(
        "[method]bucket.set",
        |store: Context<'_>, (handle, key, value): (Handle, String, Vec<u8>)| {
            answer(store.data().set(&handle, &key, &value))
        },
    )?;
    interface.func_wrap(
        "[method]bucket.list-keys",
        |store: Context<'_>, (handle, _): (Handle, Option<u64>)| {
            let keys = store.data().list_keys(&handle);
            answer(keys.map(|keys| KeyResponse { keys, cursor: None }))
        },
    )?;
    linker.instance("wasi:keyvalue/atomics@0.2.0-draft")?.func_wrap(
        "increment",
        |store: Context<'_>, (handle, key, delta): (Handle, String, u64)| {
            answer(store.data().increment(&handle, &key, delta))
        },
    )?;
    linker.instance("wasi:keyvalue/batch@0.2.0-draft")?.func_wrap(
        "get-many",
        |store: Context<'_>, (handle, keys): (Handle, Vec<String>)| {
            answer(store.data().get_many(&handle, keys))
        },
    )?;
    let state = PerCall { database, durability, table: ResourceTable::new() };
    Ok((linker, Store::new(engine, state)))
}
