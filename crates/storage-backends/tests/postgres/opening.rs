//! Opening a store: creating it, and what is refused.

use std::thread;

use super::*;

#[test]
fn hosts_that_open_a_new_store_at_once_create_one() {
    let Some(schema) = TestSchema::new() else { return };
    let ids: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| schema.open().store_id().to_owned())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0] && id.len() == 32), "{ids:?}");
}

#[test]
fn a_missing_store_is_not_created_for_reading() {
    let Some(schema) = TestSchema::new() else { return };
    for opened in [
        PostgresStorage::open_read_only(&schema.options),
        PostgresStorage::open_existing(&schema.options),
    ] {
        let error = opened.unwrap_err();
        assert!(matches!(&error, StorageError::IoError(text) if text.contains("has no store")));
    }
    assert_eq!(PostgresStorage::exists(&schema.options), Ok(false));
    schema.open().set("app/notes/home/a", "1".into()).unwrap();
    assert_eq!(PostgresStorage::exists(&schema.options), Ok(true));
    let reader = PostgresStorage::open_read_only(&schema.options).unwrap();
    assert_eq!(reader.get("app/notes/home/a").unwrap(), Some("1".into()));
    assert_eq!(reader.set("app/notes/home/a", "2".into()), Err(StorageError::ReadOnly));
    assert_eq!(reader.usage(None).unwrap().keys, 1);
}

#[test]
fn a_newer_format_and_other_tables_are_refused() {
    let Some(schema) = TestSchema::new() else { return };
    drop(schema.open());
    schema.sql("update store set format = 2");
    let error = PostgresStorage::open(&schema.options).unwrap_err();
    assert!(matches!(&error, StorageError::Unsupported(text) if text.contains("format 2")));

    let Some(schema) = TestSchema::new() else { return };
    let name = &schema.options.schema;
    schema.sql(&format!("create schema {name}; create table {name}.mine (a int)"));
    let error = PostgresStorage::open(&schema.options).unwrap_err();
    assert!(matches!(&error, StorageError::IoError(text) if text.contains("\"mine\"")), "{error}");
    assert_eq!(PostgresStorage::exists(&schema.options), Err(error));
    schema.sql(&format!("drop table {name}.mine; create table {name}.store (a int)"));
    let error = PostgresStorage::open(&schema.options).unwrap_err();
    assert!(matches!(&error, StorageError::IoError(text) if text.contains("\"store\"")), "{error}");
}

#[test]
fn an_existing_schema_that_is_empty_is_used() {
    let Some(schema) = TestSchema::new() else { return };
    schema.sql(&format!("create schema {}", schema.options.schema));
    schema.open().set("app/notes/home/a", "1".into()).unwrap();
}

#[test]
fn unsupported_options_are_refused_without_a_server() {
    let options = PostgresOptions::new("127.0.0.1", "u", "d");
    let opened = PostgresStorage::open(&options.clone().with_durability(Durability::Relaxed));
    assert!(matches!(opened, Err(StorageError::Unsupported(_))));
    let opened = PostgresStorage::open(&options.with_schema("no-such"));
    assert!(matches!(opened, Err(StorageError::Unsupported(_))));
}

#[test]
fn doctor_reports_the_server() {
    let Some(schema) = TestSchema::new() else { return };
    let report = schema.open().inspect().unwrap();
    assert!(report.version.starts_with(|c: char| c.is_ascii_digit()), "{report:?}");
    assert!(report.bytes > 0 && report.latency > Duration::ZERO);
    assert!(report.warnings.iter().any(|one| one.code == "no_synchronous_standby"));
    let options = schema.options.clone().with_durability(Durability::Os);
    let report = PostgresStorage::open(&options).unwrap().inspect().unwrap();
    assert!(report.warnings.iter().any(|one| one.code == "synchronous_commit_off"));
}
