//! A PostgreSQL server that is killed, fails over or loses its power while hosts write, and
//! hosts that are killed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use test_servers::{Postgres, Proxy};

use crate::engine::{Engine, Mode};
use crate::power;
use crate::report::{Fault, Outcome};
use crate::scratch::{Disk, FileSystem, PowerSwitch, Scratch};
use crate::trial::{Expected, Series, Target};
use crate::worker::Worker;

/// Settings of a server on a disk that is cut off. Its images are small.
const ON_DISK: [(&str, &str); 4] = [
    ("max_wal_size", "64MB"),
    ("min_wal_size", "32MB"),
    ("autovacuum_naptime", "5s"),
    ("checkpoint_timeout", "30s"),
];

/// The schema of the store.
const SCHEMA: &str = "durability";

/// How long the connections of killed hosts may take to end.
const LIMIT: Duration = Duration::from_secs(60);

/// What happens at the end of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// The process that writes is killed.
    HostKill,
    /// All processes of the server are killed. Sometimes it starts again while hosts write.
    ServerKill,
    /// The server is killed, and its synchronous standby takes over.
    Failover,
    /// The disk with the server's data loses what was not synced.
    PowerCut(FileSystem),
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
        if let Some(reason) = Postgres::missing().or(cannot) {
            println!("  SKIPPED: {reason}");
            return Ok(Outcome::Skipped);
        }
        let unit = match disturbance {
            Disturbance::HostKill | Disturbance::ServerKill => "kills",
            Disturbance::Failover => "failovers",
            Disturbance::PowerCut(_) => "cuts",
        };
        let expected = match (mode, disturbance) {
            (Mode::Sync, _) | (Mode::Relaxed, Disturbance::HostKill) => Expected::Survival,
            (Mode::Relaxed, _) => Expected::Loss(&[Fault::Lost]),
        };
        let series = Series { engine: Engine::Postgres, mode, rounds, seed, unit, expected, keep };
        series.run(scratch, &mut StoreOnServer::create(scratch, disturbance)?)
    }
}

/// A store on a server of its own.
struct StoreOnServer<'a> {
    scratch: &'a Scratch,
    disturbance: Disturbance,
    // Servers end before their disk is unmounted.
    server: Postgres,
    standby: Option<Postgres>,
    disk: Option<Disk>,
    /// Hosts connect here; a failover changes where it leads.
    proxy: Option<Proxy>,
    switch: Option<PowerSwitch>,
}

impl<'a> StoreOnServer<'a> {
    fn create(scratch: &'a Scratch, disturbance: Disturbance) -> Result<Self> {
        let mut builder = Postgres::builder();
        let mut disk = None;
        if let Disturbance::PowerCut(file_system) = disturbance {
            let created = Disk::create(scratch, file_system)?;
            builder = builder.directory(&created.root);
            for (name, value) in ON_DISK {
                builder = builder.setting(name, value);
            }
            disk = Some(created);
        }
        let server = builder.start()?;
        create_store(&server)?;
        let (mut standby, mut proxy) = (None, None);
        if disturbance == Disturbance::Failover {
            standby = Some(server.start_standby()?);
            proxy = Some(Proxy::start(server.address())?);
        }
        Ok(Self { scratch, disturbance, server, standby, disk, proxy, switch: None })
    }

    /// In half of the rounds hosts work with the server that has recovered.
    fn let_hosts_continue(random: &mut Rng) {
        if random.bool() {
            std::thread::sleep(Duration::from_micros(random.u64(0..300_000)));
        }
    }

    fn fail_over(&mut self, worker: Worker, random: &mut Rng) -> Result<()> {
        let standby = self.standby.take().context("there is no standby")?;
        self.server.kill()?;
        standby.promote()?;
        let proxy = self.proxy.as_ref().context("there is no proxy")?;
        proxy.redirect(standby.address());
        proxy.cut();
        Self::let_hosts_continue(random);
        worker.kill()?;
        self.server = standby;
        wait_for_hosts(&self.server)?;
        self.standby = Some(self.server.start_standby()?);
        Ok(())
    }

    fn cut(&mut self, worker: Worker, log: &Path) -> Result<()> {
        self.switch.take().context("the power cut was not prepared")?.cut(log)?;
        worker.kill()?;
        self.server.kill()?;
        self.disk.as_mut().context("the server has no disk")?.remount()?;
        self.server.restart()
    }
}

impl Target for StoreOnServer<'_> {
    fn name(&self) -> String {
        match self.disturbance {
            Disturbance::HostKill => "host".to_owned(),
            Disturbance::ServerKill => "server".to_owned(),
            Disturbance::Failover => "standby".to_owned(),
            Disturbance::PowerCut(file_system) => file_system.name().to_owned(),
        }
    }

    fn rounds_per_store(&self) -> u64 {
        // A disk becomes full.
        if self.disk.is_some() { 15 } else { 40 }
    }

    fn start_over(&mut self) -> Result<()> {
        self.server.kill()?;
        if let Some(disk) = &mut self.disk {
            disk.umount()?;
        }
        *self = Self::create(self.scratch, self.disturbance)?;
        Ok(())
    }

    fn store(&self) -> PathBuf {
        let proxy = self.proxy.as_ref().map(Proxy::address);
        path(&self.server.url_at(proxy.unwrap_or(self.server.address())))
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
        wait_for_hosts(&self.server)
    }

    fn disturb(&mut self, worker: Worker, log: &Path, random: &mut Rng) -> Result<()> {
        match self.disturbance {
            Disturbance::HostKill => worker.kill()?,
            Disturbance::ServerKill => {
                self.server.kill()?;
                self.server.restart()?;
                Self::let_hosts_continue(random);
                worker.kill()?;
            }
            Disturbance::Failover => self.fail_over(worker, random)?,
            Disturbance::PowerCut(_) => self.cut(worker, log)?,
        }
        wait_for_hosts(&self.server)
    }
}

/// The path of a store as [`Engine::open`] names it.
fn path(url: &str) -> PathBuf {
    let (_, rest) = url.split_once(':').unwrap_or_default();
    format!("{rest}?schema={SCHEMA}").into()
}

/// Creates the store of a server, and returns its path. Its revisions do not continue at the
/// clock, which would hide a counter that has fallen behind.
pub(crate) fn create_store(server: &Postgres) -> Result<PathBuf> {
    let path = path(&server.url());
    drop(Engine::Postgres.open(Mode::Sync, &path)?);
    let function = format!("{SCHEMA}.advance_revisions_v1()");
    server.sql(&format!(
        "do $$ declare
             now constant text := 'clock_timestamp()';
             source constant text := pg_get_functiondef('{function}'::regprocedure);
         begin
             assert position(now in source) > 0, 'the clock is not used';
             execute replace(source, now, 'to_timestamp(0)');
         end $$"
    ))?;
    Ok(path)
}

/// Waits until no host is connected. A killed host may have sent a commit that the server
/// still applies.
pub(crate) fn wait_for_hosts(server: &Postgres) -> Result<()> {
    let query = "select count(*) from pg_stat_activity \
                 where backend_type = 'client backend' and pid <> pg_backend_pid()";
    let start = Instant::now();
    while server.sql(query)? != "0" {
        ensure!(start.elapsed() < LIMIT, "the server keeps the connections of killed hosts");
    }
    Ok(())
}
