//! Traffic of two versions as looks of a rollout see it.

use std::{collections::BTreeMap, convert::Infallible, f64::consts::TAU, sync::Arc};

use grayxdp::{
    analysis::{Measured, Strata, Stratum},
    model::Name,
};
use rand::TryRng;
use rand_distr::{Binomial, Distribution as _, Normal, Poisson};

use crate::random::Random;

/// Looks of a rollout.
pub const LOOKS: usize = 180;

/// Looks of a step of the ramp.
const STEP: usize = 18;

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.next() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.iter_mut().for_each(|byte| *byte = self.next() as u8);
        Ok(())
    }
}

/// What is different about the candidate, and how its share grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// New flows of both versions in a look, on average.
    pub flows: f64,
    /// How many times as often the candidate's flows fail.
    pub failing: f64,
    /// How many times as long its connects take.
    pub slower: f64,
    /// Noise of its own, with the same failures on average.
    pub own: Own,
    /// Its share of new flows.
    pub share: Share,
}

/// Noise of the candidate's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// None: every failure comes alone.
    Nothing,
    /// A client that fails tries so often in a row.
    Clusters(u32),
    /// A backend is down one look in ten, three looks long; all failures fall there.
    Flapping,
}

/// The candidate's share of new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// From 5 to 50 % in ten steps.
    Ramp,
    /// Half of them throughout.
    Half,
}

impl Shape {
    /// Two versions that are the same.
    #[must_use]
    pub const fn null() -> Self {
        Self { flows: 2_000.0, failing: 1.0, slower: 1.0, own: Own::Nothing, share: Share::Ramp }
    }
}

/// The versions' flows, look after look.
#[derive(Clone, Debug)]
pub struct Traffic {
    shape: Shape,
    random: Random,
    look: usize,
    /// Slow changes that both versions share, in logarithms: of the rate, of failures, of times.
    common: [f64; 3],
    drift: [f64; 3],
    phase: f64,
    is_down: bool,
    names: [Name; 2],
    strata: Strata,
}

impl Traffic {
    /// The rollout of a seed.
    #[must_use]
    pub fn new(shape: Shape, seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
        let mut sign = || if random.chance(0.5) { 1.0 } else { -1.0 };
        let drift = [0.3 * sign(), 0.5 * sign(), 0.3 * sign()];
        let phase = TAU * (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
        let names = ["v2", "v1"].map(|name| name.parse().expect("a name"));
        let strata = Strata::default();
        Self { shape, random, look: 0, common: [0.0; 3], drift, phase, is_down: false, names, strata }
    }

    /// What both versions had so far.
    #[must_use]
    pub const fn strata(&self) -> &Strata {
        &self.strata
    }

    /// The step of the ramp that comes next, from 0.
    #[must_use]
    pub const fn step(&self) -> usize {
        match self.shape.share {
            Share::Ramp => self.look / STEP,
            Share::Half => 0,
        }
    }

    /// The candidate's share of new flows that come next.
    fn share(&self) -> f64 {
        match self.shape.share {
            Share::Ramp => 0.05 * (self.step() + 1) as f64,
            Share::Half => 0.5,
        }
    }

    /// One look later.
    pub fn pass(&mut self) {
        let [rate, failing, times] = self.common();
        let stratum = Stratum { epoch: self.step() as u64 + 2, segment: 0 };
        let share = self.share();
        self.strata.shares = BTreeMap::from([(stratum, share)]);
        // The data path has room for two epochs.
        self.strata.counts.retain(|(_, of), _| of.epoch + 1 >= stratum.epoch);
        let all = self.poisson(self.shape.flows * rate.exp());
        let candidate = self.binomial(all, share);
        let ratio = (0.01 * failing.exp()).min(0.5);
        for (version, flows) in [(0, candidate), (1, all - candidate)] {
            let is_candidate = version == 0;
            let factor = if is_candidate { self.shape.slower } else { 1.0 };
            let clusters = if is_candidate { self.own_failures(flows, ratio) } else { vec![] };
            let failures = match self.shape.own {
                Own::Clusters(_) | Own::Flapping if is_candidate => clusters,
                Own::Nothing | Own::Clusters(_) | Own::Flapping => {
                    let times = if is_candidate { self.shape.failing } else { 1.0 };
                    vec![1; self.binomial(flows, (ratio * times).min(1.0)) as usize]
                }
            };
            let key = (self.names[version].clone(), stratum);
            let mut entry = self.strata.counts.remove(&key).unwrap_or_default();
            self.count(Arc::make_mut(&mut entry), flows, &failures, 20e6 * times.exp() * factor);
            self.strata.counts.insert(key, entry);
        }
        self.look += 1;
    }

    /// Drift, a daily curve and autocorrelation.
    fn common(&mut self) -> [f64; 3] {
        let innovation = Normal::new(0.0, 0.1).expect("a deviation");
        let part = self.look as f64 / LOOKS as f64;
        for noise in &mut self.common {
            *noise = 0.9 * *noise + innovation.sample(&mut self.random);
        }
        let wave = (TAU * part + self.phase).sin();
        let amplitude = [0.4, 0.5, 0.2];
        std::array::from_fn(|of| self.common[of] + self.drift[of] * part + amplitude[of] * wave)
    }

    /// The candidate's failures where it has noise of its own: how many each client has.
    fn own_failures(&mut self, flows: u64, ratio: f64) -> Vec<u32> {
        match self.shape.own {
            Own::Nothing => vec![],
            Own::Clusters(size) => {
                let clients = self.poisson(flows as f64 * ratio / f64::from(size));
                vec![size; clients.min(flows / u64::from(size)) as usize]
            }
            Own::Flapping => {
                let changes = self.random.chance(if self.is_down { 1.0 / 3.0 } else { 1.0 / 27.0 });
                self.is_down ^= changes;
                let ratio = if self.is_down { (10.0 * ratio).min(1.0) } else { 0.0 };
                vec![1; self.binomial(flows, ratio) as usize]
            }
        }
    }

    fn count(&mut self, measured: &mut Measured, flows: u64, failures: &[u32], median_ns: f64) {
        let failed: u64 = failures.iter().map(|&failed| u64::from(failed)).sum();
        measured.attempts += flows;
        measured.refused += failed;
        measured.opened += flows - failed;
        for _ in 0..flows - failed {
            measured.cell_attempts[self.random.below(256)] += 1;
        }
        for &times in failures {
            let cell = self.random.below(256);
            measured.cell_attempts[cell] += u64::from(times);
            measured.cell_failures[cell] += u64::from(times);
        }
        let spread = Normal::new(0.0_f64, 0.5).expect("a deviation");
        for _ in 0..flows - failed {
            measured.connect.record((median_ns * spread.sample(&mut self.random).exp()) as u64);
        }
    }

    fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 0.0 { Poisson::new(mean).expect("a mean").sample(&mut self.random) as u64 } else { 0 }
    }

    fn binomial(&mut self, of: u64, chance: f64) -> u64 {
        Binomial::new(of, chance).expect("a chance").sample(&mut self.random)
    }
}
