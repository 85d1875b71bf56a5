//! Failures of servers, of connections and of time limits, in words.

use std::io;
use std::time::Duration;

use redis::{ServerError, ServerErrorKind, Value};
use storage_core::StorageError;

use super::deployment::RedisAddress;

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// A server, or the way to it, failed.
    Server {
        /// Which one.
        address: RedisAddress,
        problem: Problem,
        /// Whether a write may have taken effect.
        is_indeterminate: bool,
    },
    /// The command was run, but fewer replicas than wanted confirmed it in time.
    Unconfirmed {
        address: RedisAddress,
        reply: Value,
        confirmed: i64,
        wanted: u32,
        limit: Duration,
    },
    /// It is not known which server to ask. Says why.
    NoServer(String),
    /// Not an error of a server.
    Store(StorageError),
}

/// What went wrong with a server.
#[derive(Debug)]
pub(super) enum Problem {
    /// Its address could not be found or connected to.
    Connect(io::Error),
    /// The connection could not be opened for this long.
    NoConnection(Duration),
    /// The encrypted connection could not be set up.
    Tls(String),
    /// The server did not encrypt the connection for this long.
    NoTls(Duration),
    /// There was no reply for this long.
    NoReply(Duration),
    /// The connection ended.
    Lost(Option<io::Error>),
    /// A new connection ended before it was set up.
    Closed(Option<io::Error>),
    /// The reply is not one of Redis.
    NotRedis,
    /// The reply is not the one of this command.
    Unexpected(&'static str),
    /// The server replied with an error.
    Reply(ServerError),
    /// No connection was free for this long.
    AllInUse(Duration),
    /// The server is a replica.
    IsReplica,
    /// The server does not hold the store that was opened.
    Replaced,
}

impl Problem {
    /// Whether the server may have as many connections as it accepts. It says so and closes the
    /// connection, and what it said may be lost.
    pub(super) fn may_be_full(&self) -> bool {
        match self {
            Self::Closed(_) => true,
            Self::Reply(error) => said(error).contains("max number of clients"),
            _ => false,
        }
    }

