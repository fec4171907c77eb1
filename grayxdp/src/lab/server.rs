//! An HTTP server that says who it is.

use std::{convert::Infallible, net::SocketAddrV4, thread};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Query,
    routing::get,
};
use tokio::{net::TcpListener, sync::oneshot};

use super::{LabError, Namespace, download::fill};

/// Bytes of a download that are made at once.
const CHUNK_BYTES: u64 = 64 << 10;

/// A server on a thread inside a namespace; it ends, with its connections, when dropped.
///
/// It answers `/bytes?n=COUNT` with that many bytes (see [`super::expected_byte`]) and everything else with
/// `version/address`. Connections are kept alive unless the client asks otherwise.
#[derive(Debug)]
pub struct HttpServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Query of `/bytes`.
#[derive(serde::Deserialize)]
struct Wanted {
    n: u64,
}

impl HttpServer {
    /// Starts a server; when this returns, it accepts connections.
    ///
    /// # Errors
    /// The address is not the namespace's, or its port is taken.
    pub fn start(namespace: &Namespace, version: &str, address: SocketAddrV4) -> Result<Self, LabError> {
        let failed = |error| LabError::system(format!("serve on {address}"), error);
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = std::sync::mpsc::channel();
        let router = router(format!("{version}/{}", address.ip()));
        let thread = namespace.spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return ready.send(Err(error)).expect("the starter waits"),
            };
            runtime.block_on(async {
                let listener = match TcpListener::bind(address).await {
                    Ok(listener) => listener,
                    Err(error) => return ready.send(Err(error)).expect("the starter waits"),
                };
                ready.send(Ok(())).expect("the starter waits");
                tokio::select! {
                    served = axum::serve(listener, router).into_future() => served.expect("axum serves until it is dropped"),
                    _ = stopped => {}
                }
            });
        })?;
        started.recv().expect("the thread answers once").map_err(failed)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        // Dropping the sender is the signal.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server was printed; a second one here would abort the process.
            let _ = thread.join();
        }
    }
}

fn router(identity: String) -> Router {
    Router::new().route("/bytes", get(|Query(wanted): Query<Wanted>| async move { bytes(wanted.n) })).fallback(
        move || {
            let identity = identity.clone();
            async { identity }
        },
    )
}

/// A body of a known content and an announced length.
fn bytes(count: u64) -> axum::response::Response {
    let chunks = (0..count.div_ceil(CHUNK_BYTES)).map(move |number| {
        let start = number * CHUNK_BYTES;
        Ok::<Bytes, Infallible>(fill(start, CHUNK_BYTES.min(count - start)).into())
    });
    let mut response = axum::response::Response::new(Body::from_stream(futures::stream::iter(chunks)));
    response.headers_mut().insert(axum::http::header::CONTENT_LENGTH, count.into());
    response
}
