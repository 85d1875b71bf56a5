//! The server and database in a store's URL.

use std::fmt;

use crate::store_path;

/// The server and database that a URL names: `//USER[:PASSWORD]@HOST[:PORT]/DATABASE`.
///
/// `Display` and `Debug` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    user: String,
    password: Option<String>,
    host: String,
    port: Option<u16>,
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
        &self.host
    }

    /// The port, unless it is the default.
    pub fn port(&self) -> Option<u16> {
        self.port
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
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or(port))),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = port.map(|port| {
            let parsed = port.parse::<u16>().ok().filter(|port| *port > 0);
            parsed.ok_or_else(|| format!("has the port {port:?}; it is a number up to 65535"))
        });
        let server = Self {
            user: decoded(user, "user")?,
            password,
            host: decoded(host, "host")?,
            port: port.transpose()?,
            database: decoded(database, "database")?,
        };
        for (name, part) in
            [("user", &server.user), ("host", &server.host), ("database", &server.database)]
        {
            if part.is_empty() {
                return Err(format!("names no {name}"));
            }
        }
        if server.host.contains(['/', '?', '#', '@', '[', ']', '%', ' ']) {
            return Err("has a host that is no name and no address".to_owned());
        }
        Ok(server)
    }
}

/// Decodes `%XX`. Control characters are errors: no server accepts them in these parts.
fn decoded(text: &str, part: &str) -> Result<String, String> {
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
struct Encoded<'a>(&'a str);

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

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "//{}@", Encoded(&self.user))?;
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => write!(f, "{}", Encoded(&self.host))?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "/{}", Encoded(&self.database))
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
