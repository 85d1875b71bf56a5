//! Fields of a form or a query: `name=Ada&text=a+b%21`.

/// The value of the first field with this name. What is not UTF-8 is replaced.
pub(crate) fn field(fields: &str, name: &str) -> Option<String> {
    let pairs = fields.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(key, _)| decoded(key) == name).map(|(_, value)| decoded(value))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        bytes.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            (byte, _) => *byte,
        });
    }
    // Browsers send lines that end in both.
    String::from_utf8_lossy(&bytes).replace("\r\n", "\n")
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_decoded() {
        let fields = "name=Ada+L%C3%B6we&text=a%0D%0Ab%26c%3D%2&name=x&empty&";
        assert_eq!(field(fields, "name").unwrap(), "Ada L\u{f6}we");
        assert_eq!(field(fields, "text").unwrap(), "a\nb&c=%2");
        assert_eq!(field(fields, "empty").unwrap(), "");
        assert_eq!(field(fields, "other"), None);
        assert_eq!(field("a=%ff%zz%", "a").unwrap(), "\u{fffd}%zz%");
    }
}