    /// The same problem, for another request on the connection that it ended.
    pub(super) fn of_connection(&self) -> Self {
        match self {
            Self::NoReply(limit) => Self::NoReply(*limit),
            Self::NotRedis => Self::NotRedis,
            Self::IsReplica => Self::IsReplica,
            Self::Lost(Some(error)) => {
                Self::Lost(Some(io::Error::new(error.kind(), error.to_string())))
            }
            _ => Self::Lost(None),
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    /// A failure that changed nothing.
    pub(super) fn at(address: &RedisAddress, problem: Problem) -> Self {
        Self::Server { address: address.clone(), problem, is_indeterminate: false }
    }

    /// An error reply. It says whether a write was run.
    pub(super) fn reply(address: &RedisAddress, error: &ServerError) -> Self {
        let is_indeterminate = !is_refused(error);
        Self::Server {
            address: address.clone(),
            problem: Problem::Reply(error.clone()),
            is_indeterminate,
        }
    }

    /// The failure of a question that none of several servers answered.
    pub(super) fn of_many(mut failures: Vec<Self>, what: &str) -> Self {
        match failures.len() {
            0 => Self::NoServer(what.to_owned()),
            1 => failures.remove(0),
            _ => {
                let all: Vec<String> = failures.iter().map(Self::summary).collect();
                Self::NoServer(format!("{what}: {}", all.join("; ")))
            }
        }
    }

    /// What the server replied, if it ran the command and too few replicas confirmed it.
    pub(super) fn unconfirmed_reply(&self) -> Option<&Value> {
        match self {
            Self::Unconfirmed { reply, .. } => Some(reply),
            _ => None,
        }
    }

    /// Whether it is unknown if a write took effect. A write that too few replicas confirmed did.
    pub(super) fn is_indeterminate(&self) -> bool {
        match self {
            Self::Server { is_indeterminate, .. } => *is_indeterminate,
            Self::Unconfirmed { .. } | Self::NoServer(_) | Self::Store(_) => false,
        }
    }

    /// The error of a request that wrote nothing.
    pub(super) fn into_storage_error(self) -> StorageError {
        match self {
            Self::Store(error) => error,
            other => StorageError::Unavailable { key: None, detail: other.describe() },
        }
    }

    /// The error of a write.
    pub(super) fn into_write_error(self) -> StorageError {
        if !self.is_indeterminate() {
            return self.into_storage_error();
        }
        let detail = format!("{}: the write may or may not have taken effect", self.describe());
        StorageError::Unavailable { key: None, detail }
    }

    /// What failed, and what to do.
    fn describe(&self) -> String {
        let summary = self.summary();
        match self {
            Self::Server { problem: Problem::Connect(_) | Problem::NoConnection(_), .. } => {
                format!("{summary}; check the address, and that the server runs")
            }
            _ => summary,
        }
    }

    /// The same in a list of failures, without what would be repeated.
    fn summary(&self) -> String {
        match self {
            Self::Store(error) => error.to_string(),
            Self::NoServer(why) => why.clone(),
            Self::Unconfirmed { address, confirmed, wanted, limit, .. } => format!(
                "the primary, Redis at {address}, made the write, and {confirmed} of {wanted} \
                 replicas confirmed it within {}, so a failover may lose it; start the replicas, or \
                 lower wait",
                seconds(*limit)
            ),
            Self::Server { address, problem, .. } => describe(address, problem),
        }
    }
}

fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs_f32())
}

fn describe(address: &RedisAddress, problem: &Problem) -> String {
    let at = format!("Redis at {address}");
    match problem {
        Problem::Connect(error) => format!("cannot connect to {at}: {error}"),
        Problem::NoConnection(limit) => {
            format!("{at} could not be connected to within {}", seconds(*limit))
        }
        Problem::Tls(why) => format!(
            "the encrypted connection to {at} failed: {why}; if the port has no TLS, use redis://"
        ),
        Problem::NoTls(limit) => format!(
            "{at} did not encrypt the connection within {}; if the port has no TLS, use redis://",
            seconds(*limit)
        ),
        Problem::NoReply(limit) => format!("{at} did not reply within {}", seconds(*limit)),
        Problem::Lost(None) => format!("the connection to {at} was lost"),
        Problem::Lost(Some(error)) => format!("the connection to {at} was lost: {error}"),
        Problem::Closed(error) => {
            let error = error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
            format!(
                "{at} closed a new connection{error}; it may be shutting down or have too many \
                 connections; use rediss:// if its port has TLS"
            )
        }
        Problem::NotRedis => format!(
            "{at} does not reply as Redis does; check the port, and use rediss:// if it has TLS"
        ),
        Problem::Unexpected(what) => format!("{at} gave an unexpected reply to {what}"),
        Problem::Reply(error) => describe_reply(&at, error),
        Problem::AllInUse(limit) => {
            format!("no connection to {at} was free for {}; raise pool_size", seconds(*limit))
        }
        Problem::IsReplica => {
            format!("{at} is a replica; connect to the primary, or to the sentinels")
        }
        Problem::Replaced => format!(
            "{at} does not hold the store that was opened, because the server was emptied or \
             replaced; restore its data, or open the store again"
        ),
    }
}

/// An error that the server replied with.
fn describe_reply(at: &str, error: &ServerError) -> String {
    let said = said(error);
    let text = match code(error) {
        "WRONGPASS" => {
            "refused the user or the password; set REDIS_PASSWORD, or write them into \
                        the URL"
        }
        "NOAUTH" => "wants a password; set REDIS_PASSWORD, or write it into the URL",
        "NOPERM" => {
            return format!(
                "{at} does not allow this to the user ({said}); give it with ACL SETUSER the \
                 commands +@all -@admin -@dangerous +info +role, and the keys and channels of the \
                 store's prefix"
            );
        }
        "OOM" => "has no memory left for writes; delete keys, or raise its maxmemory",
        "MISCONF" => return format!("{at} cannot save to its disk and refuses writes ({said})"),
        "NOREPLICAS" => {
            "has fewer replicas that keep up than its min-replicas-to-write, and refuses \
                         writes; start the replicas, or lower that setting"
        }
        "LOADING" => "is loading its data; try again",
        "BUSY" => "runs a script that takes long; try again, or end it with SCRIPT KILL",
        "READONLY" => {
            "is a replica and refuses writes; connect to the primary, or to the sentinels"
        }
        "MASTERDOWN" => "is a replica without its primary; start the primary",
        "CLUSTERDOWN" => return format!("{at}: the cluster is down ({said}); start its nodes"),
        "TRYAGAIN" => "moves these keys to another node; try again",
        "MOVED" | "ASK" => "is a node of a cluster; use redis+cluster://",
        // What follows has keys.
        "ERR" if said.contains("unknown command") => {
            // Before version 7 it is in backquotes.
            let name = said.split(['\'', '`']).nth(1).unwrap_or("a command");
            return format!(
                "{at} does not have {name}, which the store needs; see its rename-command"
            );
        }
        "ERR" if said.contains("cluster support disabled") => {
            "is not a node of a cluster; use redis://, or redis+sentinel://"
        }
        "ERR" if said.contains("without any password") || said.contains("no password is set") => {
            "has no password for the default user; remove the password, or name the user"
        }
        "ERR" if said.contains("max number of clients") => {
            "has too many connections; lower pool_size, or raise its maxclients"
        }
        "ERR" if said.contains("DB index") => {
            "has no database with this number; use another one, or raise its databases"
        }
        _ => return format!("{at} failed: {said}"),
    };
    format!("{at} {text}")
}

/// What the server said, without what leads to the key.
fn said(error: &ServerError) -> String {
    match error.details() {
        Some(details) if error.code() == "ERR" => details.to_owned(),
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    }
}

/// The code of an error. Before version 7, an error in a script has the code of its command
/// in its text only, and begins with the line if the script has caught it.
pub(super) fn code(error: &ServerError) -> &str {
    let code = error.code();
    if code != "ERR" && code != "@user_script:" {
        return code;
    }
    let details = error.details().unwrap_or_default();
    ["READONLY", "OOM", "MISCONF", "NOREPLICAS"]
        .into_iter()
        .find(|inner| details.contains(&format!("-{inner} ")))
        .unwrap_or(code)
}

/// Whether the server has run nothing.
fn is_refused(error: &ServerError) -> bool {
    let known = matches!(
        error.kind(),
        Some(
            ServerErrorKind::Ask
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::CrossSlot
                | ServerErrorKind::ExecAbort
                | ServerErrorKind::MasterDown
                | ServerErrorKind::Moved
                | ServerErrorKind::NoPerm
                | ServerErrorKind::NoScript
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::TryAgain
        )
    );
    let details = error.details().unwrap_or_default();
    known
        // In capitals if a script called it.
        || details.starts_with("unknown command")
        || matches!(
            code(error),
            "BUSY" | "MISCONF" | "NOAUTH" | "NOREPLICAS" | "OOM" | "READONLY" | "WRONGPASS"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a write that the server replied to so.
    fn told(reply: &str) -> String {
        let Ok(Value::ServerError(error)) = redis::parse_redis_value(reply.as_bytes()) else {
            panic!("{reply:?} is not an error");
        };
        Failure::reply(&RedisAddress::new("h", 6379), &error).into_write_error().to_string()
    }

    #[test]
    fn a_missing_command_is_named_without_what_follows() {
        for quoted in ["'GETEX'", "`GETEX`"] {
            let text =
                told(&format!("-ERR unknown command {quoted}, with args beginning: key\r\n"));
            assert!(text.contains("does not have GETEX, ") && !text.contains("key"), "{text}");
        }
    }

    #[test]
    fn the_refusal_of_a_command_in_a_script_is_known() {
        for before in ["", "@user_script: 9: -", "ERR Error running script: @user_script: 9: -"] {
            let text = told(&format!("-{before}OOM command not allowed\r\n"));
            assert!(text.contains("no memory left") && !text.contains("may or may not"), "{text}");
        }
    }
}
