//! A UDP server that says who it is and repeats what it got.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{LabError, Namespace};

/// How long the server takes at most to notice that it is to end.
const NOTICE: Duration = Duration::from_millis(50);

/// Answers each datagram with `version/address ` and the datagram; ends when dropped.
#[derive(Debug)]
pub struct UdpEcho {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl UdpEcho {
    /// Starts a server; when this returns, it receives.
    ///
    /// # Errors
    /// The address is not the namespace's, or its port is taken.
    pub fn start(namespace: &Namespace, version: &str, address: impl Into<SocketAddr>) -> Result<Self, LabError> {
        let address = address.into();
        let socket = namespace
            .run(|| UdpSocket::bind(address).and_then(|socket| socket.set_read_timeout(Some(NOTICE)).map(|()| socket)))
            .map_err(|error| LabError::system(format!("serve on {address}"), error))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, identity) = (Arc::clone(&stop), format!("{version}/{} ", address.ip()));
        let thread = namespace.spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // A datagram that got lost is part of UDP; the client counts it.
                let _ = answer_one(&socket, &identity);
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the server was printed; a second one here would abort the process.
            let _ = thread.join();
        }
    }
}

fn answer_one(socket: &UdpSocket, identity: &str) -> io::Result<()> {
    let mut datagram = vec![0; 1 << 16];
    let (length, client) = socket.recv_from(&mut datagram)?;
    let answer = [identity.as_bytes(), &datagram[..length]].concat();
    socket.send_to(&answer, client).map(drop)
}
