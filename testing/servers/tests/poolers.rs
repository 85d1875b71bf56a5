//! Hosts behind PgBouncer. In transaction mode it gives a connection to another client after
//! each transaction, with the settings of the last one.
#![cfg(unix)]
#![expect(clippy::print_stdout, reason = "test support")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use storage_backends::{Durability, PostgresOptions, PostgresStorage};
use storage_core::{ComponentStorage as _, PageRequest, StorageError};
use test_servers::Postgres;

const KEY: &str = "test/poolers/x/key";
const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A PgBouncer on loopback, which stops when it is dropped.
struct Pooler {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Pooler {
    fn start(server: SocketAddr, mode: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        let everyone = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), everyone).unwrap();
        // The port is free again when the listener is dropped.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let file = directory.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\n",
            server.port(),
            address.port()
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(PROGRAM);
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        let child = command.arg("-q").arg(&file).stdin(Stdio::null()).spawn().unwrap();
        let pooler = Self { child, address, _directory: directory };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(start.elapsed() < Duration::from_secs(60), "PgBouncer does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        pooler
    }

    fn options(&self, schema: &str) -> PostgresOptions {
        PostgresOptions::new("127.0.0.1", "postgres", "postgres")
            .with_port(self.address.port())
            .with_schema(schema)
            .with_pool_size(1)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether to skip a test because this machine has no server or no PgBouncer.
fn skip() -> bool {
    let pooler = || {
        let found = std::path::Path::new(PROGRAM).exists();
        (!found).then(|| format!("{PROGRAM} is missing: install the package pgbouncer"))
    };
    let missing = Postgres::missing().or_else(pooler);
    if let Some(reason) = &missing {
        println!("SKIPPED: {reason}");
    }
    missing.is_some()
}

#[test]
fn a_host_behind_session_mode_works() {
    if skip() {
        return;
    }
    let server = Postgres::start().unwrap();
    let pooler = Pooler::start(server.address(), "session");
    let one = PostgresStorage::open(&pooler.options("one")).unwrap();
    let two = PostgresStorage::open(&pooler.options("two")).unwrap();
    one.set(KEY, "1".into()).unwrap();
    two.set(KEY, "2".into()).unwrap();
    assert_eq!(one.get(KEY).unwrap(), Some("1".into()));
    assert_eq!(two.get(KEY).unwrap(), Some("2".into()));
}

#[test]
fn hosts_behind_transaction_mode_never_use_the_session_of_another() {
    if skip() {
        return;
    }
    let server = Postgres::start().unwrap();
    let pooler = Pooler::start(server.address(), "transaction");
    let one = PostgresStorage::open(&pooler.options("one")).unwrap();
    one.set(KEY, "1".into()).unwrap();
    // The second host gets the connection of the first, and changes its settings.
    let unsynced = pooler.options("two").with_durability(Durability::Os);
    let two = PostgresStorage::open(&unsynced).unwrap();
    two.set(KEY, "2".into()).unwrap();
    for _ in 0..3 {
        let error = one.set(KEY, "lost".into()).unwrap_err();
        assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("session mode") && !text.contains("may or may not"), "{text}");
    }
    // A read does not depend on settings.
    let page = PageRequest::new(10);
    for (store, value) in [(&one, "1"), (&two, "2")] {
        assert_eq!(store.get(KEY).unwrap(), Some(value.into()));
        assert_eq!(store.get_many(&[KEY]).unwrap(), [Some(value.into())]);
        assert_eq!(store.list_page(page).unwrap().keys, [KEY]);
        assert_eq!(store.usage(None).unwrap().keys, 1);
    }
}
