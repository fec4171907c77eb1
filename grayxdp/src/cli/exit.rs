//! How a command ends: its exit status, and the one line that says why.

use std::process::ExitCode;

use crate::{
    control::ClientError,
    model::api::{ApiError, ErrorClass},
};

/// The exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// It was right and did not work.
    Failed,
    /// The request or a file is wrong.
    WrongInput,
    /// The rollout that was waited for rolled back.
    RolledBack,
    /// The time of `--timeout` is over.
    TimedOut,
    /// The rollout that was waited for goes on only by an operator.
    WaitsForOperator,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::WrongInput => 2,
            Self::RolledBack => 3,
            Self::TimedOut => 4,
            Self::WaitsForOperator => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.status().into()
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The request or a file is wrong.
    #[error("{0}")]
    Input(String),
    /// It was right and did not work.
    #[error("{0}")]
    Failed(String),
    /// The time of `--timeout` is over.
    #[error("{0}")]
    TimedOut(String),
    /// Whoever read our output has gone: the end, and no fault.
    #[error("the output is closed")]
    OutputClosed,
}

impl CliError {
    /// The exit status.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Input(_) => Exit::WrongInput,
            Self::Failed(_) => Exit::Failed,
            Self::TimedOut(_) => Exit::TimedOut,
            Self::OutputClosed => Exit::Done,
        }
    }
}

impl From<ApiError> for CliError {
    fn from(ApiError { class, message }: ApiError) -> Self {
        match class {
            ErrorClass::Input | ErrorClass::NotFound => Self::Input(message),
            ErrorClass::Conflict | ErrorClass::Failed => Self::Failed(message),
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refusal) => refusal.into(),
            ClientError::NoDaemon(_) | ClientError::Denied(_) | ClientError::Silent(_) | ClientError::Broken { .. } => {
                Self::Failed(error.to_string())
            }
        }
    }
}

/// A usage error in one line: what is wrong, the tip where there is one, and where the help is.
pub(super) fn usage_line(error: &clap::Error) -> String {
    let rendered = error.to_string();
    let mut paragraphs = rendered.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let what = paragraphs.next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(&what).to_owned();
    let tip = paragraphs.find_map(|part| part.strip_prefix("tip: ").map(|tip| format!(" ({tip})"))).unwrap_or_default();
    format!("{what}{tip}; see --help")
}
