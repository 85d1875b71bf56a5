//! What tells which engine to choose.

use benches::report::{rate, time};

/// What tells which engine to choose. Times are of one operation, in seconds.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) engine: &'static str,
    pub(crate) put_by_one: f64,
    pub(crate) put_by_sixteen: f64,
    pub(crate) get: f64,
    pub(crate) listing: f64,
    pub(crate) keys: usize,
    pub(crate) bytes: u64,
}

/// The table of all engines.
pub(crate) fn figures(all: &[Figures]) -> String {
    let mut table = String::from(
        "| engine | synced put, 1 writer | synced put, 16 writers | random get | 10,000 keys listed | on disk |\n|---|---|---|---|---|---|\n",
    );
    for one in all {
        table.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} for {} keys |\n",
            one.engine,
            rate(one.put_by_one),
            rate(one.put_by_sixteen),
            time(one.get),
            time(one.listing),
            mib(one.bytes),
            one.keys
        ));
    }
    table
}

fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}
