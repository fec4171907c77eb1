//! One flow: a connection that asks again and again, or a socket that sends datagrams.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use tokio::net::UdpSocket;

use crate::{lab::http::Connection, model::config::Protocol};

/// How long a datagram may be without an answer before it is sent again.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// One flow's socket.
pub(super) enum Flow {
    Tcp { connection: Connection, timeout: Duration },
    Udp { socket: UdpSocket, local: SocketAddr, timeout: Duration },
}

impl Flow {
    /// Connects, or binds.
    pub(super) async fn open(
        protocol: Protocol,
        source: Ipv4Addr,
        target: SocketAddrV4,
        timeout: Duration,
    ) -> io::Result<Self> {
        match protocol {
            Protocol::Tcp => {
                let opening = Connection::open(source, target, false);
                Ok(Self::Tcp { connection: tokio::time::timeout(timeout, opening).await??, timeout })
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(SocketAddr::from((source, 0))).await?;
                socket.connect(target).await?;
                Ok(Self::Udp { local: socket.local_addr()?, socket, timeout })
            }
        }
    }

    /// Who answers the next request; `repeated` is called when a datagram is sent again.
    pub(super) async fn ask(&mut self, request: u64, repeated: impl Fn()) -> io::Result<String> {
        match self {
            Self::Tcp { connection, timeout } => tokio::time::timeout(*timeout, connection.ask()).await?,
            Self::Udp { socket, timeout, .. } => {
                tokio::time::timeout(*timeout, ask_by_datagrams(socket, request, repeated)).await?
            }
        }
    }

    /// Waits until the flow ends without being asked to.
    pub(super) async fn ended(&mut self) -> io::Error {
        match self {
            Self::Tcp { connection, .. } => connection.ended().await,
            Self::Udp { .. } => std::future::pending().await,
        }
    }

    /// The client's end.
    pub(super) fn local(&self) -> SocketAddr {
        match self {
            Self::Tcp { connection, .. } => connection.local(),
            Self::Udp { local, .. } => *local,
        }
    }
}

/// Sends a numbered datagram until it is answered.
async fn ask_by_datagrams(socket: &UdpSocket, request: u64, repeated: impl Fn()) -> io::Result<String> {
    let question = format!("#{request}");
    let mut answer = [0; 256];
    loop {
        socket.send(question.as_bytes()).await?;
        let until = tokio::time::Instant::now() + REPEAT_AFTER;
        while let Ok(received) = tokio::time::timeout_at(until, socket.recv(&mut answer)).await {
            let text = String::from_utf8_lossy(&answer[..received?]);
            match text.split_once(' ') {
                Some((who, number)) if number == question => return Ok(who.to_owned()),
                // The answer to a datagram that was sent again.
                Some(_) | None => {}
            }
        }
        repeated();
    }
}
