//! Servers and clusters whose acknowledged writes must survive a disturbance.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use test_servers::{Direction, Proxy, Redis, RedisCluster};

use super::location::Location;
use super::wait_for_hosts;
use crate::engine::{Engine, Mode};
use crate::power;
use crate::report::{Fault, Outcome};
use crate::scratch::{Disk, FileSystem, PowerSwitch, Scratch};
use crate::trial::{Expected, Series, Target};
use crate::worker::Worker;

/// The components of the workload whose slots move, and the one of unscoped keys.
const PREFIXES: [&str; 5] = ["dur/app/c0/", "dur/app/c1/", "dur/app/c2/", "dur/app/c3/", ""];

/// The limit for replies through a disturbed network, so that some calls exceed it.
const IMPATIENT: Duration = Duration::from_millis(500);

/// What happens at the end of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// The process that writes is killed.
    HostKill,
    /// The server is killed. Sometimes it starts again while hosts write.
    ServerKill,
    /// The disk with the server's data loses what was not synced.
    PowerCut(FileSystem),
    /// Slots of a cluster move to other nodes, and a replica takes over from its primary while
    /// both run.
    Resharding,
    /// The network between hosts and server delays, holds back and cuts.
    Network,
}

/// A series of disturbances.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Servers<'a> {
    pub(crate) mode: Mode,
    pub(crate) rounds: u64,
    pub(crate) seed: u64,
    /// Where to keep the logs of rounds with a finding.
    pub(crate) keep: Option<&'a Path>,
}

impl Servers<'_> {
    pub(crate) fn run(self, scratch: &Scratch, disturbance: Disturbance) -> Result<Outcome> {
        let Self { mode, rounds, seed, keep } = self;
        let cannot = match disturbance {
            Disturbance::PowerCut(_) => power::cannot(scratch),
            _ => None,
        };
        if let Some(reason) = Redis::missing().or(cannot) {
            println!("  SKIPPED: {reason}");
            return Ok(Outcome::Skipped);
        }
        let unit = match disturbance {
            Disturbance::HostKill | Disturbance::ServerKill => "kills",
            Disturbance::PowerCut(_) => "cuts",
            Disturbance::Resharding | Disturbance::Network => "rounds",
        };
        let expected = match (mode, disturbance) {
            (Mode::Relaxed, Disturbance::PowerCut(_)) => Expected::Loss(&[Fault::Lost]),
            // The operating system still writes most of what the server did not sync.
            (Mode::Relaxed, Disturbance::ServerKill) => Expected::Only(&[Fault::Lost]),
            _ => Expected::Survival,
        };
        let series = Series { engine: Engine::Redis, mode, rounds, seed, unit, expected, keep };
        series.run(scratch, &mut StoreOnServers::create(scratch, mode, disturbance)?)
    }
}

/// A store on servers of its own.
struct StoreOnServers<'a> {
    scratch: &'a Scratch,
    mode: Mode,
    disturbance: Disturbance,
    // Servers end before their disk is unmounted.
    servers: Deployed,
    disk: Option<Disk>,
    switch: Option<PowerSwitch>,
}

enum Deployed {
    One(Redis),
    /// Hosts reach the server through the proxy.
    Behind(Proxy, Redis),
    Cluster(RedisCluster),
}

impl Deployed {
    fn all(&self) -> &[Redis] {
        match self {
            Self::One(server) | Self::Behind(_, server) => std::slice::from_ref(server),
            Self::Cluster(cluster) => cluster.nodes(),
        }
    }

    fn location(&self) -> Location {
        match self {
            Self::One(server) => Location::single(server.address()),
            Self::Behind(proxy, _) => Location::single(proxy.address()).with_reply_limit(IMPATIENT),
            Self::Cluster(cluster) => Location::cluster(cluster),
        }
    }

    fn server_mut(&mut self) -> Result<&mut Redis> {
        match self {
            Self::One(server) | Self::Behind(_, server) => Ok(server),
            Self::Cluster(cluster) => cluster.node_mut(0),
        }
    }
}

impl<'a> StoreOnServers<'a> {
    fn create(scratch: &'a Scratch, mode: Mode, disturbance: Disturbance) -> Result<Self> {
        let policy = match mode {
            Mode::Sync => "always",
            Mode::Relaxed => "everysec",
        };
        let mut builder = Redis::builder().setting("appendfsync", policy);
        let mut disk = None;
        if let Disturbance::PowerCut(file_system) = disturbance {
            let created = Disk::create(scratch, file_system)?;
            builder = builder.directory(&created.root);
            disk = Some(created);
        }
        let servers = match disturbance {
            Disturbance::Resharding => Deployed::Cluster(RedisCluster::with(builder)?),
            Disturbance::Network => {
                let server = builder.start()?;
                Deployed::Behind(Proxy::start(server.address())?, server)
            }
            _ => Deployed::One(builder.start()?),
        };
        Ok(Self { scratch, mode, disturbance, servers, disk, switch: None })
    }

