use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

pub(crate) fn parse<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(value).map_err(|error| value_error(key, &error))
}

pub(crate) fn write<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| value_error(key, &error))
}

fn value_error(key: &str, error: &serde_json::Error) -> Error {
    Error::Value { key: key.to_owned(), reason: error.to_string() }
}
