//! Failed flows of the candidate against stable's, at every look.

use grayxdp_common::signals::CLIENT_CELLS;
use serde::{Deserialize, Serialize};

use super::{Names, Weighed, increments::Increment, named};
use crate::{
    analysis::{
        Measured,
        measured::ClientCells,
        said::{grouped, percent, short},
        sparse,
        statistics::{
            count_e_process::CountEProcess,
            dispersion::{capped, dispersion, divisor, dominant, ratio_of_others},
            ratio_bound,
            sample_size::{detectable, failures_until_pass},
        },
    },
    model::plan::{Judge, Metric, Signal},
};

/// Probability with which the least detectable ratio is found.
const POWER: f64 = 0.8;

/// Failures of a step from which its own ratio counts.
const ENOUGH: u64 = 10;

/// So many of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Counted {
    pub(super) failed: u64,
    pub(super) flows: u64,
    /// Flows that were begun: what the versions' shares are of.
    pub(super) begun: u64,
}

impl Counted {
    /// Of a signal of failures; nothing of another.
    pub(super) const fn of(signal: Signal, measured: &Measured) -> Self {
        let is_datagrams = measured.attempts == 0 && measured.unmarked == 0 && measured.flows > 0;
        match signal {
            Signal::ConnectFailureRatio if is_datagrams => {
                Self { failed: measured.unanswered, flows: measured.flows, begun: measured.flows }
            }
            Signal::ConnectFailureRatio => Self {
                failed: measured.refused + measured.timeouts,
                flows: measured.concluded(),
                begun: measured.attempts,
            },
            Signal::SynTimeoutRatio => {
                Self { failed: measured.timeouts, flows: measured.concluded(), begun: measured.attempts }
            }
            Signal::ResetRatio => Self {
                failed: measured.reset_by_client + measured.reset_by_backend,
                flows: measured.ended,
                begun: measured.ended,
            },
            Signal::ZeroWindowRatio => {
                Self { failed: measured.zero_window, flows: measured.flows, begun: measured.flows }
            }
            Signal::Connect
            | Signal::FirstByte
            | Signal::RetransmitRatio
            | Signal::BytesPerFlow
            | Signal::FlowsPerSecond => Self { failed: 0, flows: 0, begun: 0 },
        }
    }

    /// Failed ÷ flows; none of nothing.
    pub(super) fn ratio(self) -> Option<f64> {
        (self.flows > 0).then(|| (self.failed as f64 / self.flows as f64).min(1.0))
    }

    pub(super) fn add(&mut self, other: Self) {
        self.failed += other.failed;
        self.flows += other.flows;
        self.begun += other.begun;
    }
}

/// Failures by cell of their clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cells {
    #[serde(with = "sparse::clients")]
    attempts: ClientCells,
    #[serde(with = "sparse::clients")]
    failures: ClientCells,
}

impl Default for Cells {
    fn default() -> Self {
        Self { attempts: vec![0; CLIENT_CELLS], failures: vec![0; CLIENT_CELLS] }
    }
}

impl Cells {
    fn add(&mut self, measured: &Measured) {
        self.attempts.iter_mut().zip(&measured.cell_attempts).for_each(|(sum, more)| *sum += more);
        self.failures.iter_mut().zip(&measured.cell_failures).for_each(|(sum, more)| *sum += more);
    }

    /// None with too few failures to say.
    fn dispersion(&self) -> Option<f64> {
        let enough = self.failures.iter().sum::<u64>() >= ENOUGH;
        dispersion(&self.attempts, &self.failures).filter(|_| enough)
    }
}

/// What is known of a ratio of failures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    worse: CountEProcess,
    better: CountEProcess,
    candidate: Counted,
    stable: Counted,
    /// The candidate's in this step.
    step: Counted,
    /// The candidate's that may speak for a pass.
    bound: Counted,
    candidate_cells: Cells,
    stable_cells: Cells,
}

impl Counts {
    pub(super) fn new(judge: &Judge) -> Self {
        Self {
            worse: CountEProcess::worse_than(judge.tolerate_ratio),
            better: CountEProcess::better_than(judge.detected()),
            candidate: Counted::default(),
            stable: Counted::default(),
            step: Counted::default(),
            bound: Counted::default(),
            candidate_cells: Cells::default(),
            stable_cells: Cells::default(),
        }
    }

