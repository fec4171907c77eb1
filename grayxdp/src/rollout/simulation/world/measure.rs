//! What the data path would show of the simulated flows.

use std::{sync::Arc, time::Duration};

use grayxdp_common::records::SAMPLE_ALL;

use super::{TIMES, World, times_of};
use crate::{
    analysis::{Answer, Measured, Measurement, Reading, Sample, Strata, Stratum, sampling},
    model::{Name, plan::Metric, traffic::Answers},
};

/// Of the followed flows, those whose times are taken: at most so many a tick.
const MOST_FOLLOWED: u64 = 64;

impl World<'_> {
    /// A version answers its flows: how many it refused.
    pub(super) fn answer(&mut self, flows: u64, answers: Answers, is_candidate: bool) -> u64 {
        let failures = self.binomial(flows, answers.failure_ratio.clamp(0.0, 1.0));
        let part = f64::from(self.sample_rate) / f64::from(SAMPLE_ALL);
        let followed = self.binomial(flows - failures, part).min(MOST_FOLLOWED);
        let times = &mut self.times[usize::from(is_candidate)];
        if times.0 != answers.first_byte {
            *times = (answers.first_byte, times_of(answers.first_byte));
        }
        let measured = if is_candidate { &mut self.candidate } else { &mut self.stable };
        measured.attempts += flows;
        measured.opened += flows - failures;
        measured.refused += failures;
        measured.flows += followed;
        measured.ended += followed;
        for _ in 0..followed {
            let nanoseconds = times.1[self.random.usize(..TIMES)];
            measured.connect.record(nanoseconds / 10);
            measured.first_byte.record(nanoseconds);
        }
        failures
    }

    /// What the data path would show.
    pub(super) fn measure(&mut self) {
        let at = self.at + Duration::from_secs(1);
        let names = [self.state().stable.clone(), self.state().candidate().clone()];
        let [stable, candidate] = names;
        let reading = |measured: &Measured| {
            let (syns, syn_acks, refusals) = (measured.attempts, measured.opened, measured.refused);
            Reading { syns, syn_acks, refusals }
        };
        let versions = [(stable.clone(), reading(&self.stable)), (candidate.clone(), reading(&self.candidate))].into();
        self.history.push(Sample { at, versions });
        if self.state().plan.spec.analysis.metrics.iter().any(Metric::is_comparative) {
            self.measure_strata(&stable, &candidate);
        }
        let signals = [(stable, Arc::new(self.stable.clone())), (candidate, Arc::new(self.candidate.clone()))];
        self.history.push_signals(at, signals.into());
        for (metric, value) in &self.traffic.outside {
            let answer = Answer::Values(vec![*value]);
            self.history.note_outside(metric.clone(), Measurement { at, answer });
        }
    }

    /// The epoch's counts of both versions, all segments as one.
    fn measure_strata(&mut self, stable: &Name, candidate: &Name) {
        let stratum = Stratum { epoch: self.epoch, segment: 0 };
        let [of_stable, of_candidate] = &self.before;
        let both = [(stable, self.stable.since(of_stable)), (candidate, self.candidate.since(of_candidate))];
        let counts = both.into_iter().filter_map(|(name, grown)| Some(((name.clone(), stratum), Arc::new(grown?))));
        self.history.push_strata(Strata { counts: counts.collect(), ..Strata::default() });
    }

    /// Other weights are in the kernel.
    pub(super) fn begin_epoch(&mut self) {
        self.before = [self.stable.clone(), self.candidate.clone()];
        let flows = Some(self.flows_per_second);
        self.sample_rate = sampling::rate(flows, self.flow_horizon, 1, self.sample_rate);
    }
}
