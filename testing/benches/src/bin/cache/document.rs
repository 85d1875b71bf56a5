//! Writes what was measured into the documentation.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Puts `tables` where the markers of a part are in the file.
pub(crate) fn write(path: &Path, part: &str, tables: &str) -> Result<()> {
    let old =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let new = replace(&old, part, tables)
        .with_context(|| format!("cannot write the tables into {}", path.display()))?;
    fs::write(path, new).with_context(|| format!("cannot write {}", path.display()))
}

/// `text` with what stands between the markers of a part replaced.
fn replace(text: &str, part: &str, tables: &str) -> Result<String> {
    let [begin, end] = markers(part);
    let parts = text.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        bail!("there is no place for them: put the lines {begin} and {end} where they go");
    };
    Ok(format!("{before}{begin}\n{}\n{end}{after}", tables.trim_end()))
}

/// The lines before and after the tables of a part.
fn markers(part: &str) -> [String; 2] {
    ["begin", "end"].map(|border| format!("<!-- {part}:{border} -->"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let [begin, end] = markers("part");
        let [other_begin, other_end] = markers("other");
        let other = format!("{other_begin}\nother\n{other_end}\n");
        let text = format!("# Title\n{other}{begin}\nold\nolder\n{end}\nrest\n");
        let fresh = replace(&text, "part", "new\n\n").unwrap();
        assert_eq!(fresh, format!("# Title\n{other}{begin}\nnew\n{end}\nrest\n"));
        assert_eq!(replace(&fresh, "part", "new").unwrap(), fresh);
    }

    #[test]
    fn a_text_without_both_markers_in_order_says_so() {
        let [begin, end] = markers("part");
        for text in ["# Title\n", &begin, &end, &format!("{end}\n{begin}\n")] {
            let error = replace(text, "part", "new\n").unwrap_err().to_string();
            assert!(error.contains(&begin) && error.contains(&end), "{error}");
        }
    }

    #[test]
    fn the_documentation_has_the_markers() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/benchmarks.md");
        let text = fs::read_to_string(path).unwrap();
        for part in [crate::Part::Hits, crate::Part::Traces] {
            assert!(replace(&text, part.name(), "").is_ok());
        }
    }

    #[test]
    fn a_file_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.md");
        let [begin, end] = markers("part");
        fs::write(&path, format!("a\n{begin}\n{end}\nb\n")).unwrap();
        write(&path, "part", "tables").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("a\n{begin}\ntables\n{end}\nb\n"));
        assert!(write(&folder.path().join("none.md"), "part", "").is_err());
    }
}
