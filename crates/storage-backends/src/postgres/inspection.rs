//! What an operator should know about the server of a store.

use std::time::{Duration, Instant};

use storage_core::StorageError;

use super::error::Failure;
use super::pool::Pool;

/// How often the latency is measured.
const ROUND_TRIPS: usize = 9;

/// More dead rows than this part of all rows, and than this number, are reported.
const BLOAT_PART: f64 = 0.5;
const BLOAT_ROWS: i64 = 10_000;

/// A server and the store on it, as `doctor` reports them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresReport {
    /// The server's version, such as `15.4`.
    pub version: String,
    /// Whether the server is a standby, which cannot be written to.
    pub is_standby: bool,
    /// Whether connections are encrypted.
    pub is_encrypted: bool,
    /// The median time of a round trip.
    pub latency: Duration,
    /// Bytes of the store's tables and indexes on disk.
    pub bytes: u64,
    /// An estimate of the rows that were deleted or replaced and still take up space.
    pub dead_rows: u64,
    /// Settings that can lose data, and problems.
    pub warnings: Vec<PostgresWarning>,
}

/// What can lose data or make a store slow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresWarning {
    /// A name for programs, such as `fsync_off`.
    pub code: &'static str,
    /// What it means, and what to do.
    pub text: String,
}

/// Everything about the server in one row.
const SERVER: &str = "select current_setting('server_version'), pg_is_in_recovery(),
    coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false),
    current_setting('fsync'), current_setting('full_page_writes'),
    current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
    current_setting('data_checksums'),
    -- Any user sees how many there are, but not what they are.
    exists (select from pg_stat_replication)";

/// The size of the store, and its rows.
const SIZE: &str = "select
    coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint,
    coalesce(sum(s.n_live_tup), 0)::bigint, coalesce(sum(s.n_dead_tup), 0)::bigint
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    left join pg_stat_user_tables s on s.relid = c.oid
    where n.nspname = $1 and c.relkind = 'r'";

pub(super) fn inspect(pool: &Pool) -> Result<PostgresReport, StorageError> {
    let failed = |failure: Failure| failure.into_storage_error(pool.address());
    let mut lease = pool.lease(pool.deadline()).map_err(failed)?;
    let mut latencies = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let began = Instant::now();
        lease.run(async |session| Ok(session.client.batch_execute("").await?)).map_err(failed)?;
        latencies.push(began.elapsed());
    }
    latencies.sort_unstable();
    let latency = latencies.get(ROUND_TRIPS / 2).copied().unwrap_or_default();
    // The statistics are in no index. If a request fails, the connection is closed.
    lease.begin("begin; set local enable_seqscan = on").map_err(failed)?;
    let (server, size) = lease
        .run(async |session| {
            let client = &session.client;
            let server = client.query_one(SERVER, &[]).await?;
            let size = client.query_one(SIZE, &[&pool.address().schema]).await?;
            Ok((server, size))
        })
        .map_err(failed)?;
    lease.end().map_err(failed)?;
    let text = |n: usize| server.try_get::<_, String>(n).map_err(|e| failed(e.into()));
    let flag = |n: usize| server.try_get::<_, bool>(n).map_err(|e| failed(e.into()));
    let number = |n: usize| size.try_get::<_, i64>(n).map_err(|e| failed(e.into()));
    let (live, dead) = (number(1)?, number(2)?);
    let settings = Settings {
        fsync: text(3)?,
        full_page_writes: text(4)?,
        synchronous_commit: text(5)?,
        standby_names: text(6)?,
        data_checksums: text(7)?,
        has_connected_standby: flag(8)?,
        is_standby: flag(1)?,
    };
    let mut warnings = settings.warnings();
    let part = dead as f64 / (live + dead).max(1) as f64;
    if dead > BLOAT_ROWS && part > BLOAT_PART {
        warnings.push(PostgresWarning {
            code: "bloat",
            text: format!(
                "{dead} of {} rows are dead and take up space: check that autovacuum runs",
                live + dead
            ),
        });
    }
    let unsigned = |number: i64| u64::try_from(number).unwrap_or_default();
    Ok(PostgresReport {
        version: text(0)?,
        is_standby: flag(1)?,
        is_encrypted: flag(2)?,
        latency,
        bytes: unsigned(number(0)?),
        dead_rows: unsigned(dead),
        warnings,
    })
}

/// The settings of a server that decide what it can lose.
struct Settings {
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
    standby_names: String,
    data_checksums: String,
    has_connected_standby: bool,
    is_standby: bool,
}

impl Settings {
    fn warnings(&self) -> Vec<PostgresWarning> {
        let mut warnings = Vec::new();
        let mut warn = |code, text: &str| {
            warnings.push(PostgresWarning { code, text: text.to_owned() });
        };
        if self.fsync == "off" {
            warn("fsync_off", "fsync is off: a power cut can lose or damage the whole store");
        }
        if self.full_page_writes == "off" {
            warn(
                "full_page_writes_off",
                "full_page_writes is off: a power cut can damage the store",
            );
        }
        if self.synchronous_commit == "off" {
            warn(
                "synchronous_commit_off",
                "synchronous_commit is off: a crash of the server loses the last writes",
            );
        }
        if self.is_standby {
            warn("standby", "the server is a standby: only reading works");
        } else if self.standby_names.is_empty() {
            warn(
                "no_synchronous_standby",
                "there is no synchronous standby: losing the server's disk loses data, and a \
                 failover can lose the last writes",
            );
        } else if !self.has_connected_standby {
            warn(
                "standby_away",
                "no standby is connected: writes wait for it and fail, and no host can open the \
                 store for writing; start it, or reset synchronous_standby_names",
            );
        }
        if self.data_checksums == "off" {
            warn(
                "data_checksums_off",
                "data_checksums is off: the server does not detect damaged pages",
            );
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(standby_names: &str, has_connected_standby: bool) -> Vec<&'static str> {
        let settings = Settings {
            fsync: "on".to_owned(),
            full_page_writes: "on".to_owned(),
            synchronous_commit: "on".to_owned(),
            standby_names: standby_names.to_owned(),
            data_checksums: "on".to_owned(),
            has_connected_standby,
            is_standby: false,
        };
        settings.warnings().into_iter().map(|warning| warning.code).collect()
    }

    #[test]
    fn a_missing_standby_is_a_warning() {
        assert_eq!(codes("standby", true), Vec::<&str>::new());
        assert_eq!(codes("standby", false), ["standby_away"]);
        assert_eq!(codes("", true), ["no_synchronous_standby"]);
    }
}
