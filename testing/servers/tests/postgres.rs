//! The server does what tests need, and nothing of it stays.
#![cfg(unix)]
#![expect(clippy::print_stdout, reason = "test support")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use test_servers::{Direction, Postgres, Proxy, Tls, Traffic};

/// Whether to skip a test because this machine has no server.
fn skip() -> bool {
    let missing = Postgres::missing();
    if let Some(reason) = &missing {
        println!("SKIPPED: {reason}");
    }
    missing.is_some()
}

/// Waits for something that another process does soon.
fn wait_for(what: &str, mut is_done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn committed_rows_survive_a_kill_and_restarts() {
    if skip() {
        return;
    }
    let mut server = Postgres::start().unwrap();
    server.sql("create table t (n int); insert into t values (1)").unwrap();
    let (url, data) = (server.url(), server.data().to_owned());
    server.kill().unwrap();
    assert!(server.sql("select 1").is_err());
    server.restart().unwrap();
    server.sql("insert into t values (2)").unwrap();
    server.restart().unwrap();
    server.stop().unwrap();
    server.restart().unwrap();
    assert_eq!(server.sql("select n from t order by n").unwrap(), "1\n2");
    assert_eq!(server.url(), url);

    server.set_read_only(true).unwrap();
    let error = server.sql("insert into t values (3)").unwrap_err().to_string();
    assert!(error.contains("read-only transaction"), "{error}");
    server.set_read_only(false).unwrap();
    server.sql("insert into t values (3)").unwrap();

    server.pause().unwrap();
    drop(server);
    assert!(!data.exists(), "the files of a server are removed with it");
}

#[test]
fn options_are_applied() {
    if skip() {
        return;
    }
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let server = Postgres::builder()
        .password("secret")
        .tls(Tls::Required)
        .setting("max_connections", "7")
        .directory(directory.path())
        .start()
        .unwrap();
    let data = server.data().to_owned();
    assert!(data.starts_with(directory.path()));
    let query = "select current_setting('max_connections'), ssl from pg_stat_ssl \
                 where pid = pg_backend_pid()";
    assert_eq!(server.sql(query).unwrap(), "7|t");
    let psql = |variables: &[(&str, &str)]| {
        let mut command = Command::new(Postgres::programs().unwrap().join("psql"));
        command.args(["-X", "-w", "-c", "select 1", &server.url()]);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let certificate = server.certificate().display().to_string();
    let verified = [("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", certificate.as_str())];
    assert_eq!(psql(&verified), (true, String::new()));
    let (connected, error) = psql(&[("PGSSLMODE", "disable")]);
    assert!(!connected && error.contains("no encryption"), "{error}");
    let wrong = server.url().replace("secret", "guess");
    let output = Command::new("psql").args(["-X", "-w", &wrong]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("password authentication failed"));
    drop(server);
    assert!(!data.exists());
}

#[test]
fn a_full_disk_gets_more_space() {
    if skip() || !rustix::process::geteuid().is_root() {
        return;
    }
    let server = Postgres::builder().tmpfs("80m").start().unwrap();
    server.sql("create table t (n bytea); alter table t alter n set storage external").unwrap();
    let fill =
        "insert into t select decode(repeat('00', 1000000), 'hex') from generate_series(1, 100)";
    let error = server.sql(fill).unwrap_err().to_string();
    assert!(error.contains("No space left on device"), "{error}");
    server.resize("400m").unwrap();
    let data = server.data().to_owned();
    wait_for("the server works again", || server.sql("insert into t values ('x')").is_ok());
    drop(server);
    assert!(!data.exists());
}

#[test]
fn a_standby_has_every_acknowledged_row() {
    if skip() {
        return;
    }
    let mut server = Postgres::start().unwrap();
    let standby = server.start_standby().unwrap();
    server.sql("create table t (n int); insert into t values (1)").unwrap();
    server.kill().unwrap();
    let error = standby.sql("insert into t values (2)").unwrap_err().to_string();
    assert!(error.contains("read-only"), "{error}");
    standby.promote().unwrap();
    drop(server);
    // The next standby is one of the promoted server.
    let next = standby.start_standby().unwrap();
    standby.sql("insert into t values (2)").unwrap();
    drop(standby);
    next.promote().unwrap();
    assert_eq!(next.sql("select n from t order by n").unwrap(), "1\n2");
}

#[test]
fn nothing_stays_of_a_killed_test_process() {
    if skip() {
        return;
    }
    let mut process = Command::new(env!("CARGO_BIN_EXE_test-servers"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim_end().strip_prefix("STORAGE_TEST_POSTGRES_URL=").unwrap();
    let psql = Command::new("psql").args(["-XAtc", "show data_directory", url]).output().unwrap();
    let data = PathBuf::from(String::from_utf8(psql.stdout).unwrap().trim_end());
    let text = std::fs::read_to_string(data.join("postmaster.pid")).unwrap();
    let server = text.lines().next().unwrap();
    let server = Path::new("/proc").join(server);
    assert!(server.exists());
    process.kill().unwrap();
    process.wait().unwrap();
    let directory = data.parent().unwrap();
    wait_for("the files are removed", || !directory.exists());
    wait_for("the server ends", || {
        let stat = std::fs::read_to_string(server.join("stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
}

#[test]
fn a_proxy_counts_and_disturbs() {
    if skip() {
        return;
    }
    let mut server = Postgres::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let through = |sql: &str| server.sql_at(proxy.address(), sql);
    server.sql("create table t (n int)").unwrap();
    assert_eq!(through("select 1").unwrap(), "1");
    let traffic = Traffic { round_trips: vec![1], cancel_requests: 0 };
    assert_eq!(proxy.traffic(), traffic);

    proxy.refuse();
    let error = through("select 1").unwrap_err().to_string();
    assert!(error.contains("Connection refused"), "{error}");
    proxy.accept();

    // The server has committed, but the client does not learn that.
    proxy.cut_reply_to("insert");
    let error = through("insert into t values (1)").unwrap_err().to_string();
    assert!(error.contains("closed the connection unexpectedly"), "{error}");
    assert_eq!(server.sql("select n from t").unwrap(), "1");

    proxy.delay(Direction::Replies, Duration::from_millis(20));
    let start = Instant::now();
    assert_eq!(through("select 2").unwrap(), "2");
    assert!(start.elapsed() >= Duration::from_millis(20));
    proxy.delay(Direction::Replies, Duration::ZERO);

    // A reply that comes late, and one that never comes.
    for comes in [true, false] {
        proxy.hold(Direction::Replies);
        std::thread::scope(|scope| {
            let before = proxy.traffic().round_trips.len();
            let client = scope.spawn(|| through("insert into t values (2)"));
            wait_for("the client connects", || proxy.traffic().round_trips.len() > before);
            if comes {
                proxy.release()
            } else {
                proxy.cut()
            }
            assert_eq!(client.join().unwrap().is_ok(), comes);
        });
        proxy.release();
    }

    let other = Postgres::start().unwrap();
    proxy.redirect(other.address());
    server.kill().unwrap();
    let same = format!("current_setting('port') = '{}'", other.address().port());
    assert_eq!(other.sql_at(proxy.address(), &format!("select {same}")).unwrap(), "t");
}
