//! Several servers in a store's URL.

use std::fmt;

use crate::server_address::ServerAddress;
use crate::url_text::{Encoded, decoded};

/// The servers that a URL names:
/// `//[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]..][/NAME]`. The user may be empty before a
/// password.
///
/// `Display` and `Debug` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct Servers {
    user: Option<String>,
    password: Option<String>,
    addresses: Vec<ServerAddress>,
    name: Option<String>,
}

impl Servers {
    /// The user, if the URL has one.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password, if the URL has one.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// The servers, in the order of the URL; at least one.
    pub fn addresses(&self) -> &[ServerAddress] {
        &self.addresses
    }

    /// What follows the slash after the servers, such as a database; `None` if nothing does.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Parses the part of a URL between the colon and the question mark.
    ///
    /// # Errors
    /// What is wrong with it, as a message that follows the URL, without the password.
    pub(crate) fn parse(scheme: &str, text: &str) -> Result<Self, String> {
        let text = text
            .strip_prefix("//")
            .ok_or_else(|| format!("names no server: put // after {scheme}:"))?;
        // A password may have any character but the last @.
        let (login, rest) = match text.rsplit_once('@') {
            Some((login, rest)) => (Some(login), rest),
            None => (None, text),
        };
        let (user, password) = match login.map(|login| login.split_once(':').ok_or(login)) {
            None => (None, None),
            Some(Ok(("", password))) => (None, Some(decoded(password, "password")?)),
            Some(Ok((user, password))) => (Some(user), Some(decoded(password, "password")?)),
            Some(Err("")) => return Err("names no user: remove the at sign".to_owned()),
            Some(Err(user)) => (Some(user), None),
        };
        if user.is_some_and(|user| user.contains(['/', '?', ','])) {
            return Err("has an at sign that does not follow a user or a password".to_owned());
        }
        let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains(',') && authority.split(',').any(str::is_empty) {
            return Err("has a comma without a host on each side: remove it".to_owned());
        }
        Ok(Self {
            user: user.map(|user| decoded(user, "user")).transpose()?,
            password,
            addresses: authority.split(',').map(ServerAddress::parse).collect::<Result<_, _>>()?,
            name: Some(decoded(name, "name")?).filter(|name| !name.is_empty()),
        })
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("//")?;
        if let Some(user) = &self.user {
            write!(f, "{}@", Encoded(user))?;
        }
        for (number, address) in self.addresses.iter().enumerate() {
            let separator = if number == 0 { "" } else { "," };
            write!(f, "{separator}{address}")?;
        }
        match &self.name {
            Some(name) => write!(f, "/{}", Encoded(name)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Servers({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Servers, String> {
        Servers::parse("redis", text)
    }

    #[test]
    fn display_and_parse_are_inverse_but_for_the_password() {
        for text in [
            "//h",
            "//h:7000",
            "//ada@h/3",
            "//[::1]:7000,h,10.0.0.1:1",
            "//a%40b@h1,h2/my%20master",
            "//h/a%2Fb",
        ] {
            let servers = parse(text).unwrap();
            assert_eq!(servers.to_string(), text);
            assert_eq!(parse(&servers.to_string()).as_ref(), Ok(&servers));
            assert_eq!(servers.password(), None);
        }
        for (text, shown, user) in [
            ("//:s3cret@h/", "//h", None),
            ("//:s%3Acret@h/1", "//h/1", None),
            ("//ada:s@c,r/t?@h1,h2/", "//ada@h1,h2", Some("ada")),
            ("//ada:@h", "//ada@h", Some("ada")),
        ] {
            let servers = parse(text).unwrap();
            assert!(servers.password().is_some());
            assert_eq!((servers.to_string().as_str(), servers.user()), (shown, user));
            assert_eq!(format!("{servers:?}"), format!("Servers({shown})"));
        }
        let servers = parse("//ada:s@c,r/t?%25@[::1]:7000,h2/x").unwrap();
        assert_eq!(servers.password(), Some("s@c,r/t?%"));
        let addresses: Vec<_> =
            servers.addresses().iter().map(|one| (one.host(), one.port())).collect();
        assert_eq!(addresses, [("::1", Some(7000)), ("h2", None)]);
        assert_eq!(servers.name(), Some("x"));
    }

    #[test]
    fn errors_name_the_missing_part_and_no_password() {
        for (text, part) in [
            ("", "server"),
            ("h", "server"),
            ("/h", "server"),
            ("//", "host"),
            ("//@h", "user"),
            ("///0", "host"),
            ("//h,,g", "comma without a host"),
            ("//h,", "comma without a host"),
            ("//[::1", "not in brackets"),
            ("//::1", "not in brackets"),
            ("//h,fe80::1:6379", "not in brackets"),
            ("//1:2:3:4:5:6:7:8:6379", "not in brackets"),
            ("//:secret@", "host"),
            ("//:secret@/0", "host"),
            ("//h:x", "port"),
            ("//h:0", "port"),
            ("//h:65536", "port"),
            ("//ada:secret", "port"),
            ("//:secret", "port"),
            ("//ada:%zzsecret@h", "password"),
            ("//a\0@h", "user"),
            ("//h/0?sslrootcert=a@b", "at sign"),
            ("//h1,h2@h", "at sign"),
            ("//h/a%0Ab", "name"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
            assert!(!problem.contains("secret"), "{text}: {problem}");
        }
    }
}
