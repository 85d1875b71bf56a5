//! Reading a whole store, and comparing its counters with a recount.

use std::pin::Pin;

use storage_core::{Problem, StorageError, Usage, Verified, split_full_key, validate_full_key};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, RowStream};

use super::error::Failure;
use super::listing;
use super::parameters::Bytes;
use super::pool::{Lease, Pool};
use super::snapshot::BEGIN;

/// Every component with its keys; a component without keys has one row. The values are read in
/// the server.
const READ: &str = "select c.name, c.bytes, c.keys, c.revision, e.key, e.revision,
        octet_length(e.value || ''::bytea)::bigint
    from (select id, name, bytes, keys, revision from @.component where name >= $1 order by name) c
    left join lateral (
        select key, revision, value from @.entry
        where component = c.id and key >= case when c.name = $1 then $2 else ''::bytea end
        order by key
    ) e on true";

/// The key that a failed read stopped at, and the length of its value, which can be read
/// without the value.
const NEXT: &str = "select c.name, e.key, e.length
    from (select id, name from @.component where name >= $1 order by name) c
    cross join lateral (
        select key, octet_length(value)::bigint as length from @.entry
        where component = c.id and key >= case when c.name = $1 then $2 else ''::bytea end
        order by key limit 1
    ) e limit 1";

/// Keys of components that do not exist.
const ORPHANS: &str = "select count(*) from @.entry e
    where not exists (select from @.component c where c.id = e.component)";

/// Reads the whole store at one point in time, or at several if it is damaged.
pub(super) fn verify(
    pool: &Pool,
    report: &mut dyn FnMut(Problem),
) -> Result<Verified, StorageError> {
    let mut check = Check {
        verified: Verified::default(),
        report,
        last_revision: 0,
        component: None,
        from: (Vec::new(), Vec::new()),
    };
    let failed = |failure: Failure| failure.into_storage_error(pool.address());
    let mut lease = pool.lease(pool.deadline()).map_err(failed)?;
    lease.without_total_limit();
    lease.begin(BEGIN).map_err(failed)?;
    check.last_revision = check.read_last_revision(&mut lease).map_err(failed)?;
    loop {
        match check.read(&mut lease) {
            Ok(()) => break,
            Err(failure) if failure.is_damage() => {
                let detail = failure.into_storage_error(pool.address()).to_string();
                lease.end().and_then(|()| lease.begin(BEGIN)).map_err(failed)?;
                if !check.skip_damaged(&mut lease, detail).map_err(failed)? {
                    break;
                }
            }
            Err(failure) => return Err(failed(failure)),
        }
    }
    check.end_component();
    check.orphans(&mut lease).map_err(failed)?;
    lease.end().map_err(failed)?;
    Ok(check.verified)
}

struct Check<'r> {
    verified: Verified,
    report: &'r mut dyn FnMut(Problem),
    last_revision: i64,
    /// The component that is being read.
    component: Option<Component>,
    /// Where to go on after damage: a component and a user key.
    from: (Vec<u8>, Vec<u8>),
}

/// A row of a component, and what was counted.
struct Component {
    name: Vec<u8>,
    bytes: i64,
    keys: i64,
    revision: Option<i64>,
    counted: Usage,
}

