//! Time passes: what is observed, and whether a step is over.

use std::time::Duration;

use crate::{
    analysis::History,
    model::{
        Weight,
        state::{RolloutState, Verdict},
    },
    rollout::{state::Cause, turn::Turn},
};

/// A gap between two ticks beyond which nobody observed.
const MAX_GAP: Duration = Duration::from_secs(5);

/// How often a running rollout's elapsed time goes to the journal at least.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// How far the wall clock may stray from the monotonic one between two ticks.
const MAX_WALL_JUMP: Duration = Duration::from_secs(60);

impl Turn {
    pub(super) fn tick(&mut self, observed: Option<&History>) {
        self.begin_comparison(observed);
        let gap = self.gap();
        let jumped = self.wall_jumped();
        self.state.last_tick = Some(self.now);
        self.state.since_saved += gap;
        let counted = if observed.is_some() && !jumped && gap <= MAX_GAP { gap } else { Duration::ZERO };
        match self.state.phase {
            RolloutState::Pending if !jumped => self.begin(),
            RolloutState::Progressing => {
                self.watch(observed, gap, counted);
                if !jumped {
                    self.advance();
                }
            }
            RolloutState::Paused | RolloutState::Frozen => self.watch(observed, gap, counted),
            RolloutState::Promoting => {
                self.watch(observed, gap, counted);
                if self.state.phase == RolloutState::Promoting && self.may_act() && !jumped {
                    self.promote();
                }
            }
            RolloutState::RollingBack if self.may_act() => self.publish_stable(),
            RolloutState::Pending
            | RolloutState::RollingBack
            | RolloutState::Promoted
            | RolloutState::RolledBack
            | RolloutState::Completed
            | RolloutState::Failed => {}
        }
        self.save_if_due();
        if observed.is_some() {
            self.renew_lease();
        }
    }

    /// The next try of what failed, and the last entry of an ended rollout, are the only things an ended one waits for.
    fn save_if_due(&mut self) {
        let running = !self.state.phase.is_final();
        let unsaved = self.state.journal_problem.is_some();
        if (running || unsaved) && self.state.since_saved >= SAVE_EVERY {
            self.save();
        }
    }

    fn gap(&self) -> Duration {
        self.state.last_tick.map_or(Duration::ZERO, |last| self.now.monotonic.saturating_sub(last.monotonic))
    }

    /// A wall clock that was set is an event, and this tick advances nothing.
    fn wall_jumped(&mut self) -> bool {
        let Some(last) = self.state.last_tick.filter(|_| !self.state.phase.is_final()) else {
            return false;
        };
        let expected = last.wall + self.now.monotonic.saturating_sub(last.monotonic);
        let off = self.now.wall.abs_diff(expected);
        if off > MAX_WALL_JUMP {
            let (seconds, way) = (off.as_secs(), if self.now.wall > expected { "forward" } else { "back" });
            self.event("clockJumped", format!("the wall clock was set {way} by {seconds} s; nothing advances by it"));
        }
        off > MAX_WALL_JUMP
    }

    /// Counts observed time and looks when a look is due, in every state in which the candidate may have traffic.
    fn watch(&mut self, observed: Option<&History>, gap: Duration, counted: Duration) {
        if self.state.weight == Weight::ZERO && !self.state.reached {
            return;
        }
        let progressing = self.state.phase == RolloutState::Progressing;
        self.state.watched += counted;
        self.state.since_look += gap.min(MAX_GAP);
        if progressing && self.state.reached {
            self.state.dwell += counted;
        }
        let over = self.state.required_dwell().is_some_and(|required| self.state.dwell >= required);
        let at_the_end = progressing && self.state.reached && over && !self.state.end_looked;
        if at_the_end || self.state.since_look >= self.state.plan.spec.analysis.interval {
            self.state.since_look = Duration::ZERO;
            self.state.end_looked |= at_the_end;
            self.look(observed);
        }
    }

    /// The first step's weight.
    fn begin(&mut self) {
        if self.may_act() {
            self.go_to(0);
        }
    }

    fn go_to(&mut self, step: usize) {
        let target = self.state.target(step);
        let same = target == self.state.weight && self.state.expose_the_same(self.state.exposed, Some(step));
        if same && !self.state.lease_expired { self.arrive(step) } else { self.intend(step, target) }
    }

    /// Goes on where the step's weight is not there yet, or where the step is over.
    fn advance(&mut self) {
        if self.state.phase != RolloutState::Progressing || !self.may_act() {
            return;
        }
        let step = self.state.step;
        let Some(required) = self.state.required_dwell() else {
            if !self.state.reached {
                self.go_to(step);
            } else if self.state.released {
                self.next_step();
            } else {
                let message = format!("step {}: the plan waits for `resume`", step + 1);
                self.enter(RolloutState::Paused, Some(Cause::Plan), message);
            }
            return;
        };
        if !self.state.reached {
            self.go_to(step);
        } else if self.state.released {
            self.next_step();
        } else if self.state.dwell >= required {
            match self.lacking() {
                None => self.next_step(),
                Some(what) => self.extend(self.state.dwell.saturating_sub(required), &what),
            }
        }
    }

    pub(super) fn next_step(&mut self) {
        let next = self.state.step + 1;
        if next < self.state.step_count() {
            self.go_to(next);
        } else if !self.is_kept_by_mismatch() {
            let candidate = self.state.candidate().clone();
            self.enter(RolloutState::Promoting, None, format!("all steps are done; {candidate} becomes stable"));
            self.promote();
        }
    }

    /// What keeps the step from ending: a metric whose last look did not pass.
    fn lacking(&self) -> Option<String> {
        let metrics = self.state.active_metrics();
        metrics.iter().filter(|metric| !metric.dry_run).find_map(|metric| {
            let record = self.state.metrics.get(&metric.name)?;
            let finding = record.finding.as_ref().filter(|_| record.looked);
            match finding.map(|finding| (finding.verdict, &finding.sentence)) {
                Some((Verdict::Pass, _)) => None,
                Some((Verdict::Fail | Verdict::Inconclusive | Verdict::NoData | Verdict::Error, sentence)) => {
                    Some(format!("{}: {sentence}", metric.name))
                }
                None => Some(format!("{}: not looked at in this step yet", metric.name)),
            }
        })
    }

    /// The pause is over without a pass: waits, up to `maxExtension`.
    fn extend(&mut self, extension: Duration, lacking: &str) {
        let limit = self.state.plan.spec.analysis.max_extension;
        if extension <= limit {
            self.state.message = format!("step {} waits for a pass: {lacking}", self.state.step + 1);
            return;
        }
        let limit = humantime::format_duration(limit);
        let message = format!("step {} found no pass within {limit} after its pause: {lacking}", self.state.step + 1);
        self.enter(RolloutState::Paused, Some(Cause::Inconclusive), message.clone());
        self.save();
        self.event("paused", message);
    }
}
