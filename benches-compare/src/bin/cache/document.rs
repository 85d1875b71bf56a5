//! Writes what was measured into the documentation.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

const BEGIN: &str = "<!-- cache:begin -->";
const END: &str = "<!-- cache:end -->";

/// Puts `tables` where the markers in the file are.
pub(crate) fn write(path: &Path, tables: &str) -> Result<()> {
    let old =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let new = replace(&old, tables)
        .with_context(|| format!("cannot write the tables into {}", path.display()))?;
    fs::write(path, new).with_context(|| format!("cannot write {}", path.display()))
}

/// `text` with what stands between the markers replaced.
fn replace(text: &str, tables: &str) -> Result<String> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        bail!("there is no place for them: put the lines {BEGIN} and {END} where they go");
    };
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", tables.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let text = format!("# Title\n{BEGIN}\nold\nolder\n{END}\nrest\n");
        let fresh = replace(&text, "new\n\n").unwrap();
        assert_eq!(fresh, format!("# Title\n{BEGIN}\nnew\n{END}\nrest\n"));
        assert_eq!(replace(&fresh, "new").unwrap(), fresh);
    }

    #[test]
    fn a_text_without_both_markers_in_order_says_so() {
        for text in ["# Title\n", BEGIN, END, &format!("{END}\n{BEGIN}\n")] {
            let error = replace(text, "new\n").unwrap_err().to_string();
            assert!(error.contains(BEGIN) && error.contains(END), "{error}");
        }
    }

    #[test]
    fn the_documentation_has_the_markers() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
        assert!(replace(&fs::read_to_string(path).unwrap(), "").is_ok());
    }

    #[test]
    fn a_file_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.md");
        fs::write(&path, format!("a\n{BEGIN}\n{END}\nb\n")).unwrap();
        write(&path, "tables").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("a\n{BEGIN}\ntables\n{END}\nb\n"));
        assert!(write(&folder.path().join("none.md"), "").is_err());
    }
}
