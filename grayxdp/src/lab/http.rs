//! One HTTP connection of a client that is bound to an address.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

use http_body_util::Empty;
use hyper::{Request, Response, body::Bytes, body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

/// A connection that takes requests.
pub(super) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
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
        let (sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // What goes wrong on the connection is told to the request.
        tokio::spawn(async { drop(driver.await) });
        Ok(Self { sender, host: target.to_string(), close })
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
