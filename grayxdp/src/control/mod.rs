//! The API over the Unix socket and HTTP, and its client.
//!
//! One set of routes serves both. What differs is who may do what: a connection over the socket carries the peer's
//! credentials and may change things, as far as the file's mode lets it in; a connection over TCP may only read, unless it
//! brings a token of `http.tokens`.

mod client;
mod daemon_service;
mod openapi;
mod peer;
mod routes;
mod server;
mod socket;
mod tokens;

use std::future::Future;

pub use client::{Client, ClientError};
pub use server::{BindError, Listeners, serve};
pub use socket::SocketError;
pub use tokens::Tokens;

use crate::model::api::{ApiError, Request, Response};

/// What the API needs of the daemon.
pub trait Service: Clone + Send + Sync + 'static {
    /// Answers one request. `actor` is who asks: `uid 1000 (name)`, `token ci`, or `http` for a reader over TCP.
    ///
    /// # Errors
    /// Whose fault it is, in one line.
    fn request(&self, request: Request, actor: String) -> impl Future<Output = Result<Response, ApiError>> + Send;

    /// All metrics in the Prometheus text format, read now.
    ///
    /// # Errors
    /// What could not be read.
    fn metrics(&self) -> impl Future<Output = Result<String, ApiError>> + Send;

    /// Whether the split is in force: tables published, program attached.
    ///
    /// # Errors
    /// What is still missing, in one line.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
}

#[cfg(test)]
mod tests;
