//! Where answers go: standard output, in the form that was asked for.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::cli::{args::Format, exit::CliError, table::Paint};

/// Standard output, and how to write to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) format: Format,
    pub(super) paint: Paint,
    /// Whether lines can be drawn over.
    pub(super) redraws: bool,
}

impl Output {
    /// Colours only on a terminal, and not where `NO_COLOR` is set to something.
    pub(super) fn new(format: Format) -> Self {
        let redraws = io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb");
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let paint = if redraws && !refused { Paint::Coloured } else { Paint::Bare };
        Self { format, paint, redraws }
    }

    /// Writes an answer: `text` for people, the value itself for programs.
    pub(super) fn answer(self, value: &impl Serialize, text: impl FnOnce(Paint) -> String) -> Result<(), CliError> {
        match self.format {
            Format::Text => write(&text(self.paint)),
            Format::Json => write(&format!("{}\n", json(serde_json::to_string_pretty(value))?)),
            Format::Yaml => write(&yaml(value)?),
        }
    }

    /// Writes one of many answers that follow each other: a line of JSON, a document of YAML.
    pub(super) fn next_answer(
        self,
        value: &impl Serialize,
        text: impl FnOnce(Paint) -> String,
    ) -> Result<(), CliError> {
        match self.format {
            Format::Text => write(&text(self.paint)),
            Format::Json => write(&format!("{}\n", json(serde_json::to_string(value))?)),
            Format::Yaml => write(&format!("---\n{}", yaml(value)?)),
        }
    }
}

fn json(written: Result<String, serde_json::Error>) -> Result<String, CliError> {
    written.map_err(|cause| CliError::Failed(format!("the answer cannot be written as JSON: {cause}")))
}

fn yaml(value: &impl Serialize) -> Result<String, CliError> {
    serde_saphyr::to_string(value)
        .map_err(|cause| CliError::Failed(format!("the answer cannot be written as YAML: {cause}")))
}

/// Writes to standard output at once.
pub(super) fn write(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|cause| match cause.kind() {
        io::ErrorKind::BrokenPipe => CliError::OutputClosed,
        _ => CliError::Failed(format!("cannot write to standard output: {cause}")),
    })
}

/// Writes a line for the operator to standard error: `grayxdp: …`.
pub(super) fn complain(line: &str) {
    // Where standard error is closed too, nobody is left to be told.
    let _nobody_listens = writeln!(io::stderr(), "grayxdp: {line}");
}
