//! Sweeping the flow table of `full-nat`, slice by slice: what lives is reported, what lapsed is removed. The program itself takes
//! lapsed places where it meets them; this gives back those that it does not meet.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use grayxdp_common::{
    exceptions::tick,
    translations::{Head, Lives, SEATS, Translation, TranslationState, Whose, place_of},
};

use super::{
    mapped::{Mappable, Mapped},
    tables::{Tables, TablesError},
};
use crate::model::kernel::{BackendId, ServiceId, TranslationSweep};

/// Entries in a window: 1 MiB.
const WINDOW: u32 = 1 << 14;
/// Windows in a slice.
const WINDOWS: u32 = 8;

/// Sweeps the table.
pub(super) struct TranslationSweeper {
    translations: Mappable<Translation>,
    seats: Mappable<[u64; SEATS]>,
    pass: Option<(u32, TranslationSweep)>,
}

impl TranslationSweeper {
    /// Of a table; it may hold what an earlier daemon left.
    pub(super) const fn new(translations: Mappable<Translation>, seats: Mappable<[u64; SEATS]>) -> Self {
        Self { translations, seats, pass: None }
    }

    /// Flows that the table has room for; 0 where no service needs it.
    pub(super) fn places(&self) -> u64 {
        match self.translations.len() {
            1 => 0,
            places => u64::from(places),
        }
    }

    /// Sweeps one slice at a monotonic time; a pass that ended with it.
    pub(super) fn go_on(&mut self, tables: &Tables, now: Duration) -> Result<Option<TranslationSweep>, TablesError> {
        if self.places() == 0 {
            return Ok(None);
        }
        let began = || (0, TranslationSweep { began: now, ..TranslationSweep::default() });
        let (mut next, mut sweep) = self.pass.take().unwrap_or_else(began);
        let lives = tables.lives();
        let end = (next + WINDOW * WINDOWS).min(self.translations.len());
        while next < end {
            let count = WINDOW.min(end - next);
            let window = self.translations.window(next, count)?;
            for place in next..next + count {
                self.entry(&window, place, &lives, tick(now.as_nanos() as u64), &mut sweep)?;
            }
            next += count;
        }
        if next < self.translations.len() {
            self.pass = Some((next, sweep));
            return Ok(None);
        }
        Ok(Some(sweep))
    }

    fn entry(
        &self,
        window: &Mapped<Translation>,
        place: u32,
        lives: &BTreeMap<ServiceId, Lives>,
        now: u32,
        sweep: &mut TranslationSweep,
    ) -> Result<(), TablesError> {
        let word = window.at(place, 0);
        let head = Head(word.load(Ordering::Acquire));
        if head.state() == TranslationState::Free {
            return Ok(());
        }
        let whose = Whose(window.at(place, std::mem::offset_of!(Translation, whose)).load(Ordering::Acquire));
        let id = ServiceId(whose.service());
        // Flows of a service that is gone have no life left.
        let own = lives.get(&id).copied().unwrap_or(Lives { idle_ticks: 0, closing_ticks: 0 });
        if head.is_lapsed(now, own) {
            // It fails where the place was taken: then it is another flow's.
            if word.compare_exchange(head.0, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                sweep.expired += 1;
                self.give_seat_back(place, whose)?;
            }
            return Ok(());
        }
        let swept = sweep.services.entry(id).or_default();
        match head.state() {
            TranslationState::Free => {}
            TranslationState::Making | TranslationState::HalfOpen => swept.half_open += 1,
            TranslationState::Open => swept.established += 1,
        }
        *swept.backends.entry(BackendId(head.backend())).or_default() += 1;
        Ok(())
    }

    fn give_seat_back(&self, place: u32, whose: Whose) -> Result<(), TablesError> {
        let Some(seat) = whose.seat() else { return Ok(()) };
        let (set, way) = (seat / SEATS as u32, seat as usize % SEATS);
        if set >= self.seats.len() {
            return Ok(());
        }
        let window = self.seats.window(set, 1)?;
        let word = window.at(set, way * size_of::<u64>());
        let held = word.load(Ordering::Acquire);
        if place_of(held) == Some(place) {
            // It fails where the seat was taken: then it is another flow's.
            let _ = word.compare_exchange(held, 0, Ordering::SeqCst, Ordering::Relaxed);
        }
        Ok(())
    }
}
