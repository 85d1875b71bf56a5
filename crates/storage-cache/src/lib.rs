//! storage-cache
