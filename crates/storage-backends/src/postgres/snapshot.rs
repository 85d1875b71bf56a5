//! Reading many keys at one point in time.

use storage_core::{SnapshotVisitor, StorageError};

use super::error::{Failure, unexpected};
use super::listing::{self, Range};
use super::pool::{Lease, Pool};

/// Begins a transaction that sees one state. It may take long, so the server does not end it.
pub(super) const BEGIN: &str = "begin isolation level repeatable read, read only;
    set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0";

/// Calls `visit` with the keys that begin with `prefix` and follow `after`, and their values.
/// The server sends them as they are visited, so memory is bounded.
pub(super) fn read(
    pool: &Pool,
    prefix: &str,
    after: Option<&str>,
    visit: &mut SnapshotVisitor<'_>,
) -> Result<(), StorageError> {
    let range = Range::new(prefix, after);
    let failed = |failure: Failure| failure.into_storage_error(pool.address());
    let mut lease = pool.lease(pool.deadline()).map_err(failed)?;
    lease.without_total_limit();
    lease.begin(BEGIN).map_err(failed)?;
    read_rows(pool, &mut lease, &range, visit)?;
    lease.end().map_err(failed)
}

fn read_rows(
    pool: &Pool,
    lease: &mut Lease<'_>,
    range: &Range<'_>,
    visit: &mut SnapshotVisitor<'_>,
) -> Result<(), StorageError> {
    let failed = |failure: Failure| failure.into_storage_error(pool.address());
    let rows = lease.run(async |session| listing::read_range(session, range).await);
    let mut rows = Box::pin(rows.map_err(failed)?);
    let mut last: Option<String> = None;
    let next = |rows: &mut _, lease: &mut Lease<'_>| {
        lease.run(async |_| listing::next_row(rows).await).map_err(failed)
    };
    while let Some(row) = next(&mut rows, lease)? {
        let column = |n: usize| row.try_get::<_, &[u8]>(n).map_err(|error| failed(error.into()));
        let (key, value) = match range {
            Range::Component { prefix, .. } => {
                (listing::full_key(prefix.as_bytes(), column(0)?)?, column(1)?)
            }
            Range::All { .. } => (listing::full_key(column(0)?, column(1)?)?, column(2)?),
        };
        // The order of several components depends on the server's plan.
        if last.as_ref().is_some_and(|last| *last >= key) {
            return Err(unexpected(pool.address(), "keys are not in order"));
        }
        visit(&key, value.into())?;
        last = Some(key);
    }
    Ok(())
}
