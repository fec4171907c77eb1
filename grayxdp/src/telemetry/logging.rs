//! Logging: one line an event, on stderr, as systemd and people at a terminal take it.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, filter::ParseError};

/// The variable that sets the level: `debug`, or by part as `info,grayxdp::rollout=debug`.
const VARIABLE: &str = "GRAYXDP_LOG";

/// The level where the variable is not set.
const DEFAULT_LEVEL: &str = "info";

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The variable holds no filter.
    #[error("{VARIABLE} is `{text}`: use error, warn, info, debug or trace ({cause})")]
    Level {
        /// What it holds.
        text: String,
        /// What is wrong with it.
        cause: ParseError,
    },
    /// It has begun already.
    #[error("logging was started twice: a fault of grayxdp")]
    Twice,
}

/// Begins to log. The time is left out where stderr is systemd's journal, which has its own.
///
/// # Errors
/// A level that cannot be read.
pub fn start_logging() -> Result<(), LoggingError> {
    let text = std::env::var(VARIABLE).unwrap_or_else(|_| DEFAULT_LEVEL.to_owned());
    let filter = filter(&text)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    let coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let started = if std::env::var_os("JOURNAL_STREAM").is_some() {
        lines.with_ansi(false).without_time().try_init()
    } else {
        lines.with_ansi(coloured).try_init()
    };
    started.map_err(|_| LoggingError::Twice)
}

fn filter(text: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(text).map_err(|cause| LoggingError::Level { text: text.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_cannot_be_read_is_named() {
        assert!(filter("info,grayxdp::rollout=debug").is_ok());
        let refused = filter("grayxdp=loud").expect_err("no level");
        assert!(refused.to_string().starts_with("GRAYXDP_LOG is `grayxdp=loud`: use error,"), "{refused}");
    }
}
