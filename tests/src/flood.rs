//! A flood of SYNs from random sources, at a given rate.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use grayxdp::lab::Lab;

use crate::{
    bench::{
        ends::Ends,
        frames::{Client, Flows, feed},
        harness::pin_thread,
        layout::FLOOD,
    },
    packet::{Flags, Packet},
};

/// 4,194,304 addresses with 512 ports each, every one of the 2,147,483,648 once, in an order without a pattern.
const FLOWS: Flows = Flows::NEW;
/// How often the generator sends what is due.
const PERIOD: Duration = Duration::from_micros(300);
/// What is due for longer than this is not sent any more: the machine cannot do it.
const ARREARS: Duration = Duration::from_millis(50);

/// A flood under way; it ends when dropped.
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Result<Sent>>>,
}

/// What a flood came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// SYNs that were sent.
    pub packets: u64,
    /// SYNs that arrived at the backends' far ends and were dropped there.
    pub arrived: u64,
    /// How long it lasted.
    pub time: Duration,
}

impl Sent {
    /// Millions of SYNs a second that were sent.
    #[must_use]
    pub fn mpps(&self) -> f64 {
        self.packets as f64 / self.time.as_secs_f64() / 1e6
    }

    /// Millions of SYNs a second that the load balancer forwarded.
    #[must_use]
    pub fn forwarded_mpps(&self) -> f64 {
        self.arrived as f64 / self.time.as_secs_f64() / 1e6
    }
}

impl Flood {
    /// Takes the lab's far ends of so many backends, so that they drop the flood, and begins to send from the client's
    /// interface: `mpps` million SYNs a second.
    ///
    /// # Errors
    /// No rights, or a kernel without live frames.
    pub fn start(lab: &mut Lab, backends: usize, target: SocketAddrV4, mpps: f64) -> Result<Self> {
        let mut ends = Ends::load()?;
        lab.clear_backends();
        ends.attach_filters(lab, backends)?;
        let source = SocketAddrV4::new(Ipv4Addr::from_bits(FLOOD.0), 1_024);
        let packet = Packet::tcp(source, target, Flags::SYN);
        let packet = Packet { macs: (lab.client_mac(), lab.balancer_mac()), ..packet };
        let feed = feed(&packet, Client::Source, FLOWS, &[target]);
        ends.feed(&feed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, interface) = (Arc::clone(&stop), lab.far_interface());
        let thread = lab.client().spawn(move || {
            pin_thread(0)?;
            go_first();
            let (start, mut packets) = (Instant::now(), 0_u64);
            // What the machine could not send in time.
            let mut given_up = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                let due = ((start.elapsed().as_secs_f64() * mpps * 1e6) as u64).saturating_sub(packets + given_up);
                let most = (ARREARS.as_secs_f64() * mpps * 1e6) as u64;
                given_up += due.saturating_sub(most);
                if due > 0 {
                    ends.send_here(interface, &feed, u32::try_from(due.min(most))?)?;
                    packets += due.min(most);
                }
                thread::sleep(PERIOD);
            }
            let time = start.elapsed();
            thread::sleep(ARREARS);
            Ok(Sent { packets, arrived: ends.sunk()?, time })
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends it, and says what it came to.
    ///
    /// # Errors
    /// The kernel refused to send.
    ///
    /// # Panics
    /// If the generator did.
    pub fn stop(mut self) -> Result<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is there until the end");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic was printed; a second one here could abort the process.
            let _ = thread.join();
        }
    }
}

/// A flood comes from elsewhere: what else this machine does must not thin it out.
fn go_first() {
    // SAFETY: the call takes numbers; on Linux 0 is the calling thread. Refused, the thread goes on as it was.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) };
}
