//! What goes wrong with a server, in words and in bounded time.

use std::io::Read as _;
use std::net::TcpListener;
use std::thread;

use super::*;

const KEY: &str = "app/notes/home/a";

/// The message of an opening that must fail.
#[track_caller]
fn refused(options: &PostgresOptions) -> String {
    let began = Instant::now();
    let error = PostgresStorage::open(options).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(30), "{error}");
    error.to_string()
}

#[test]
fn a_server_that_is_not_there_is_named() {
    // The port is free again when the listener is dropped.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = PostgresOptions::new("127.0.0.1", "ada", "d").with_port(port);
    let message = refused(&options.clone().with_password("secret"));
    assert!(message.contains(&format!("cannot connect to PostgreSQL at 127.0.0.1:{port}")));
    assert!(!message.contains("secret"));
    let mut elsewhere = options;
    elsewhere.host = "no-such-host.invalid".into();
    let message = refused(&elsewhere);
    assert!(message.contains("cannot connect to PostgreSQL at no-such-host.invalid"), "{message}");
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = PostgresOptions::new("127.0.0.1", "ada", "d")
        .with_port(listener.local_addr().unwrap().port())
        .with_connect_timeout(Duration::from_millis(200));
    let message = refused(&options);
    assert!(message.contains("could not be connected to within 0.2 s"), "{message}");
}

#[test]
fn something_that_is_no_server_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = thread::spawn(move || {
        use std::io::Write as _;
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 100]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let options = PostgresOptions::new("127.0.0.1", "ada", "d")
        .with_port(port)
        .with_connect_timeout(Duration::from_secs(2));
    refused(&options);
    refused(&options.with_tls(storage_backends::TlsMode::Disable));
    answer.join().unwrap();
}

#[test]
fn a_missing_database_and_a_missing_user_are_named() {
    let Some(schema) = TestSchema::new() else { return };
    let options = &schema.options;
    let mut missing = options.clone();
    missing.database = "no_such".into();
    let message = refused(&missing);
    assert!(message.contains("has no database \"no_such\""), "{message}");
    let mut missing = options.clone();
    missing.user = "no_such".into();
    let message = refused(&missing);
    assert!(message.contains("\"no_such\""), "{message}");
}

#[test]
fn a_server_without_tls_is_refused_if_it_is_required() {
    let Some(schema) = TestSchema::new() else { return };
    let with_tls = schema.with_client(async |client| {
        let row = client.query_one("select current_setting('ssl')", &[]).await.unwrap();
        row.get::<_, String>(0) == "on"
    });
    if with_tls {
        eprintln!("SKIPPED: the server offers TLS");
        return;
    }
    let options = schema.options.clone().with_tls(storage_backends::TlsMode::Require);
    let message = refused(&options);
    assert!(message.contains("does not offer TLS"), "{message}");
}

#[test]
fn a_cut_connection_is_replaced() {
    let Some(schema) = TestSchema::new() else { return };
    let mut options = schema.options.clone();
    options.pool_size = 1;
    let store = PostgresStorage::open(&options).unwrap();
    store.set(KEY, "1".into()).unwrap();
    let cut = &schema.cut_connections();
    for _ in 0..3 {
        schema.sql(cut);
        assert_eq!(store.get(KEY).unwrap(), Some("1".into()));
        schema.sql(cut);
        store.set(KEY, "1".into()).unwrap();
    }
}

#[test]
fn a_lock_that_is_held_too_long_is_an_error_that_changes_nothing() {
    let Some(schema) = TestSchema::new() else { return };
    let mut options = schema.options.clone();
    options.statement_timeout = Duration::from_millis(500);
    let store = PostgresStorage::open(&options).unwrap();
    store.set(KEY, "1".into()).unwrap();
    schema.with_client(async |client| {
        client
            .batch_execute(
                "begin; select 1 from component where name = 'app/notes/home/' for update",
            )
            .await
            .unwrap();
        let began = Instant::now();
        let error = store.set(KEY, "2".into()).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(10));
        let StorageError::Unavailable { detail, .. } = &error else { panic!("{error}") };
        assert!(!detail.contains("may or may not"), "{detail}");
        // Reads and other components do not wait.
        assert_eq!(store.get(KEY).unwrap(), Some("1".into()));
        store.set("app/notes/work/a", "1".into()).unwrap();
        client.batch_execute("rollback").await.unwrap();
    });
    assert_eq!(store.get(KEY).unwrap(), Some("1".into()));
    store.set(KEY, "2".into()).unwrap();
}

