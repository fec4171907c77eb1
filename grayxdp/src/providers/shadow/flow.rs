//! One flow: its datagrams go out from one socket, and the first answer to the first of them is timed.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use tokio::{net::UdpSocket, sync::mpsc, time::sleep};

use super::{Clock, Counts};
use crate::analysis::ANSWER_TIME;

/// A flow without a datagram in either direction for so long ends; later ones are another flow's.
const IDLE: Duration = Duration::from_secs(10);

/// Longest answer that is read whole; what is longer is counted all the same.
const ANSWER_BYTES: usize = 2_048;

/// How a flow begins.
pub(super) struct Begin {
    pub(super) backend: SocketAddr,
    pub(super) client: IpAddr,
    pub(super) epoch: u64,
    pub(super) first: Vec<u8>,
}

/// Follows a flow to its end: idle, or nobody sends `more` and the first answer is not awaited.
pub(super) async fn follow(begin: Begin, mut more: mpsc::Receiver<Vec<u8>>, counts: Arc<Counts>, clock: Clock) {
    let Begin { backend, client, epoch, first } = begin;
    let Ok(socket) = connected(backend).await else { return counts.count(|counts| counts.dropped += 1) };
    let start = clock();
    counts.begun(epoch, client);
    let mut waits = true;
    let refuse = |waits: &mut bool| {
        if std::mem::take(waits) {
            counts.unanswered(epoch, client, None);
        }
    };
    if pass(&socket, &first, &counts).await {
        refuse(&mut waits);
    }
    let mut late = pin!(sleep(ANSWER_TIME));
    let mut answer = vec![0; ANSWER_BYTES];
    loop {
        tokio::select! {
            received = socket.recv(&mut answer) => match received {
                Ok(_) => {
                    counts.count(|counts| counts.answers += 1);
                    if std::mem::take(&mut waits) {
                        counts.answered(epoch, clock().saturating_sub(start));
                    }
                }
                Err(error) if is_refusal(&error) => refuse(&mut waits),
                Err(_) => return,
            },
            () = &mut late, if waits => {
                waits = false;
                counts.unanswered(epoch, client, Some(clock().saturating_sub(start)));
            }
            datagram = more.recv() => match datagram {
                Some(datagram) => if pass(&socket, &datagram, &counts).await {
                    refuse(&mut waits);
                },
                None => return,
            },
            () = sleep(IDLE) => return,
        }
    }
}

async fn connected(backend: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match backend {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(backend).await?;
    Ok(socket)
}

/// Sends a datagram; true if somebody refused an earlier one, which is told in its place: then it is sent once more.
async fn pass(socket: &UdpSocket, datagram: &[u8], counts: &Counts) -> bool {
    let mut sent = socket.send(datagram).await;
    let is_refused = sent.as_ref().is_err_and(is_refusal);
    if is_refused {
        sent = socket.send(datagram).await;
    }
    counts.count(|counts| match sent {
        Ok(_) => counts.sent += 1,
        Err(_) => counts.dropped += 1,
    });
    is_refused
}

/// Whether somebody said that nobody is there (an ICMP error, which a connected socket tells).
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
    )
}
