//! Passwords in URLs of stores, which messages, logs and results must not show.

/// What is shown instead of a password.
const HIDDEN: &str = "***";

/// The name of a setting with a password, or the end of its name, up to the value.
const SETTING: &str = "password=";

/// A text that may be a store's URL, without its passwords.
///
/// Hides too much rather than too little: a password may have characters that should have
/// been escapes.
pub(crate) fn hide_passwords(text: &str) -> String {
    hide_settings(&hide_in_authority(text))
}

/// `SCHEME://USER:PASSWORD@HOST`.
fn hide_in_authority(text: &str) -> String {
    match split_authority(text) {
        Some((user, host)) => format!("{user}:{HIDDEN}@{host}"),
        None => text.to_owned(),
    }
}

/// Whether a text has a password before its host.
pub(crate) fn has_password(text: &str) -> bool {
    split_authority(text).is_some()
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
        ] {
            assert_eq!(hide_passwords(text), text);
        }
    }
}
