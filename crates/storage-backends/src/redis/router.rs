//! Which server has which shard, and finding that out again when it has changed.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use super::cluster;
use super::connector::Connector;
use super::deployment::{Deployment, RedisAddress};
use super::error::{Failure, Problem};
use super::keys::Keys;
use super::pool::Node;
use super::sentinel;
use super::shard::{CLUSTER_SHARDS, Shard};

/// The servers of a store.
pub(super) struct Router {
    connector: Arc<Connector>,
    deployment: Deployment,
    keys: Keys,
    map: RwLock<Map>,
    search: Mutex<Search>,
    /// Signalled when it has found them.
    found: Condvar,
}

struct Search {
    /// Whether a thread is looking for the servers.
    is_running: bool,
    /// When the last search began that has ended, whether it found them or not.
    looked: Instant,
}

#[derive(Default)]
struct Map {
    /// By the number of the shard.
    owners: Vec<Option<Arc<Node>>>,
    /// The owners, and servers that others named.
    nodes: Vec<Arc<Node>>,
    /// The addresses of all servers of a cluster.
    known: Vec<RedisAddress>,
}

impl Router {
    /// Finds the servers for the first time.
    pub(super) fn open(
        connector: Arc<Connector>,
        deployment: Deployment,
        keys: Keys,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let router = Self {
            connector,
            deployment,
            keys,
            map: RwLock::default(),
            search: Mutex::new(Search { is_running: false, looked: Instant::now() }),
            found: Condvar::new(),
        };
        router.look(None, deadline)?;
        Ok(router)
    }

    pub(super) fn shards(&self) -> u16 {
        match &self.deployment {
            Deployment::Single(_) | Deployment::Sentinel(_) => 1,
            Deployment::Cluster(_) => CLUSTER_SHARDS,
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.deployment, Deployment::Cluster(_))
    }

    /// Whether another server may take over.
    pub(super) fn has_failover(&self) -> bool {
        !matches!(self.deployment, Deployment::Single(_))
    }

    /// Whether the primary may be replaced while it still answers.
    pub(super) fn has_sentinels(&self) -> bool {
        matches!(self.deployment, Deployment::Sentinel(_))
    }