impl Check<'_> {
    fn report(&mut self, problem: Problem) {
        self.verified.count(&problem);
        (self.report)(problem);
    }

    fn read_last_revision(&self, lease: &mut Lease<'_>) -> Result<i64, Failure> {
        lease.run(async |session| {
            let row = session
                .client
                .query_one(&session.names.apply("select last_value from @.revision"), &[])
                .await?;
            Ok(row.try_get(0)?)
        })
    }

    fn read(&mut self, lease: &mut Lease<'_>) -> Result<(), Failure> {
        let (name, key) = (Bytes(&self.from.0), Bytes(&self.from.1));
        let parameters: [&(dyn ToSql + Sync); 2] = [&name, &key];
        let rows: RowStream = lease.run(async |session| {
            Ok(session.client.query_raw(&session.names.apply(READ), parameters).await?)
        })?;
        let mut rows: Pin<Box<RowStream>> = Box::pin(rows);
        while let Some(row) = lease.run(async |_| listing::next_row(&mut rows).await)? {
            self.row(&row)?;
        }
        Ok(())
    }

    fn row(&mut self, row: &Row) -> Result<(), Failure> {
        let name: &[u8] = row.try_get(0)?;
        if self.component.as_ref().is_none_or(|component| component.name != name) {
            self.end_component();
            self.component = Some(Component {
                name: name.to_vec(),
                bytes: row.try_get(1)?,
                keys: row.try_get(2)?,
                revision: row.try_get(3)?,
                counted: Usage::default(),
            });
        }
        let Some(key) = row.try_get::<_, Option<&[u8]>>(4)? else { return Ok(()) };
        self.from = (name.to_vec(), [key, &[0]].concat());
        let revision: i64 = row.try_get(5)?;
        let length: i64 = row.try_get(6)?;
        let usage = self.count(name, key, length);
        self.verified.usage = self.verified.usage + usage;
        if self.component.as_ref().is_some_and(|c| c.revision < Some(revision)) {
            let detail = format!(
                "its revision {revision} is beyond the last revision of its component; a cache \
                 may not notice changes to it until it is written again"
            );
            self.report(Problem::new("entry", detail).with_key(shown(name, key)));
        }
        Ok(())
    }

    /// Counts a key for its component. Returns its usage with the full key.
    fn count(&mut self, name: &[u8], key: &[u8], length: i64) -> Usage {
        let length = u64::try_from(length).unwrap_or_default();
        if let Some(component) = &mut self.component {
            component.counted =
                component.counted + Usage { bytes: key.len() as u64 + length, keys: 1 };
        }
        match listing::full_key(name, key) {
            Err(error) => self.report(Problem::new("entry", error.to_string())),
            Ok(full) => {
                if let Err(error) = validate_full_key(&full) {
                    self.report(Problem::new("entry", error.to_string()).with_key(full));
                } else if split_full_key(&full).0.as_bytes() != name {
                    let detail = "it belongs to another component than the one that has it";
                    self.report(Problem::new("entry", detail).with_key(full));
                }
            }
        }
        Usage { bytes: (name.len() + key.len()) as u64 + length, keys: 1 }
    }

    /// Compares the counters of the component that was read.
    fn end_component(&mut self) {
        let Some(component) = self.component.take() else { return };
        let Component { name, bytes, keys, revision, counted } = component;
        let shown = name.escape_ascii();
        if !name.is_empty() && counted.keys > 0 {
            self.verified.components += 1;
        }
        if (u64::try_from(bytes), u64::try_from(keys)) != (Ok(counted.bytes), Ok(counted.keys)) {
            let detail = format!(
                "the usage counter of \"{shown}\" is {bytes} bytes in {keys} keys, but there are {} \
                 bytes in {} keys",
                counted.bytes, counted.keys
            );
            self.report(Problem::new("component", detail));
        }
        if revision > Some(self.last_revision) {
            let detail = format!(
                "the revision {} of \"{shown}\" is beyond the sequence of revisions; open the \
                 store for writing to advance it",
                revision.unwrap_or_default()
            );
            self.report(Problem::new("component", detail));
        }
    }

    /// Reports the key that a failed read stopped at. Returns false if there is none.
    fn skip_damaged(&mut self, lease: &mut Lease<'_>, detail: String) -> Result<bool, Failure> {
        let found = lease.run(async |session| {
            let (name, key) = (Bytes(&self.from.0), Bytes(&self.from.1));
            Ok(session.client.query_opt(&session.names.apply(NEXT), &[&name, &key]).await?)
        })?;
        let Some(row) = found else {
            self.report(Problem::new("entry", detail));
            return Ok(false);
        };
        let (name, key): (&[u8], &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        self.report(Problem::new("entry", detail).with_key(shown(name, key)));
        self.from = (name.to_vec(), [key, &[0]].concat());
        if self.component.as_ref().is_some_and(|component| component.name == name) {
            self.count(name, key, row.try_get(2)?);
        } else {
            // Its first key: the rest is counted without it.
            self.end_component();
        }
        Ok(true)
    }

    fn orphans(&mut self, lease: &mut Lease<'_>) -> Result<(), Failure> {
        let count: i64 = lease.run(async |session| {
            let client = &session.client;
            // Without an index of ids, a hash is fast.
            client.batch_execute("set local enable_hashjoin = on").await?;
            Ok(client.query_one(&session.names.apply(ORPHANS), &[]).await?.try_get(0)?)
        })?;
        if count > 0 {
            let detail = format!("{count} keys belong to no component, so nothing can read them");
            self.report(Problem::new("entry", detail));
        }
        Ok(())
    }
}

/// A key for a message.
fn shown(name: &[u8], key: &[u8]) -> String {
    String::from_utf8_lossy(&[name, key].concat()).into_owned()
}
