//! Replies as the types that their commands have.

use redis::Value;
use storage_core::{Revision, StorageError};

/// The error of a reply of another type, which only a bug can cause, or a proxy that changes
/// replies.
pub(super) fn unexpected(what: &str) -> StorageError {
    StorageError::IoError(format!(
        "the Redis server gave an unexpected reply: {what}; a proxy between may have changed it"
    ))
}

/// A string, or `None` if there is none.
pub(super) fn bytes(reply: Value) -> Result<Option<Vec<u8>>, StorageError> {
    match reply {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into_bytes())),
        _ => Err(unexpected("not a string")),
    }
}

/// A string of UTF-8, which is empty if there is none.
pub(super) fn text(reply: Value) -> Result<String, StorageError> {
    let bytes = bytes(reply)?.unwrap_or_default();
    String::from_utf8(bytes).map_err(|_| unexpected("a text that is not UTF-8"))
}

/// An array.
pub(super) fn array(reply: Value) -> Result<Vec<Value>, StorageError> {
    match reply {
        Value::Array(items) => Ok(items),
        _ => Err(unexpected("not an array")),
    }
}

/// An array of strings.
pub(super) fn all_bytes(reply: Value) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
    array(reply)?.into_iter().map(bytes).collect()
}

/// An array of strings of UTF-8.
pub(super) fn texts(reply: Value) -> Result<Vec<String>, StorageError> {
    array(reply)?.into_iter().map(text).collect()
}

/// An integer.
pub(super) fn integer(reply: Value) -> Result<i64, StorageError> {
    match reply {
        Value::Int(number) => Ok(number),
        _ => Err(unexpected("not an integer")),
    }
}

/// The next of several replies.
pub(super) fn next(replies: &mut impl Iterator<Item = Value>) -> Result<Value, StorageError> {
    replies.next().ok_or_else(|| unexpected("too few replies"))
}

/// A number in the fields of a hash, which is 0 if it is missing.
pub(super) fn number(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

/// A revision in the fields of a hash.
pub(super) fn revision(text: &str) -> Option<Revision> {
    text.parse().ok().map(Revision::new)
}
