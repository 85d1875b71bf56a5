//! Macros that implement the traits for the bindings of a draft. The modules of
//! the interfaces (`store`, `atomics`, `batch`) must be in scope.

use std::convert::Infallible;

use super::Cursor;

/// Implements `Bucket` with the cursor type of the draft.
#[macro_export]
macro_rules! bind_store {
    ($cursor:ty) => {
        fn error_of(error: store::Error) -> $crate::keyvalue::Error {
            match error {
                store::Error::NoSuchStore => $crate::keyvalue::Error::NoSuchStore,
                store::Error::AccessDenied => $crate::keyvalue::Error::AccessDenied,
                store::Error::Other(text) => $crate::keyvalue::Error::Other(text),
            }
        }

        impl $crate::keyvalue::Bucket for store::Bucket {
            type Cursor = $cursor;

            fn open(identifier: &str) -> Result<Self, $crate::keyvalue::Error> {
                store::open(identifier).map_err(error_of)
            }

            fn get(&self, key: &str) -> Result<Option<Vec<u8>>, $crate::keyvalue::Error> {
                store::Bucket::get(self, key).map_err(error_of)
            }

            fn set(&self, key: &str, value: &[u8]) -> Result<(), $crate::keyvalue::Error> {
                store::Bucket::set(self, key, value).map_err(error_of)
            }

            fn delete(&self, key: &str) -> Result<(), $crate::keyvalue::Error> {
                store::Bucket::delete(self, key).map_err(error_of)
            }

            fn exists(&self, key: &str) -> Result<bool, $crate::keyvalue::Error> {
                store::Bucket::exists(self, key).map_err(error_of)
            }

            fn list_keys(
                &self,
                cursor: Option<&$cursor>,
            ) -> Result<$crate::keyvalue::Page<$cursor>, $crate::keyvalue::Error> {
                let cursor = cursor.map($crate::keyvalue::Cursor::argument);
                let page = store::Bucket::list_keys(self, cursor).map_err(error_of)?;
                Ok((page.keys, page.cursor))
            }
        }
    };
}

/// Implements `Atomics` with the number type of the draft.
#[macro_export]
macro_rules! bind_atomics {
    ($number:ty) => {
        impl $crate::keyvalue::Atomics for store::Bucket {
            type Number = $number;

            fn increment(
                &self,
                key: &str,
                delta: $number,
            ) -> Result<$number, $crate::keyvalue::Error> {
                atomics::increment(self, key, delta).map_err(error_of)
            }
        }
    };
}

/// Implements `Swap`.
#[macro_export]
macro_rules! bind_swap {
    () => {
        impl $crate::keyvalue::Swap for store::Bucket {
            type Cas = atomics::Cas;

            fn cas(&self, key: &str) -> Result<atomics::Cas, $crate::keyvalue::Error> {
                atomics::Cas::new(self, key).map_err(error_of)
            }

            fn current(cas: &atomics::Cas) -> Result<Option<Vec<u8>>, $crate::keyvalue::Error> {
                cas.current().map_err(error_of)
            }

            fn swap(
                cas: atomics::Cas,
                value: &[u8],
            ) -> Result<(), $crate::keyvalue::SwapError<atomics::Cas>> {
                atomics::swap(cas, value).map_err(|error| match error {
                    atomics::CasError::StoreError(error) => {
                        $crate::keyvalue::SwapError::Store(error_of(error))
                    }
                    atomics::CasError::CasFailed(fresh) => {
                        $crate::keyvalue::SwapError::Failed(fresh)
                    }
                })
            }
        }
    };
}

/// Implements `Batch`. `get-many` returns a pair or none for each key, in Spin's
/// variant the key with its value or none.
#[macro_export]
macro_rules! bind_batch {
    () => {
        $crate::bind_batch!(false, |found| match found {
            Some((key, value)) => (Some(key), Some(value)),
            None => (None, None),
        });
    };
    (spin) => {
        $crate::bind_batch!(true, |(key, value)| (Some(key), value));
    };
    ($names_each:literal, $found:expr) => {
        impl $crate::keyvalue::Batch for store::Bucket {
            const NAMES_EACH: bool = $names_each;

            fn get_many(
                &self,
                keys: &[String],
            ) -> Result<Vec<$crate::keyvalue::Found>, $crate::keyvalue::Error> {
                let found = batch::get_many(self, keys).map_err(error_of)?;
                Ok(found.into_iter().map($found).collect())
            }

            fn set_many(&self, pairs: &[(String, Vec<u8>)]) -> Result<(), $crate::keyvalue::Error> {
                batch::set_many(self, pairs).map_err(error_of)
            }

            fn delete_many(&self, keys: &[String]) -> Result<(), $crate::keyvalue::Error> {
                batch::delete_many(self, keys).map_err(error_of)
            }
        }
    };
}

