//! Calls to the servers of a store, whatever their deployment.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Arg, Cmd, ServerError, Value, cmd};

use super::cluster;
use super::connector::Connector;
use super::deployment::RedisAddress;
use super::error::{self, Failure, Problem};
use super::keys::{Keys, StoreCheck};
use super::options::RedisOptions;
use super::part::Part;
use super::patience::Patience;
use super::pool::{Access, Node};
use super::router::Router;
use super::shard::Shard;
use super::together;
use super::turn::Request;
use super::wait::Wait;

/// The servers of a store, and the connections to them.
pub(super) struct Client {
    connector: Arc<Connector>,
    router: Router,
    wait: Option<Arc<Wait>>,
    has_sharded_notices: bool,
}

impl Client {
    /// Connects, and finds the servers. Does not look at the store.
    ///
    /// # Errors
    /// Those of the options, the connections and the servers.
    pub(super) fn open(options: &RedisOptions, read_only: bool) -> Result<Self, Failure> {
        let connector = Arc::new(Connector::new(options, read_only)?);
        let deadline = Instant::now() + connector.total_timeout;
        let (deployment, keys) = (options.deployment.clone(), Keys::new(&options.prefix));
        let router = Router::open(Arc::clone(&connector), deployment, keys, deadline)?;
        let mut client = Self {
            connector,
            router,
            wait: Wait::new(options).map(Arc::new),
            has_sharded_notices: false,
        };
        client.connect_first(deadline)?;
        client.has_sharded_notices = client.router.is_cluster() && client.all_know("SPUBLISH");
        Ok(client)
    }

    /// Opens a connection, so that the first error is not that of the first call.
    fn connect_first(&self, deadline: Instant) -> Result<(), Failure> {
        let mut patience = Patience::until(deadline);
        loop {
            let node = self.router.owner(Shard::FIRST)?;
            match node.lease(deadline, &self.confirm(&node, deadline)) {
                Ok(_) => return Ok(()),
                // Sentinels name the former primary until the failover has ended.
                Err(failure) => {
                    let is_replica =
                        matches!(failure, Failure::Server { problem: Problem::IsReplica, .. });
                    if !(is_replica && self.router.has_sentinels() && patience.pause()) {
                        return Err(failure);
                    }
                    self.router.find_again(Shard::FIRST, Some(&node), None, deadline)?;
                }
            }
        }
    }

    /// Whether all servers that can be reached know a command.
    fn all_know(&self, command: &str) -> bool {
        let ask = [cmd("COMMAND").arg("INFO").arg(command).take()];
        self.masters().iter().filter_map(|master| self.on_master(master, &ask).ok()).all(|reply| {
            matches!(reply.first(), Some(Value::Array(known)) if known.first() != Some(&Value::Nil))
        })
    }

    /// The number of shards: 1, or 256 on a cluster.
    pub(super) fn shards(&self) -> u16 {
        self.router.shards()
    }

    /// Whether the notices of a shard are published with SPUBLISH.
    pub(super) fn sharded_notices(&self) -> bool {
        self.has_sharded_notices
    }

