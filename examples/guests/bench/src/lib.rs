//! Calls a store in loops, so that `cargo xtask bench guests` can measure what a call
//! costs a guest in Rust.
//!
//! The component imports every interface of storage. A host that lacks one can still run
//! the loops over the others, if it defines the missing functions in some way.

// The bindings of an export are unsafe code.
#![deny(unsafe_op_in_unsafe_fn)]

mod airssys;
mod draft;
mod draft2;
mod keyvalue;

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "bench" });
}

use bindings::{Dialect, Operation};

/// The keys of the component. One of them is [`COUNTER`].
const KEYS: usize = 100;
/// The keys that the calls use in turn. The others only lengthen the listing.
const USED: usize = 16;
/// The keys of a batch.
const BATCH: usize = 10;
const COUNTER: &str = "user/visits/0001";
/// The bytes of the values of unused keys.
const UNUSED_BYTES: usize = 100;

struct Bench;

impl bindings::Guest for Bench {
    fn run(dialect: Dialect, operation: Operation, times: u32, bytes: u32) -> u64 {
        let (times, bytes) = (times as usize, bytes as usize);
        let sum = match dialect {
            Dialect::Core => run(&airssys::Core, operation, times, bytes),
            Dialect::Extended => airssys::with_store(|store| run(store, operation, times, bytes)),
            Dialect::Draft => draft::with_bucket(|bucket| run(bucket, operation, times, bytes)),
            Dialect::Draft2 => draft2::with_bucket(|bucket| run(bucket, operation, times, bytes)),
        };
        sum.unwrap_or(u64::MAX)
    }
}

bindings::export!(Bench with_types_in bindings);

/// The calls of a dialect. `None` stands for an error, a missing key or a missing function.
trait Calls {
    fn get(&self, key: &str) -> Option<Vec<u8>>;
    fn exists(&self, key: &str) -> Option<bool>;
    fn set(&self, key: &str, value: &[u8]) -> Option<()>;
    fn increment(&self, key: &str) -> Option<()>;
    /// Returns the bytes of all values.
    fn get_many(&self, keys: &[String]) -> Option<usize>;
    /// Returns the number of keys.
    fn list_keys(&self) -> Option<usize>;
    /// Stores a value under a key that may be missing.
    fn create(&self, key: &str, value: &[u8]) -> Option<()> {
        self.set(key, value)
    }
}

fn run(calls: &impl Calls, operation: Operation, times: usize, bytes: usize) -> Option<u64> {
    let keys: Vec<String> = (0..USED).map(key).collect();
    let value = vec![b'v'; bytes];
    let in_turn = keys.iter().cycle().take(times);
    let mut sum = 0;
    match operation {
        Operation::Prepare => {
            for number in 0..KEYS - 1 {
                let used = if number < USED { bytes } else { UNUSED_BYTES };
                calls.create(&key(number), &vec![b'v'; used])?;
            }
            calls.create(COUNTER, b"0")?;
        }
        Operation::Get => {
            for key in in_turn {
                sum += calls.get(key)?.len();
            }
        }
        Operation::Exists => {
            for key in in_turn {
                sum += usize::from(calls.exists(key)?);
            }
        }
        Operation::Set => {
            for key in in_turn {
                calls.set(key, &value)?;
                sum += 1;
            }
        }
        Operation::Increment => {
            for _ in 0..times {
                calls.increment(COUNTER)?;
                sum += 1;
            }
        }
        Operation::GetMany => {
            let batch = keys.get(..BATCH)?;
            for _ in 0..times {
                sum += calls.get_many(batch)?;
            }
        }
        Operation::ListKeys => {
            for _ in 0..times {
                sum += calls.list_keys()?;
            }
        }
    }
    Some(sum as u64)
}

fn key(number: usize) -> String {
    format!("user/profile/{number:03}")
}
