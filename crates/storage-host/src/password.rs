//! Passwords in URLs of stores, which messages, logs and results must not show.

/// What is shown instead of a password.
const HIDDEN: &str = "***";

/// The scheme of stores on a server.
const SERVER: &str = "postgres:";

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
    text.split_inclusive('\n').map(|line| hide_settings(&hide_in_authority(line))).collect()
}

/// `SCHEME://USER:PASSWORD@HOST`, and the same without slashes.
fn hide_in_authority(line: &str) -> String {
    if let Some((user, host)) = split_authority(line) {
        return format!("{user}:{HIDDEN}@{host}");
    }
    let without_slashes = || {
        let (before, rest) = line.split_once(SERVER).filter(|(_, rest)| !rest.starts_with("//"))?;
        let (_, host) = rest.rsplit_once('@')?;
        Some(format!("{before}{SERVER}{HIDDEN}@{host}"))
    };
    without_slashes().unwrap_or_else(|| line.to_owned())
}

/// What is before and after `:PASSWORD@`.
fn split_authority(text: &str) -> Option<(&str, &str)> {
    let begin = match text.starts_with("//") {
        true => 2,
        false => text.find("://")? + 3,
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
        ] {
            assert_eq!(hide_passwords(text), text);
        }
    }
}
