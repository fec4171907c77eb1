//! The client of the Unix socket: what every command but `daemon` and `check` speaks through.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request as HttpRequest, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::model::api::{ApiError, Request, Response};

/// Time for one request; longer than the daemon allows itself, so that its own answer comes first.
const REQUEST_TIME: Duration = Duration::from_secs(40);

/// Why a request got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no daemon on {}: is `grayxdp daemon` running?", .0.display())]
    NoDaemon(PathBuf),
    /// The socket's mode does not let this user in.
    #[error("no permission for {}: use sudo, or join the group of the socket", .0.display())]
    Denied(PathBuf),
    /// The daemon refused the request.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// The daemon hangs.
    #[error("the daemon on {} gave no answer within {REQUEST_TIME:?}", .0.display())]
    Silent(PathBuf),
    /// The connection broke, or something else than a grayxdp of this version answers.
    #[error("the daemon on {} gave no sensible answer: {cause}", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What went wrong.
        cause: String,
    },
}

/// A client of one daemon. Each request has a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon on this socket.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] is the daemon's own word; all else means that it was not reached.
    pub async fn request(&self, request: &Request) -> Result<Response, ClientError> {
        let exchanged = tokio::time::timeout(REQUEST_TIME, self.exchange(request));
        let (status, body) = exchanged.await.map_err(|_| ClientError::Silent(self.socket.clone()))??;
        if status.is_success() {
            serde_json::from_slice(&body).map_err(|cause| self.broken(cause))
        } else {
            match serde_json::from_slice::<ApiError>(&body) {
                Ok(refusal) => Err(refusal.into()),
                Err(_) => Err(self.broken(status)),
            }
        }
    }

    async fn exchange(&self, request: &Request) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoDaemon(self.socket.clone()),
            io::ErrorKind::PermissionDenied => ClientError::Denied(self.socket.clone()),
            _ => self.broken(cause),
        })?;
        let body = serde_json::to_vec(request).map_err(|cause| self.broken(cause))?;
        let request = HttpRequest::post("/api/v1/request")
            .header(header::HOST, "grayxdp")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|cause| self.broken(cause))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|cause| self.broken(cause))?;
        let answered = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
        };
        let driven = async {
            let ended = connection.await;
            match ended {
                Ok(()) => std::future::pending().await,
                Err(cause) => cause,
            }
        };
        tokio::select! {
            biased;
            answer = answered => answer.map_err(|cause| self.broken(cause)),
            cause = driven => Err(self.broken(cause)),
        }
    }

    fn broken(&self, cause: impl ToString) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), cause: cause.to_string() }
    }
}
