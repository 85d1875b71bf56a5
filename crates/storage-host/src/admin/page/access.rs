//! Who may see the page: those with the token, under a name that no attacker can choose.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE, HOST, HeaderName};

/// The secret that a browser or program must send. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(***)")
    }
}

/// The shortest token.
const MIN_BYTES: usize = 16;

impl Token {
    /// Creates a token of 256 random bits, as 64 hexadecimal digits.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Takes a token that the operator has chosen: at least 16 letters, digits, `-` and `_`;
    /// `None` for any other text.
    pub fn new(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_valid = text.len() >= MIN_BYTES && text.bytes().all(is_plain);
        is_valid.then(|| Self(text.to_owned()))
    }

    /// The token, to be shown to the operator and nowhere else.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Compares in a time that does not depend on where the texts differ.
    pub(super) fn matches(&self, text: &str) -> bool {
        let (own, other) = (self.0.as_bytes(), text.as_bytes());
        let differences = own.iter().zip(other).fold(0, |found, (a, b)| found | (a ^ b));
        own.len() == other.len() && differences == 0
    }

    /// Whether a request has the token in its cookie or its `Authorization` header.
    pub(super) fn is_in(&self, headers: &HeaderMap, cookie: &str) -> bool {
        let bearer =
            text_of(headers, AUTHORIZATION).filter_map(|text| text.strip_prefix("Bearer "));
        let cookies = text_of(headers, COOKIE).flat_map(|text| text.split(';'));
        let cookies = cookies.filter_map(|one| one.trim().split_once('='));
        let own = cookies.filter(|(name, _)| *name == cookie).map(|(_, value)| value);
        bearer.chain(own).any(|given| self.matches(given.trim()))
    }
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}

/// Whether the browser knows this server by an address or as `localhost`. Another site can have
/// its own name resolved to this server (DNS rebinding), but cannot choose an address.
pub(super) fn has_safe_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).into_iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn only_the_whole_token_is_accepted() {
        let token = Token::random().unwrap();
        assert_ne!(token, Token::random().unwrap());
        assert_eq!(format!("{token:?}"), "Token(***)");
        let text = token.as_str();
        assert_eq!(text.len(), 64);
        assert_eq!(Token::new(text), Some(token.clone()));
        for bad in ["", "short", "a b c d e f g h i j", "0123456789abcde\""] {
            assert_eq!(Token::new(bad), None);
        }
        let accepted = |name, value: String| token.is_in(&headers(name, &value), "own");
        assert!(accepted(AUTHORIZATION, format!("Bearer {text}")));
        assert!(accepted(COOKIE, format!("a=b; own={text}; c=d")));
        for (name, value) in [
            (AUTHORIZATION, text.to_owned()),
            (AUTHORIZATION, format!("Basic {text}")),
            (AUTHORIZATION, format!("Bearer {}", &text[1..])),
            (AUTHORIZATION, format!("Bearer {text}0")),
            (AUTHORIZATION, "Bearer ".to_owned()),
            (COOKIE, format!("other={text}")),
            (COOKIE, format!("own={}", &text[..63])),
            (COOKIE, "own=".to_owned()),
            (HOST, text.to_owned()),
        ] {
            assert!(!accepted(name, value));
        }
    }

    #[test]
    fn names_that_others_chose_are_refused() {
        for host in ["127.0.0.1:8081", "[::1]:8081", "localhost:1", "LOCALHOST", "10.0.0.1"] {
            assert!(has_safe_host(&headers(HOST, host)), "{host}");
        }
        for host in ["evil.example:8081", "evil.example", "127.0.0.1.evil.example:80", "", ":80"] {
            assert!(!has_safe_host(&headers(HOST, host)), "{host}");
        }
        assert!(!has_safe_host(&HeaderMap::new()));
        let mut two = headers(HOST, "localhost");
        two.append(HOST, "evil.example".parse().unwrap());
        assert!(!has_safe_host(&two));
    }
}
