//! The format: tables and functions in one schema of a database.

use storage_core::StorageError;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::address::Address;
use super::error::Failure;
use super::statements::Names;
use crate::identity;

/// The version of the tables.
pub(super) const FORMAT: u32 = 1;

/// The tables and functions of a new store.
const TABLES: &str = include_str!("schema.sql");

/// The advisory lock of hosts that create a store. It is the same for all schemas of a
/// database.
const CREATING: i64 = 0x73746f72616765; // "storage"

/// Opens the store, or creates it if it is missing and `create` says so. Returns its id.
///
/// # Errors
/// [`StorageError::IoError`] if it is missing and must not be created, or the schema has other
/// tables; [`StorageError::Unsupported`] for another format.
pub(super) async fn open(
    client: &Client,
    address: &Address,
    names: &Names,
    create: bool,
) -> Result<String, Failure> {
    if let Some(store_id) = read(client, address, names).await? {
        return Ok(store_id);
    }
    if !create {
        return Err(StorageError::IoError(format!(
            "{address} has no store in the schema {:?} of the database {:?}; a store is created \
             when it is first opened for writing",
            address.schema, address.database
        ))
        .into());
    }
    client.batch_execute("begin").await?;
    let created = create_in_transaction(client, address, names).await;
    let end = if created.is_ok() { "commit" } else { "rollback" };
    client.batch_execute(end).await?;
    created
}

async fn create_in_transaction(
    client: &Client,
    address: &Address,
    names: &Names,
) -> Result<String, Failure> {
    client.execute("select pg_advisory_xact_lock($1)", &[&CREATING]).await?;
    // Another host may have created it.
    if let Some(store_id) = read(client, address, names).await? {
        return Ok(store_id);
    }
    let schema = &address.schema;
    let found =
        client.query_opt("select 1 from pg_namespace where nspname = $1", &[schema]).await?;
    if found.is_none() {
        client.batch_execute(&names.apply("create schema @")).await?;
    }
    refuse_other_tables(client, address).await?;
    // The functions keep this search path.
    client.batch_execute(&names.apply("set local search_path = @, pg_temp")).await?;
    client.batch_execute(TABLES).await?;
    let store_id = identity::new_store_id();
    let format = i32::try_from(FORMAT).unwrap_or(i32::MAX);
    client
        .execute(
            &names.apply("insert into @.store (format, store_id) values ($1, $2)"),
            &[&format, &store_id],
        )
        .await?;
    Ok(store_id)
}

/// Whether there is a store.
///
/// # Errors
/// As [`open`], if it could not be opened or created.
pub(super) async fn exists(
    client: &Client,
    address: &Address,
    names: &Names,
) -> Result<bool, Failure> {
    if read(client, address, names).await?.is_some() {
        return Ok(true);
    }
    refuse_other_tables(client, address).await?;
    Ok(false)
}

async fn refuse_other_tables(client: &Client, address: &Address) -> Result<(), Failure> {
    let schema = &address.schema;
    let others = client
        .query_opt(
            "select relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where n.nspname = $1 limit 1",
            &[schema],
        )
        .await?;
    if let Some(other) = others {
        let other: String = other.try_get(0)?;
        return Err(StorageError::IoError(format!(
            "the schema {schema:?} of {address} has tables that do not belong to a store, such \
             as {other:?}; name a schema that is empty or missing"
        ))
        .into());
    }
    Ok(())
}

/// Reads the id of the store; `None` if there is none.
async fn read(
    client: &Client,
    address: &Address,
    names: &Names,
) -> Result<Option<String>, Failure> {
    let table = client
        .query_opt(
            "select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where n.nspname = $1 and c.relname = 'store'",
            &[&address.schema],
        )
        .await?;
    if table.is_none() {
        return Ok(None);
    }
    let text = names.apply(
        "select format, store_id, coalesce(current_setting('storage.session', true), '') = '#' \
         from @.store",
    );
    let row = match client.query_one(&text, &[]).await {
        Ok(row) => row,
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => {
            return Err(StorageError::IoError(format!(
                "the schema {:?} of {address} has a table \"store\" that does not belong to a \
                 store; name another schema",
                address.schema
            ))
            .into());
        }
        Err(error) => return Err(error.into()),
    };
    if !row.try_get::<_, bool>(2)? {
        return Err(Failure::NotOurSession);
    }
    let format: i32 = row.try_get(0)?;
    check_format(u32::try_from(format).unwrap_or(0), address)?;
    Ok(Some(row.try_get(1)?))
}

/// Refuses another format.
///
/// # Errors
/// [`StorageError::Unsupported`].
pub(super) fn check_format(format: u32, address: &Address) -> Result<(), StorageError> {
    if format == FORMAT {
        return Ok(());
    }
    Err(StorageError::Unsupported(format!(
        "the store in the schema {:?} of {address} has format {format}, but this program reads \
         format {FORMAT}; use the release that wrote it",
        address.schema
    )))
}
