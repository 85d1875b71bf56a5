//! Verify, on damage that SQL can make.

use storage_core::Problem;

use super::*;

pub(crate) fn problems(store: &PostgresStorage) -> Vec<Problem> {
    let mut problems = Vec::new();
    let verified = store.verify(&mut |problem| problems.push(problem)).unwrap();
    assert_eq!(verified.problems, problems.len() as u64);
    problems
}

#[test]
fn verify_counts_every_key() {
    let Some(schema) = TestSchema::new() else { return };
    let store = schema.open();
    for key in ["app/notes/home/a", "app/notes/home/b", "app/notes/work/a", "unscoped"] {
        store.set(key, "1234".into()).unwrap();
    }
    let verified = store.verify(&mut |problem| panic!("{problem}")).unwrap();
    assert_eq!(verified.usage, store.usage(None).unwrap());
    assert_eq!((verified.usage.keys, verified.components), (4, 2));
}

#[test]
fn verify_finds_wrong_counters_keys_and_revisions() {
    let Some(schema) = TestSchema::new() else { return };
    let store = schema.open();
    for key in ["app/notes/home/a", "app/notes/home/b", "app/notes/work/a", "unscoped"] {
        store.set(key, "1".into()).unwrap();
    }
    let check = |damage: &str, repair: &str, expected: &str| {
        schema.sql(damage);
        let found = problems(&store);
        assert!(found.iter().any(|one| one.to_string().contains(expected)), "{damage}: {found:?}");
        schema.sql(repair);
        assert_eq!(problems(&store), [], "{repair}");
    };
    check(
        "update component set bytes = bytes + 1 where name = 'app/notes/home/'",
        "update component set bytes = bytes - 1 where name = 'app/notes/home/'",
        "usage counter",
    );
    check(
        "update component set keys = 0 where name = 'app/notes/work/'",
        "update component set keys = 1 where name = 'app/notes/work/'",
        "usage counter",
    );
    check(
        "update entry set key = 'p/q/r/s' where key = 'unscoped'",
        "update entry set key = 'unscoped' where key = 'p/q/r/s'",
        "another component",
    );
    check(
        "update entry set key = '\\xff' where key = 'b'",
        "update entry set key = 'b' where key = '\\xff'",
        "not UTF-8",
    );
    check(
        "update entry set revision = revision + 1 where key = 'b'",
        "update entry set revision = revision - 1 where key = 'b'",
        "beyond the last revision",
    );
    check(
        "insert into entry (component, key, revision, value) values (999, 'x', 1, '')",
        "delete from entry where component = 999",
        "no component",
    );
    check(
        "update component set revision = revision + 4000000000000000000 where name = ''",
        "update component set revision = revision - 4000000000000000000 where name = ''",
        "beyond the sequence",
    );
}

#[test]
fn a_damaged_value_is_reported_and_never_returned() {
    let Some(schema) = TestSchema::new() else { return };
    let store = schema.open();
    let large = vec![7; 10_000];
    for key in ["app/notes/home/a", "app/notes/home/b", "app/notes/home/c"] {
        store.set(key, large.clone().into()).unwrap();
    }
    // The parts of long values are in a table of their own, which is protected. Lose a part of
    // the second value.
    schema.sql(
        "set allow_system_table_mods = on;
         do $$ declare parts regclass; begin
            select reltoastrelid::regclass into parts from pg_class where oid = 'entry'::regclass;
            update pg_class set relkind = 'r' where oid = parts;
            execute format('delete from %s where chunk_seq = 1 and chunk_id = (
                select chunk_id from %s group by chunk_id order by chunk_id offset 1 limit 1)',
                parts, parts);
            update pg_class set relkind = 't' where oid = parts;
         end $$",
    );
    // Readers see the lost part until it is removed, which waits for other transactions.
    let deadline = Instant::now() + Duration::from_secs(60);
    let damaged = loop {
        schema.sql("vacuum entry");
        let damaged = store.get("app/notes/home/b");
        if damaged.is_err() || Instant::now() > deadline {
            break damaged;
        }
    };
    let Err(StorageError::Corrupt { key, .. }) = damaged else { panic!("{damaged:?}") };
    assert_eq!(key.as_deref(), Some("app/notes/home/b"));
    assert_eq!(store.get("app/notes/home/c").unwrap(), Some(large.into()));
    let found = problems(&store);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].key.as_deref(), Some("app/notes/home/b"));
    store.delete("app/notes/home/b").unwrap();
    assert_eq!(problems(&store), []);
}