#[test]
fn a_read_only_server_is_an_error() {
    let Some(schema) = TestSchema::new() else { return };
    let store = schema.open();
    store.set(KEY, "1".into()).unwrap();
    // What a standby answers: the function writes in a read-only transaction.
    schema.sql(
        "create or replace function lock_component_v1(p_name bytea, out v_id bigint,
            out v_bytes bigint, out v_keys bigint, out v_revision bigint)
         language plpgsql as $$ begin raise sqlstate '25006'; end $$",
    );
    let error = store.set("app/notes/new/a", "1".into()).unwrap_err();
    assert!(error.to_string().contains("is read-only"), "{error}");
}

#[test]
fn a_store_that_was_replaced_is_not_written_to() {
    let Some(schema) = TestSchema::new() else { return };
    let mut options = schema.options.clone();
    options.pool_size = 2;
    let store = PostgresStorage::open(&options).unwrap();
    store.set(KEY, "1".into()).unwrap();
    schema.sql("update store set store_id = 'another'");
    // Another connection finds another store.
    let second = store.read_snapshot("", None, &mut |_, _| store.get(KEY).map(drop));
    let error = second.unwrap_err();
    assert!(error.to_string().contains("was replaced"), "{error}");
}

#[test]
fn all_connections_in_use_is_an_error_after_the_total_time() {
    let Some(schema) = TestSchema::new() else { return };
    let mut options = schema.options.clone();
    options.pool_size = 1;
    options.total_timeout = Duration::from_millis(300);
    let store = PostgresStorage::open(&options).unwrap();
    store.set(KEY, "1".into()).unwrap();
    let error = store.read_snapshot("", None, &mut |_, _| store.get(KEY).map(drop)).unwrap_err();
    assert!(error.to_string().contains("was free for 0.3 s"), "{error}");
    assert_eq!(store.get(KEY).unwrap(), Some("1".into()));
}

#[test]
fn a_session_with_other_settings_is_not_written_in() {
    let Some(schema) = TestSchema::new() else { return };
    drop(schema.open());
    let call = "write_v1('sync-1', 'app/notes/home/', 'a', '1', null, null)";
    let many = "write_many_v1('sync-1', '', array['a'::bytea], array['1'::bytea], \
                array[null::bigint], array[null::bigint])";
    let commit = "commit_v1('sync-1', array[''::bytea], '{0}', '{0}', '{0}', array[null::bigint], \
                  array[null::bigint], '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')";
    schema.with_client(async |client| {
        let own = "set storage.session = 'sync-1'";
        for (settings, is_refused) in [
            ("select 1", true),
            ("set storage.session = 'sync-2'", true),
            (own, false),
            ("set synchronous_commit = off", true),
            ("set synchronous_commit = local", true),
            ("set synchronous_commit = remote_apply", false),
            ("discard all", true),
        ] {
            client.batch_execute(settings).await.unwrap();
            for call in [call, many, commit] {
                let name = &schema.options.schema;
                let result = client.batch_execute(&format!("select from {name}.{call}")).await;
                assert_eq!(result.is_err(), is_refused, "{settings}: {call}: {result:?}");
            }
        }
    });
}

#[test]
fn a_schema_with_the_name_of_a_reserved_word_works() {
    let Some(mut schema) = TestSchema::new() else { return };
    schema.options.schema = "table".to_owned();
    let store = schema.open();
    store.set(KEY, "1".into()).unwrap();
    assert_eq!(store.get(KEY).unwrap(), Some("1".into()));
    assert_eq!(verifying::problems(&store), []);
}

#[test]
fn an_inspection_that_fails_leaves_no_transaction() {
    let Some(schema) = TestSchema::new() else { return };
    let mut options = schema.options.clone();
    options.pool_size = 1;
    options.statement_timeout = Duration::from_millis(500);
    let store = PostgresStorage::open(&options).unwrap();
    store.set(KEY, "1".into()).unwrap();
    schema.with_client(async |client| {
        client.batch_execute("begin; lock table entry in access exclusive mode").await.unwrap();
        store.inspect().unwrap_err();
        client.batch_execute("rollback").await.unwrap();
    });
    store.set(KEY, "2".into()).unwrap();
    assert_eq!(store.get(KEY).unwrap(), Some("2".into()));
}