    fn kill_server(&mut self, random: &mut Rng) -> Result<()> {
        let server = self.servers.server_mut()?;
        server.kill()?;
        server.restart()?;
        // In half of the rounds hosts work with the server that has recovered.
        if random.bool() {
            std::thread::sleep(Duration::from_micros(random.u64(0..300_000)));
        }
        Ok(())
    }

    fn cut(&mut self, worker: Worker, log: &Path) -> Result<()> {
        self.switch.take().context("the power cut was not prepared")?.cut(log)?;
        worker.kill()?;
        self.servers.server_mut()?.kill()?;
        self.disk.as_mut().context("the server has no disk")?.remount()?;
        self.servers.server_mut()?.restart()
    }

    /// Moves the slots of some components, or changes the primary of one.
    fn reshard(&self, random: &mut Rng) -> Result<()> {
        let Deployed::Cluster(cluster) = &self.servers else { return Ok(()) };
        let slot = slot_of(cluster, random.choice(PREFIXES).unwrap_or_default())?;
        if random.u32(0..4) == 0 {
            cluster.fail_over(cluster.owner(slot)?)?;
            return Ok(());
        }
        let mut primaries = Vec::new();
        for prefix in PREFIXES {
            primaries.push(cluster.owner(slot_of(cluster, prefix)?)?);
        }
        for first in [0, 5461, 10923] {
            primaries.push(cluster.owner(first)?);
        }
        let owner = cluster.owner(slot)?;
        primaries.retain(|primary| *primary != owner);
        let to = random.choice(primaries).context("the cluster has one primary")?;
        cluster.move_slots(slot..=slot, to)
    }

    fn disturb_network(&self, random: &mut Rng) {
        let Deployed::Behind(proxy, _) = &self.servers else { return };
        for _ in 0..random.u32(2..6) {
            let direction = if random.bool() { Direction::Requests } else { Direction::Replies };
            match random.u32(0..5) {
                0 => proxy.delay(direction, Duration::from_millis(random.u64(1..40))),
                1 => proxy.cut(),
                2 => {
                    proxy.hold(direction);
                    std::thread::sleep(IMPATIENT.mul_f64(random.f64() * 2.0));
                    // What was held back arrives, or is lost.
                    if random.bool() {
                        proxy.cut();
                    }
                    proxy.release();
                }
                3 => proxy.cut_reply_to("EVALSHA"),
                _ => {
                    proxy.refuse();
                    proxy.cut();
                    std::thread::sleep(Duration::from_millis(random.u64(0..200)));
                    proxy.accept();
                }
            }
            std::thread::sleep(Duration::from_millis(random.u64(0..150)));
        }
        for direction in [Direction::Requests, Direction::Replies] {
            proxy.delay(direction, Duration::ZERO);
        }
        proxy.keep_replies();
    }
}

/// The slot of a component, whose shard is the low byte of its own slot.
pub(super) fn slot_of(cluster: &RedisCluster, prefix: &str) -> Result<u16> {
    let [_, shard] = cluster.slot(prefix)?.to_be_bytes();
    let tag = format!("{}:{shard:02x}", storage_backends::RedisOptions::DEFAULT_PREFIX);
    cluster.slot(&tag)
}

impl Target for StoreOnServers<'_> {
    fn name(&self) -> String {
        match self.disturbance {
            Disturbance::HostKill => "host".to_owned(),
            Disturbance::ServerKill => "server".to_owned(),
            Disturbance::PowerCut(file_system) => file_system.name().to_owned(),
            Disturbance::Resharding => "slots".to_owned(),
            Disturbance::Network => "network".to_owned(),
        }
    }

    fn rounds_per_store(&self) -> u64 {
        // A disk becomes full.
        if self.disk.is_some() { 15 } else { 40 }
    }

    fn start_over(&mut self) -> Result<()> {
        if self.disk.is_some() {
            self.servers.server_mut()?.kill()?;
        }
        if let Some(disk) = &mut self.disk {
            disk.umount()?;
        }
        *self = Self::create(self.scratch, self.mode, self.disturbance)?;
        Ok(())
    }

    fn store(&self) -> PathBuf {
        // A location of numbers and names is always text.
        self.servers.location().path().unwrap_or_default()
    }

    fn longest_work(&self) -> Duration {
        // Connections have to be opened first.
        Duration::from_millis(600)
    }

    fn recovers(&self) -> bool {
        true
    }

    fn prepare(&mut self) -> Result<()> {
        self.switch = self.disk.as_ref().map(Disk::switch).transpose()?;
        Ok(())
    }

    fn wait_for_killed(&self) -> Result<()> {
        wait_for_hosts(self.servers.all())
    }

    fn disturb(&mut self, worker: Worker, log: &Path, random: &mut Rng) -> Result<()> {
        match self.disturbance {
            Disturbance::PowerCut(_) => self.cut(worker, log)?,
            Disturbance::HostKill => worker.kill()?,
            Disturbance::ServerKill => {
                self.kill_server(random)?;
                worker.kill()?;
            }
            Disturbance::Resharding => {
                self.reshard(random)?;
                worker.kill()?;
            }
            Disturbance::Network => {
                self.disturb_network(random);
                worker.kill()?;
            }
        }
        wait_for_hosts(self.servers.all())
    }
}
