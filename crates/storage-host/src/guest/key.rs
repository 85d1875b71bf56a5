//! The keys and values of a guest, copied out of its memory.

use std::borrow::Cow;

use arrayvec::ArrayString;
use storage_core::{MAX_KEY_BYTES, StorageError, StorageValue, validate_key};

use super::errors::Call;
use crate::limits::{Limits, truncate_cursor};

/// The longest key that is copied without an allocation. A `Key` has 64 bytes then, which the
/// compiler moves without a call of `memcpy`.
const INLINE_BYTES: usize = 56;

/// A key or prefix of a guest.
pub(super) enum Key {
    Short(ArrayString<INLINE_BYTES>),
    Long(String),
    /// The text is longer than any key. Only its start is kept: it is invalid for the same
    /// reason.
    Invalid {
        start: String,
        /// The rule that the whole text violates, for the guest.
        rule: String,
    },
}

impl Key {
    /// Copies a key out of the guest's memory.
    pub(super) fn new(text: Cow<'_, str>) -> Self {
        if let Ok(short) = ArrayString::from(&text) {
            return Self::Short(short);
        }
        match validate_key(&text) {
            Err(StorageError::InvalidKey(rule)) if text.len() > MAX_KEY_BYTES => {
                Self::Invalid { start: truncate_cursor(&text).to_owned(), rule }
            }
            _ => Self::Long(text.into_owned()),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Short(text) => text,
            Self::Long(text) | Self::Invalid { start: text, .. } => text,
        }
    }

    /// The rule that a key violates that is longer than any key.
    pub(super) fn broken_rule(&self) -> Option<&str> {
        match self {
            Self::Invalid { rule, .. } => Some(rule),
            Self::Short(_) | Self::Long(_) => None,
        }
    }
}

/// A value of a guest. It is copied only if it is within the guest's limits.
pub(super) struct Value {
    len: usize,
    copied: Result<StorageValue, StorageError>,
}

impl Value {
    /// `copy` copies the value. `limits` are those of the guest.
    pub(super) fn new(len: usize, limits: &Limits, copy: impl FnOnce() -> StorageValue) -> Self {
        Self { len, copied: limits.check_value_len(len).map(|()| copy()) }
    }

    /// The value, if it is within the guest's limits. Storage checks those of the call. A
    /// refusal counts as a call of storage.
    ///
    /// # Errors
    /// As [`Limits::check_value_len`].
    pub(super) fn copied(self, call: &Call<'_>) -> Result<StorageValue, StorageError> {
        self.copied.map_err(|error| {
            // The limit of the call is lower, if it is another.
            let error = call.limits().check_value_len(self.len).err().unwrap_or(error);
            call.own.account().refused(call.storage_operation(), &error);
            error
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_copied_whole_or_are_invalid_for_the_same_reason() {
        for len in [0, 1, INLINE_BYTES, INLINE_BYTES + 1, MAX_KEY_BYTES] {
            let text = "k".repeat(len);
            let key = Key::new(text.as_str().into());
            assert_eq!((key.as_str(), key.broken_rule()), (text.as_str(), None));
        }
        for text in ["k".repeat(MAX_KEY_BYTES + 1), "\u{20ac}".repeat(1 << 20), "\0".repeat(2_000)]
        {
            let key = Key::new(text.as_str().into());
            let whole = validate_key(&text).unwrap_err();
            assert_eq!(StorageError::InvalidKey(key.broken_rule().unwrap().to_owned()), whole);
            assert!(validate_key(key.as_str()).is_err());
            assert!(key.as_str().len() <= MAX_KEY_BYTES + 4 && text.starts_with(key.as_str()));
        }
    }

    #[test]
    fn values_above_the_limit_of_the_guest_are_not_copied() {
        let limits = Limits { value_bytes: 4, ..Limits::default() };
        let value = |len| Value::new(len, &limits, || StorageValue::new(vec![7; len]));
        assert_eq!(value(4).copied.unwrap().len(), 4);
        let large = Value::new(5, &limits, || unreachable!());
        let error = StorageError::LimitExceeded { limit: "bytes of a value", max: 4, actual: 5 };
        assert_eq!(large.copied, Err(error));
    }
}
