//! What a change did, or would do.

use crate::{
    cli::table::{Paint, Tone},
    model::api::Done,
};

/// One line a change.
pub(crate) fn done(done: &Done, paint: Paint) -> String {
    if done.changes.is_empty() {
        return "nothing to change\n".to_owned();
    }
    let prefix = if done.dry_run { paint.text(Tone::Faint, "would: ") } else { String::new() };
    done.changes.iter().map(|change| format!("{prefix}{change}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_says_that_it_only_would() {
        let changes = vec!["web: v2 0 % to 10 %".to_owned()];
        assert_eq!(
            done(&Done { changes: changes.clone(), dry_run: true }, Paint::Bare),
            "would: web: v2 0 % to 10 %\n"
        );
        assert_eq!(done(&Done { changes, dry_run: false }, Paint::Bare), "web: v2 0 % to 10 %\n");
        assert_eq!(done(&Done { changes: Vec::new(), dry_run: false }, Paint::Bare), "nothing to change\n");
    }
}
