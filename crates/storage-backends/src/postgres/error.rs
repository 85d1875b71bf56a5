//! Failures of the server, of connections and of time limits, in words.

use std::error::Error as _;
use std::time::Duration;

use storage_core::StorageError;
use tokio_postgres::error::{DbError, Severity, SqlState};

use super::address::Address;
use super::statements::FOREIGN;

/// The error of the database's functions in a session without the settings of the store.
const FOREIGN_SESSION: &str = "ST001";

/// Why a request to the server failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client failed, or the server replied with an error.
    Postgres(tokio_postgres::Error),
    /// The server's address could not be found or connected to.
    Connect(std::io::Error),
    /// There was no reply for this long.
    NoReply(Duration),
    /// The connection could not be opened for this long.
    NoConnection(Duration),
    /// The server made a commit and warned of this.
    Warned(String),
    /// The commit that opens the store waited for the synchronous standby for this long.
    NoStandby(Duration),
    /// The server does not have the settings that were made on this connection.
    NotOurSession,
    /// No connection was free for this long.
    AllInUse(Duration),
    /// Not an error of the server.
    Store(StorageError),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Postgres(error) => error.code(),
            _ => None,
        }
    }

    /// Whether the server rolled the request back because of other transactions.
    pub(super) fn is_collision(&self) -> bool {
        let codes = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
        self.code().is_some_and(|code| codes.contains(code))
    }

    /// Whether stored data is damaged.
    pub(super) fn is_damage(&self) -> bool {
        self.code().is_some_and(is_damage)
    }

    /// Whether the connection ended. Another one may work.
    pub(super) fn is_lost_connection(&self) -> bool {
        match self {
            Self::Postgres(error) => match error.as_db_error() {
                Some(error) => ends_connection(error),
                None => error.is_closed() || is_io(error),
            },
            _ => false,
        }
    }

    /// Whether a write may have taken effect. An ordinary error of the server means that it
    /// rolled the write back; one that ends the connection may follow a commit that waited
    /// for its standby.
    pub(super) fn is_indeterminate(&self) -> bool {
        match self {
            Self::Postgres(error) => error.as_db_error().is_none_or(ends_connection),
            Self::NoReply(_) | Self::Warned(_) => true,
            Self::Connect(_)
            | Self::NoConnection(_)
            | Self::NoStandby(_)
            | Self::NotOurSession
            | Self::AllInUse(_)
            | Self::Store(_) => false,
        }
    }

    /// The error of a request that wrote nothing.
    pub(super) fn into_storage_error(self, address: &Address) -> StorageError {
        if let Self::Store(error) = self {
            return error;
        }
        let code = self.code().cloned();
        let detail = self.describe(address);
        match code {
            Some(code) if is_damage(&code) => StorageError::Corrupt { key: None, detail },
            Some(SqlState::DISK_FULL | SqlState::IO_ERROR) => StorageError::IoError(detail),
            _ => StorageError::Unavailable { key: None, detail },
        }
    }

    /// The error of a write.
    pub(super) fn into_write_error(self, address: &Address) -> StorageError {
        if !self.is_indeterminate() {
            return self.into_storage_error(address);
        }
        let detail =
            format!("{}: the write may or may not have taken effect", self.describe(address));
        StorageError::Unavailable { key: None, detail }
    }

    /// What failed, and what to do.
    fn describe(&self, address: &Address) -> String {
        let seconds = |limit: &Duration| format!("{} s", limit.as_secs_f32());
        match self {
            Self::Store(error) => error.to_string(),
            Self::Connect(error) => format!("cannot connect to {address}: {error}"),
            Self::NoReply(limit) => format!("{address} did not reply within {}", seconds(limit)),
            Self::NoConnection(limit) => {
                format!("{address} could not be connected to within {}", seconds(limit))
            }
            Self::Warned(warning) => format!("{address} warned: {warning}"),
            Self::NoStandby(limit) => format!(
                "{address} waited for its synchronous standby for {}, so the store cannot be \
                 opened for writing; start the standby, or change synchronous_standby_names",
                seconds(limit)
            ),
            Self::NotOurSession => not_our_session(address),
            Self::AllInUse(limit) => format!(
                "no connection to {address} was free for {}; raise pool_size",
                seconds(limit)
            ),
            Self::Postgres(error) => match error.as_db_error() {
                Some(error) => describe_reply(error, address),
                None => describe_client(error, address),
            },
        }
    }
}

/// The error of a client that cannot read its own result, which only a bug can cause, or a
/// proxy that changes replies.
pub(super) fn unexpected(address: &Address, what: &str) -> StorageError {
    StorageError::IoError(format!("{address} gave an unexpected reply: {what}"))
}

/// A pooler in transaction mode loses settings and prepared statements, or has those of other
/// clients.
fn not_our_session(address: &Address) -> String {
    format!(
        "{address} does not keep the session of a connection, as a pooler in transaction mode; \
         set the pooler to session mode, or connect to the server itself"
    )
}