    pub(super) fn begin_step(&mut self) {
        self.step = Counted::default();
    }

    /// Takes what came in; `against` where nothing of it may speak for a pass.
    pub(super) fn take(&mut self, metric: &Metric, judge: &Judge, increments: &[Increment], against: bool) {
        let signal = signal(metric);
        let has_cells = signal == Signal::ConnectFailureRatio;
        if has_cells {
            for increment in increments {
                self.candidate_cells.add(&increment.candidate);
                self.stable_cells.add(&increment.stable);
            }
        }
        let divisor = divisor(self.dispersion());
        for increment in increments {
            let (own, others) = (Counted::of(signal, &increment.candidate), Counted::of(signal, &increment.stable));
            self.candidate.add(own);
            self.stable.add(others);
            self.step.add(own);
            let tolerated = judge.tolerate_absolute.unwrap_or(super::TOLERATED_RATIO);
            if !against || own.ratio().is_some_and(|ratio| ratio >= tolerated) {
                self.bound.add(own);
            }
            let cap = metric.client_cap();
            let events = |counted: Counted, measured: &Measured| match has_cells {
                true => cut(counted.failed, measured, cap) / divisor,
                false => counted.failed as f64,
            };
            let (own_events, other_events) = (events(own, &increment.candidate), events(others, &increment.stable));
            let share = share(signal, increment, own, others);
            self.worse.take(share, own_events, other_events);
            match against {
                true => self.better.take_against(share, own_events, other_events),
                false => self.better.take(share, own_events, other_events),
            }
        }
    }

    fn dispersion(&self) -> Option<f64> {
        let both = [&self.candidate_cells, &self.stable_cells].map(Cells::dispersion);
        both.into_iter().flatten().max_by(f64::total_cmp)
    }

    /// Whether the candidate is no worse than tolerated but for the clients of one cell, which has over half of its failures.
    fn is_of_one_cell(&self, judge: &Judge, tolerated: f64) -> bool {
        let Cells { attempts, failures } = &self.candidate_cells;
        let of_stable = judge.tolerate_ratio * self.stable.ratio().unwrap_or(0.0);
        ratio_of_others(attempts, failures).is_some_and(|ratio| ratio <= tolerated.max(of_stable))
    }

    /// Flows of both versions that a pass still takes on average, if the candidate is no worse than stable; none where it
    /// cannot be said.
    fn remaining(&self, judge: &Judge, tolerated: f64, refuted: f64) -> Option<f64> {
        let (all, failed) = (self.candidate.flows + self.stable.flows, self.candidate.failed + self.stable.failed);
        let share = self.candidate.flows as f64 / all as f64;
        let needed = failures_until_pass(judge.detected(), 1.0, share, judge.alpha).filter(|_| failed > 0);
        let left = 1.0 - (refuted / -judge.alpha.ln()).clamp(0.0, 1.0);
        let by_failures = needed.map(|needed| needed * left * all as f64 / failed as f64);
        let is_below = |times: &f64| {
            let grown = |count: u64| (count as f64 * times) as u64;
            ratio_bound::is_below(grown(self.bound.failed), grown(self.bound.flows), tolerated, judge.alpha)
        };
        let times = (0..24).map(|power| 1.5_f64.powi(power)).find(is_below).filter(|_| self.bound.flows > 0);
        let by_flows = times.map(|times| (times - 1.0) * self.bound.flows as f64 / share);
        [by_failures, by_flows].into_iter().flatten().filter(|flows| flows.is_finite()).min_by(f64::total_cmp)
    }

