//! Redis: what is installed, and the steps with a server, a cluster and sentinels.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, anyhow};

use super::Engine;
use crate::packages;

/// The tests of the host that need a server have its name. Syncing every write would take
/// minutes; the tests that need it, and the durability suite, start servers of their own.
pub(crate) const REDIS: Engine = Engine {
    name: "Redis",
    feature: "redis",
    options: &["--redis", "--redis-cluster", "--redis-sentinel", "--set", "appendfsync=everysec"],
    variables: &[
        "STORAGE_TEST_REDIS_URL",
        "STORAGE_TEST_REDIS_CLUSTER_URL",
        "STORAGE_TEST_REDIS_SENTINEL_URL",
    ],
    steps: &[
        "test --package storage-backends --features redis --lib redis",
        "test --package storage-backends --features redis --test redis",
        "test --package storage-host --features postgres,redis redis",
        "clippy --package durability --features redis --all-targets -- -D warnings",
        "run --package durability --features redis -- --short --engine redis",
    ],
    install,
};

/// The directory with the programs of Redis or Valkey, if the user chooses one.
const PROGRAMS: &str = "STORAGE_TEST_REDIS_BIN";

/// The names of the server.
const SERVERS: [&str; 2] = ["redis-server", "valkey-server"];

const PACKAGE: &str = "redis-server";

/// Decides for Debian's packages whether their services may start.
const POLICY: &str = "/usr/sbin/policy-rc.d";

fn install() -> Result<()> {
    let found = std::env::var_os(PROGRAMS).is_some()
        || SERVERS.iter().any(|program| packages::is_installed(program));
    if found {
        return Ok(());
    }
    if !packages::can_install() {
        // Fails with the command to run.
        return packages::install(&[PACKAGE]);
    }
    without_services(Path::new(POLICY), || packages::install(&[PACKAGE]))?;
    // Otherwise the service of the package would start with the machine. Tests start their
    // own servers. Without systemd there is nothing to disable.
    let _ = Command::new("systemctl").args(["disable", "--quiet", PACKAGE]).output();
    Ok(())
}

/// Runs an installation that starts no service, unless the machine has rules of its own.
fn without_services(policy: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    if policy.exists() {
        return install();
    }
    // 101 says that the action is not allowed.
    fs::write(policy, "#!/bin/sh\nexit 101\n")?;
    let made = Command::new("chmod").arg("755").arg(policy).status();
    let result = match made.is_ok_and(|status| status.success()) {
        true => install(),
        false => Err(anyhow!("cannot make {} executable", policy.display())),
    };
    fs::remove_file(policy)?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_forbidden_while_packages_are_installed() {
        let directory = tempfile::tempdir().unwrap();
        let policy = directory.path().join("policy-rc.d");
        for succeeds in [true, false] {
            let result = without_services(&policy, || {
                let status = Command::new(&policy).args(["redis-server", "start"]).status()?;
                assert_eq!(status.code(), Some(101));
                if succeeds { Ok(()) } else { Err(anyhow!("no network")) }
            });
            assert_eq!(result.is_ok(), succeeds);
            assert!(!policy.exists());
        }
        fs::write(&policy, "rules of the machine").unwrap();
        without_services(&policy, || Ok(())).unwrap();
        assert_eq!(fs::read_to_string(&policy).unwrap(), "rules of the machine");
    }
}