/// Whether the server ran the request with the settings or the statement of another client, or
/// does not know the statement.
fn is_not_our_session(error: &DbError) -> bool {
    let codes = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT];
    codes.contains(error.code())
        || error.code().code() == FOREIGN_SESSION
        || *error.code() == SqlState::UNDEFINED_OBJECT && error.message().contains(FOREIGN)
}

fn ends_connection(error: &DbError) -> bool {
    if matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) {
        return true;
    }
    // A server before version 9.6, and poolers, may only send a severity that is translated.
    let code = error.code();
    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW]
        .contains(code)
        || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        || code.code().starts_with("08")
}

fn is_damage(code: &SqlState) -> bool {
    [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code)
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An error that the server replied with.
fn describe_reply(error: &DbError, address: &Address) -> String {
    let Address { user, database, .. } = address;
    let said = error.message();
    if is_not_our_session(error) {
        return not_our_session(address);
    }
    match *error.code() {
        SqlState::INVALID_PASSWORD => format!(
            "{address} refused the password of user {user:?}; set PGPASSWORD, or write it into \
             the URL"
        ),
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION if said.contains("no encryption") => format!(
            "{address} refuses user {user:?} without encryption; use sslmode=require or \
             sslmode=verify-full"
        ),
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            format!("{address} refused user {user:?}: {said}")
        }
        SqlState::INVALID_CATALOG_NAME => {
            format!("{address} has no database {database:?}; create it, or name another one")
        }
        SqlState::TOO_MANY_CONNECTIONS => format!(
            "{address} has too many connections ({said}); lower pool_size, or raise its \
             max_connections"
        ),
        SqlState::READ_ONLY_SQL_TRANSACTION => format!(
            "{address} is read-only; connect to the primary server if this one is a standby"
        ),
        SqlState::DISK_FULL => {
            format!("{address} cannot write, because its disk is full ({said}); free space there")
        }
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => {
            format!("{address} is starting or shutting down ({said}); try again")
        }
        SqlState::QUERY_CANCELED => {
            format!("{address} cancelled a request that took too long; raise statement_timeout_ms")
        }
        SqlState::LOCK_NOT_AVAILABLE => {
            format!("{address}: another host holds a component's lock for too long; try again")
        }
        SqlState::INSUFFICIENT_PRIVILEGE => {
            format!("{address} does not allow this to user {user:?}: {said}")
        }
        ref code => format!("{address} failed: {said} (SQLSTATE {})", code.code()),
    }
}

/// An error of the client or of the network.
fn describe_client(error: &tokio_postgres::Error, address: &Address) -> String {
    let user = &address.user;
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    let cause = causes.last().map_or("", String::as_str);
    if cause.contains("password missing") {
        return format!(
            "{address} wants a password for user {user:?}; set PGPASSWORD, or write it into the URL"
        );
    }
    match error.to_string().as_str() {
        "error performing TLS handshake" if cause.contains("server does not support TLS") => {
            format!("{address} does not offer TLS; use sslmode=disable if that is acceptable")
        }
        "error performing TLS handshake" => {
            format!("the encrypted connection to {address} failed: {cause}")
        }
        "connection closed" => format!("the connection to {address} was lost"),
        "error communicating with the server" => {
            format!("the connection to {address} was lost: {cause}")
        }
        other if cause.is_empty() => format!("{address} failed: {other}"),
        other => format!("{address} failed: {other}: {cause}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_postgres::{Config, NoTls};

    use super::*;

    /// What a client makes of a server that answers with an error.
    async fn failure(severity: &str, code: &str) -> Failure {
        let (client, mut server) = tokio::io::duplex(1024);
        let message = |tag: u8, body: &[u8]| {
            [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
        };
        let fields = format!("SFEHLER\0V{severity}\0C{code}\0Mx\0\0");
        let greeting = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
        let reply = [message(b'E', fields.as_bytes()), message(b'Z', b"I")].concat();
        tokio::spawn(async move {
            for answer in [greeting, reply] {
                // The startup message, and then the request.
                assert!(server.read(&mut [0; 1024]).await.unwrap() > 0);
                server.write_all(&answer).await.unwrap();
            }
        });
        let (client, connection) =
            Config::new().user("u").connect_raw(client, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("select 1").await.unwrap_err().into()
    }

    #[test]
    fn an_error_that_ends_the_connection_may_follow_a_commit() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for (severity, code, is_indeterminate) in [
                ("ERROR", "53100", false),
                ("FATAL", "57P01", true),
                ("PANIC", "53100", true),
                ("PANIC", "58030", true),
                ("FATAL", "XX000", true),
            ] {
                let failure = failure(severity, code).await;
                assert_eq!(failure.code().unwrap().code(), code);
                assert_eq!(failure.is_indeterminate(), is_indeterminate, "{severity} {code}");
                assert_eq!(failure.is_lost_connection(), is_indeterminate, "{severity} {code}");
            }
        });
    }
}
