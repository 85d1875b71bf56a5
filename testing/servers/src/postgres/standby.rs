//! A synchronous standby of a server.

use anyhow::{Context as _, Result, ensure};

use super::Postgres;
use crate::server::wait_until;

impl Postgres {
    /// Starts a standby with a copy of the data, and lets commits wait for it.
    ///
    /// # Errors
    /// If the copy fails, or if the standby does not start or connect.
    pub fn start_standby(&self) -> Result<Self> {
        let mut standby = Self::prepare(None, self.password.clone())?;
        let slot = format!("standby_{}", self.sql("select count(*) from pg_replication_slots")?);
        let mut copy = self.client("pg_basebackup", self.address());
        copy.arg("--pgdata")
            .arg(standby.server.data())
            .args(["--write-recovery-conf", "--create-slot", "--slot", &slot])
            .args(["--wal-method", "stream", "--checkpoint", "fast", "--no-sync"]);
        standby.run(&mut copy)?;
        standby.launch_on_free_port()?;
        self.set("synchronous_standby_names", "*")?;
        let query = "select count(*) from pg_stat_replication where sync_state = 'sync'";
        wait_until(|| Ok(self.sql(query)? != "0"))
            .with_context(|| format!("the standby is not synchronous:\n{}", standby.log()))?;
        Ok(standby)
    }

    /// Makes a standby a server that accepts writes, and waits until it does. The server
    /// that it followed must not accept writes any more.
    ///
    /// # Errors
    /// If it does not become one.
    pub fn promote(&self) -> Result<()> {
        let promoted = self.sql("select pg_promote(true, 120)")?;
        ensure!(promoted == "t", "the standby was not promoted:\n{}", self.log());
        Ok(())
    }
}
