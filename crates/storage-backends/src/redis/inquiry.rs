//! Asking several servers the same at the same time.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use redis::{Cmd, Value};

use super::connector::Connector;
use super::deployment::RedisAddress;
use super::error::{Failure, Problem};

/// Whom a connection is opened to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Server,
    Sentinel,
}

/// What a server replied, or why it did not.
pub(super) struct Answer {
    pub(super) address: RedisAddress,
    pub(super) replies: Result<Vec<Value>, Failure>,
}

/// Sends commands to all of the servers, each with a connection of its own. The answers come in
/// the order in which they arrive; each does until the deadline, or the time to connect has
/// passed.
pub(super) fn ask_all(
    connector: &Arc<Connector>,
    kind: Kind,
    addresses: &[RedisAddress],
    commands: &[Cmd],
    deadline: Instant,
) -> Receiver<Answer> {
    let (send, answers) = mpsc::channel();
    for address in addresses {
        let (connector, commands, send) = (Arc::clone(connector), commands.to_vec(), send.clone());
        let asked = address.clone();
        let ask = move || {
            let replies = ask(&connector, kind, &asked, &commands, deadline);
            // The asker may have heard enough.
            let _ = send.send(Answer { address: asked, replies });
        };
        // Without a thread the server does not answer.
        let _ = thread::Builder::new().name("redis-ask".to_owned()).spawn(ask);
    }
    answers
}

fn ask(
    connector: &Connector,
    kind: Kind,
    address: &RedisAddress,
    commands: &[Cmd],
    deadline: Instant,
) -> Result<Vec<Value>, Failure> {
    let deadline = deadline.min(Instant::now() + connector.connect_timeout);
    let mut wire = match kind {
        Kind::Server => connector.open_any(address, deadline)?,
        Kind::Sentinel => connector.open_sentinel(address, deadline)?,
    };
    let sent = wire.send(deadline, commands.iter()).map_err(|failed| failed.problem);
    let replies = sent.and_then(|sent| wire.receive(deadline, sent));
    let replies = replies.map_err(|problem| match problem {
        Problem::NoReply(_) => Problem::NoReply(connector.connect_timeout),
        other => other,
    });
    replies.map_err(|problem| Failure::at(address, problem))
}

/// The text of a reply, if it is one.
pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
