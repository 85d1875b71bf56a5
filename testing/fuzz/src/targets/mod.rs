//! The targets.

pub(crate) mod archives;
pub(crate) mod calls;
pub(crate) mod cursors;
pub(crate) mod damage;
pub(crate) mod file_names;
pub(crate) mod ids;
pub(crate) mod keys;
pub(crate) mod manifest;
pub(crate) mod records;
pub(crate) mod redis_replies;
pub(crate) mod store_urls;
