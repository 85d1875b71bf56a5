//! The server and database in a store's URL.

use std::fmt;

use crate::server_address::ServerAddress;
use crate::url_text::{Encoded, decoded};

/// The server and database that a URL names: `//USER[:PASSWORD]@HOST[:PORT]/DATABASE`.
///
/// `Display` and `Debug` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    user: String,
    password: Option<String>,
    address: ServerAddress,
    database: String,
}

impl Server {
    /// The user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password, if the URL has one.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// The name or address of the host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        self.address.host()
    }

    /// The port, unless it is the default.
    pub fn port(&self) -> Option<u16> {
        self.address.port()
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.database
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
        let (login, rest) = text
            .rsplit_once('@')
            .ok_or_else(|| "names no user: put it and an at sign before the host".to_owned())?;
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password, "password")?)),
            None => (login, None),
        };
        let (authority, database) = rest.split_once('/').ok_or_else(|| {
            "names no database: put a slash and its name after the host".to_owned()
        })?;
        let server = Self {
            user: decoded(user, "user")?,
            password,
            address: ServerAddress::parse(authority)?,
            database: decoded(database, "database")?,
        };
        for (name, part) in [("user", &server.user), ("database", &server.database)] {
            if part.is_empty() {
                return Err(format!("names no {name}"));
            }
        }
        Ok(server)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "//{}@{}/{}", Encoded(&self.user), self.address, Encoded(&self.database))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Server, String> {
        Server::parse("postgres", text)
    }

    #[test]
    fn display_and_parse_are_inverse_but_for_the_password() {
        for text in [
            "//ada@h/d",
            "//ada@[::1]:5432/d",
            "//a%40b@db.example:1/my%20data",
            "//ada@127.0.0.1/d%2Fe",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        let server = parse("//ada:s%40c:r/t?@h/d").unwrap();
        assert_eq!(server.password(), Some("s@c:r/t?"));
        assert_eq!(server.to_string(), "//ada@h/d");
        assert_eq!(format!("{server:?}"), "Server(//ada@h/d)");
    }

    #[test]
    fn errors_name_the_missing_part() {
        for (text, part) in [
            ("", "server"),
            ("/d", "server"),
            ("//h/d", "user"),
            ("//@h/d", "user"),
            ("//ada@/d", "host"),
            ("//ada@h", "database"),
            ("//ada@h/", "database"),
            ("//ada@h:x/d", "port"),
            ("//ada@h:0/d", "port"),
            ("//ada:%zz@h/d", "password"),
            ("//a\0@h/d", "user"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }
}