    pub(super) fn weigh(&self, metric: &Metric, judge: &Judge, names: Names<'_>) -> Weighed {
        let tolerated = judge.tolerate_absolute.unwrap_or(super::TOLERATED_RATIO);
        let above = |counted: Counted| counted.ratio().is_some_and(|ratio| ratio > tolerated);
        let upper = ratio_bound::upper(self.bound.failed, self.bound.flows, judge.alpha);
        let refuted = self.better.log_e();
        let (own, others) = (self.candidate.ratio(), self.stable.ratio());
        let signal = signal(metric);
        let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "nothing".to_owned(), percent);
        let (is_below, is_refuted) = (upper < tolerated, refuted >= -judge.alpha.ln());
        let mut sentence = format!(
            "{} {} {} of {} {}, {} {}",
            names.candidate,
            does(signal),
            ratio(own),
            grouped(self.candidate.flows),
            flows(signal),
            names.stable,
            ratio(others),
        );
        if let Some(dispersion) = self.dispersion().filter(|dispersion| divisor(Some(*dispersion)) > 1.0) {
            let by = short(dispersion);
            sentence.push_str(&format!("; failures come in clusters, counts are divided by {by}"));
        }
        if let Some((cell, part)) = dominant(&self.candidate_cells.failures) {
            sentence.push_str(&format!("; clients of cell {cell} have {} of the failures", percent(part)));
        }
        let is_of_one_cell = self.is_of_one_cell(judge, tolerated);
        if is_of_one_cell && self.worse.log_e() >= -judge.alpha.ln() {
            sentence.push_str(" and do not decide alone");
        }
        let why = match (is_below, is_refuted) {
            (true, _) => Some(format!("it is below {} at every look", percent(tolerated))),
            (false, true) => Some(format!("it is not {} times stable's", short(judge.detected()))),
            (false, false) => None,
        };
        Weighed {
            evidence: self.worse.log_e(),
            is_notable: !is_of_one_cell && (above(self.candidate) || (self.step.failed >= ENOUGH && above(self.step))),
            passes: is_below || is_refuted,
            remaining: if is_below || is_refuted { None } else { self.remaining(judge, tolerated, refuted) },
            samples: (self.candidate.flows, self.stable.flows),
            value: own,
            why,
            sentence,
            numbers: named([
                ("eValue", self.worse.e()),
                ("refuted", refuted.exp()),
                ("upperBound", upper),
                ("candidateFailed", self.candidate.failed as f64),
                ("candidateFlows", self.candidate.flows as f64),
                ("stableFailed", self.stable.failed as f64),
                ("stableFlows", self.stable.flows as f64),
                ("dispersion", self.dispersion().unwrap_or(1.0)),
                (
                    "detectable",
                    detectable(others.unwrap_or(0.0), self.candidate.flows.min(self.stable.flows), judge.alpha, POWER),
                ),
            ]),
        }
    }
}

pub(super) fn signal(metric: &Metric) -> Signal {
    metric.kernel().expect("only signals of the data path are compared").signal
}

/// The candidate's share of the flows of a look; of the whole stratum where it begins no more flows.
fn share(signal: Signal, increment: &Increment, own: Counted, others: Counted) -> f64 {
    let of = |own: Counted, others: Counted| own.begun as f64 / (own.begun + others.begun) as f64;
    if own.begun > 0 && others.begun > 0 {
        return of(own, others);
    }
    of(Counted::of(signal, &increment.candidate_whole), Counted::of(signal, &increment.stable_whole))
}

/// Failures with those of single clients cut.
fn cut(failed: u64, measured: &Measured, cap: u32) -> f64 {
    let by_cell: u64 = measured.cell_failures.iter().sum();
    if by_cell == 0 {
        return failed as f64;
    }
    failed as f64 * capped(&measured.cell_attempts, &measured.cell_failures, cap) / by_cell as f64
}

const fn does(signal: Signal) -> &'static str {
    match signal {
        Signal::ResetRatio => "resets",
        Signal::SynTimeoutRatio => "leaves unanswered",
        Signal::ZeroWindowRatio => "stalls",
        Signal::ConnectFailureRatio
        | Signal::Connect
        | Signal::FirstByte
        | Signal::RetransmitRatio
        | Signal::BytesPerFlow
        | Signal::FlowsPerSecond => "fails",
    }
}

pub(super) const fn flows(signal: Signal) -> &'static str {
    match signal {
        Signal::ConnectFailureRatio | Signal::SynTimeoutRatio => "connections",
        Signal::ResetRatio
        | Signal::ZeroWindowRatio
        | Signal::Connect
        | Signal::FirstByte
        | Signal::RetransmitRatio
        | Signal::BytesPerFlow
        | Signal::FlowsPerSecond => "flows",
    }
}