    /// The server that has a shard, as far as is known.
    pub(super) fn owner(&self, shard: Shard) -> Result<Arc<Node>, Failure> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let owner = map.owners.get(usize::from(shard.number())).and_then(Option::as_ref);
        owner.cloned().ok_or_else(|| {
            Failure::NoServer(format!(
                "no node of the cluster has shard {shard}; start its nodes, or see \
                 redis-cli --cluster check"
            ))
        })
    }

    /// The servers that have shards.
    pub(super) fn owners(&self) -> Vec<Arc<Node>> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let mut owners: Vec<_> = map.owners.iter().flatten().cloned().collect();
        owners.sort_by(|a, b| a.address.cmp(&b.address));
        owners.dedup_by(|a, b| a.address == b.address);
        owners
    }

    /// The shards of a server.
    pub(super) fn shards_of(&self, node: &Node) -> Vec<Shard> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        Shard::all(self.shards())
            .zip(&map.owners)
            .filter(|(_, owner)| owner.as_ref().is_some_and(|o| o.address == node.address))
            .map(|(shard, _)| shard)
            .collect()
    }

    /// The server at an address.
    pub(super) fn node(&self, address: &RedisAddress) -> Arc<Node> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        map.node(address, &self.connector)
    }

    /// Finds the servers again, because `node` no longer has `shard` or does not work, or none
    /// has it. Another server may have `named` the one that has it. Does nothing if the shard has
    /// another owner already.
    pub(super) fn find_again(
        &self,
        shard: Shard,
        node: Option<&Node>,
        named: Option<&RedisAddress>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let has_other_owner = || {
            let owner = self.owner(shard).ok();
            owner.is_some_and(|owner| node.is_none_or(|node| owner.address != node.address))
        };
        self.search(has_other_owner, named, deadline)
    }

    /// Asks the sentinels whether a server is still the primary, unless that was done since a
    /// time. A former primary that comes back takes itself for one until they change it, and what it
    /// acknowledges is then lost. If no sentinel replies, the server is taken for the primary.
    ///
    /// # Errors
    /// If another server is the primary.
    pub(super) fn confirm(
        &self,
        node: &Node,
        since: Instant,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if !self.has_sentinels() {
            return Ok(());
        }
        // A search that another thread had begun may be too early.
        while self.lock_search().looked < since && Instant::now() < deadline {
            let _ = self.search(|| false, None, deadline);
        }
        match self.owner(Shard::FIRST) {
            Ok(owner) if owner.address != node.address => {
                Err(Failure::at(&node.address, Problem::IsReplica))
            }
            _ => Ok(()),
        }
    }

    /// Finds all servers again.
    pub(super) fn find_all(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + self.connector.connect_timeout;
        self.search(|| false, None, deadline)
    }

    /// Looks for the servers, unless that is not necessary, or waits for another thread that
    /// does.
    fn search(
        &self,
        is_done: impl Fn() -> bool,
        named: Option<&RedisAddress>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let mut search = self.lock_search();
        if search.is_running {
            while search.is_running {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let waited = self.found.wait_timeout(search, left);
                (search, _) = waited.unwrap_or_else(PoisonError::into_inner);
            }
            return Ok(());
        }
        if is_done() {
            return Ok(());
        }
        search.is_running = true;
        drop(search);
        let began = Instant::now();
        let looked = self.look(named, deadline);
        *self.lock_search() = Search { is_running: false, looked: began };
        self.found.notify_all();
        looked
    }

    fn look(&self, named: Option<&RedisAddress>, deadline: Instant) -> Result<(), Failure> {
        let (owners, known) = match &self.deployment {
            Deployment::Single(address) => (vec![Some(address.clone())], Vec::new()),
            Deployment::Sentinel(sentinels) => {
                let primary = sentinel::find(&self.connector, sentinels, deadline)?;
                (vec![Some(primary)], Vec::new())
            }
            Deployment::Cluster(seeds) => {
                let asked = match named {
                    // It knows that it has the shard.
                    Some(named) => vec![named.clone()],
                    None => self.known(seeds),
                };
                let view = cluster::find(&self.connector, &asked, &self.keys, deadline)?;
                (view.owners, view.nodes)
            }
        };
        self.install(&owners, known);
        Ok(())
    }

    /// The addresses that may lead to the cluster.
    fn known(&self, seeds: &[RedisAddress]) -> Vec<RedisAddress> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let mut known = map.known.clone();
        known.extend_from_slice(seeds);
        known.sort();
        known.dedup();
        known
    }

    fn install(&self, owners: &[Option<RedisAddress>], known: Vec<RedisAddress>) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Map { owners: Vec::new(), nodes: std::mem::take(&mut map.nodes), known };
        for owner in owners {
            let owner = owner.as_ref().map(|address| next.node(address, &self.connector));
            next.owners.push(owner);
        }
        let Map { owners, nodes, .. } = &mut next;
        nodes.retain(|node| {
            let is_owner = |(_, owner): &(Shard, &Option<Arc<Node>>)| {
                owner.as_ref().is_some_and(|owner| owner.address == node.address)
            };
            let first = Shard::all(self.shards()).zip(&*owners).find(is_owner);
            node.set_shard(first.map(|(shard, _)| shard));
            // A former primary may accept writes that its replacement does not have.
            if first.is_none() {
                node.close_all();
            }
            first.is_some()
        });
        *map = next;
    }

    fn lock_search(&self) -> MutexGuard<'_, Search> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map {
    fn node(&mut self, address: &RedisAddress, connector: &Arc<Connector>) -> Arc<Node> {
        if let Some(node) = self.nodes.iter().find(|node| node.address == *address) {
            return Arc::clone(node);
        }
        let node = Arc::new(Node::new(address.clone(), Arc::clone(connector)));
        self.nodes.push(Arc::clone(&node));
        node
    }
}
