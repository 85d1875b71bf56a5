//! storage-host
