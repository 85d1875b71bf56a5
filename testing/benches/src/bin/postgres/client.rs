//! The store compared with its client.

use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use benches::measure::{Plan, compare, together};
use benches::report::{Row, Target, comparisons};
use storage_core::{ComponentStorage as _, PageRequest, StorageValue};

use crate::raw::Raw;
use crate::{COMMITTERS, SCHEMA, Server, VALUE};

const COMPONENT: &str = "bench/app/main/";
const KEYS: usize = 10_000;

/// Measures everything, and returns a table.
pub(crate) fn measure(server: &Server<'_>) -> Result<String> {
    let (size, store) = (server.size, server.open(SCHEMA)?);
    let rounds = size.pick(15, 3);
    let plan = |operations, turn| Plan { rounds, operations, turn };
    let connect = || server.connect();
    let raw = connect()?;
    let user_key = |n: usize| format!("key:{:05}", n % KEYS);
    let full_key = |n: usize| format!("{COMPONENT}{}", user_key(n));
    let value = || StorageValue::from(VALUE);
    together(COMMITTERS, 0..KEYS, &|n| Ok(store.set(&full_key(n), value())?))?;
    let mut rows = Vec::new();

    let ours = &mut |numbers: Range<usize>| {
        for n in numbers {
            ensure!(store.get(&full_key(n))?.is_some(), "the key is missing");
        }
        Ok(())
    };
    let theirs = &mut |numbers: Range<usize>| {
        for n in numbers {
            raw.get(COMPONENT, &user_key(n))?;
        }
        Ok(())
    };
    let compared = compare(plan(size.pick(2000, 200), 100), ours, theirs)?;
    rows.push(Row::new("get", compared, Target::TimeAtMost(1.15)));

    let ours = &mut |numbers: Range<usize>| {
        for n in numbers {
            store.set(&full_key(n), value())?;
        }
        Ok(())
    };
    let theirs = &mut |numbers: Range<usize>| {
        for n in numbers {
            raw.set(COMPONENT, &user_key(n))?;
        }
        Ok(())
    };
    let compared = compare(plan(size.pick(400, 50), 20), ours, theirs)?;
    rows.push(Row::new("set", compared, Target::TimeAtMost(1.15)));

    let ours = &mut |numbers: Range<usize>| {
        for n in numbers {
            let from = full_key(n);
            store.list_page(PageRequest::new(100).with_prefix(COMPONENT).after(&from))?;
        }
        Ok(())
    };
    let theirs = &mut |numbers: Range<usize>| {
        for n in numbers {
            raw.page(COMPONENT, &user_key(n), 101)?;
        }
        Ok(())
    };
    let compared = compare(plan(size.pick(500, 50), 50), ours, theirs)?;
    rows.push(Row::new("page of 100 keys", compared, Target::TimeAtMost(1.15)));

    let clients: Vec<Raw<'_>> = (0..COMMITTERS).map(|_| connect()).collect::<Result<_>>()?;
    let names: Vec<String> = (0..COMMITTERS).map(|n| format!("bench/app/{n:02}/")).collect();
    let plan = plan(size.pick(1600, 320), size.pick(1600, 320));
    for (what, target, is_one) in [
        ("16 committers on 16 components", Target::RateAtLeast(0.9), false),
        ("16 committers on one component", Target::RateAtLeast(3.0), true),
    ] {
        let name_of = |committer: usize| if is_one { 0 } else { committer };
        let committers =
            |numbers: Range<usize>, commit: &(dyn Fn(usize, usize) -> Result<()> + Sync)| {
                let each = numbers.len() / COMMITTERS;
                together(COMMITTERS, 0..COMMITTERS, &|committer| {
                    (0..each).try_for_each(|n| commit(committer, numbers.start + n))
                })
            };
        let ours = &mut |numbers: Range<usize>| {
            committers(numbers, &|committer, n| {
                let name = names.get(name_of(committer)).context("no such committer")?;
                store.set(&format!("{name}{committer}:{}", n % 100), value())?;
                Ok(())
            })
        };
        let theirs = &mut |numbers: Range<usize>| {
            committers(numbers, &|committer, n| {
                let name = names.get(name_of(committer)).context("no such committer")?;
                let client = clients.get(committer).context("no such committer")?;
                client.set(name, &format!("{committer}:{}", n % 100))?;
                Ok(())
            })
        };
        rows.push(Row::new(what, compare(plan, ours, theirs)?, target));
    }
    Ok(comparisons(["store", "raw client"], &rows))
}
