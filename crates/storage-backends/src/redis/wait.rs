//! Waiting until replicas have a write.

use std::time::Duration;

use redis::{Cmd, cmd};

use super::connector::LONGEST;
use super::options::RedisOptions;

/// How the writes of a store wait for replicas.
pub(super) struct Wait {
    /// Its reply is the number of replicas that have all earlier writes of the connection.
    pub(super) command: Cmd,
    pub(super) replicas: u32,
    pub(super) limit: Duration,
}

impl Wait {
    /// `None` if the options do not ask for it.
    pub(super) fn new(options: &RedisOptions) -> Option<Self> {
        if options.wait == 0 {
            return None;
        }
        // With a limit of 0 the server would wait without end.
        let limit = options.wait_timeout.clamp(Duration::from_millis(1), LONGEST);
        let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let command = cmd("WAIT").arg(options.wait).arg(milliseconds).take();
        Some(Self { command, replicas: options.wait, limit })
    }
}
