//! Accepting connections on the socket and on TCP, bounded in number and time, and ending them in order.

use std::{future::Future, io, net::SocketAddr, path::Path, pin::pin, sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::control::{
    Service,
    peer::Peer,
    routes,
    socket::{ControlSocket, SocketError},
    tokens::Tokens,
};

/// Connections at a time, for each of the two listeners: what comes on top waits in the kernel's queue.
const CONNECTIONS: usize = 128;

/// Time in which a request's headers arrive, and for which an idle connection stays open.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// Time that running requests get at the end.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// Pause after the system refused to accept, for want of file descriptors as a rule.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// Why the API could not be offered.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The HTTP address.
    #[error("cannot listen on {address} (`http.listen`): {cause}")]
    Http {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
}

/// Both listeners, bound. Requests wait until [`serve`] takes them.
#[derive(Debug)]
pub struct Listeners {
    socket: ControlSocket,
    http: TcpListener,
}

impl Listeners {
    /// Claims the socket, then the HTTP address. To be called before anything is changed: it refuses a second daemon.
    ///
    /// # Errors
    /// Whichever is taken or cannot be had.
    pub async fn bind(socket: &Path, http: SocketAddr) -> Result<Self, BindError> {
        let socket = ControlSocket::claim(socket).await?;
        let http = TcpListener::bind(http).await.map_err(|cause| BindError::Http { address: http, cause })?;
        Ok(Self { socket, http })
    }

    /// Where HTTP is served; the port is the one that the system chose where 0 was asked for.
    ///
    /// # Errors
    /// What the system said.
    pub fn http_address(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }
}

/// Serves until `shutdown`, over TCP changes to holders of tokens alone; then lets running requests end and removes the socket.
pub async fn serve<S: Service>(listeners: Listeners, service: S, tokens: Tokens, shutdown: CancellationToken) {
    let Listeners { socket, http } = listeners;
    let router = routes::router(service, tokens);
    let over_socket = accept(
        || async {
            let (stream, _) = socket.listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            Ok::<(UnixStream, Peer), io::Error>((stream, Peer::of_user(uid)))
        },
        &router,
        &shutdown,
    );
    let over_tcp = accept(
        || async {
            let (stream, _) = http.accept().await?;
            Ok::<(TcpStream, Peer), io::Error>((stream, Peer::Tcp))
        },
        &router,
        &shutdown,
    );
    tokio::join!(over_socket, over_tcp);
}

/// One listener's loop.
async fn accept<I, F, A>(next: F, router: &Router, shutdown: &CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn() -> A,
    A: Future<Output = io::Result<(I, Peer)>>,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = async {
                let place = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
                next().await.map(|accepted| (accepted, place))
            } => accepted,
        };
        match accepted {
            Ok(((stream, peer), place)) => {
                let router = router.clone().layer(Extension(peer));
                let shutdown = shutdown.clone();
                connections.spawn(async move {
                    connection(stream, router, shutdown).await;
                    drop(place);
                });
            }
            Err(cause) => {
                tracing::warn!(%cause, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(CLOSING_TIME, ended).await.is_err() {
        tracing::warn!("requests that still ran after {CLOSING_TIME:?} were cut off");
    }
}

/// One connection, until its peer or the daemon ends it.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, shutdown: CancellationToken) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(cause) = ended {
        tracing::debug!(%cause, "a connection broke off");
    }
}
