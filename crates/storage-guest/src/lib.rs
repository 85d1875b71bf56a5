//! Key-value storage for WebAssembly components: JSON values, counters, compare and
//! swap, transactions, and a fake for tests.
//!
//! Write the application against a trait. In the component it gets a store of the host,
//! in a test a [`Fake`].
//!
#![cfg_attr(feature = "json", doc = "```no_run")]
#![cfg_attr(not(feature = "json"), doc = "```ignore")]
//! use storage_guest::{Atomic, Error, Extended};
//!
//! /// Sells one piece. Returns how many are left; `None` if there was none.
//! fn sell(store: &impl Atomic, item: &str) -> Result<Option<u32>, Error> {
//!     let key = format!("stock/{item}");
//!     store.update_json(&key, |left: Option<u32>| left?.checked_sub(1))
//! }
//!
//! fn main() -> Result<(), Error> {
//!     let store = Extended::open("")?;
//!     match sell(&store, "apples")? {
//!         Some(left) => println!("sold, {left} left"),
//!         None => println!("sold out"),
//!     }
//!     Ok(())
//! }
//! ```
//!
#![cfg_attr(feature = "json", doc = "```")]
#![cfg_attr(not(feature = "json"), doc = "```ignore")]
//! # use storage_guest::{Atomic, Error, Fake, Store};
//! # fn sell(store: &impl Atomic, item: &str) -> Result<Option<u32>, Error> {
//! #     let key = format!("stock/{item}");
//! #     store.update_json(&key, |left: Option<u32>| left?.checked_sub(1))
//! # }
//! // #[test]
//! fn the_last_piece_is_sold_once() {
//!     let store = Fake::new();
//!     store.set_json("stock/apples", &1).unwrap();
//!     assert_eq!(sell(&store, "apples"), Ok(Some(0)));
//!     assert_eq!(sell(&store, "apples"), Ok(None));
//! }
//! # the_last_piece_is_sold_once();
//! ```
//!
//! # Stores
//!
//! | type | interface of the host | [`Store`] | [`Atomic`] | [`Transactional`] |
//! |---|---|---|---|---|
//! | [`Extended`] | `airssys:storage/extended@0.1.0` | yes | yes | yes |
//! | [`Keyvalue`] | `wasi:keyvalue@0.2.0-draft2` | yes | yes | |
//! | [`Core`] | `airssys:core/storage@1.0.0` | yes | | |
//! | [`Fake`] | none; in memory, for tests | yes | yes | yes |
//!
//! A component imports only the interfaces that it calls. Outside of a component, a call
//! to the host panics.
//!
//! # Features
//!
//! | feature | default | contents |
//! |---|---|---|
//! | `json` | yes | values as JSON, through serde |

mod atomic;
mod core_storage;
mod error;
pub mod extended;
pub mod fake;
#[cfg(feature = "json")]
mod json;
pub mod keyvalue;
mod number;
mod store;
mod transaction;

pub use atomic::Atomic;
pub use core_storage::Core;
pub use error::Error;
pub use extended::Extended;
pub use fake::Fake;
pub use keyvalue::Keyvalue;
pub use store::{Keys, Page, Store, Usage};
pub use transaction::{Transaction, Transactional, Write};

#[allow(unsafe_code, missing_docs, unreachable_pub, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["wit/core", "wit/extended"],
        world: "airssys:storage/extended-guest",
        generate_all,
        // A component may generate the same world itself.
        type_section_suffix: "storage-guest",
    });
}

#[allow(unsafe_code, missing_docs, unreachable_pub, reason = "generated")]
mod keyvalue_bindings {
    wit_bindgen::generate!({
        path: "wit/keyvalue-draft2",
        world: "imports",
        type_section_suffix: "storage-guest",
    });
}
