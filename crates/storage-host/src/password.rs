//! Passwords in URLs of stores, which messages, logs and results must not show.

/// What is shown instead of a password.
const HIDDEN: &str = "***";

/// The schemes of stores on a server.
const SERVERS: [&str; 6] =
    ["postgres", "postgresql", "redis", "rediss", "redis+cluster", "redis+sentinel"];

/// The name of a setting with a password, or the end of its name, up to the value.
const SETTING: &str = "password=";

/// A text for a message, which may contain URLs of stores, without their passwords: at most one
/// URL with a user in each line, and any number of settings.
///
/// Hides too much rather than too little: a password may have characters that should have
/// been escapes.
///
/// ```
/// use storage_host::hide_passwords;
///
/// assert_eq!(hide_passwords("store = \"x://ada:secret@h/d\""), "store = \"x://ada:***@h/d\"");
/// assert_eq!(hide_passwords("x://ada@h/d?password=secret"), "x://ada@h/d?password=***");
/// assert_eq!(hide_passwords("file:a@b"), "file:a@b");
/// ```
pub fn hide_passwords(text: &str) -> String {
    text.split_inclusive('\n').map(hide_in_url).collect()
}

/// The same for a text that is at most one URL, whose password may have line breaks.
pub(crate) fn hide_in_url(text: &str) -> String {
    hide_settings(&hide_in_authority(text))
}

/// `SCHEME://USER:PASSWORD@HOST`. Of a store on a server also the same with another number of
/// slashes, and `SCHEME://USER:PASSWORD`, where the host is missing.
fn hide_in_authority(line: &str) -> String {
    if let Some((user, host)) = split_authority(line) {
        return format!("{user}:{HIDDEN}@{host}");
    }
    let Some((scheme, rest)) = split_server(line) else { return line.to_owned() };
    let has_slashes = rest.starts_with("//") && !rest.starts_with("///");
    match rest.rsplit_once('@') {
        // A user without a password.
        Some(_) if has_slashes => line.to_owned(),
        Some((_, host)) => format!("{scheme}{HIDDEN}@{host}"),
        None => match end_of_addresses(rest) {
            Some(end) => format!("{scheme}{}{HIDDEN}", rest.get(..end).unwrap_or_default()),
            None => line.to_owned(),
        },
    }
}

/// The part of a text up to the scheme of a store on a server, and the rest of the URL. The
/// colon may be missing before slashes.
fn split_server(text: &str) -> Option<(&str, &str)> {
    // As long as `text` in bytes, unlike `to_lowercase`.
    let lower = text.to_ascii_lowercase();
    let is_begin = |at: usize| {
        let before = lower.get(..at).and_then(|before| before.chars().next_back());
        before.is_none_or(|c| !c.is_ascii_alphanumeric() && !"+-.".contains(c))
    };
    let ends = SERVERS.iter().flat_map(|scheme| {
        let found = lower.match_indices(scheme).filter(|(at, _)| is_begin(*at));
        found.filter_map(|(at, _)| {
            let end = at + scheme.len();
            match lower.get(end..)? {
                rest if rest.starts_with(':') => Some(end + 1),
                rest if rest.starts_with("//") => Some(end),
                _ => None,
            }
        })
    });
    text.split_at_checked(ends.min()?)
}

/// Where a text begins that follows a colon and is not a port.
fn end_of_addresses(rest: &str) -> Option<usize> {
    let mut at = rest.len() - rest.trim_start_matches('/').len();
    while let Some(found) = rest.get(at..)?.find(|c: char| ":[/?".contains(c) || c.is_whitespace())
    {
        at += found;
        let left = rest.get(at..)?;
        if let Some(address) = left.strip_prefix('[').and_then(|left| left.find(']')) {
            at += address + 2;
        } else if let Some(port) = left.strip_prefix(':') {
            let after = port.trim_start_matches(|c: char| c.is_ascii_digit());
            let is_port = after.len() < port.len()
                && after.chars().next().is_none_or(|c| ",/?\"'".contains(c) || c.is_whitespace());
            if !is_port {
                return Some(at + 1);
            }
            at = rest.len() - after.len();
        } else {
            return None;
        }
    }
    None
}

