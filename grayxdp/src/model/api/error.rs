//! A failed request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A failed request; the class decides exit status and HTTP status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct ApiError {
    /// Whose fault.
    pub class: ErrorClass,
    /// What, where, what to do: one line.
    pub message: String,
}

/// Whose fault a failed request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ErrorClass {
    /// The request is wrong: exit 2, HTTP 400.
    Input,
    /// It names what is not there: exit 2, HTTP 404.
    NotFound,
    /// It does not fit the present state: exit 1, HTTP 409.
    Conflict,
    /// It was right and did not work: exit 1, HTTP 500.
    Failed,
}

impl ApiError {
    /// A wrong request.
    #[must_use]
    pub fn input(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Input, message: message.into() }
    }

    /// Something that is not there.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::NotFound, message: message.into() }
    }

    /// Something that does not fit the present state.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Conflict, message: message.into() }
    }

    /// Something that did not work.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Failed, message: message.into() }
    }
}
