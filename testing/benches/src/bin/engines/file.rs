//! The file store, and the system calls that make a write durable.

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use benches::measure::{self, Compared, Plan};
use benches::report::{Row, Target, comparisons};
use benches::{Engine, Size, machine};
use storage_core::{ComponentStorage, Revision};

use crate::Figures;
use crate::data::{self, Data};

/// The keys that are overwritten.
const WRITTEN_KEYS: usize = 1_000;

pub(crate) fn run(directory: &Path, size: Size) -> Result<Figures> {
    let data = Data::new(WRITTEN_KEYS);
    let store = Engine::File.open(&directory.join("file"), true)?;
    let bare = Bare::new(directory.join("bare"), &data)?;
    let mut written = Vec::new();
    let mut rows = Vec::new();
    for (writers, target) in [(1, Target::TimeAtMost(1.15)), (4, Target::Rate), (16, Target::Rate)]
    {
        let operations = if writers == 1 { 100 } else { 400 };
        let turn = if writers == 1 { 1 } else { operations };
        let plan = Plan { rounds: size.pick(11, 3), operations, turn };
        let ours = |number| Ok(store.set(data.key(number), data.value_of_key(number))?);
        let raw = |number| bare.write(data.key(number), data.value_of_key(number).as_bytes());
        let compared = measure::compare(
            plan,
            &mut |numbers| write_from(writers, numbers, &ours),
            &mut |numbers| write_from(writers, numbers, &raw),
        )?;
        written.push(compared);
        rows.push(Row::new(&format!("synced set, writers: {writers}"), compared, target));
    }
    bare.check(&*store, &data)?;
    drop(store);
    println!("{}", comparisons(["file store", "system calls"], &rows));

    let (get, listing, keys, bytes) = reads(&directory.join("many"), size)?;
    let put = |index: usize| written.get(index).map_or(f64::NAN, |one: &Compared| one.first);
    Ok(Figures { put_by_one: put(0), put_by_sixteen: put(2), get, listing, keys, bytes })
}

fn write_from(
    writers: usize,
    numbers: Range<usize>,
    write: &(impl Fn(usize) -> Result<()> + Sync),
) -> Result<()> {
    match writers {
        // Starting a thread takes time.
        1 => numbers.into_iter().try_for_each(write),
        _ => measure::together(writers, numbers, write),
    }
}

/// Times of a random get and of a listing, the number of keys, and the bytes on disk.
fn reads(path: &Path, size: Size) -> Result<(f64, f64, usize, u64)> {
    let data = Data::new(size.pick(100_000, 10_000));
    let store = Engine::File.open(path, false)?;
    for (number, key) in data.in_random_order().enumerate() {
        store.set(key, data.value(number))?;
    }
    let bytes = machine::bytes_on_disk(path)?;
    let rounds = size.pick(11, 3);
    let get = measure::alone(Plan { rounds, operations: 5_000, turn: 5_000 }, &mut |numbers| {
        for number in numbers {
            let found = store.get(data.key(number))?;
            ensure!(black_box(found).is_some(), "a key is missing");
        }
        Ok(())
    })?;
    let operations = data.components();
    let listing = measure::alone(Plan { rounds, operations, turn: operations }, &mut |numbers| {
        for number in numbers {
            let found = store.list_keys(Some(&data::prefix(number % data.components())))?;
            ensure!(black_box(found).len() == data::KEYS_EACH, "keys are missing");
        }
        Ok(())
    })?;
    Ok((get, listing, data.len(), bytes))
}

/// A directory that is written with system calls.
struct Bare {
    directory: PathBuf,
    handle: File,
}

impl Bare {
    fn new(directory: PathBuf, data: &Data) -> Result<Self> {
        fs::create_dir(&directory)?;
        let handle = File::open(&directory)?;
        let bare = Self { directory, handle };
        for key in data.in_random_order() {
            fs::write(bare.path(key), "")?;
        }
        Ok(bare)
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory.join(key.replace('/', "+"))
    }

    /// The fewest calls that replace a value durably.
    fn write(&self, key: &str, value: &[u8]) -> Result<()> {
        // The record in a file also contains its key.
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

    /// Fails unless both sides hold the same values.
    fn check(&self, store: &dyn ComponentStorage, data: &Data) -> Result<()> {
        for key in data.in_random_order() {
            let found = store.get(key)?;
            let record = fs::read(self.path(key))?;
            let len = record.len().saturating_sub(3 + key.len());
            let raw = record.get(..len).map(data::value_in).unwrap_or_default();
            let ours = found.as_ref().map(|value| value.as_bytes()).unwrap_or_default();
            ensure!(ours == raw, "the two sides hold different values of {key}");
        }
        Ok(())
    }
}
