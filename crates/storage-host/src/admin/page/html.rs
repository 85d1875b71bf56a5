//! HTML in which no stored text is markup.

use std::fmt::{self, Display, Write};

use crate::hidden::is_hidden;

/// A text, escaped for HTML. Hidden characters are shown as `\u{202e}`, and a text of another
/// direction does not move what is around it.
pub(super) struct Escaped<'a>(pub(super) &'a str);

/// Like [`Escaped`], but keeps line breaks and tabs, for `<pre>`.
pub(super) struct EscapedLines<'a>(pub(super) &'a str);

/// A text for the value of an attribute, which must be what it was.
pub(super) struct Attribute<'a>(pub(super) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        isolated(self.0, |_| false, f)
    }
}

impl Display for EscapedLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        isolated(self.0, |c| matches!(c, '\n' | '\t'), f)
    }
}

fn isolated(text: &str, keep: fn(char) -> bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("<bdi>")?;
    for c in text.chars() {
        match c {
            c if is_hidden(c) && !keep(c) => write!(f, "<i>{}</i>", c.escape_default())?,
            c => escaped_char(c, f)?,
        }
    }
    f.write_str("</bdi>")
}

impl Display for Attribute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| escaped_char(c, f))
    }
}

fn escaped_char(c: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match c {
        '&' => f.write_str("&amp;"),
        '<' => f.write_str("&lt;"),
        '>' => f.write_str("&gt;"),
        '"' => f.write_str("&quot;"),
        '\'' => f.write_str("&#39;"),
        c => f.write_char(c),
    }
}

/// A whole page with this title and content, both HTML.
pub(super) fn page(title: &str, content: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>storage-host</title>\
         <link rel=\"stylesheet\" href=\"/style.css\"></head>\n<body>\n\
         <nav><a href=\"/\">components</a> <a href=\"/activity\">activity</a></nav>\n\
         <h1>{title}</h1>\n{content}</body>\n</html>\n"
    )
}

pub(super) const STYLE: &str = "\
body { font: 15px/1.5 system-ui, sans-serif; margin: 1em auto; max-width: 70em; padding: 0 1em }
h1, h2 { font-size: 1.3em; overflow-wrap: anywhere }
h2 { font-size: 1.1em }
nav a { margin-right: 1em }
li, td, pre { font-family: ui-monospace, monospace; overflow-wrap: anywhere }
pre { background: #f4f4f4; color: #111; padding: 1em; white-space: pre-wrap }
table { display: block; overflow-x: auto }
th, td { padding: 0.1em 1em 0.1em 0; text-align: left }
i { color: #b00; font-style: normal }
h1, p, td, pre { overflow: clip }
li a { display: inline-block; max-width: 100%; overflow: clip; vertical-align: top }
pre.hex { overflow: auto; white-space: pre }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_hidden_characters_are_shown() {
        let text = "<script>alert('x')</script>&\"\u{202e}\u{0}\n\u{200b}\u{e9}";
        assert_eq!(
            Escaped(text).to_string(),
            "<bdi>&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;<i>\\u{202e}</i>\
             <i>\\u{0}</i><i>\\n</i><i>\\u{200b}</i>\u{e9}</bdi>"
        );
        assert_eq!(EscapedLines("a\n\t\r").to_string(), "<bdi>a\n\t<i>\\r</i></bdi>");
        assert_eq!(Attribute("\"'<>&a\u{202e}").to_string(), "&quot;&#39;&lt;&gt;&amp;a\u{202e}");
    }

    #[test]
    fn no_text_is_markup() {
        for c in '\u{0}'..='\u{10ffff}' {
            let text = c.to_string();
            let attribute = Attribute(&text).to_string();
            assert!(!attribute.contains(['<', '>', '"', '\'']), "{c:?}");
            let escaped = Escaped(&text).to_string().replace("<bdi>", "").replace("</bdi>", "");
            let escaped = escaped.replace("<i>", "").replace("</i>", "");
            assert!(!escaped.contains(['<', '>', '"', '\'']), "{c:?}: {escaped}");
            assert!(!escaped.contains(is_hidden), "{c:?}: {escaped}");
        }
    }
}
