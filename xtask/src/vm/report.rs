//! What is said in the end: a line a kernel, and what the kernels' verifiers made of the programs.

use std::fmt::Write as _;

use super::{guest::Report, kernels::Series};
use crate::test::Counts;

/// What came out on one kernel.
pub(super) struct Row {
    release: String,
    report: Report,
    error: Option<String>,
}

impl Row {
    /// Of a kernel's outcome; one that could not be had or booted is a failure.
    pub(super) fn of(series: Series, outcome: anyhow::Result<(String, Report)>) -> Self {
        match outcome {
            Ok((release, report)) => Self { release, report, error: None },
            Err(error) => {
                println!("error: {error:#}");
                let mut report = Report::default();
                report.counts.failed = 1;
                Self { release: series.name().to_owned(), report, error: Some(format!("{error:#}")) }
            }
        }
    }

    /// The kernel's release.
    pub(super) fn release(&self) -> &str {
        &self.release
    }

    /// Its tests.
    pub(super) const fn counts(&self) -> Counts {
        self.report.counts
    }
}

/// The columns of the table of programs: what is said of each, and its heading.
const COLUMNS: [(&str, &str); 9] = [
    ("program", "program"),
    ("instructions", "instructions"),
    ("translated", "as the kernel runs it"),
    ("processed", "processed"),
    ("states", "states"),
    ("peak", "at most at once"),
    ("stack", "stack, bytes"),
    ("verified_ms", "verifying, ms"),
    ("load_ms", "loading, ms"),
];

/// Both tables, as they stand in the documents.
pub(super) fn tables(rows: &[Row]) -> String {
    let mut text = String::from("\n| kernel |");
    COLUMNS.iter().for_each(|(_, heading)| {
        let _infallible = write!(text, " {heading} |");
    });
    text.push_str("\n|");
    text.push_str(&" --- |".repeat(COLUMNS.len() + 1));
    text.push('\n');
    for row in rows {
        for figures in &row.report.figures {
            let _infallible = write!(text, "| {} |", row.release);
            for (name, _) in COLUMNS {
                let _infallible = write!(text, " {} |", value_of(figures, name));
            }
            text.push('\n');
        }
    }
    text.push_str("\n| kernel | passed | failed | skipped |\n| --- | --- | --- | --- |\n");
    for Row { release, report, error } in rows {
        let Counts { passed, failed, skipped } = report.counts;
        let why = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let _infallible = writeln!(text, "| {release} | {passed} | {failed}{why} | {skipped} |");
    }
    text.push('\n');
    text
}

/// The value of a name among words of `name=value`, in which `_` stands for a space.
fn value_of(figures: &str, name: &str) -> String {
    let values = figures.split(' ').filter_map(|word| word.split_once('='));
    let found = values.into_iter().find(|(of, _)| *of == name);
    found.map_or_else(|| "–".to_owned(), |(_, value)| value.replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_could_not_be_had_fails_and_figures_become_a_table() {
        let mut fine = Report::default();
        fine.figures.push("program=live_one instructions=7".into());
        let rows = [
            Row::of(Series::V6_1, Ok(("6.1.0-40-cloud-amd64".into(), fine))),
            Row::of(Series::Newest, Err(anyhow::anyhow!("no such package"))),
        ];
        let text = tables(&rows);
        assert!(text.contains("| 6.1.0-40-cloud-amd64 | live one | 7 | – |"), "{text}");
        assert!(text.contains("| newest | 0 | 1: no such package | 0 |"), "{text}");
        assert_eq!(rows[1].counts().failed, 1);
    }
}
