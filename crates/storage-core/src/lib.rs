//! storage-core
