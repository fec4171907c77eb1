//! Time passes: what is observed, and whether a step is over.

use std::time::Duration;

use crate::{
    analysis::History,
    model::{
        plan::Strategy,
        state::{RolloutState, Verdict},
        time::timestamp,
    },
    rollout::{
        rolling::Part,
        stages::{Dwell, StageKind},
        state::Cause,
        turn::Turn,
        walk::{Onward, SubStep},
        windows,
    },
};

/// A gap between two ticks beyond which nobody observed.
const MAX_GAP: Duration = Duration::from_secs(5);

/// How often a running rollout's elapsed time goes to the journal at least.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// How far the wall clock may stray from the monotonic one between two ticks.
const MAX_WALL_JUMP: Duration = Duration::from_secs(60);

/// Time since the last tick.
#[derive(Clone, Copy)]
struct Time {
    /// All of it.
    gap: Duration,
    /// What was observed of it.
    counted: Duration,
    /// What of that counts towards pauses: none while a window is closed.
    dwelt: Duration,
}

impl Turn {
    pub(super) fn tick(&mut self, observed: Option<&History>) {
        self.begin_comparison(observed);
        let gap = self.gap();
        let jumped = self.wall_jumped();
        self.state.last_tick = Some(self.now);
        self.state.since_saved += gap;
        let open = self.is_open();
        let counted = if observed.is_some() && !jumped && gap <= MAX_GAP { gap } else { Duration::ZERO };
        let time = Time { gap, counted, dwelt: if open { counted } else { Duration::ZERO } };
        self.note_progress(time);
        match self.state.phase {
            RolloutState::Pending if !jumped && open => self.begin(),
            RolloutState::Progressing => {
                self.watch(observed, time);
                self.ask_to_replace();
                if !jumped && open {
                    self.advance();
                }
            }
            RolloutState::Paused | RolloutState::Frozen => self.watch(observed, time),
            RolloutState::Promoting => {
                self.watch(observed, time);
                if self.state.phase == RolloutState::Promoting && self.may_act() && !jumped && open {
                    self.promote_if_confirmed();
                }
            }
            RolloutState::RollingBack if self.may_act() => {
                self.state.since_change += gap;
                if self.state.reversing.is_none() || self.state.since_change >= self.state.plan.spec.analysis.interval {
                    self.reverse();
                }
            }
            RolloutState::Pending
            | RolloutState::RollingBack
            | RolloutState::Promoted
            | RolloutState::RolledBack
            | RolloutState::Completed
            | RolloutState::Failed => {}
        }
        self.call_hooks(gap);
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

    /// Whether the plan's windows let it advance; says when that changes.
    fn is_open(&mut self) -> bool {
        let Some(windows) = &self.state.plan.spec.windows else { return true };
        let open = windows::is_open(windows, self.now.wall);
        if open == self.state.closed && !self.state.phase.is_final() {
            let next = windows::next_change(windows, self.now.wall).map(timestamp);
            let until = next.map_or_else(String::new, |next| format!(" until {next}"));
            self.state.closed = !open;
            match open {
                true => self.event("windowOpened", format!("the plan's window is open{until}")),
                false => self.event("windowClosed", format!("the plan's window is closed{until}: nothing advances")),
            }
        }
        open
    }

    /// Counts towards `progressDeadline`: not while an operator, the plan or a window pauses.
    fn note_progress(&mut self, time: Time) {
        let Some(deadline) = self.state.plan.spec.progress_deadline else { return };
        let is_held = matches!(self.state.cause, Some(Cause::Operator | Cause::Plan)) || self.state.closed;
        let runs = match self.state.phase {
            RolloutState::Pending | RolloutState::Progressing | RolloutState::Promoting => true,
            RolloutState::Paused | RolloutState::Frozen => !is_held,
            RolloutState::RollingBack
            | RolloutState::Promoted
            | RolloutState::RolledBack
            | RolloutState::Completed
            | RolloutState::Failed => false,
        };
        if !runs || self.state.closed {
            return;
        }
        let before = self.state.elapsed;
        self.state.elapsed += time.gap.min(MAX_GAP);
        if before < deadline && self.state.elapsed >= deadline {
            let message = format!("the deadline of {} has passed", humantime::format_duration(deadline));
            let action = self.state.plan.spec.on_failure.action;
            self.fail(action, Cause::Deadline, message);
        }
    }

    /// Counts observed time and looks when a look is due, in every state in which the candidate may have traffic.
    fn watch(&mut self, observed: Option<&History>, time: Time) {
        if self.state.exposure.is_nothing() && !self.state.reached {
            return;
        }
        let progressing = self.state.phase == RolloutState::Progressing;
        self.state.watched += time.counted;
        self.state.since_change += time.dwelt;
        self.state.since_look += time.gap.min(MAX_GAP);
        if progressing && self.state.reached {
            self.state.dwell += time.dwelt;
        }
        let at_the_end = progressing && self.is_over() && !self.state.end_looked;
        if at_the_end || self.state.since_look >= self.state.plan.spec.analysis.interval {
            let since = std::mem::take(&mut self.state.since_look);
            self.state.end_looked |= at_the_end;
            self.look(observed, since);
        }
    }

    /// Whether the time of the stage, or of the sub-step towards it, has passed.
    pub(super) fn is_over(&self) -> bool {
        let state = &self.state;
        match state.walking {
            true => state.since_change >= state.constraints().per,
            false => match (state.stage(state.step).map(|stage| stage.kind), &state.plan.spec.strategy) {
                (Some(StageKind::Batch(_, part)), Strategy::Rolling(rolling)) => {
                    self.is_time_over() && state.is_batch_over(rolling, part)
                }
                _ => self.is_time_over() || (state.reached && state.test().is_some() && self.is_decided()),
            },
        }
    }

    /// The first stage.
    fn begin(&mut self) {
        if !self.may_act() {
            return;
        }
        match self.held(0) {
            Some(why) => self.state.message = why,
            None => self.go_to(0),
        }
    }

    /// Goes a step towards a stage: all of it, or as much of it as caps let it.
    pub(super) fn go_to(&mut self, step: usize) {
        if step != self.state.step || !self.state.walking {
            self.freeze_shares();
        }
        if let Some(StageKind::Batch(batch, Part::Serve)) = self.state.stage(step).map(|stage| stage.kind) {
            self.open_batch(batch);
        }
        match self.state.onward(step) {
            Onward::There if self.state.lease_expired => {
                let next = SubStep { exposure: self.state.exposure.clone(), binding: Vec::new() };
                self.intend(step, next);
            }
            Onward::There => self.arrive(step),
            Onward::Next(next) => self.intend(step, next),
            Onward::Stuck(why) => {
                let message = format!("step {} cannot be reached: {why}", self.state.part() + 1);
                self.enter(RolloutState::Paused, Some(Cause::Inconclusive), message.clone());
                self.save();
                self.event("paused", message);
            }
        }
    }

    /// The shares of the segments for the whole way to a stage: the plan's where it gives them, else as measured.
    fn freeze_shares(&mut self) {
        let mut shares = self.state.measured_shares.clone();
        let rules = self.state.plan.spec.segments.iter();
        shares.extend(rules.filter_map(|rule| Some((rule.name.clone(), rule.share?))));
        self.state.shares = shares;
    }

    /// Goes on where the stage is not reached yet, or where it is over.
    fn advance(&mut self) {
        if self.state.phase != RolloutState::Progressing || !self.may_act() {
            return;
        }
        if self.state.exposure.is_nothing() && !self.state.reached && self.state.step == 0 {
            self.begin();
        } else if !self.state.reached && !self.state.walking {
            self.go_to(self.state.step);
        } else if self.state.released {
            self.go_on();
        } else if self.is_over() {
            let test = self.state.test().filter(|_| self.state.reached).cloned();
            match self.lacking() {
                _ if test.is_some_and(|test| !self.conclude(&test)) => {}
                Some(what) => self.extend(&what),
                None => self.go_on(),
            }
        } else if self.state.reached && self.state.required_dwell() == Dwell::UntilResumed {
            let message = format!("step {}: the plan waits for `resume`", self.state.part() + 1);
            self.enter(RolloutState::Paused, Some(Cause::Plan), message);
        }
    }

    /// The same, once no webhook keeps the next stage from beginning.
    pub(super) fn go_on(&mut self) {
        let next = self.state.step + usize::from(self.state.reached);
        match self.held(next).filter(|_| self.state.reached) {
            Some(why) => self.state.message = why,
            None => self.next_step(),
        }
    }

    /// Promotes where every webhook that is asked before said yes; else the next tick sees again.
    pub(super) fn promote_if_confirmed(&mut self) {
        match self.held(self.state.stage_count()) {
            Some(why) => self.state.message = why,
            None => self.promote(),
        }
    }

    /// The rest of the way to the stage, or the next stage, or the promotion.
    pub(super) fn next_step(&mut self) {
        let next = self.state.step + usize::from(self.state.reached);
        if next < self.state.stage_count() {
            self.go_to(next);
        } else if self.state.shadow().is_some() {
            self.complete_shadow();
        } else if !self.is_kept_by_mismatch() {
            let candidate = self.state.candidate().clone();
            self.enter(RolloutState::Promoting, None, format!("all steps are done; {candidate} becomes stable"));
            self.promote_if_confirmed();
        }
    }

    /// What keeps the step from ending: a metric whose last look did not pass. Where nothing is exposed, nothing can.
    pub(super) fn lacking(&self) -> Option<String> {
        if self.state.exposure.is_nothing() && !self.state.is_judged_by_copies() {
            return None;
        }
        if let Some(why) = self.failing_hook() {
            return Some(why);
        }
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

    /// The time is over without a pass: waits, up to `maxExtension`.
    fn extend(&mut self, lacking: &str) {
        let state = &self.state;
        let (limit, step) = (state.plan.spec.analysis.max_extension, state.part() + 1);
        let extension = match state.required_dwell() {
            _ if state.walking => state.since_change.saturating_sub(state.constraints().per),
            Dwell::For(required) => state.dwell.saturating_sub(required),
            Dwell::UntilResumed => Duration::ZERO,
        };
        if extension <= limit {
            self.state.message = format!("step {step} waits for a pass: {lacking}");
            return;
        }
        let limit = humantime::format_duration(limit);
        let message = format!("step {step} found no pass within {limit} after its pause: {lacking}");
        self.enter(RolloutState::Paused, Some(Cause::Inconclusive), message.clone());
        self.save();
        self.event("paused", message);
    }

    /// An operator has seen that no pass was found: the wait for one begins anew.
    pub(super) fn waive(&mut self) {
        match self.state.required_dwell() {
            _ if self.state.walking => self.state.since_change = self.state.constraints().per,
            Dwell::For(required) => self.state.dwell = required,
            Dwell::UntilResumed => {}
        }
    }
}