/// Implements `Bucket` and `Batch` for Spin's `Store`; a batch is one call for each
/// key. The types `Store` and `Error` of the interface must be in scope.
#[macro_export]
macro_rules! bind_spin {
    () => {
        fn error_of(error: Error) -> $crate::keyvalue::Error {
            match error {
                Error::StoreTableFull => $crate::keyvalue::Error::StoreTableFull,
                Error::NoSuchStore => $crate::keyvalue::Error::NoSuchStore,
                Error::AccessDenied => $crate::keyvalue::Error::AccessDenied,
                Error::Other(text) => $crate::keyvalue::Error::Other(text),
            }
        }

        impl $crate::keyvalue::Bucket for Store {
            type Cursor = std::convert::Infallible;

            fn open(identifier: &str) -> Result<Self, $crate::keyvalue::Error> {
                Store::open(identifier).map_err(error_of)
            }

            fn get(&self, key: &str) -> Result<Option<Vec<u8>>, $crate::keyvalue::Error> {
                Store::get(self, key).map_err(error_of)
            }

            fn set(&self, key: &str, value: &[u8]) -> Result<(), $crate::keyvalue::Error> {
                Store::set(self, key, value).map_err(error_of)
            }

            fn delete(&self, key: &str) -> Result<(), $crate::keyvalue::Error> {
                Store::delete(self, key).map_err(error_of)
            }

            fn exists(&self, key: &str) -> Result<bool, $crate::keyvalue::Error> {
                Store::exists(self, key).map_err(error_of)
            }

            fn list_keys(
                &self,
                _: Option<&Self::Cursor>,
            ) -> Result<$crate::keyvalue::Page<Self::Cursor>, $crate::keyvalue::Error> {
                Ok((Store::get_keys(self).map_err(error_of)?, None))
            }
        }

        impl $crate::keyvalue::Batch for Store {
            const NAMES_EACH: bool = true;

            fn get_many(
                &self,
                keys: &[String],
            ) -> Result<Vec<$crate::keyvalue::Found>, $crate::keyvalue::Error> {
                let get = |key: &String| {
                    let value = Store::get(self, key).map_err(error_of)?;
                    Ok((Some(key.clone()), value))
                };
                keys.iter().map(get).collect()
            }

            fn set_many(&self, pairs: &[(String, Vec<u8>)]) -> Result<(), $crate::keyvalue::Error> {
                pairs
                    .iter()
                    .try_for_each(|(key, value)| Store::set(self, key, value))
                    .map_err(error_of)
            }

            fn delete_many(&self, keys: &[String]) -> Result<(), $crate::keyvalue::Error> {
                keys.iter().try_for_each(|key| Store::delete(self, key)).map_err(error_of)
            }
        }
    };
}

/// No interface without pages has cursors.
impl Cursor for Infallible {
    type Argument<'a> = Infallible;

    fn argument(&self) -> Infallible {
        *self
    }

    fn made_up() -> Vec<(&'static str, Self)> {
        Vec::new()
    }
}

/// Cursors of the first draft.
impl Cursor for u64 {
    type Argument<'a> = u64;

    fn argument(&self) -> u64 {
        *self
    }

    fn made_up() -> Vec<(&'static str, Self)> {
        vec![("0", 0), ("1", 1), ("the largest u64", u64::MAX)]
    }
}

/// Cursors of the second draft.
impl Cursor for String {
    type Argument<'a> = &'a str;

    fn argument(&self) -> &str {
        self
    }

    fn made_up() -> Vec<(&'static str, Self)> {
        let cursor = |what, text: &str| (what, text.to_owned());
        vec![
            cursor("the empty text", ""),
            cursor("\"0\"", "0"),
            cursor("a text before all keys", "CONFORMANCE"),
            cursor("a text behind all keys", "\u{10ffff}"),
            cursor("a text between two keys", "conformance/page/0500/"),
            cursor("control characters", "conformance/page/0500\0\n\u{7f}"),
            cursor("\"../../etc/passwd\"", "../../etc/passwd"),
            ("a text of 1,025 bytes", "x".repeat(1_025)),
            ("a text of 65,536 bytes", "x".repeat(65_536)),
        ]
    }
}
