//! The flows of a simulated tick: who has how many in which segment, how many fail, and what the data path counts of them.

use std::{f64::consts::TAU, sync::Arc, time::Duration};

use grayxdp_common::{
    records::SAMPLE_ALL,
    signals::{CLIENT_CELLS, Histogram},
};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::{
    analysis::{Measured, Strata, Stratum, sampling},
    model::{
        Name,
        kernel::SAMPLE_RATE,
        traffic::{Answers, Incident, Latency, Struck, Traffic},
    },
    rollout::{Exposure, simulation::dice::Dice},
};

/// Of the followed flows, those whose times are taken: at most so many a tick and segment.
const MOST_FOLLOWED: u64 = 64;

/// Clients beside the weights (a canary instance, a preview) are this part of all flows.
const ASIDE: f64 = 0.01;

/// The standard normal's 0.99 quantile.
const Z99: f64 = 2.326_347_874;

/// Equally likely times that stand for a distribution.
const TIMES: usize = 4_096;

/// Seconds of a day, and its second at which the least traffic is met.
const DAY: f64 = 86_400.0;
const NIGHT: f64 = 2.0 * 3_600.0;

/// A version, and what it had so far in all strata.
#[derive(Debug)]
struct Side {
    name: Name,
    /// Cells of its clients are known by stratum only.
    whole: Measured,
    /// Equally likely times, and of which distribution.
    times: (Latency, Vec<Time>),
}

/// A time to the first byte, by the cells of the histograms that it falls into.
#[derive(Clone, Copy, Debug)]
struct Time {
    connect: usize,
    first_byte: usize,
}

/// The flows of both versions.
#[derive(Debug)]
pub(super) struct Flows<'a> {
    traffic: &'a Traffic,
    dice: Dice,
    stable: Side,
    candidate: Side,
    /// How long a flow is followed.
    horizon: Duration,
    /// The epoch, and of how many flows in it times are taken, of [`SAMPLE_ALL`].
    followed: (u64, u16),
}

/// How new flows are divided during a tick.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tick<'a> {
    /// Its end, since the begin.
    pub(super) at: Duration,
    /// How long it is.
    pub(super) length: Duration,
    /// What of the candidate is exposed.
    pub(super) exposure: &'a Exposure,
    /// The part of stable's flows of which the candidate gets copies, `0.0..=1.0`.
    pub(super) copied: f64,
    /// The service's epoch.
    pub(super) epoch: u64,
}

/// Flows of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Passed {
    /// Of both versions.
    pub(super) flows: u64,
    /// Of the candidate.
    pub(super) candidate: u64,
    /// Refused by stable.
    pub(super) stable_failures: u64,
    /// Refused by the candidate.
    pub(super) candidate_failures: u64,
}

impl<'a> Flows<'a> {
    pub(super) fn new(traffic: &'a Traffic, horizon: Duration, stable: Name, candidate: Name) -> Self {
        let side = |name, answers: Answers| Side {
            name,
            whole: Measured::default(),
            times: (answers.first_byte, times_of(answers.first_byte)),
        };
        Self {
            traffic,
            dice: Dice::new(traffic.seed),
            stable: side(stable, traffic.stable),
            candidate: side(candidate, traffic.candidate),
            horizon,
            followed: (0, SAMPLE_RATE),
        }
    }

    /// What stable and the candidate had so far.
    pub(super) const fn wholes(&self) -> (&Measured, &Measured) {
        (&self.stable.whole, &self.candidate.whole)
    }

    /// The share of clients that meet the candidate, `0.0..=1.0`.
    pub(super) fn exposed(&self, exposure: &Exposure) -> f64 {
        self.segments().map(|(segment, share)| share * of_candidate(exposure, segment)).sum()
    }