/// What is before and after `:PASSWORD@`.
fn split_authority(text: &str) -> Option<(&str, &str)> {
    let begin = match text.starts_with("//") {
        true => 2,
        false => match text.find("://") {
            Some(at) => at + 3,
            None => {
                let (scheme, rest) = split_server(text)?;
                rest.starts_with("//").then_some(scheme.len() + 2)?
            }
        },
    };
    let (scheme, rest) = text.split_at_checked(begin)?;
    // `file:///srv/a:b@c` is a path.
    let (user_info, host) = rest.rsplit_once('@').filter(|_| !rest.starts_with('/'))?;
    let user = user_info.find(':')?;
    Some((text.get(..scheme.len() + user)?, host))
}

fn hide_settings(text: &str) -> String {
    // As long as `text` in bytes, unlike `to_lowercase`.
    let lower = text.to_ascii_lowercase();
    let mut shown = String::new();
    let mut at = 0;
    while let Some(found) = lower.get(at..).and_then(|rest| rest.find(SETTING)) {
        let value = at + found + SETTING.len();
        shown.push_str(text.get(at..value).unwrap_or_default());
        shown.push_str(HIDDEN);
        let rest = text.get(value..).unwrap_or_default();
        at = value + rest.find(|c: char| c == '&' || c.is_whitespace()).unwrap_or(rest.len());
    }
    shown.push_str(text.get(at..).unwrap_or_default());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_and_nothing_else() {
        for (text, shown) in [
            ("postgres://ada:s3cret@db:5432/app", "postgres://ada:***@db:5432/app"),
            ("postgres://ada:s3/cr?t@1@db", "postgres://ada:***@db"),
            ("postgres://ada:@db", "postgres://ada:***@db"),
            ("//ada:s3cret@db", "//ada:***@db"),
            ("pg://h/d?user=a&password=s3cret&x=y", "pg://h/d?user=a&password=***&x=y"),
            ("pg://h/d?sslPassword=s3cret", "pg://h/d?sslPassword=***"),
            ("pg:host=h password=s3cret user=a", "pg:host=h password=*** user=a"),
            ("a password=s3cret password=other", "a password=*** password=***"),
            ("a\nx://u:p@q:r@h/d\nb@c", "a\nx://u:***@h/d\nb@c"),
            ("'postgres:u:p@h/d'", "'postgres:***@h/d'"),
            ("PostgreSQL:u:p@h/d", "PostgreSQL:***@h/d"),
            ("postgres:///u:p@h/d", "postgres:***@h/d"),
            ("redis://:s3cret@h/0", "redis://:***@h/0"),
            ("rediss:/:s3cret@h/0", "rediss:***@h/0"),
            ("redis+cluster://u:p,q@h1:1,h2:2/", "redis+cluster://u:***@h1:1,h2:2/"),
            ("redis+sentinel:u:p@h1,h2/m", "redis+sentinel:***@h1,h2/m"),
            // The host is missing.
            ("redis://ada:s3cret/0", "redis://ada:***"),
            ("redis:/ada:s3cret/0", "redis:/ada:***"),
            ("store = 'redis://:s3cret'", "store = 'redis://:***"),
            ("redis://h:6379,s:3cret", "redis://h:6379,s:***"),
            // The colon is missing.
            ("redis+cluster//ada:s3cret@h1,h2", "redis+cluster//ada:***@h1,h2"),
            ("'Redis//:s3cret@h/0'", "'Redis//:***@h/0'"),
            ("redis//ada:s3cret", "redis//ada:***"),
        ] {
            assert_eq!(hide_passwords(text), shown);
        }
        for text in [
            "",
            "redb:./d.redb?durability=relaxed",
            "file:///srv/a:b@c",
            "file:a:b@c",
            "file:a//b:c@d",
            "postgres://ada@db/app",
            "postgres://db:5432/app",
            "pg://h/d?passwords=3",
            "x://u@h/d?a=b@c:d",
            "redis://db:6379/0?prefix=a",
            "redis://ada@db",
            "redis+cluster://[::1]:7000,h2:7001,h3?wait=1",
            "'redis://h:6379' is empty: try again",
            "file:redis:a",
            "file:///srv/redis:1/x:y",
            "myredis:a:b",
            "redis//h:6379/0",
        ] {
            assert_eq!(hide_passwords(text), text);
        }
    }
}
