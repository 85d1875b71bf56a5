//! Hosts behind PgBouncer. In transaction mode it gives a connection to another client after
//! each transaction, with the settings of the last one.
#![cfg(unix)]
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "test support")]

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use storage_backends::{Durability, PostgresOptions, PostgresStorage};
use storage_core::{ComponentStorage as _, PageRequest, StorageError, StorageValue};
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
    let direct = |schema: &str| {
        let options = pooler.options(schema).with_port(server.address().port());
        PostgresStorage::open(&options).unwrap()
    };
    let stores = [direct("one"), direct("two")];
    let one = PostgresStorage::open(&pooler.options("one")).unwrap();
    let refused = Cell::new(0);
    let mut last = [None, None];
    for round in 0..10 {
        // It may get the connection of the first host, whose settings it then changes.
        let unsynced = pooler.options("two").with_durability(Durability::Os);
        let two = attempt(&refused, PostgresStorage::open(&unsynced));
        for (n, host) in [(0, Some(&one)), (1, two.as_ref())] {
            let Some(host) = host else { continue };
            let value = StorageValue::from(format!("{n} in round {round}").as_str());
            if attempt(&refused, host.set(KEY, value.clone())).is_some() {
                last[n] = Some(value);
            }
            assert_eq!(stores.each_ref().map(|store| store.get(KEY).unwrap()), last);
            if let Some(found) = attempt(&refused, host.get(KEY)) {
                assert_eq!(found, last[n]);
            }
            if let Some(page) = attempt(&refused, host.list_page(PageRequest::new(10))) {
                assert_eq!(page.keys.len(), usize::from(last[n].is_some()));
            }
        }
    }
    assert!(refused.get() > 0, "no connection served two hosts");
}

/// The result of a call, unless it was refused because of the pooler.
fn attempt<T>(refused: &Cell<u32>, result: Result<T, StorageError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("session mode") && !text.contains("may or may not"), "{text}");
            refused.set(refused.get() + 1);
            None
        }
    }
}
