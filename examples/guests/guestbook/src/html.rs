//! The page.

use std::fmt::Write;

use crate::book::{Page, Signed};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:2em auto;padding:0 1em}\
form,article{border:1px solid #ccc;border-radius:6px;padding:1em;margin:1em 0}\
input,textarea{width:100%;box-sizing:border-box;font:inherit;margin:.2em 0 .8em}\
article p{white-space:pre-wrap;overflow-wrap:anywhere;margin:.3em 0 0}";

/// The page with a form and some entries. `base` is the path of the guestbook without a slash
/// at its end, `notice` what the visitor did wrong.
pub(crate) fn page(base: &str, page: &Page, notice: Option<&str>) -> String {
    let base = escaped(base);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Guestbook</title>\n<style>{STYLE}</style>\n<h1>Guestbook</h1>\n"
    );
    // Writing to a string cannot fail.
    if let Some(notice) = notice {
        let _ = writeln!(html, "<p role=\"alert\"><strong>{}</strong></p>", escaped(notice));
    }
    let _ = writeln!(
        html,
        "<form method=\"post\" action=\"{base}/entries\">\n\
         <label>Name <input name=\"name\" maxlength=\"80\" required></label>\n\
         <label>Text <textarea name=\"text\" maxlength=\"2000\" rows=\"3\" required></textarea></label>\n\
         <button>Sign</button>\n</form>\n<p>{}</p>",
        match page.count {
            1 => "1 entry".to_owned(),
            count => format!("{count} entries"),
        }
    );
    for Signed { entry, .. } in &page.entries {
        // Each in its own direction of text.
        let _ = writeln!(
            html,
            "<article><bdi><b>{}</b></bdi><p dir=\"auto\">{}</p></article>",
            escaped(&entry.name),
            escaped(&entry.text)
        );
    }
    if let Some(next) = &page.next {
        let _ = writeln!(html, "<a href=\"{base}/?after={next}\">Older entries</a>");
    }
    html
}

/// A text as the content of an element or of an attribute in quotes. Characters that change
/// the direction of what follows are shown by their number.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' | '\t' => html.push(c),
            c if c.is_control() || is_direction(c) => {
                let _ = write!(html, "[U+{:04X}]", u32::from(c));
            }
            c => html.push(c),
        }
    }
    html
}

fn is_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(
            escaped("<script>alert('1' & \"2\")</script>"),
            "&lt;script&gt;alert(&#39;1&#39; &amp; &quot;2&quot;)&lt;/script&gt;"
        );
        assert_eq!(escaped("a\nb\0c\u{202e}d\r"), "a\nb[U+0000]c[U+202E]d[U+000D]");
    }
}
