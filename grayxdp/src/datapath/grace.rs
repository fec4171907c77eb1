//! When memory that the live tables no longer name may be used again: after every packet that might still read it.
//!
//! A program runs within one RCU read section. `membarrier(MEMBARRIER_CMD_GLOBAL)` waits for a grace period (Linux,
//! `kernel/sched/membarrier.c`); that takes tens of milliseconds, so a thread of its own waits and callers rarely do.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

/// How long to wait where the kernel has no `membarrier` for this.
const WITHOUT_MEMBARRIER: Duration = Duration::from_millis(200);

/// Numbers grace periods and knows which are over.
pub(super) struct Grace {
    ended: Arc<(Mutex<u64>, Condvar)>,
    begin: Sender<u64>,
    begun: u64,
}

impl Grace {
    /// Starts the waiting thread; it ends with this value.
    pub(super) fn new() -> std::io::Result<Self> {
        let ended = Arc::new((Mutex::new(0), Condvar::new()));
        let (begin, tickets) = channel();
        let shared = Arc::clone(&ended);
        thread::Builder::new().name("grace".into()).spawn(move || wait_for_each(&tickets, &shared))?;
        Ok(Self { ended, begin, begun: 0 })
    }

    /// Begins a grace period; what was unnamed before it may be used again once it is over.
    pub(super) fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.begin.send(self.begun).expect("the waiting thread lives as long as the sender");
        self.begun
    }

    /// The last grace period that is over.
    pub(super) fn ended(&self) -> u64 {
        *self.ended.0.lock().expect("no holder panics")
    }

    /// Waits until all begun grace periods are over.
    pub(super) fn wait(&self) {
        let guard = self.ended.0.lock().expect("no holder panics");
        drop(self.ended.1.wait_while(guard, |ended| *ended < self.begun).expect("no holder panics"));
    }
}

fn wait_for_each(tickets: &Receiver<u64>, ended: &(Mutex<u64>, Condvar)) {
    while let Ok(mut ticket) = tickets.recv() {
        // One grace period serves all that asked before it began.
        while let Ok(later) = tickets.try_recv() {
            ticket = later;
        }
        // SAFETY: the call takes plain numbers and touches no memory of ours.
        let done = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
        if done != 0 {
            thread::sleep(WITHOUT_MEMBARRIER);
        }
        *ended.0.lock().expect("no holder panics") = ticket;
        ended.1.notify_all();
    }
}

/// Numbered places of which each is free, in use, or waits for a grace period.
#[derive(Debug, Default)]
pub(super) struct Pool {
    free: Vec<u32>,
    retired: Vec<(u64, u32)>,
}

impl Pool {
    /// The places `0..len` but for those in use.
    pub(super) fn new(len: u32, in_use: impl Fn(u32) -> bool) -> Self {
        Self { free: (0..len).rev().filter(|&place| !in_use(place)).collect(), retired: Vec::new() }
    }

    /// Takes a free place; none where all are in use or wait.
    pub(super) fn take(&mut self, grace: &Grace) -> Option<u32> {
        if self.free.is_empty() {
            let ended = grace.ended();
            self.free.extend(self.retired.extract_if(.., |(ticket, _)| *ticket <= ended).map(|(_, place)| place));
        }
        self.free.pop()
    }

    /// Gives a place back that no reader has seen.
    pub(super) fn give_back(&mut self, place: u32) {
        self.free.push(place);
    }

    /// Gives a place back that readers may still see until a grace period is over.
    pub(super) fn retire(&mut self, ticket: u64, place: u32) {
        self.retired.push((ticket, place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retired_place_is_used_again_only_after_its_grace_period() {
        let mut grace = Grace::new().expect("a thread");
        let mut pool = Pool::new(2, |place| place == 0);
        let taken = pool.take(&grace).expect("one is free");
        assert_eq!((taken, pool.take(&grace)), (1, None));
        pool.retire(grace.begin(), taken);
        grace.wait();
        assert_eq!(pool.take(&grace), Some(1));
    }
}
