//! The lines of an archive.

use std::borrow::Cow;
use std::fmt::Write;

use base64::Engine;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize, Serializer};
use storage_core::{StorageValue, Usage, split_full_key};

/// What the first line begins with.
pub(super) const FORMAT: &str = "storage-host archive";
pub(super) const VERSION: u32 = 1;

/// How the other lines begin, which tells them apart.
pub(super) const KEY: &[u8] = b"{\"component\":";
pub(super) const CHECKPOINT: &[u8] = b"{\"checkpoint\":";
pub(super) const END: &[u8] = b"{\"end\":";

/// A block ends with the key line with which it has this many of them ..
const BLOCK_KEYS: u64 = 1_000;

/// .. or at least this many bytes of full keys and values. So a block fits in memory.
const BLOCK_BYTES: u64 = 4 << 20;

/// Whether a checkpoint must follow a block.
pub(super) fn is_full(block: Usage) -> bool {
    block.keys >= BLOCK_KEYS || block.bytes >= BLOCK_BYTES
}

/// The maximum length of a value in bytes, which is that of a redb store.
const MAX_VALUE_BYTES: u64 = 2 << 30;

/// The maximum length of a line in bytes: each byte of a value takes at most two.
pub(super) const MAX_LINE_BYTES: u64 = 2 * MAX_VALUE_BYTES + (64 << 10);

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) version: u32,
    /// The id of the store, if it has one.
    pub(super) store_id: Option<String>,
    /// When the archive was begun, in seconds since 1970.
    pub(super) time: u64,
    /// The ids of the chosen components, in order; `None` for the whole store.
    pub(super) selection: Option<Vec<String>>,
}

/// The part of the first line that every version has.
#[derive(Debug, Deserialize)]
pub(super) struct Kind {
    pub(super) format: String,
    pub(super) version: u64,
}

/// A key and its value, to be written.
#[derive(Debug, Serialize)]
pub(super) struct KeyLine<'a> {
    component: Option<&'a str>,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_utf8: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<AsBase64<'a>>,
    crc32: String,
}

impl<'a> KeyLine<'a> {
    pub(super) fn new(full_key: &'a str, value: &'a [u8]) -> Self {
        let (prefix, key) = split_full_key(full_key);
        let text = std::str::from_utf8(value).ok().filter(|text| !text.contains(is_long));
        Self {
            component: prefix.strip_suffix('/'),
            key,
            value_utf8: text,
            value_base64: text.is_none().then_some(AsBase64(value)),
            crc32: checksum(full_key, value),
        }
    }
}

/// Whether JSON writes a character as six.
fn is_long(c: char) -> bool {
    c < ' ' && !matches!(c, '\t' | '\n' | '\r')
}

/// Bytes that are encoded while they are written.
#[derive(Debug)]
struct AsBase64<'a>(&'a [u8]);

impl Serialize for AsBase64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// A key and its value, as they were read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadKeyLine<'a> {
    component: Option<String>,
    key: String,
    #[serde(borrow)]
    value_utf8: Option<Text<'a>>,
    #[serde(borrow)]
    value_base64: Option<Text<'a>>,
    crc32: String,
}

/// A text that is not copied unless it has escapes.
#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl ReadKeyLine<'_> {
    /// The full key and its value, or what is wrong.
    pub(super) fn into_entry(self) -> Result<(String, StorageValue), String> {
        let full_key = match &self.component {
            None => self.key,
            Some(component) => [component, "/", &self.key].concat(),
        };
        let prefix = split_full_key(&full_key).0;
        if prefix.strip_suffix('/') != self.component.as_deref() {
            return Err("its component does not match its key".to_owned());
        }
        let value: StorageValue = match (self.value_utf8, self.value_base64) {
            (Some(Text(text)), None) => text.as_bytes().into(),
            (None, Some(Text(text))) => STANDARD
                .decode(text.as_bytes())
                .map_err(|error| format!("its value is not valid base64: {error}"))?
                .into(),
            _ => return Err("it must have either value_utf8 or value_base64".to_owned()),
        };
        if checksum(&full_key, value.as_bytes()) != self.crc32 {
            return Err("its checksum does not match".to_owned());
        }
        Ok((full_key, value))
    }
}

/// The CRC-32 of the full key, a zero byte and the value, in hexadecimal digits.
fn checksum(full_key: &str, value: &[u8]) -> String {
    let mut crc = crc32fast::Hasher::new();
    crc.update(full_key.as_bytes());
    // No key contains it.
    crc.update(&[0]);
    crc.update(value);
    format!("{:08x}", crc.finalize())
}

/// What an archive has up to a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Full keys and values.
    pub(super) usage: Usage,
    pub(super) components: u64,
}

/// The line after a block.
pub(super) fn checkpoint(keys: u64, digest: &[u8]) -> String {
    format!("{{\"checkpoint\":{keys},\"sha256\":\"{}\"}}\n", hexadecimal(digest))
}

/// The last line.
pub(super) fn end(totals: &Totals, digest: &[u8]) -> String {
    format!(
        "{{\"end\":true,\"keys\":{},\"components\":{},\"bytes\":{},\"sha256\":\"{}\"}}\n",
        totals.usage.keys,
        totals.components,
        totals.usage.bytes,
        hexadecimal(digest)
    )
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
