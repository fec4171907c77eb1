//! What can go wrong in the lab.

use std::io;

/// Why the lab cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces cannot be made.
    #[error("the lab makes network namespaces and needs root: run it with sudo")]
    NoRights,
    /// A tool is missing.
    #[error("the lab needs `{tool}`, which is not installed: run `cargo xtask setup`, or install its package")]
    NoTool {
        /// The program's name.
        tool: String,
    },
    /// A tool failed.
    #[error("`{command}` failed in the lab's namespace `{namespace}`: {message}")]
    Command {
        /// What was run.
        command: String,
        /// Where.
        namespace: String,
        /// What it said.
        message: String,
    },
    /// A call of the kernel failed.
    #[error("the lab could not {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl LabError {
    /// A failed call of the kernel; a refused one says what is needed.
    pub(super) fn system(what: impl Into<String>, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM) => Self::NoRights,
            Some(_) | None => Self::System { what: what.into(), source },
        }
    }
}
