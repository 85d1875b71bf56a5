//! What an implementation's own tests need.

mod reference;

pub use reference::ReferenceStorage;
