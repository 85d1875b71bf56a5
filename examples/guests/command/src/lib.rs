//! The frame of the commands: arguments, output, exit codes, and error messages for
//! `airssys:core/storage@1.0.0`.

mod frame;

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "guest" });
}

pub use bindings::airssys::core::errors::StorageError;
pub use bindings::airssys::core::storage;
pub use frame::{Failure, exit, run};

/// The name of the error in the WIT interface.
pub fn variant_name(error: &StorageError) -> &'static str {
    match error {
        StorageError::NotFound(_) => "not-found",
        StorageError::AlreadyExists(_) => "already-exists",
        StorageError::QuotaExceeded => "quota-exceeded",
        StorageError::InvalidKey(_) => "invalid-key",
        StorageError::IoError(_) => "io-error",
    }
}

/// A message for the person who runs the component.
pub fn explain(error: &StorageError) -> String {
    match error {
        StorageError::NotFound(key) => format!("the store has no key {key:?}"),
        StorageError::AlreadyExists(key) => format!("the store has a key {key:?} already"),
        StorageError::QuotaExceeded => {
            "the quota is used up: remove something, or ask for a larger quota".to_owned()
        }
        StorageError::InvalidKey(rule) => format!("the store refused the key: {rule}"),
        StorageError::IoError(reason) => format!("the store failed: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_contain_the_text_of_the_host() {
        for error in [
            StorageError::NotFound("TEXT".to_owned()),
            StorageError::AlreadyExists("TEXT".to_owned()),
            StorageError::InvalidKey("TEXT".to_owned()),
            StorageError::IoError("TEXT".to_owned()),
        ] {
            assert!(explain(&error).contains("TEXT"), "{error:?}");
        }
        assert!(explain(&StorageError::QuotaExceeded).contains("quota"));
    }
}