    /// Segments in the order of their numbers with their shares: first of all what matches none.
    fn segments(&self) -> impl Iterator<Item = (Option<&'a Name>, f64)> + use<'a> {
        let rest = (1.0 - self.traffic.segments.values().sum::<f64>()).max(0.0);
        let named = self.traffic.segments.iter().map(|(name, share)| (Some(name), *share));
        std::iter::once((None, rest)).chain(named)
    }

    /// The flows of one tick, counted in the newest of the strata.
    pub(super) fn pass(&mut self, tick: Tick<'_>, strata: &mut Strata) -> Passed {
        // The data path has room for two epochs.
        strata.counts.retain(|(_, stratum), _| stratum.epoch + 1 >= tick.epoch);
        strata.shares.clear();
        let rate = self.rate(tick.at);
        if self.followed.0 != tick.epoch {
            self.followed = (tick.epoch, sampling::rate(Some(rate), self.horizon, 1, self.followed.1));
        }
        let part = f64::from(self.followed.1) / f64::from(SAMPLE_ALL);
        let mean = rate * tick.length.as_secs_f64();
        let (of_stable, of_candidate_now) = self.answers(tick.at);
        let mut passed = Passed::default();
        for (segment, (name, of_all)) in (0..=u8::MAX).zip(self.segments()) {
            let stratum = Stratum { epoch: tick.epoch, segment };
            let share = of_candidate(tick.exposure, name);
            if tick.exposure.aside.is_none() && tick.copied == 0.0 {
                strata.shares.insert(stratum, share);
            }
            let flows = self.dice.poisson(mean * of_all);
            let candidate = self.dice.binomial(flows, share);
            let Self { dice, stable, candidate: new, .. } = self;
            let (old, others) = ((of_stable, part), (of_candidate_now, part));
            passed.stable_failures += stable.answer(dice, flows - candidate, old, stratum, strata);
            passed.candidate_failures += new.answer(dice, candidate, others, stratum, strata);
            if tick.copied > 0.0 {
                let copies = dice.binomial(flows - candidate, tick.copied);
                // All copies are followed, and no client hears what becomes of them.
                let _unheard = new.answer(dice, copies, (of_candidate_now, 1.0), stratum, strata);
            }
            passed.flows += flows;
            passed.candidate += candidate;
        }
        passed
    }

    /// New flows a second.
    fn rate(&self, at: Duration) -> f64 {
        let begin = Duration::from_secs(u64::try_from(self.traffic.start.as_second()).unwrap_or_default());
        let second = (begin + at).as_secs_f64() % DAY;
        let night = 0.5 + 0.5 * (TAU * (second - NIGHT) / DAY).cos();
        self.traffic.flows_per_second * (1.0 - (1.0 - self.traffic.nightly) * night)
    }

    /// How stable and the candidate answer at a time.
    fn answers(&self, at: Duration) -> (Answers, Answers) {
        let (mut stable, mut candidate) = (self.traffic.stable, self.traffic.candidate);
        let lasts = |incident: &&Incident| {
            incident.at <= at && incident.duration.is_none_or(|duration| at < incident.at + duration)
        };
        for incident in self.traffic.incidents.iter().filter(lasts) {
            let strike = |answers: &mut Answers| {
                answers.failure_ratio = incident.failure_ratio.unwrap_or(answers.failure_ratio);
                answers.first_byte = incident.first_byte.unwrap_or(answers.first_byte);
            };
            match incident.to {
                Struck::Stable => strike(&mut stable),
                Struck::Candidate => strike(&mut candidate),
                Struck::Both => {
                    strike(&mut stable);
                    strike(&mut candidate);
                }
            }
        }
        (stable, candidate)
    }
}

impl Side {
    /// Answers flows of a stratum, of which a part is followed: how many it refused.
    fn answer(
        &mut self,
        dice: &mut Dice,
        flows: u64,
        (answers, part): (Answers, f64),
        stratum: Stratum,
        strata: &mut Strata,
    ) -> u64 {
        let failures = dice.binomial(flows, answers.failure_ratio.clamp(0.0, 1.0));
        let opened = flows - failures;
        let followed = dice.binomial(opened, part).min(MOST_FOLLOWED);
        if self.times.0 != answers.first_byte {
            self.times = (answers.first_byte, times_of(answers.first_byte));
        }
        let key = (self.name.clone(), stratum);
        // Nobody else holds it: nothing is copied.
        let own = Arc::make_mut(strata.counts.entry(key).or_default());
        let dealt = own.opened as usize % CLIENT_CELLS;
        for measured in [&mut *own, &mut self.whole] {
            measured.attempts += flows;
            measured.opened += opened;
            measured.refused += failures;
            measured.flows += followed;
            measured.ended += followed;
        }
        for _ in 0..followed {
            let time = self.times.1[dice.below(TIMES)];
            own.connect.add_at(time.connect, 1);
            own.first_byte.add_at(time.first_byte, 1);
            self.whole.connect.add_at(time.connect, 1);
            self.whole.first_byte.add_at(time.first_byte, 1);
        }
        deal(&mut own.cell_attempts, dealt, opened);
        dice.scatter(failures, CLIENT_CELLS, |cell, here| {
            own.cell_attempts[cell] += here;
            own.cell_failures[cell] += here;
        });
        failures
    }
}

/// Deals flows to cells in turn, beginning at one: clients are so many that each cell has its even part of what is well.
fn deal(cells: &mut [u64], begin: usize, flows: u64) {
    let (each, more) = (flows / cells.len() as u64, flows as usize % cells.len());
    if each > 0 {
        for cell in &mut *cells {
            *cell += each;
        }
    }
    let turned = (begin + more).saturating_sub(cells.len());
    for cell in &mut cells[..turned] {
        *cell += 1;
    }
    for cell in &mut cells[begin..begin + more - turned] {
        *cell += 1;
    }
}

/// The candidate's share of new flows in a segment, `0.0..=1.0`.
fn of_candidate(exposure: &Exposure, segment: Option<&Name>) -> f64 {
    let aside = if exposure.aside.is_some() { ASIDE } else { 0.0 };
    exposure.in_segment(segment).ratio().max(aside)
}

/// Equally likely times of a log-normal distribution: its quantiles in the middle of each part. Connecting takes a tenth.
fn times_of(latency: Latency) -> Vec<Time> {
    let (median, p99) = (latency.median.as_secs_f64(), latency.p99.max(latency.median).as_secs_f64());
    let sigma = if median > 0.0 { (p99 / median).ln() / Z99 } else { 0.0 };
    let normal = Normal::standard();
    let quantile = |part: usize| normal.inverse_cdf((part as f64 + 0.5) / TIMES as f64);
    // `as` saturates.
    let nanoseconds = |part: usize| (median * (sigma * quantile(part)).exp() * 1e9) as u64;
    let time = |nanoseconds: u64| Time {
        connect: Histogram::cell(nanoseconds / 10),
        first_byte: Histogram::cell(nanoseconds),
    };
    (0..TIMES).map(nanoseconds).map(time).collect()
}
