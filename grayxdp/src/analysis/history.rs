//! A short history of a service's handshake counters, and what a window over it holds.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    analysis::{Measured, Strata, outside::Measurement},
    model::{Name, kernel::SAMPLE_RATE},
};

/// How long a SYN may wait for its SYN-ACK before the connection counts as failed.
pub const ANSWER_TIME: Duration = Duration::from_secs(3);

/// Cumulative handshake counters of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Reading {
    /// SYNs to its backends.
    pub syns: u64,
    /// SYN-ACKs from its backends.
    pub syn_acks: u64,
    /// RSTs with sequence number 0 from its backends.
    pub refusals: u64,
}

impl Reading {
    /// Whether a later reading can follow this one: counters only rise.
    const fn may_precede(&self, later: &Self) -> bool {
        self.syns <= later.syns && self.syn_acks <= later.syn_acks && self.refusals <= later.refusals
    }

    /// SYNs without SYN-ACK so far; negative where SYN-ACKs were repeated.
    fn unanswered(&self) -> i128 {
        i128::from(self.syns) - i128::from(self.syn_acks)
    }
}

/// The counters of a service's versions at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sample {
    /// On the monotonic clock.
    pub at: Duration,
    /// By version.
    pub versions: BTreeMap<Name, Reading>,
}

/// Counts over one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counted {
    /// SYNs in the window.
    pub syns: u64,
    /// How many of them failed; may exceed `syns` by repeated packets.
    pub failed: u64,
}

impl Counted {
    /// Failed ÷ SYNs, `0.0..=1.0`; none without SYNs.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        (self.syns > 0).then(|| (self.failed as f64 / self.syns as f64).min(1.0))
    }
}

/// Signals by version, as [`crate::analysis::Totals`] sums them: they only rise.
pub type SignalSample = BTreeMap<Name, Arc<Measured>>;

/// A ring of samples, oldest first. Begins anew when a counter falls: then the maps were made anew.
#[derive(Clone, Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
    signals: VecDeque<(Duration, SignalSample)>,
    outside: BTreeMap<Name, Measurement>,
    strata: Strata,
    sample_rate: u16,
    span: Duration,
}

