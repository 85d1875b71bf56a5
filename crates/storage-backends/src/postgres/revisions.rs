//! Where revisions continue.
//!
//! A sequence of the database numbers the writes of all hosts. Each opening continues it at
//! the server's clock in nanoseconds, so that a store restored from a dump does not reuse
//! revisions. A commit draws its revision under the lock of its component and updates the
//! component's row, so its revision is as durable as its writes. But PostgreSQL makes only
//! every 32nd value of a sequence durable at once, and with `durability=os`, or a standby that
//! is promoted without the last writes, the server forgets acknowledged ones. So the first
//! connection to a server process advances the sequence by at least a billion before anyone
//! draws from it there, durably. Hosts compare the server's start time and timeline with those
//! of the last advance on every new connection: no connection survives a crash or a promotion.

use tokio_postgres::Client;

use super::error::Failure;
use super::statements::Names;

/// Continues the revisions at the clock, and further if the server is another process.
pub(super) async fn advance(client: &Client, names: &Names) -> Result<(), Failure> {
    // Durable, whatever the durability of the store is.
    client
        .batch_execute(&names.apply(
            // Several statements in one message are one transaction.
            "select set_config('synchronous_commit', 'on', true)
                 where current_setting('synchronous_commit') = 'off';
             select @.advance_revisions_v1()",
        ))
        .await?;
    Ok(())
}
