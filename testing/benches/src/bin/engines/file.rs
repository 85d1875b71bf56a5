//! The file store against the system calls that a durable write takes at least.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use benches::measure::{self, Compared, Plan};
use benches::report::{Row, Target, comparisons};
use benches::{Size, machine};
use storage_backends::{Durability, FileOptions, FileStorage};
use storage_core::{ComponentStorage, Revision};

use crate::data::{self, Data};
use crate::figures::Figures;

/// The keys that are written over and over.
const WRITTEN_KEYS: usize = 1_000;

/// Measures, prints, and tells what it is worth beside other engines.
pub(crate) fn run(folder: &Path, size: Size) -> Result<Figures> {
    let data = Data::new(WRITTEN_KEYS);
    let store = FileStorage::open(folder.join("file"), FileOptions::default())?;
    let bare = Bare::new(folder.join("bare"), &data)?;
    let mut written = Vec::new();
    let mut rows = Vec::new();
    for (writers, target) in [(1, Target::TimeAtMost(1.15)), (4, Target::Rate), (16, Target::Rate)]
    {
        let operations = if writers == 1 { 100 } else { 400 };
        let turn = if writers == 1 { 1 } else { operations };
        let plan = Plan { rounds: size.pick(11, 3), operations, turn };
        let ours = |number| Ok(store.set(data.key(number), data.value_of_key(number))?);
        let raw = |number| bare.write(data.key(number), data.value_of_key(number).as_bytes());
        let compared =
            measure::compare(plan, &mut |numbers| by(writers, numbers, &ours), &mut |numbers| {
                by(writers, numbers, &raw)
            })?;
        written.push(compared);
        rows.push(Row::new(&format!("synced set, writers: {writers}"), compared, target));
    }
    bare.compare(&store, &data)?;
    drop(store);
    println!("{}", comparisons(["file store", "system calls"], &rows));

    let (get, listing, keys, bytes) = reads(&folder.join("many"), size)?;
    let put = |at: usize| written.get(at).map_or(f64::NAN, |compared: &Compared| compared.first);
    let figures = Figures {
        engine: "file",
        put_by_one: put(0),
        put_by_sixteen: put(2),
        get,
        listing,
        keys,
        bytes,
    };
    Ok(figures)
}

fn by(
    writers: usize,
    numbers: Range<usize>,
    operation: &(impl Fn(usize) -> Result<()> + Sync),
) -> Result<()> {
    match writers {
        // Without a thread, whose start costs something.
        1 => numbers.into_iter().try_for_each(operation),
        _ => measure::together(writers, numbers, operation),
    }
}

/// Times of a random get and of a listing, the number of keys, and the bytes on
/// the disk.
fn reads(path: &Path, size: Size) -> Result<(f64, f64, usize, u64)> {
    let data = Data::new(size.pick(100_000, 10_000));
    let options = FileOptions::default().with_durability(Durability::Os);
    let store = FileStorage::open(path, options)?;
    for (number, key) in data.in_random_order().enumerate() {
        store.set(key, data.value(number))?;
    }
    let bytes = machine::bytes_on_disk(path)?;
    let rounds = size.pick(11, 3);
    let get = measure::alone(Plan { rounds, operations: 5_000, turn: 5_000 }, &mut |numbers| {
        for number in numbers {
            let found = store.get(data.key(number))?;
            ensure!(std::hint::black_box(found).is_some(), "a key is missing");
        }
        Ok(())
    })?;
    let operations = data.components();
    let listing = measure::alone(Plan { rounds, operations, turn: operations }, &mut |numbers| {
        for number in numbers {
            let prefix = data::prefix(number % data.components());
            let found = store.list_keys(Some(&prefix))?;
            ensure!(std::hint::black_box(found).len() == data::KEYS_EACH, "keys are missing");
        }
        Ok(())
    })?;
    Ok((get, listing, data.len(), bytes))
}

/// A folder that is written with bare system calls.
struct Bare {
    folder: PathBuf,
    handle: File,
}

impl Bare {
    /// With the first record of every key, as a store has it.
    fn new(folder: PathBuf, data: &Data) -> Result<Self> {
        fs::create_dir(&folder)?;
        let handle = File::open(&folder)?;
        let bare = Self { folder, handle };
        for key in data.in_random_order() {
            fs::write(bare.path(key), "")?;
        }
        Ok(bare)
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(key.replace('/', "+"))
    }

    /// The least that makes a value durable in place of another.
    fn write(&self, key: &str, value: &[u8]) -> Result<()> {
        // A file names its key, so its record is longer by that.
        let mut record = Vec::new();
        data::record(key, value, Revision::new(1), &mut record);
        record.extend_from_slice(&[0; 3]);
        record.extend_from_slice(key.as_bytes());
        let path = self.path(key);
        let mut temp = path.clone().into_os_string();
        temp.push(format!(".{:?}", std::thread::current().id()));
        let temp = PathBuf::from(temp);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temp)?;
        file.write_all(&record)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temp, &path)?;
        self.handle.sync_all()?;
        Ok(())
    }

    /// Whether both sides hold the same values.
    fn compare(&self, store: &FileStorage, data: &Data) -> Result<()> {
        for key in data.in_random_order() {
            let found = store.get(key)?;
            let record = fs::read(self.path(key))?;
            let own_len = record.len().saturating_sub(3 + key.len());
            let raw = record.get(..own_len).map(data::value_in).unwrap_or_default();
            let ours = found.as_ref().map(|value| value.as_bytes()).unwrap_or_default();
            ensure!(ours == raw, "the two sides hold different values of {key}");
        }
        Ok(())
    }
}
