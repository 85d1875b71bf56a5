//! Two hosts with caches.

use std::sync::Arc;

use anyhow::Result;
use benches::hosts::{COMPONENT, KEY, Staleness, chain_on, hits};
use benches::report::comparisons;
use storage_core::{ComponentStorage as _, StorageValue};
use storage_host::Store;

use crate::{SCHEMA, Server, VALUE};

/// Measures everything, and returns the tables.
pub(crate) fn measure(server: &Server<'_>) -> Result<String> {
    let (one, two) = (chain_on(open(server)?)?, chain_on(open(server)?)?);
    let by_host = |value: &StorageValue| Ok(one.set(KEY, value.clone())?);
    let with = Staleness::measure(server.size.pick(1_000, 50), &two, &by_host)?;
    // The raw client sends none.
    let raw = server.connect()?;
    let prefix = format!("{COMPONENT}/");
    let by_client = |value: &StorageValue| raw.set_to(&prefix, KEY, value.as_bytes()).map(drop);
    let without = Staleness::measure(server.size.pick(300, 10), &two, &by_client)?;
    let hit = hits(server.size, &two, VALUE)?;
    Ok(format!(
        "{}{}{}\n{}",
        Staleness::HEAD,
        with.row("with notices")?,
        without.row("without notices")?,
        comparisons(["PostgreSQL store", "redb store"], &[hit])
    ))
}

fn open(server: &Server<'_>) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(server.open(SCHEMA)?))
}
