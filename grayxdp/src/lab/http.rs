//! One HTTP connection of a client that is bound to an address.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Bytes, body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpSocket, task::JoinHandle};

/// A connection that takes requests.
pub(super) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// Ends with the connection, and says why.
    driver: JoinHandle<hyper::Result<()>>,
    local: SocketAddr,
    host: String,
    close: bool,
}

impl Connection {
    /// Connects from an address; `close` asks the server to end the connection after the first answer.
    pub(super) async fn open(source: Ipv4Addr, target: SocketAddrV4, close: bool) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((source, 0)))?;
        let stream = socket.connect(target.into()).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let (sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Ok(Self { sender, driver: tokio::spawn(driver), local, host: target.to_string(), close })
    }

    /// The client's end.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Asks who answers.
    pub(super) async fn ask(&mut self) -> io::Result<String> {
        let body = self.get("/").await?.into_body();
        let text = body.collect().await.map_err(cause)?.to_bytes();
        String::from_utf8(text.into()).map_err(io::Error::other)
    }

    /// Waits until the connection ends while nothing is asked, and says why. Not to be called again then.
    pub(super) async fn ended(&mut self) -> io::Error {
        match (&mut self.driver).await {
            Ok(Ok(())) => io::Error::new(io::ErrorKind::UnexpectedEof, "the server ended the connection"),
            Ok(Err(error)) => cause(error),
            Err(error) => io::Error::other(error),
        }
    }

    /// Asks for a path; the answer's status is 200.
    pub(super) async fn get(&mut self, path: &str) -> io::Result<Response<Incoming>> {
        let request = Request::get(path)
            .header("host", &self.host)
            .header("connection", if self.close { "close" } else { "keep-alive" })
            .body(Empty::new())
            .map_err(io::Error::other)?;
        let response = self.sender.send_request(request).await.map_err(cause)?;
        if response.status() == hyper::StatusCode::OK {
            Ok(response)
        } else {
            Err(io::Error::other(format!("the answer's status is {}", response.status())))
        }
    }
}

/// The socket's error where there is one; a connection that ended early counts as reset.
pub(super) fn cause(error: hyper::Error) -> io::Error {
    if error.is_incomplete_message() || error.is_closed() {
        return io::Error::new(io::ErrorKind::ConnectionReset, error);
    }
    let kind =
        std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    io::Error::new(kind.unwrap_or(io::ErrorKind::Other), error)
}
