//! A host whose store is named by a URL with a scheme of its own, `sqlite:PATH`.
//!
//! `cargo run -p sqlite-store --example scheme -- sqlite:./d.sqlite` counts its runs.

use std::env;
use std::error::Error;
use std::sync::Arc;

use sqlite_store::SqliteStore;
use storage_host::{
    ComponentStorage, Location, Mode, Scheme, StorageError, StorageHost, Store, StoreRegistry,
};

struct Sqlite;

impl Scheme for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn open(&self, location: &Location, mode: Mode) -> Result<Arc<dyn Store>, StorageError> {
        let path = location.path();
        match mode {
            // Opening in WAL mode writes to the directory.
            Mode::ReadOnly => Err(StorageError::Unsupported(
                "a sqlite store cannot be opened for reading only; open it for writing".to_owned(),
            )),
            Mode::ReadWriteExisting if !path.exists() => {
                Err(StorageError::IoError(format!("{} does not exist", path.display())))
            }
            Mode::ReadWrite | Mode::ReadWriteExisting => Ok(Arc::new(SqliteStore::open(path)?)),
        }
    }
}

#[expect(clippy::print_stdout, reason = "the output of the example")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = StoreRegistry::new();
    registry.register(Sqlite);
    let url = env::args().nth(1).unwrap_or("sqlite:./storage-data.sqlite".to_owned());
    let host = StorageHost::new(registry.parse(&url)?.open(Mode::ReadWrite)?);

    let counter = host.component(&"app/counter/001".parse()?);
    let last = counter.get("runs")?.map(|value| String::from_utf8_lossy(value.as_bytes()).parse());
    let runs: u64 = last.transpose()?.unwrap_or(0) + 1;
    counter.set("runs", runs.to_string().as_str().into())?;
    println!("run {runs} in {url}");
    Ok(())
}
