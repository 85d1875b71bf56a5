//! Escapes in the parts of a URL that names servers.

use std::fmt;

use crate::store_path;

/// Decodes `%XX` in a part. Control characters are errors: no server accepts them.
///
/// # Errors
/// What is wrong, as a message that follows the URL. It does not contain the part.
pub(crate) fn decoded(text: &str, part: &str) -> Result<String, String> {
    let bytes = store_path::decode_percent(text.as_bytes()).ok_or_else(|| {
        format!(
            "has a % in its {part} that is not followed by two hexadecimal digits: write %25 for a \
             literal %"
        )
    })?;
    let decoded = String::from_utf8(bytes)
        .map_err(|_| format!("has escapes in its {part} that are not UTF-8"))?;
    match decoded.contains(char::is_control) {
        true => Err(format!("has a control character in its {part}: remove it")),
        false => Ok(decoded),
    }
}

/// Writes a part of a URL, with escapes for characters that would end it.
pub(crate) struct Encoded<'a>(pub(crate) &'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_alphanumeric() || "-._~".contains(c) {
                write!(f, "{c}")?;
            } else {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    write!(f, "%{byte:02X}")?;
                }
            }
        }
        Ok(())
    }
}
