//! Two hosts with caches.

use std::sync::Arc;

use anyhow::Result;
use benches::Size;
use benches::hosts::{KEY, Staleness, chain_on, hits};
use benches::report::comparisons;
use storage_backends::RedisStorage;
use storage_core::{ComponentStorage as _, StorageValue};
use test_servers::Redis;

use crate::{VALUE, servers};

const PASSWORD: &str = "bench";

/// A user who may publish nothing.
const SILENT: &str = "silent";

/// Measures everything, and returns the tables.
pub(crate) fn measure(size: Size) -> Result<String> {
    let server = Redis::builder()
        .setting("appendfsync", "everysec")
        .password(PASSWORD)
        .user(SILENT, PASSWORD, "~* resetchannels +@all")
        .start()?;
    let options = servers::options(&server).with_password(PASSWORD);
    let open = |options| chain_on(Arc::new(RedisStorage::open(options)?));
    let (one, two) = (open(&options)?, open(&options)?);
    let by_host = |value: &StorageValue| Ok(one.set(KEY, value.clone())?);
    let with = Staleness::measure(size.pick(500, 50), &two, &by_host)?;
    let silent = open(&options.clone().with_user(SILENT))?;
    let in_silence = |value: &StorageValue| Ok(silent.set(KEY, value.clone())?);
    let without = Staleness::measure(size.pick(100, 10), &two, &in_silence)?;
    let hit = hits(size, &two, VALUE)?;
    Ok(format!(
        "{}{}{}\n{}",
        Staleness::HEAD,
        with.row("with notices")?,
        without.row("without notices")?,
        comparisons(["Redis store", "redb store"], &[hit])
    ))
}
