//! A component among the keys of many others.

use std::ops::Range;
use std::time::Instant;

use anyhow::{Result, ensure};
use benches::measure::{Plan, compare, together};
use benches::report::{Row, Target, comparisons};
use storage_backends::PostgresStorage;
use storage_core::{Commit, ComponentStorage as _, PageRequest, StorageValue, Store as _};

use crate::{SCHEMA, Server, VALUE};

/// In the middle of the others.
const COMPONENT: &str = "bench/app/050000x/";
const KEYS: usize = 1_000;
const PAGE: usize = 100;
const FOREIGN_KEYS_OF_EACH: usize = 10;
const LOADERS: usize = 8;

/// Measures everything, and returns a table and a line.
pub(crate) fn measure(server: &Server<'_>) -> Result<String> {
    let components = server.size.pick(100_000, 2_000);
    {
        let (alone, among) = (server.open_unsynced(Server::ALONE)?, server.open_unsynced(SCHEMA)?);
        together(LOADERS, 0..components, &|component| {
            let prefix = format!("bench/app/{component:06}/");
            Ok(among.commit(filled(&prefix, FOREIGN_KEYS_OF_EACH)).map(drop)?)
        })?;
        for store in [&alone, &among] {
            store.commit(filled(COMPONENT, KEYS))?;
        }
    }
    // As autovacuum does after a while.
    for table in ["entry", "component"] {
        for schema in [Server::ALONE, SCHEMA] {
            server.sql(&format!("vacuum analyze {schema}.{table}"))?;
        }
    }
    let (alone, among) = (server.open(Server::ALONE)?, server.open(SCHEMA)?);
    let plan = Plan { rounds: server.size.pick(31, 3), operations: 400, turn: 20 };
    let mut rows = Vec::new();
    let page = |store: &PostgresStorage, numbers: Range<usize>| {
        for number in numbers {
            let after = format!("{COMPONENT}key:{:04}", number % (KEYS - PAGE));
            let request = PageRequest::new(PAGE).with_prefix(COMPONENT).after(&after);
            ensure!(store.list_page(request)?.keys.len() == PAGE, "keys are missing");
        }
        Ok(())
    };
    let usage = |store: &PostgresStorage, numbers: Range<usize>| {
        for _ in numbers {
            ensure!(store.usage(Some(COMPONENT))?.keys == KEYS as u64, "keys are missing");
        }
        Ok(())
    };
    let pages =
        compare(plan, &mut |numbers| page(&among, numbers), &mut |numbers| page(&alone, numbers))?;
    rows.push(Row::new("page of 100 keys", pages, Target::TimeAtMost(1.2)));
    let usages = compare(plan, &mut |numbers| usage(&among, numbers), &mut |numbers| {
        usage(&alone, numbers)
    })?;
    rows.push(Row::new("usage", usages, Target::TimeAtMost(1.2)));
    let foreign = components * FOREIGN_KEYS_OF_EACH;
    let first = format!("among {foreign} keys of others");
    let table = comparisons([&first, "alone"], &rows);
    Ok(format!("{table}\n{}\n", enumerate(&among, components + 1)?))
}

fn filled(prefix: &str, keys: usize) -> Commit {
    (0..keys).fold(Commit::new(), |commit, key| {
        commit.set(format!("{prefix}key:{key:04}"), StorageValue::from(VALUE))
    })
}

/// Lists all components in pages, and says what that took.
fn enumerate(store: &PostgresStorage, components: usize) -> Result<String> {
    const LIMIT: usize = 1_000;
    let mut listed = Ok(0);
    let start = Instant::now();
    // This thread also moves the bytes of the connection.
    let allocated = allocation_counter::measure(|| listed = list_all(store, LIMIT));
    let (took, found) = (start.elapsed(), listed?);
    ensure!(found == components, "{found} of {components} components were listed");
    Ok(format!(
        "listed {found} components in pages of {LIMIT} in {took:.2?}, with at most {} KiB allocated",
        allocated.bytes_max / 1024
    ))
}

/// Returns how many there are.
fn list_all(store: &PostgresStorage, limit: usize) -> Result<usize> {
    let mut found = 0;
    let mut after: Option<String> = None;
    loop {
        let page = store.list_components(after.as_deref(), limit)?;
        found += page.keys.len();
        after = page.keys.last().cloned();
        if !page.more {
            return Ok(found);
        }
    }
}