impl History {
    /// An empty ring that keeps what a window of `window` needs.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        Self {
            samples: VecDeque::new(),
            signals: VecDeque::new(),
            outside: BTreeMap::new(),
            strata: Strata::default(),
            sample_rate: SAMPLE_RATE,
            span: window + 2 * ANSWER_TIME + Duration::from_secs(2),
        }
    }

    /// Keeps the newest answer about a metric that somebody outside is asked for.
    pub fn note_outside(&mut self, metric: Name, measurement: Measurement) {
        self.outside.insert(metric, measurement);
    }

    /// The newest answer about a metric from outside.
    #[must_use]
    pub fn outside(&self, metric: &Name) -> Option<&Measurement> {
        self.outside.get(metric)
    }

    /// Takes a sample. One that is not later than the last, or with a counter that fell, begins the ring anew.
    pub fn push(&mut self, sample: Sample) {
        if self.samples.back().is_some_and(|last| !follows(last, &sample)) {
            self.samples.clear();
        }
        let oldest_needed = sample.at.saturating_sub(self.span);
        self.samples.push_back(sample);
        while self.samples.front().is_some_and(|sample| sample.at < oldest_needed) {
            self.samples.pop_front();
        }
    }

    /// Takes signals, read at an instant.
    pub fn push_signals(&mut self, at: Duration, signals: SignalSample) {
        let oldest_needed = at.saturating_sub(self.span);
        self.signals.push_back((at, signals));
        while self.signals.front().is_some_and(|(at, _)| *at < oldest_needed) {
            self.signals.pop_front();
        }
    }

    /// The newest cumulative signals of a version.
    #[must_use]
    pub fn newest(&self, version: &Name) -> Option<&Measured> {
        self.signals.back()?.1.get(version).map(Arc::as_ref)
    }

    /// Takes the newest reading of the strata.
    pub fn push_strata(&mut self, strata: Strata) {
        self.strata = strata;
    }

    /// Gives the reading of the strata away, for somebody who counts on in it.
    pub fn take_strata(&mut self) -> Strata {
        std::mem::take(&mut self.strata)
    }

    /// The newest reading of the strata.
    #[must_use]
    pub const fn strata(&self) -> &Strata {
        &self.strata
    }

    /// Takes how many flows are followed in the present epoch, of [`SAMPLE_ALL`].
    pub const fn note_sample_rate(&mut self, rate: u16) {
        self.sample_rate = rate;
    }

    /// How many flows are followed in the present epoch, of [`SAMPLE_ALL`].
    #[must_use]
    pub const fn sample_rate(&self) -> u16 {
        self.sample_rate
    }

    /// Forgets everything: nothing was observed for a while.
    pub fn clear(&mut self) {
        self.samples.clear();
        self.signals.clear();
        self.strata = Strata::default();
    }

    /// The signals of an interval that is *mature*: it began at `from`, and ended [`ANSWER_TIME`] before the newest reading,
    /// so that what nothing answered is counted. How long it was, too. None without two readings there.
    ///
    /// A handshake is counted when it begins, its timeout three seconds later: timeouts are those that were counted in
    /// the interval three seconds further on.
    #[must_use]
    pub fn measured(&self, version: &Name, from: Duration) -> Option<(Measured, Duration)> {
        let close = self.signals.back()?.0.checked_sub(ANSWER_TIME)?;
        let (begin, first) = self.signals.iter().find(|(at, _)| *at >= from)?;
        let (end, last) = self.signals.iter().rev().find(|(at, _)| *at <= close)?;
        let later = |instant: Duration| {
            let (_, sample) = self.signals.iter().find(|(at, _)| *at >= instant + ANSWER_TIME)?;
            sample.get(version)
        };
        if begin >= end {
            return None;
        }
        let grown = last.get(version)?.since(first.get(version)?)?;
        let late = later(*end)?.since(later(*begin)?)?;
        let measured = Measured {
            timeouts: late.timeouts,
            unanswered: late.unanswered,
            cell_failures: late.cell_failures,
            ..grown
        };
        Some((measured, *end - *begin))
    }

    /// SYNs from `from` until [`ANSWER_TIME`] before the newest sample, and how many stayed unanswered. None without
    /// two samples there.
    #[must_use]
    pub fn unanswered(&self, version: &Name, from: Duration) -> Option<Counted> {
        let readings = self.readings(version);
        let close = self.samples.back()?.at.checked_sub(ANSWER_TIME)?;
        let first = readings.iter().find(|(at, _)| *at >= from)?;
        let last = readings.iter().rev().find(|(at, _)| *at <= close)?;
        if first.0 >= last.0 {
            return None;
        }
        let settled = |instant: Duration| {
            let answered_by = instant + ANSWER_TIME;
            let within = readings.iter().filter(|(at, _)| (instant..=answered_by).contains(at));
            within.map(|(_, reading)| reading.unanswered()).min()
        };
        let grown = settled(last.0)? - settled(first.0)?;
        Some(Counted { syns: last.1.syns - first.1.syns, failed: u64::try_from(grown).unwrap_or(0) })
    }

    /// SYNs from `from` until now, and how many were refused. None without two samples there.
    #[must_use]
    pub fn refused(&self, version: &Name, from: Duration) -> Option<Counted> {
        let readings = self.readings(version);
        let first = readings.iter().find(|(at, _)| *at >= from)?;
        let last = readings.last()?;
        (first.0 < last.0)
            .then(|| Counted { syns: last.1.syns - first.1.syns, failed: last.1.refusals - first.1.refusals })
    }

    /// Whether handshakes of a version were counted at all: flows of UDP have none.
    #[must_use]
    pub fn has_handshakes(&self, version: &Name) -> bool {
        let has = |sample: &Sample| sample.versions.get(version).is_some_and(|reading| reading.syns > 0);
        self.samples.back().is_some_and(has) || self.signals.is_empty()
    }

    /// The unbroken run of newest readings of a version.
    fn readings(&self, version: &Name) -> Vec<(Duration, Reading)> {
        let newest_first = self.samples.iter().rev();
        let mut run: Vec<_> =
            newest_first.map_while(|sample| Some((sample.at, *sample.versions.get(version)?))).collect();
        run.reverse();
        run
    }
}