    /// The command that publishes the notices of a shard.
    pub(super) fn publish_command(&self) -> &'static str {
        if self.has_sharded_notices { "SPUBLISH" } else { "PUBLISH" }
    }

    pub(super) fn router(&self) -> &Router {
        &self.router
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Sends commands that only read to the master of a shard, in one round trip. Returns the
    /// replies in order. May send them again.
    ///
    /// # Errors
    /// The first reply that is an error, other than NOSCRIPT; those of connections.
    pub(super) fn read(&self, shard: Shard, commands: &[Cmd]) -> Result<Vec<Value>, Failure> {
        self.read_until(Instant::now() + self.connector.total_timeout, shard, commands)
    }

    fn read_until(
        &self,
        deadline: Instant,
        shard: Shard,
        commands: &[Cmd],
    ) -> Result<Vec<Value>, Failure> {
        let what = What::Commands(commands);
        self.call(&Call { shard, what, wait: None, is_write: false }, deadline)
    }

    /// As [`read`](Self::read), for several shards: one round trip to each server, to all at the
    /// same time.
    pub(super) fn read_shards(
        &self,
        requests: &together::Requests,
    ) -> Result<Vec<Vec<Value>>, Failure> {
        let deadline = Instant::now() + self.connector.total_timeout;
        let mut replies: Vec<Option<Vec<Value>>> = vec![None; requests.len()];
        if requests.len() > 1 {
            together::read(self, deadline, requests, &mut replies);
        }
        let missing = |(reply, (shard, commands)): (Option<_>, &(Shard, Vec<Cmd>))| match reply {
            Some(reply) => Ok(reply),
            None => self.read_until(deadline, *shard, commands),
        };
        replies.into_iter().zip(requests).map(missing).collect()
    }

    /// Sends a command that writes to the master of a shard, and waits for replicas if the
    /// options ask for it. Sends it again only if it was not run.
    ///
    /// # Errors
    /// The reply, if it is an error other than NOSCRIPT; those of connections.
    /// [`Failure::Unconfirmed`] if too few replicas confirmed the write.
    pub(super) fn write(&self, shard: Shard, command: &Cmd) -> Result<Value, Failure> {
        self.write_what(shard, What::Commands(std::slice::from_ref(command)))
    }

    /// As [`write`](Self::write), for a part of a run of a script. Returns the reply to the part.
    pub(super) fn write_part(&self, shard: Shard, part: &Arc<Part>) -> Result<Value, Failure> {
        self.write_what(shard, What::Part(part))
    }

    fn write_what(&self, shard: Shard, what: What<'_>) -> Result<Value, Failure> {
        let deadline = Instant::now() + self.connector.total_timeout;
        let wait = self.wait.as_ref();
        let replies = self.call(&Call { shard, what, wait, is_write: true }, deadline)?;
        Ok(replies.into_iter().next().unwrap_or_default())
    }

    /// Makes connections that are opened from now on look for a store.
    pub(super) fn expect_store(&self, check: StoreCheck) {
        self.connector.expect_store(check);
    }

    /// Closes all connections: those in use after their call.
    pub(super) fn close_all(&self) {
        self.router.owners().iter().for_each(|node| node.close_all());
    }

    /// The servers that have shards.
    pub(super) fn masters(&self) -> Vec<RedisAddress> {
        self.router.owners().iter().map(|node| node.address.clone()).collect()
    }

    /// Sends commands to one server, in one round trip. May send them again. Errors are left in
    /// place among the replies.
    ///
    /// # Errors
    /// Those of connections.
    pub(super) fn on_master(
        &self,
        address: &RedisAddress,
        commands: &[Cmd],
    ) -> Result<Vec<Value>, Failure> {
        let node = self.router.node(address);
        let deadline = Instant::now() + self.connector.total_timeout;
        let mut patience = Patience::until(deadline);
        loop {
            let request = Request::new(commands.iter(), None);
            match self.attempt(&node, request, false, deadline) {
                Err(Failure::Server { problem: Problem::Lost(_), .. }) if patience.first_loss() => {
                }
                result => return result,
            }
        }
    }

    /// The failure of an error among the replies of a shard.
    pub(super) fn failure(&self, shard: Shard, error: &ServerError) -> Failure {
        match self.router.owner(shard) {
            Ok(node) => Failure::reply(&node.address, error),
            Err(failure) => failure,
        }
    }

    fn call(&self, call: &Call<'_>, deadline: Instant) -> Result<Vec<Value>, Failure> {
        let mut patience = Patience::until(deadline);
        // The node that has the keys of a shard while they move to it.
        let mut asked: Option<Arc<Node>> = None;
        loop {
            let is_asked = asked.is_some();
            let node = match asked.take() {
                Some(node) => Ok(node),
                None => self.router.owner(call.shard),
            };
            let node = match node {
                Ok(node) => node,
                Err(failure) => {
                    if !patience.pause() {
                        return Err(failure);
                    }
                    let _ = self.router.find_again(call.shard, None, None, deadline);
                    continue;
                }
            };
            let failure = match self.attempt_call(&node, call, is_asked, deadline) {
                Ok(replies) => return Ok(replies),
                Err(failure) => failure,
            };
            let goes_on = match self.next(&failure, call, &mut patience) {
                Next::Fail => false,
                Next::Again => true,
                Next::Reconnect => {
                    node.close_all();
                    true
                }
                Next::Pause => patience.pause(),
                Next::Search => {
                    let _ = self.router.find_again(call.shard, Some(&node), None, deadline);
                    patience.pause()
                }
                Next::Moved(to) => {
                    let _ = self.router.find_again(call.shard, Some(&node), Some(&to), deadline);
                    patience.redirect()
                }
                Next::Ask(to) => {
                    asked = Some(self.router.node(&to));
                    patience.redirect()
                }
            };
            if !goes_on {
                return Err(failure);
            }
        }
    }

    /// What to do about a failure.
    fn next(&self, failure: &Failure, call: &Call<'_>, patience: &mut Patience) -> Next {
        let Failure::Server { address, problem, is_indeterminate } = failure else {
            return Next::Fail;
        };
        if *is_indeterminate {
            return Next::Fail;
        }
        let has_failover = self.router.has_failover();
        match problem {
            Problem::Connect(_)
            | Problem::NoConnection(_)
            | Problem::Tls(_)
            | Problem::NoTls(_)
            | Problem::Closed(_)
            | Problem::IsReplica
                if has_failover =>
            {
                Next::Search
            }
            Problem::Lost(_) | Problem::NoReply(_) if !patience.first_loss() => Next::Fail,
            Problem::Lost(_) | Problem::NoReply(_) if has_failover => Next::Search,
            Problem::Lost(_) => Next::Again,
            // A server that restarts closes the connections that wait to be accepted.
            Problem::Closed(_) if patience.first_loss() => Next::Again,
            Problem::Reply(error) => {
                let is_cluster = self.router.is_cluster();
                let to = || cluster::redirection(error.details()?, address);
                match error::code(error) {
                    "MOVED" if is_cluster => to().map_or(Next::Search, Next::Moved),
                    "ASK" if is_cluster && call.is_transaction() => Next::Pause,
                    "ASK" if is_cluster => to().map_or(Next::Search, Next::Ask),
                    "TRYAGAIN" | "LOADING" | "BUSY" => Next::Pause,
                    "CLUSTERDOWN" | "MASTERDOWN" => Next::Search,
                    "READONLY" if has_failover => Next::Search,
                    // The name may lead to another server by now.
                    "READONLY" if patience.first_loss() => Next::Reconnect,
                    _ => Next::Fail,
                }
            }
            _ => Next::Fail,
        }
    }

    fn attempt_call(
        &self,
        node: &Node,
        call: &Call<'_>,
        is_asked: bool,
        deadline: Instant,
    ) -> Result<Vec<Value>, Failure> {
        let request = call.request(is_asked);
        let mut replies = self.attempt(node, request, call.is_write, deadline)?;
        if is_asked {
            call.remove_asking(&mut replies);
        }
        if let Some(error) = first_error(replies.get(..call.replies()).unwrap_or_default()) {
            return Err(Failure::reply(&node.address, error));
        }
        let Some(wait) = call.wait else { return Ok(replies) };
        let confirmed = match replies.pop() {
            Some(Value::Int(confirmed)) => confirmed,
            _ => 0,
        };
        let is_script_missing = replies.iter().any(|reply| matches!(reply, Value::ServerError(_)));
        if confirmed >= i64::from(wait.replicas) || is_script_missing {
            return Ok(replies);
        }
        Err(Failure::Unconfirmed {
            address: node.address.clone(),
            reply: replies.pop().unwrap_or_default(),
            confirmed,
            wanted: wait.replicas,
            limit: wait.limit,
        })
    }

    fn attempt(
        &self,
        node: &Node,
        request: Request,
        is_write: bool,
        deadline: Instant,
    ) -> Result<Vec<Value>, Failure> {
        let waits = request.wait.as_ref().map_or(Duration::ZERO, |wait| wait.limit);
        let confirm = self.confirm(node, deadline);
        let (result, lease) = match node.access(deadline, is_write, Some(request), &confirm)? {
            Access::Lease(mut lease, own, others) => {
                // It is never missing, because the call has one.
                let own = own.ok_or_else(|| Failure::at(&node.address, Problem::Lost(None)))?;
                let by = deadline.min(self.reply_deadline(deadline) + waits);
                (lease.call(by, own, others), Some(lease))
            }
            Access::Answered(result) => (result, None),
        };
        result.map_err(|failed| {
            match (&failed.problem, lease) {
                // The server was restarted, and has closed the others too.
                (Problem::Lost(_), Some(mut lease)) => lease.close_older(),
                // When it continues, it may no longer be the primary.
                (Problem::NoReply(_), Some(mut lease)) if self.router.has_failover() => {
                    lease.close_older();
                }
                _ => {}
            }
            Failure::Server {
                address: node.address.clone(),
                problem: failed.problem,
                is_indeterminate: is_write && failed.was_sent,
            }
        })
    }

    /// Checks that a server is still the primary, as far as sentinels know.
    pub(super) fn confirm<'n>(
        &'n self,
        node: &'n Node,
        deadline: Instant,
    ) -> impl Fn(Instant) -> Result<(), Failure> + 'n {
        move |since| self.router.confirm(node, since, deadline)
    }

    /// When a reply to a request that begins now must have come.
    pub(super) fn reply_deadline(&self, deadline: Instant) -> Instant {
        deadline.min(Instant::now() + self.connector.reply_timeout)
    }
}

