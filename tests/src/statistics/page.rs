//! The parts of `docs/statistics.md` that are made here: what stands between `<!-- NAME -->` and `<!-- end -->`.

use anyhow::{Context, Result};

/// The page with one part replaced.
///
/// # Errors
/// If the page has no such part.
pub fn replaced(page: &str, name: &str, part: &str) -> Result<String> {
    let begin = format!("<!-- {name} -->\n");
    let (before, rest) = page.split_once(&begin).with_context(|| format!("there is no line `{}`", begin.trim()))?;
    let (_, after) = rest.split_once("<!-- end -->").with_context(|| format!("`{name}` has no end"))?;
    Ok(format!("{before}{begin}{part}<!-- end -->{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let page = "a\n<!-- null -->\nold\n<!-- end -->\nb\n<!-- power -->\nold\n<!-- end -->\n";
        let found = replaced(page, "null", "new\n").expect("it is there");
        assert_eq!(found, "a\n<!-- null -->\nnew\n<!-- end -->\nb\n<!-- power -->\nold\n<!-- end -->\n");
        assert!(replaced(page, "other", "").is_err());
    }
}