/// Whether the counters can have gone on from one sample to the other.
fn follows(earlier: &Sample, later: &Sample) -> bool {
    let goes_on = |(version, reading): (&Name, &Reading)| {
        later.versions.get(version).is_none_or(|newer| reading.may_precede(newer))
    };
    earlier.at < later.at && earlier.versions.iter().all(goes_on)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2() -> Name {
        "v2".parse().expect("a name")
    }

    fn history(readings: &[(u64, u64, u64, u64)]) -> History {
        let mut history = History::new(Duration::from_secs(10));
        for &(second, syns, syn_acks, refusals) in readings {
            let versions = [(v2(), Reading { syns, syn_acks, refusals })].into();
            history.push(Sample { at: Duration::from_secs(second), versions });
        }
        history
    }

    #[test]
    fn connections_that_are_never_answered_count_and_those_answered_within_three_seconds_do_not() {
        // 100 SYNs a second; in each second 10 are never answered. Window 0..4 s: 400 SYNs, 40 failed.
        let steady: Vec<_> = (0..=7).map(|t| (t, 100 * t, 90 * t, 0)).collect();
        let counted = history(&steady).unanswered(&v2(), Duration::ZERO);
        assert_eq!(counted, Some(Counted { syns: 400, failed: 40 }));

        // A burst of 50 SYNs right before the window closes (second 4) is answered two seconds later.
        let late =
            [(0, 0, 0, 0), (3, 100, 100, 0), (4, 150, 100, 0), (5, 150, 100, 0), (6, 150, 150, 0), (7, 150, 150, 0)];
        let counted = history(&late).unanswered(&v2(), Duration::ZERO);
        assert_eq!(counted, Some(Counted { syns: 150, failed: 0 }));
    }

    #[test]
    fn answers_to_connections_from_before_the_window_hide_no_failure() {
        // 20 SYNs wait when the window opens at second 1 and are answered at second 2; 20 later ones never are.
        let readings = [(1, 20, 0, 0), (2, 20, 20, 0), (3, 40, 20, 0), (4, 40, 20, 0), (7, 40, 20, 0)];
        let counted = history(&readings).unanswered(&v2(), Duration::from_secs(1));
        assert_eq!(counted, Some(Counted { syns: 20, failed: 20 }));
    }

    #[test]
    fn refusals_count_at_once() {
        let refusing = history(&[(0, 0, 0, 0), (1, 200, 0, 50)]);
        assert_eq!(refusing.refused(&v2(), Duration::ZERO), Some(Counted { syns: 200, failed: 50 }));
        assert_eq!(refusing.unanswered(&v2(), Duration::ZERO), None);
    }

    #[test]
    fn counters_that_fall_begin_the_history_anew() {
        let mut readings: Vec<_> = (0..=7).map(|t| (t, 100 * t, 100 * t, 0)).collect();
        readings.push((8, 5, 5, 0));
        let reset = history(&readings);
        assert_eq!((reset.unanswered(&v2(), Duration::ZERO), reset.refused(&v2(), Duration::ZERO)), (None, None));
    }

    #[test]
    fn a_ratio_is_a_number_from_0_to_1_or_none() {
        assert_eq!(Counted { syns: 0, failed: 0 }.ratio(), None);
        assert_eq!(Counted { syns: 0, failed: 9 }.ratio(), None);
        assert_eq!(Counted { syns: 4, failed: 9 }.ratio(), Some(1.0));
        // Repeated SYN-ACKs: more answers than SYNs.
        let repeated: Vec<_> = (0..=7).map(|t| (t, 100 * t, 120 * t, 0)).collect();
        assert_eq!(history(&repeated).unanswered(&v2(), Duration::ZERO).and_then(|c| c.ratio()), Some(0.0));
    }

    #[test]
    fn an_interval_is_mature_once_its_last_handshakes_had_their_three_seconds() {
        // 100 handshakes a second; from second 2 on 10 of them are never answered, which is counted three seconds later.
        let reading = |second: u64| Measured {
            attempts: 100 * second,
            opened: 100 * second.min(2) + 90 * second.saturating_sub(2),
            timeouts: 10 * second.saturating_sub(5),
            ..Measured::default()
        };
        let mut history = History::new(Duration::from_secs(20));
        for second in 0..=9 {
            let signals = [(v2(), Arc::new(reading(second)))].into();
            history.push_signals(Duration::from_secs(second), signals);
            let found = history.measured(&v2(), Duration::from_secs(2));
            let Some((measured, length)) = found else { continue };
            assert_eq!(length, Duration::from_secs(second - 5), "since second 2, until three seconds ago");
            let counts = (measured.attempts, measured.opened, measured.timeouts);
            assert_eq!(counts, (100 * (second - 5), 90 * (second - 5), 10 * (second - 5)));
        }
        assert!(history.measured(&v2(), Duration::from_secs(6)).is_none());
    }

    #[test]
    fn only_what_a_window_needs_is_kept() {
        let long: Vec<_> = (0..=1_000).map(|t| (t, t, t, 0)).collect();
        assert!(history(&long).samples.len() <= 19);
    }
}