/// What one call sends.
struct Call<'c> {
    shard: Shard,
    what: What<'c>,
    wait: Option<&'c Arc<Wait>>,
    is_write: bool,
}

enum What<'c> {
    Commands(&'c [Cmd]),
    Part(&'c Arc<Part>),
}

impl Call<'_> {
    /// `is_asked` says that the shard moves to the server, which then needs ASKING before each
    /// command.
    fn request(&self, is_asked: bool) -> Request {
        let asking = cmd("ASKING");
        let before = is_asked.then_some(&asking);
        match self.what {
            What::Commands(commands) => {
                let all = commands.iter().flat_map(|command| before.into_iter().chain([command]));
                Request::new(all, self.wait)
            }
            What::Part(part) if is_asked => {
                let command = Part::command(&[part]);
                Request::new(before.into_iter().chain([&command]), self.wait)
            }
            What::Part(part) => Request::part(part, self.wait),
        }
    }

    /// How many replies it has, besides that of waiting.
    fn replies(&self) -> usize {
        match self.what {
            What::Commands(commands) => commands.len(),
            What::Part(_) => 1,
        }
    }

    /// Leaves the replies that a request without ASKING has.
    fn remove_asking(&self, replies: &mut Vec<Value>) {
        for at in 0..self.replies().min(replies.len()) {
            replies.remove(at);
        }
        if let (What::Part(_), Some(reply)) = (&self.what, replies.first_mut())
            && let Some(own) = Part::replies(mem::take(reply), 1).pop()
        {
            *reply = own;
        }
    }

    /// Whether ASKING cannot be sent before each command.
    fn is_transaction(&self) -> bool {
        let What::Commands(commands) = self.what else { return false };
        let name = commands.first().and_then(|command| command.args_iter().next());
        matches!(name, Some(Arg::Simple(name)) if name.eq_ignore_ascii_case(b"MULTI"))
    }
}

/// What to do after a failure.
enum Next {
    Fail,
    /// Send again, with another connection.
    Again,
    /// Close all connections, and send again.
    Reconnect,
    /// Send again after a pause.
    Pause,
    /// Find the servers, and send again after a pause.
    Search,
    /// The shard has this server.
    Moved(RedisAddress),
    /// The shard moves to this server.
    Ask(RedisAddress),
}

/// The first error other than NOSCRIPT.
pub(super) fn first_error(replies: &[Value]) -> Option<&ServerError> {
    replies.iter().find_map(|reply| match reply {
        Value::ServerError(error) if error.code() != "NOSCRIPT" => Some(error),
        _ => None,
    })
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masters: Vec<String> = self.masters().iter().map(RedisAddress::to_string).collect();
        f.debug_struct("Client").field("masters", &masters).finish_non_exhaustive()
    }
}
