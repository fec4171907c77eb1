//! One simulated rollout: at which look each judge alarms.

use std::{
    num::NonZero,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use grayxdp::{
    analysis::{
        Comparison, Look, Measured, Strata,
        statistics::{
            Sample,
            count_e_process::CountEProcess,
            proportion::{Part, z_test},
            t_test::welch,
        },
    },
    model::{
        Name,
        plan::{Metric, Signal},
        state::Verdict,
    },
};

use super::traffic::{LOOKS, Shape, Traffic};

/// A judge that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// Failures against stable's.
    CountEProcess,
    /// The same on counts as they come: no cap, no dispersion.
    Unguarded,
    /// Mean connect time, with a range.
    ConfidenceSequence,
    /// The same without one.
    Asymptotic,
    /// Median connect time.
    Median,
    /// Its 99th percentile.
    P99,
    /// Whether flows are divided as the buckets say; its level is 0.001.
    Srm,
    /// The z test of all counts so far, at each look: what one must not do.
    PeekedZ,
    /// Welch's t test of all times so far, at each look.
    PeekedWelch,
}

impl Tried {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::CountEProcess,
        Self::Unguarded,
        Self::ConfidenceSequence,
        Self::Asymptotic,
        Self::Median,
        Self::P99,
        Self::Srm,
        Self::PeekedZ,
        Self::PeekedWelch,
    ];

    /// As tables and pictures name it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::CountEProcess => "countEProcess",
            Self::Unguarded => "countEProcess, unguarded",
            Self::ConfidenceSequence => "confidenceSequence, range",
            Self::Asymptotic => "confidenceSequence, asymptotic",
            Self::Median => "quantileTest, median",
            Self::P99 => "quantileTest, p99",
            Self::Srm => "srm (α = 0.001)",
            Self::PeekedZ => "z test at every look",
            Self::PeekedWelch => "Welch's t at every look",
        }
    }

    /// Whether it claims to be valid at every look.
    #[must_use]
    pub const fn is_sequential(self) -> bool {
        match self {
            Self::CountEProcess
            | Self::Unguarded
            | Self::ConfidenceSequence
            | Self::Asymptotic
            | Self::Median
            | Self::P99
            | Self::Srm => true,
            Self::PeekedZ | Self::PeekedWelch => false,
        }
    }

    fn metric(self, alpha: f64) -> Option<Metric> {
        let (signal, quantile, judge) = match self {
            Self::CountEProcess => (Signal::ConnectFailureRatio, None, "countEProcess"),
            Self::ConfidenceSequence | Self::Asymptotic => (Signal::Connect, None, "confidenceSequence"),
            Self::Median => (Signal::Connect, Some(0.5), "quantileTest"),
            Self::P99 => (Signal::Connect, Some(0.99), "quantileTest"),
            Self::Unguarded | Self::Srm | Self::PeekedZ | Self::PeekedWelch => return None,
        };
        let mut kernel = serde_json::json!({"signal": signal});
        if let Some(quantile) = quantile {
            kernel["quantile"] = quantile.into();
        }
        let mut judge = serde_json::json!({"type": judge, "alpha": alpha, "tolerateAbsolute": 0.0});
        if self == Self::ConfidenceSequence {
            judge["range"] = serde_json::json!([0.0, 1.0]);
        }
        let name = format!("m{}", self as u8);
        let json = serde_json::json!({
            "name": name, "provider": {"kernel": kernel}, "judge": judge, "minSamples": 1, "stableLimit": 0.9,
        });
        let mut json = json;
        if signal != Signal::ConnectFailureRatio {
            json.as_object_mut().expect("an object").remove("stableLimit");
        }
        Some(serde_json::from_value(json).expect("a metric"))
    }
}

/// The look, from 1, at which each of [`Tried::ALL`] alarms; none: never.
pub type Alarms = [Option<usize>; Tried::ALL.len()];

/// One rollout.
struct Trial {
    alpha: f64,
    names: [Name; 2],
    metrics: Vec<(usize, Metric)>,
    comparison: Comparison,
    unguarded: CountEProcess,
    /// Counts and times of epochs that are no more, then of the newest look.
    sums: [Measured; 2],
    before: Strata,
}

