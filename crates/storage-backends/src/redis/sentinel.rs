//! Finding the primary that sentinels watch.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use redis::{ServerError, Value, cmd};

use super::connector::Connector;
use super::deployment::{RedisAddress, SentinelDeployment};
use super::error::{self, Failure, Problem};
use super::inquiry::{Answer, Kind, ask_all, text};

/// How long to wait for the other sentinels once one has answered.
const OTHERS: Duration = Duration::from_millis(300);

/// What a sentinel says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) primary: RedisAddress,
    /// Grows with each failover.
    epoch: u64,
}

/// Asks all sentinels for the primary, and believes the one that knows the latest failover.
///
/// # Errors
/// Those of all sentinels, if none names a primary.
pub(super) fn find(
    connector: &Arc<Connector>,
    sentinels: &SentinelDeployment,
    deadline: Instant,
) -> Result<RedisAddress, Failure> {
    let SentinelDeployment { addresses, master, .. } = sentinels;
    let commands = [
        cmd("SENTINEL").arg("MASTER").arg(master).take(),
        cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master).take(),
    ];
    let answers = ask_all(connector, Kind::Sentinel, addresses, &commands, deadline);
    let mut best: Option<View> = None;
    let mut failures = Vec::new();
    let mut until = deadline + connector.connect_timeout;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let Answer { address, replies } = match answers.recv_timeout(left) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        };
        match replies.and_then(|replies| view(&address, &replies, master)) {
            Ok(view) => {
                until = until.min(Instant::now() + OTHERS);
                if best.as_ref().is_none_or(|best| view.epoch > best.epoch) {
                    best = Some(view);
                }
            }
            Err(failure) => failures.push(failure),
        }
    }
    match best {
        Some(view) => Ok(view.primary),
        None => Err(Failure::of_many(failures, "no sentinel replied")),
    }
}

pub(super) fn view(
    address: &RedisAddress,
    replies: &[Value],
    master: &str,
) -> Result<View, Failure> {
    let unexpected = || Failure::at(address, Problem::Unexpected("SENTINEL"));
    let [state, primary] = replies else { return Err(unexpected()) };
    for reply in [state, primary] {
        if let Value::ServerError(error) = reply {
            return Err(refused(address, error, master));
        }
    }
    let (Value::Array(state), Value::Array(primary)) = (state, primary) else {
        return Err(unexpected());
    };
    let field = |name: &str| {
        let (pairs, _) = state.as_chunks::<2>();
        pairs.iter().find(|[key, _]| text(key) == Some(name)).and_then(|[_, value]| text(value))
    };
    let epoch = field("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    let [host, port] = primary.as_slice() else { return Err(unexpected()) };
    let (Some(host), Some(port)) = (text(host), text(port).and_then(|port| port.parse().ok()))
    else {
        return Err(unexpected());
    };
    Ok(View { primary: RedisAddress::new(host, port), epoch })
}

/// The error of a sentinel that did not answer the question.
fn refused(address: &RedisAddress, error: &ServerError, master: &str) -> Failure {
    let details = error.details().unwrap_or_default();
    let text = if details.contains("No such master") {
        format!("the sentinel at {address} knows no primary named {master:?}; check the name")
    } else if details.contains("unknown command") {
        format!(
            "{address} is not a sentinel; their port is usually {}",
            RedisAddress::DEFAULT_SENTINEL_PORT
        )
    } else {
        return login_failure(address, Problem::Reply(error.clone()));
    };
    Failure::NoServer(text)
}

/// The failure of a sentinel, which may refuse the login.
pub(super) fn login_failure(address: &RedisAddress, problem: Problem) -> Failure {
    match &problem {
        Problem::Reply(error) if ["NOAUTH", "WRONGPASS"].contains(&error::code(error)) => {
            Failure::NoServer(format!(
                "the sentinel at {address} refused the login; set REDIS_SENTINEL_PASSWORD to its \
                 password"
            ))
        }
        _ => Failure::at(address, problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_view_has_the_primary_and_the_epoch() {
        let asked = RedisAddress::new("s", 26379);
        let state = ["name", "m", "ip", "old", "config-epoch", "7"].map(bulk);
        let replies =
            [Value::Array(state.to_vec()), Value::Array(vec![bulk("127.0.0.1"), bulk("6380")])];
        let found = view(&asked, &replies, "m").unwrap();
        assert_eq!(found, View { primary: RedisAddress::new("127.0.0.1", 6380), epoch: 7 });
        assert!(view(&asked, &[Value::Nil, Value::Nil], "m").is_err());
        assert!(view(&asked, &[], "m").is_err());
    }

    #[test]
    fn refusals_say_what_to_do() {
        let asked = RedisAddress::new("s", 26379);
        for (reply, expected) in [
            ("-ERR No such master with that name\r\n", "knows no primary named \"m\""),
            ("-ERR unknown command 'SENTINEL', with args\r\n", "s:26379 is not a sentinel"),
            ("-NOAUTH Authentication required.\r\n", "REDIS_SENTINEL_PASSWORD"),
            ("-BUSY x\r\n", "runs a script"),
        ] {
            let reply = redis::parse_redis_value(reply.as_bytes()).unwrap();
            let failure = view(&asked, &[reply.clone(), reply], "m").unwrap_err();
            let message = failure.into_storage_error().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
