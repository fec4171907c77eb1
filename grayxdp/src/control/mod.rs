//! The API over the Unix socket and HTTP, and its client.
