//! When memory that the live tables no longer name may be used again: after every packet that might still read it.
//!
//! A program runs within one RCU read section. `membarrier(MEMBARRIER_CMD_GLOBAL)` waits for a grace period (Linux,
//! `kernel/sched/membarrier.c`); that takes tens of milliseconds, so a thread of its own waits and callers rarely do.

use std::{
    collections::BTreeSet,
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

    /// The last grace period that was begun.
    pub(super) const fn begun(&self) -> u64 {
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
    free: BTreeSet<u32>,
    retired: Vec<(u64, u32)>,
}

impl Pool {
    /// The places `0..len` but for those in use.
    pub(super) fn new(len: u32, in_use: impl Fn(u32) -> bool) -> Self {
        Self { free: (0..len).filter(|&place| !in_use(place)).collect(), retired: Vec::new() }
    }

    /// Takes a free place; none where all are in use or wait.
    pub(super) fn take(&mut self, grace: &Grace) -> Option<u32> {
        self.take_run(1, grace)
    }

    /// Takes `count` places that follow one another; none where there are no such.
    pub(super) fn take_run(&mut self, count: u32, grace: &Grace) -> Option<u32> {
        let first = self.run(count).or_else(|| {
            self.collect(grace);
            self.run(count)
        })?;
        self.free.retain(|place| !(first..first + count).contains(place));
        Some(first)
    }

    /// The first of so many free places that follow one another.
    fn run(&self, count: u32) -> Option<u32> {
        let mut found = 0;
        let mut last = None;
        for &place in &self.free {
            found = if last.is_some_and(|last: u32| last + 1 == place) { found + 1 } else { 1 };
            if found >= count {
                return Some(place + 1 - count);
            }
            last = Some(place);
        }
        None
    }

    fn collect(&mut self, grace: &Grace) {
        let ended = grace.ended();
        self.free.extend(self.retired.extract_if(.., |(ticket, _)| *ticket <= ended).map(|(_, place)| place));
    }

    /// Gives a place back that no reader has seen.
    pub(super) fn give_back(&mut self, place: u32) {
        self.free.insert(place);
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

    #[test]
    fn a_run_of_places_has_no_gap() {
        let grace = Grace::new().expect("a thread");
        let mut pool = Pool::new(10, |place| [0, 3, 7].contains(&place));
        assert_eq!(pool.take_run(3, &grace), Some(4));
        assert_eq!(pool.take_run(3, &grace), None);
        assert_eq!((pool.take_run(2, &grace), pool.take_run(2, &grace)), (Some(1), Some(8)));
        pool.give_back(5);
        assert_eq!(pool.take(&grace), Some(5));
    }
}
