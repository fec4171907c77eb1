//! Sweeping the exception table, slice by slice: what lives is reported, what may go is removed.
//!
//! A half-open entry becomes established in place, first word first, and a place may be taken by another flow at any time. So
//! each entry is read twice with a pause between, its second word counts from the second reading, and it is removed by an
//! exchange that fails if its first word changed.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use grayxdp_common::exceptions::{EntryState, ExceptionSet, Head, Tail, WAYS, tick};

use super::{
    defaults::Defaults,
    entry_life::{Fate, fate},
    mapped::{Mappable, Mapped},
    tables::{Tables, TablesError},
};
use crate::model::kernel::{BackendId, Sweep};

/// Sets in a window: 1 MiB.
const WINDOW: u32 = 1 << 14;
/// Windows in a slice.
const WINDOWS: u32 = 8;
/// Between the two readings of an entry: far longer than the program takes from its first word to its second.
const PAUSE: Duration = Duration::from_micros(100);

/// Sweeps the table.
pub(super) struct Sweeper {
    exceptions: Mappable<ExceptionSet>,
    pass: Option<Pass>,
    rest: Rest,
}

/// What a pass has to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// There may be entries.
    Busy,
    /// No service can make entries, and there are none; overflow bits may be set still.
    Empty,
    /// Not even those.
    Clean,
}

/// One pass over the whole table.
struct Pass {
    next: u32,
    found_any: bool,
    /// No service could make entries since it began.
    is_quiet: bool,
    sweep: Sweep,
}

impl Sweeper {
    /// Of a table; it may hold what an earlier daemon left.
    pub(super) const fn new(exceptions: Mappable<ExceptionSet>) -> Self {
        Self { exceptions, pass: None, rest: Rest::Busy }
    }

    /// Entries that the table has room for.
    pub(super) fn places(&self) -> u64 {
        u64::from(self.exceptions.len()) * WAYS as u64
    }

    /// Sweeps one slice at a monotonic time; a pass that ended with it.
    pub(super) fn go_on(&mut self, tables: &mut Tables, now: Duration) -> Result<Option<Sweep>, TablesError> {
        let is_quiet = !tables.take_had_details();
        if !is_quiet {
            self.rest = Rest::Busy;
        }
        if self.rest == Rest::Clean {
            return Ok(None);
        }
        let Some(defaults) = Defaults::of(tables) else { return Ok(None) };
        let began = || Pass { next: 0, found_any: false, is_quiet, sweep: Sweep { began: now, ..Sweep::default() } };
        let mut pass = self.pass.take().unwrap_or_else(began);
        pass.is_quiet &= is_quiet;
        let end = (pass.next + WINDOW * WINDOWS).min(self.exceptions.len());
        while pass.next < end {
            let count = WINDOW.min(end - pass.next);
            let window = self.exceptions.window(pass.next, count)?;
            let clears = pass.is_quiet && self.rest == Rest::Empty;
            pass.sweep_window(&window, pass.next..pass.next + count, &defaults, now, clears);
            pass.next += count;
        }
        if pass.next < self.exceptions.len() {
            self.pass = Some(pass);
            return Ok(None);
        }
        self.rest = match (pass.is_quiet && !pass.found_any, self.rest) {
            (false, _) => Rest::Busy,
            (true, Rest::Busy) => Rest::Empty,
            (true, Rest::Empty | Rest::Clean) => Rest::Clean,
        };
        Ok(Some(pass.sweep))
    }
}

/// An entry as it was first read.
struct Seen<'a> {
    words: &'a [AtomicU64],
    head: Head,
}

impl Pass {
    /// `clears`: nothing can make entries and there are none in the whole table, so no bit says any more that a flow lies in
    /// its second set.
    fn sweep_window(
        &mut self,
        window: &Mapped<ExceptionSet>,
        sets: std::ops::Range<u32>,
        defaults: &Defaults,
        now: Duration,
        clears: bool,
    ) {
        let mut seen = Vec::new();
        for set in sets {
            for words in window.words(set).chunks_exact(2) {
                let head = Head(words[0].load(Ordering::Acquire));
                if head.state() != EntryState::Free {
                    seen.push(Seen { words, head });
                } else if clears && head.overflows() {
                    // It fails where the place was taken: then the bit stays.
                    let _ = words[0].compare_exchange(head.0, 0, Ordering::SeqCst, Ordering::Relaxed);
                }
            }
        }
        if seen.is_empty() {
            return;
        }
        self.found_any = true;
        thread::sleep(PAUSE);
        let now = tick(now.as_nanos() as u64);
        seen.iter().for_each(|entry| self.sweep_entry(entry, defaults, now));
    }

    fn sweep_entry(&mut self, entry: &Seen<'_>, defaults: &Defaults, now: u32) {
        let head = Head(entry.words[0].load(Ordering::Acquire));
        if head != entry.head {
            self.note_changed(entry.head, defaults);
            self.note_changed(head, defaults);
            return;
        }
        let tail = Tail(entry.words[1].load(Ordering::Acquire));
        let service = defaults.service_of(head.backend());
        let fate = service.map_or(Fate::Expired, |service| {
            fate(head, tail, now, service.life, service.backend(head.bucket(), tail.slot()))
        });
        if fate == Fate::Keep {
            self.note(head, tail, defaults);
        } else if entry.words[0]
            .compare_exchange(head.0, head.0 & Head::OVERFLOW, Ordering::SeqCst, Ordering::Acquire)
            .is_err()
        {
            self.note_changed(head, defaults);
        } else {
            match fate {
                Fate::Keep | Fate::Lapsed => {}
                Fate::Expired => self.sweep.expired += 1,
                Fate::Needless => self.sweep.needless += 1,
            }
        }
    }

    /// An entry that lives.
    fn note(&mut self, head: Head, tail: Tail, defaults: &Defaults) {
        let Some(service) = defaults.service_of(head.backend()) else { return };
        let swept = self.sweep.services.entry(service.id).or_default();
        swept.buckets.insert(head.bucket());
        *swept.backends.entry(BackendId(head.backend())).or_default() += 1;
        match head.state() {
            EntryState::Free => {}
            EntryState::HalfOpen => swept.half_open += 1,
            EntryState::Pin => {
                swept.slots.insert(tail.slot());
                swept.pins += 1;
            }
            EntryState::Established => {
                swept.slots.insert(tail.slot());
                swept.established += 1;
            }
        }
    }

    /// An entry that changed while it was looked at: its slot is not known, as that of a half-open one.
    fn note_changed(&mut self, head: Head, defaults: &Defaults) {
        if head.state() != EntryState::Free {
            self.note(head.with_state(EntryState::HalfOpen), Tail(0), defaults);
        }
    }
}
