//! The scheme of stores in PostgreSQL.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use storage_backends::{PostgresOptions, PostgresReport, PostgresStorage, TlsMode};
use storage_core::{StorageError, Store};

use crate::scheme::{Inspection, Location, Mode, Scheme, Setting};

/// The variable for a password that is not in the URL.
const PASSWORD: &str = "PGPASSWORD";

pub(super) struct Postgres;

impl Scheme for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn has_path(&self) -> bool {
        false
    }

    fn has_server(&self) -> bool {
        true
    }

    fn password_variable(&self) -> Option<&'static str> {
        Some(PASSWORD)
    }

    fn settings(&self) -> &'static [Setting] {
        const SETTINGS: &[Setting] = &[
            Setting::text(
                "schema",
                PostgresOptions::is_schema,
                "up to 63 lower-case letters, digits and underscores",
            ),
            Setting::durability(&["sync", "os"]),
            Setting::number("pool_size", "connections"),
            Setting::number("connect_timeout_ms", "milliseconds"),
            Setting::number("statement_timeout_ms", "milliseconds"),
            Setting::number("total_timeout_ms", "milliseconds"),
            Setting::one_of("sslmode", &["prefer", "disable", "require", "verify-full"]),
            Setting::text("sslrootcert", |text| !text.is_empty(), "the path of a file"),
        ];
        SETTINGS
    }

    fn open(&self, location: &Location, mode: Mode) -> Result<Arc<dyn Store>, StorageError> {
        let options = options(location)?;
        Ok(Arc::new(match mode {
            Mode::ReadWrite => PostgresStorage::open(&options)?,
            Mode::ReadWriteExisting => PostgresStorage::open_existing(&options)?,
            Mode::ReadOnly => PostgresStorage::open_read_only(&options)?,
        }))
    }

    fn exists(&self, location: &Location) -> Result<bool, StorageError> {
        PostgresStorage::exists(&options(location)?)
    }

    fn inspect(&self, location: &Location) -> Result<Inspection, StorageError> {
        let report = PostgresStorage::open_read_only(&options(location)?)?.inspect()?;
        Ok(inspection(report))
    }
}

fn inspection(report: PostgresReport) -> Inspection {
    let encrypted = if report.is_encrypted { "encrypted" } else { "not encrypted" };
    let latency = format!("{:.2} ms", report.latency.as_secs_f64() * 1000.0);
    Inspection {
        facts: vec![
            ("server", format!("PostgreSQL {}", report.version)),
            ("connection", format!("{encrypted}, a round trip takes {latency}")),
            ("dead rows", report.dead_rows.to_string()),
        ],
        warnings: report.warnings.into_iter().map(|one| (one.code, one.text)).collect(),
        durability: None,
        bytes: Some(report.bytes),
        writable: Some(!report.is_standby),
        ..Inspection::default()
    }
}

fn options(location: &Location) -> Result<PostgresOptions, StorageError> {
    let Some(server) = location.server() else {
        return Err(StorageError::Unsupported("the URL names no server".into()));
    };
    let mut options = PostgresOptions::new(server.host(), server.user(), server.database())
        .with_durability(super::sync_or_os(location));
    if let Some(port) = server.port() {
        options = options.with_port(port);
    }
    let from_environment = || env::var(PASSWORD).ok().filter(|password| !password.is_empty());
    if let Some(password) = server.password().map(str::to_owned).or_else(from_environment) {
        options = options.with_password(password);
    }
    if let Some(schema) = location.setting("schema") {
        options = options.with_schema(schema);
    }
    if let Some(connections) = location.bytes("pool_size") {
        options = options.with_pool_size(connections);
    }
    let limit = |name| match location.number(name) {
        Some(0) => Err(StorageError::Unsupported(format!("{name}=0 is not a time limit"))),
        limit => Ok(limit.map(Duration::from_millis)),
    };
    if let Some(limit) = limit("connect_timeout_ms")? {
        options = options.with_connect_timeout(limit);
    }
    if let Some(limit) = limit("statement_timeout_ms")? {
        options = options.with_statement_timeout(limit);
    }
    if let Some(limit) = limit("total_timeout_ms")? {
        options = options.with_total_timeout(limit);
    }
    if let Some(file) = location.setting("sslrootcert") {
        options = options.with_root_certificates(file);
    }
    Ok(options.with_tls(match location.setting("sslmode") {
        Some("disable") => TlsMode::Disable,
        Some("require") => TlsMode::Require,
        Some("verify-full") => TlsMode::VerifyFull,
        _ => TlsMode::Prefer,
    }))
}

#[cfg(test)]
mod tests {
    use crate::{Mode, StorageError, StoreUrl};

    #[test]
    fn both_names_of_the_scheme_are_the_same() {
        let url: StoreUrl = "postgresql://ada@db/app".parse().unwrap();
        assert_eq!(url.to_string(), "postgres://ada@db/app");
        assert_eq!("postgres://ada@db/app".parse(), Ok(url));
    }

    #[test]
    fn zero_is_no_time_limit() {
        for name in ["connect_timeout_ms", "statement_timeout_ms", "total_timeout_ms"] {
            let url: StoreUrl = format!("postgres://ada@127.0.0.1:1/app?{name}=0").parse().unwrap();
            let opened = url.open(Mode::ReadOnly).map(drop);
            assert!(matches!(opened, Err(StorageError::Unsupported(_))), "{name}: {opened:?}");
        }
    }
}
