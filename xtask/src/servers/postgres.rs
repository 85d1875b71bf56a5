//! PostgreSQL: what is installed, and the steps with a server.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::Engine;
use crate::packages;

/// The tests of the host that need a server have its name, and are built once for all servers.
/// The durability suite starts servers of its own.
pub(crate) const POSTGRES: Engine = Engine {
    name: "PostgreSQL",
    feature: "postgres",
    options: &["--postgres"],
    variables: &["STORAGE_TEST_POSTGRES_URL"],
    steps: &[
        "test --package storage-backends --features postgres --lib postgres",
        "test --package storage-backends --features postgres --test postgres",
        "test --package storage-host --features postgres,redis postgres",
        "clippy --package durability --features postgres --all-targets -- -D warnings",
        "run --package durability --features postgres -- --short --engine postgres",
    ],
    install,
};

/// The directory with PostgreSQL's programs, if the user chooses one.
const PROGRAMS: &str = "STORAGE_TEST_POSTGRES_BIN";

/// Where Debian installs each version of the server.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Settings for the server that Debian's package creates when it is installed first.
const SETTINGS: &str = "/etc/postgresql-common/createcluster.d";

fn install() -> Result<()> {
    let mut versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let found = std::env::var_os(PROGRAMS).is_some()
        || packages::is_installed("initdb")
        || versions.any(|version| version.path().join("bin/initdb").is_file());
    if found {
        return Ok(());
    }
    if !packages::can_install() {
        // Fails with the command to run.
        return packages::install(&["postgresql"]);
    }
    // Tests start their own servers. The directory stays, as a part of the package.
    fs::create_dir_all(SETTINGS)?;
    let settings = Path::new(SETTINGS).join("xtask.conf");
    fs::write(&settings, "create_main_cluster = false\n")?;
    let result = packages::install(&["postgresql"]);
    fs::remove_file(&settings)?;
    result
}
