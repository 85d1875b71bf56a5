//! Tests of the cache over storage that counts, fails and waits on command.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "test helpers"
)]

mod coherence;
mod conformance;
mod expiry;
mod interleavings;
mod reads;
mod shared;
mod stress;
mod support;
mod writes;