impl Trial {
    fn new(alpha: f64) -> Self {
        let metrics = Tried::ALL.into_iter().enumerate();
        let mut comparison = Comparison::default();
        let names: [Name; 2] = ["v2", "v1"].map(|name| name.parse().expect("a name"));
        comparison.begin(&Strata::default(), &names[1]);
        Self {
            alpha,
            names,
            metrics: metrics.filter_map(|(index, tried)| Some((index, tried.metric(alpha)?))).collect(),
            comparison,
            unguarded: CountEProcess::worse_than(1.0),
            sums: Default::default(),
            before: Strata::default(),
        }
    }

    /// Which judges alarm at this look.
    fn look(&mut self, strata: &Strata, step: usize) -> [bool; Tried::ALL.len()] {
        let metrics: Vec<_> = self.metrics.iter().map(|(_, metric)| metric).collect();
        let findings = self.comparison.look(&Look {
            strata,
            candidate: &self.names[0],
            stable: &self.names[1],
            metrics: &metrics,
            family: &[],
            since: Duration::from_secs(step as u64),
            is_apart: false,
        });
        self.sum(strata);
        let part = |measured: &Measured| Part { of: measured.refused, all: measured.concluded() };
        let z = z_test(part(&self.sums[1]), part(&self.sums[0]));
        let times = self.sums.each_ref().map(|measured| Sample::of_cells(&measured.connect, 1e-9));
        let t = welch(&times[0], &times[1]);
        std::array::from_fn(|index| match Tried::ALL[index] {
            Tried::CountEProcess | Tried::ConfidenceSequence | Tried::Asymptotic | Tried::Median | Tried::P99 => {
                let metric = self.metrics.iter().find(|(of, _)| *of == index).map(|(_, metric)| &metric.name);
                metric.and_then(|name| findings.get(name)).is_some_and(|finding| finding.verdict == Verdict::Fail)
            }
            Tried::Unguarded => self.unguarded.log_e() >= -self.alpha.ln(),
            Tried::Srm => self.comparison.mismatch().is_some(),
            // The same direction only, at the same level.
            Tried::PeekedZ => z.is_some_and(|(z, p)| z < 0.0 && p / 2.0 < self.alpha),
            Tried::PeekedWelch => t.is_some_and(|test| test.t > 0.0 && test.p / 2.0 < self.alpha),
        })
    }

    /// Adds what came in since the look before.
    fn sum(&mut self, strata: &Strata) {
        let mut increments: Vec<[u64; 4]> = Vec::new();
        for (side, sum) in self.sums.iter_mut().enumerate() {
            for ((version, stratum), now) in strata.counts.iter().filter(|((of, _), _)| *of == self.names[side]) {
                let grown = self.before.of(version, *stratum).and_then(|before| now.since(before));
                let grown = grown.unwrap_or_else(|| now.as_ref().clone());
                sum.add(&grown);
                let counts = match side {
                    0 => [grown.attempts, grown.refused, 0, 0],
                    _ => [0, 0, grown.attempts, grown.refused],
                };
                increments.push(counts);
            }
        }
        let [own, failed, others, other_failed] =
            increments.iter().fold([0; 4], |sum, more| std::array::from_fn(|index| sum[index] + more[index]));
        if own + others > 0 {
            self.unguarded.take(own as f64 / (own + others) as f64, failed as f64, other_failed as f64);
        }
        self.before = strata.clone();
    }
}

/// One rollout of a seed.
#[must_use]
pub fn rollout(shape: Shape, alpha: f64, seed: u64) -> Alarms {
    let (mut traffic, mut trial, mut alarms) = (Traffic::new(shape, seed), Trial::new(alpha), Alarms::default());
    for look in 1..=LOOKS {
        let step = traffic.step();
        traffic.pass();
        for (index, alarms_now) in trial.look(traffic.strata(), step).into_iter().enumerate() {
            alarms[index] = alarms[index].or(alarms_now.then_some(look));
        }
    }
    alarms
}

/// Many rollouts with the seeds 0, 1, …, on all CPUs; in the order of their seeds.
#[must_use]
pub fn rollouts(shape: Shape, alpha: f64, count: u32) -> Vec<Alarms> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= u64::from(count) {
                return done;
            }
            done.push((seed, rollout(shape, alpha, seed)));
        }
    };
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cpus).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no rollout panics")).collect()
    });
    all.sort_unstable_by_key(|(seed, _)| *seed);
    all.into_iter().map(|(_, alarms)| alarms).collect()
}
