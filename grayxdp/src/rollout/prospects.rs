//! What the steps of a plan can show, before the rollout and while it waits.

use std::time::Duration;

use grayxdp_common::records::SAMPLE_ALL;

use crate::{
    analysis::{
        planning::{Setting, prospect},
        sampling,
    },
    model::{
        Name, Weight,
        config::Protocol,
        kernel::SAMPLE_RATE,
        plan::{Metric, Plan},
        state::{Prospect, Verdict},
        time::Now,
    },
    rollout::{stages::Dwell, state::State},
};

/// The traffic that a plan will meet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// New flows a second.
    pub flows_per_second: f64,
    /// Stable's ratio of failures.
    pub failing: f64,
    /// How long a flow is followed.
    pub flow_horizon: Duration,
    /// What the flows are of.
    pub protocol: Protocol,
}

/// What each stage of a plan can show of its metrics that compare, by the index of the plan's part; stages with the same weight and
/// length as the one before are left out.
#[must_use]
pub fn foreseen(plan: &Plan, stable: &Name, expected: &Expected) -> Vec<(usize, Vec<Prospect>)> {
    let now = Now { monotonic: Duration::ZERO, wall: Duration::ZERO };
    let mut state = State::new(0, plan.clone(), stable.clone(), 0, now);
    let followed = match expected.protocol {
        Protocol::Tcp => sampling::rate(Some(expected.flows_per_second), expected.flow_horizon, 1, SAMPLE_RATE),
        Protocol::Udp => SAMPLE_RATE,
    };
    let mut all = Vec::new();
    let mut last = None;
    for stage in 0..state.stage_count() {
        let (goal, lasts) = (state.goal(stage), state.stage(stage).map(|stage| stage.dwell()));
        let weight = goal.total.filter(|_| goal.aside.is_none()).unwrap_or_default();
        (state.step, state.exposure.weight) = (stage, weight);
        if last.replace((weight, lasts)) == Some((weight, lasts)) {
            continue;
        }
        let setting =
            state.setting(expected.flows_per_second, f64::from(followed) / f64::from(SAMPLE_ALL), expected.protocol);
        let found = |metric: &Metric| prospect(metric, &Setting { failing: expected.failing, ..setting });
        let found: Vec<_> = state.active_metrics().iter().filter_map(found).collect();
        if !found.is_empty() {
            all.push((state.part(), found));
        }
    }
    all
}

impl State {
    /// What the present step can show of metrics that have not passed yet, at so many new flows a second of which a part is followed.
    #[must_use]
    pub fn prospects(&self, flows_per_second: f64, followed: f64, protocol: Protocol) -> Vec<Prospect> {
        let is_apart = self.exposure.aside.is_some() || self.exposure.weight == Weight::ZERO;
        if self.phase.is_final() || is_apart {
            return Vec::new();
        }
        let setting = self.setting(flows_per_second, followed, protocol);
        let of_metric = |metric: &Metric| {
            let finding = self.metrics.get(&metric.name).and_then(|record| record.finding.as_ref());
            let number = |name: &str| finding.and_then(|finding| finding.numbers.get(name)).copied();
            let failing = number("stableFailed").zip(number("stableFlows")).map(|(failed, flows)| failed / flows);
            let failing = failing.filter(|failing| failing.is_finite()).unwrap_or(0.0);
            match finding.map(|finding| finding.verdict) {
                Some(Verdict::Pass | Verdict::Fail) => None,
                Some(Verdict::Inconclusive | Verdict::NoData | Verdict::Error) | None => {
                    prospect(metric, &Setting { failing, ..setting })
                }
            }
        };
        self.active_metrics().iter().filter_map(of_metric).collect()
    }

    fn setting(&self, flows_per_second: f64, followed: f64, protocol: Protocol) -> Setting {
        let may_roll_back = |metric: &&Metric| metric.is_comparative() && metric.critical && !metric.dry_run;
        Setting {
            flows_per_second,
            share: self.exposure.weight.ratio(),
            followed,
            has_handshakes: protocol == Protocol::Tcp,
            failing: 0.0,
            lasts: match self.required_dwell() {
                Dwell::For(pause) => Some(pause).filter(|pause| !pause.is_zero()),
                Dwell::UntilResumed => None,
            },
            family: self.plan.spec.analysis.metrics.iter().filter(may_roll_back).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_of_a_plan_is_foreseen_with_its_weight_and_length() {
        let json = serde_json::json!({
            "apiVersion": "grayxdp.io/v1", "kind": "Rollout", "metadata": {"name": "a"},
            "spec": {
                "service": "recsys", "candidate": "v2",
                "strategy": {"canary": {"steps": [
                    {"setWeight": 5, "pause": {"duration": "10m"}}, {"setWeight": 50, "pause": {"duration": "10m"}},
                    {"setWeight": 100, "pause": {"duration": "10m"}},
                ]}},
                "analysis": {"metrics": [
                    {"name": "errors", "provider": {"kernel": {"signal": "connectFailureRatio"}}},
                    {"name": "resets", "provider": {"kernel": {"signal": "resetRatio"}}},
                    {"name": "plain", "provider": {"kernel": {"signal": "resetRatio"}}, "thresholdRange": {"max": 0.1}},
                ]},
            },
        });
        let plan: Plan = serde_json::from_value(json).expect("a plan");
        let expected = Expected {
            flows_per_second: 200.0,
            failing: 0.01,
            flow_horizon: Duration::from_secs(60),
            protocol: Protocol::Tcp,
        };
        let found = foreseen(&plan, &"v1".parse().expect("a name"), &expected);
        let names: Vec<_> = found
            .iter()
            .map(|(part, found)| (*part, found.iter().map(|found| found.metric.as_str()).collect::<Vec<_>>()))
            .collect();
        let both = vec!["errors", "resets"];
        assert_eq!(names, [(0, both.clone()), (1, both)], "at 100 % there is nothing to compare with");
        let least = |step: usize, metric: usize| found[step].1[metric].detectable.expect("an effect");
        assert!(least(0, 0) > least(1, 0), "5 % shows less than 50 %");
        assert!(least(1, 1) > least(1, 0), "resets are counted of followed flows only");
    }
}
