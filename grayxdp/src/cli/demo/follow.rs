//! Follows a release: asks the daemon for its weight, the clients for what they meet, and puts both side by side.

use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use crate::{
    lab::{Failure, Running, Tally},
    model::{
        Weight,
        state::{Finding, RolloutState, Verdict},
    },
};

use super::{
    AFTERGLOW, Act,
    interrupt::Interrupt,
    rollout_name,
    screen::{Live, Screen},
    stage::Stage,
};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// How long the stable version alone is shown at first.
const PRELUDE: Duration = Duration::from_secs(1);
/// A release that has not ended after this long never will.
const PATIENCE: Duration = Duration::from_secs(600);

/// What became of a release.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Release {
    pub(super) name: String,
    pub(super) service: String,
    pub(super) stable: String,
    pub(super) candidate: String,
    pub(super) state: RolloutState,
    /// How it stands in the end.
    pub(super) message: String,
    /// What was found against the candidate; empty when nothing was.
    pub(super) reason: String,
    /// Requests from the start to the end, those between two phases included.
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) phases: Vec<Phase>,
}

/// A time in which the weight stayed the same.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Phase {
    /// The candidate's share of new connections as the plan wants it.
    pub(super) wanted_percent: f64,
    /// The candidate's share of the requests that were sent; none when there were none.
    pub(super) observed_percent: Option<f64>,
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) duration_seconds: f64,
    /// What the clients met.
    pub(super) tally: Tally,
}

/// A phase under way.
struct Open {
    weight: Weight,
    begin: Instant,
    end: Instant,
    first: Tally,
    last: Tally,
}

impl Open {
    fn begin(weight: Weight, tally: Tally) -> Self {
        let now = Instant::now();
        Self { weight, begin: now, end: now, first: tally.clone(), last: tally }
    }

    fn phase(&self, candidate: &str) -> Phase {
        let tally = self.last.since(&self.first);
        Phase {
            wanted_percent: self.weight.ratio() * 100.0,
            observed_percent: share_percent(&tally, candidate),
            requests: tally.requests(),
            failed: tally.failed(),
            duration_seconds: (self.end - self.begin).as_secs_f64(),
            tally,
        }
    }
}

/// Share of requests that came to the candidate: answered by it, or refused, which none but a broken candidate does.
fn share_percent(tally: &Tally, candidate: &str) -> Option<f64> {
    let came = tally.by_version(candidate) + tally.failures.get(&Failure::Refused).unwrap_or(&0);
    (tally.requests() > 0).then(|| came as f64 / tally.requests() as f64 * 100.0)
}

/// Starts a release and follows it until a while after its end.
pub(super) fn follow(
    stage: &Stage,
    act: &Act,
    running: &Running,
    screen: &Screen,
    interrupt: &Interrupt,
) -> anyhow::Result<Release> {
    let name = rollout_name(act);
    let mut watch =
        Watch { act, running, screen, phases: Vec::new(), open: Open::begin(Weight::ZERO, running.tally()) };
    watch.stay(PRELUDE, interrupt)?;
    let before = running.tally();
    stage.start_rollout(&name, &act.plan)?;
    let begin = Instant::now();
    let mut reason = String::new();
    let end = loop {
        let tally = running.tally();
        let status = stage.rollout(&name)?;
        watch.look(status.weight, tally);
        reason = objection(&status.findings).unwrap_or(reason);
        if status.state.is_final() {
            break status;
        }
        if begin.elapsed() > PATIENCE {
            bail!("{name} has not ended after {} s: {}", PATIENCE.as_secs(), status.message);
        }
        interrupt.sleep(LOOK)?;
    };
    watch.stay(AFTERGLOW, interrupt)?;
    let all = running.tally().since(&before);
    Ok(Release {
        name: name.to_string(),
        service: act.service.to_owned(),
        stable: act.stable.to_owned(),
        candidate: act.candidate.to_owned(),
        state: end.state,
        message: end.message,
        reason,
        requests: all.requests(),
        failed: all.failed(),
        phases: watch.finish(),
    })
}

/// The sentence of a failed metric.
fn objection(findings: &[Finding]) -> Option<String> {
    findings.iter().find(|finding| finding.verdict == Verdict::Fail).map(|finding| finding.sentence.clone())
}

/// Cuts what the clients meet into phases.
struct Watch<'a> {
    act: &'a Act,
    running: &'a Running,
    screen: &'a Screen,
    phases: Vec<Phase>,
    open: Open,
}

impl Watch<'_> {
    /// Takes in a weight, and a tally from just before the daemon named it: a tally belongs to the phase under way
    /// when the weight is still the same.
    fn look(&mut self, weight: Weight, tally: Tally) {
        if weight == self.open.weight {
            self.open.last = tally;
            self.open.end = Instant::now();
        } else {
            self.close();
            self.open = Open::begin(weight, self.running.tally());
        }
        self.screen.live(&self.shown(self.open.phase(self.act.candidate)));
    }

    /// Goes on for a while with the weight as it is.
    fn stay(&mut self, duration: Duration, interrupt: &Interrupt) -> anyhow::Result<()> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            interrupt.sleep(LOOK)?;
            self.look(self.open.weight, self.running.tally());
        }
        Ok(())
    }

    fn close(&mut self) {
        let phase = self.open.phase(self.act.candidate);
        self.screen.keep(&self.shown(phase.clone()));
        self.phases.push(phase);
    }

    fn finish(mut self) -> Vec<Phase> {
        self.close();
        self.phases
    }

    fn shown(&self, phase: Phase) -> Live {
        Live {
            service: self.act.service.to_owned(),
            stable: self.act.stable.to_owned(),
            candidate: self.act.candidate.to_owned(),
            phase,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn refused_requests_came_to_the_candidate_and_lost_ones_to_nobody() {
        let tally = Tally {
            answers: BTreeMap::from([("v1/10.0.1.1".to_owned(), 80), ("v2/10.0.3.1".to_owned(), 5)]),
            failures: BTreeMap::from([(Failure::Refused, 10), (Failure::TimedOut, 5)]),
        };
        assert_eq!(share_percent(&tally, "v2"), Some(15.0));
        assert_eq!(share_percent(&Tally::default(), "v2"), None);
    }
}
