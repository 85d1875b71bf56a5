//! The interfaces of other crates, for hosts that were written for them.

pub mod wasi_keyvalue;
