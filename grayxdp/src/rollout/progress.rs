//! How far a rollout is within its current step: the points of a ramp, the sub-steps under caps, the parts of a batch; and how long
//! the rest takes at the least.

use std::time::Duration;

use crate::{
    model::{
        Weight,
        api::{Progress, ProgressPart, Standing},
        plan::{Ramp, Strategy},
        state::RolloutState,
        time::Now,
    },
    rollout::{
        exposure::Exposure,
        rolling::Part,
        stages::{Dwell, StageKind, points},
        state::State,
        walk::Onward,
    },
};

/// Most sub-steps ahead that are looked at.
const MOST_SUB_STEPS: usize = 64;

/// Sub-steps and points ahead that are shown, beside the last one.
const SHOWN: usize = 3;

impl State {
    /// How far the current step is; none while no step is on its way.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        match self.phase {
            RolloutState::Progressing | RolloutState::Paused | RolloutState::Frozen => {}
            RolloutState::Pending
            | RolloutState::Promoting
            | RolloutState::RollingBack
            | RolloutState::Promoted
            | RolloutState::RolledBack
            | RolloutState::Completed
            | RolloutState::Failed => return None,
        }
        let stage = self.stage(self.step)?;
        let ahead = self.sub_steps_ahead();
        let left = self.stage_left(&ahead);
        let (position, count, target, parts) = match (stage.kind, &self.plan.spec.strategy) {
            (StageKind::Point { ramp, index }, _) => {
                let (count, target) = (points::count(ramp), points::weight(ramp, points::count(ramp) - 1));
                (index as usize + 1, count as usize, Some(target), self.points(ramp, index, &ahead, left))
            }
            (StageKind::Batch(batch, part), Strategy::Rolling(rolling)) => {
                let target = self.rolling_weight(rolling, batch, Part::Serve);
                (self.step % 3 + 1, 3, Some(target), batch_parts(part, target))
            }
            (_, _) => {
                let parts = if self.walking { self.sub_steps(&ahead) } else { Vec::new() };
                (1, parts.len().max(1), self.goal(self.step).total, parts)
            }
        };
        let is_last = self.stage(self.step + 1).is_none_or(|next| next.part != stage.part);
        let step_left = match stage.kind {
            StageKind::Point { ramp, index } if !is_last => left.map(|left| left + after(self, ramp, index)),
            StageKind::Batch(..) => None,
            StageKind::Point { .. }
            | StageKind::Instance(_)
            | StageKind::Step(..)
            | StageKind::Preview(_)
            | StageKind::Switch(..)
            | StageKind::Test(_)
            | StageKind::Shadow(_) => left,
        };
        Some(Progress {
            share: self.share(),
            target,
            position,
            count,
            parts,
            step_seconds_left: step_left.map(|left| left.as_secs_f64()),
            seconds_left: self.rollout_left(left).map(|left| left.as_secs_f64()),
        })
    }

    /// The candidate's share of all new flows, `0.0..=1.0`.
    fn share(&self) -> f64 {
        let named = self.shares.iter().map(|(name, share)| (*share, self.exposure.in_segment(Some(name))));
        let rest = (1.0 - self.shares.values().sum::<f64>()).max(0.0);
        named.chain([(rest, self.exposure.weight)]).map(|(share, weight)| share * weight.ratio()).sum()
    }

    /// What is exposed next on the way to the stage's goal, and when; nothing where it is reached.
    fn sub_steps_ahead(&self) -> Vec<(Exposure, Duration)> {
        if !self.walking {
            return Vec::new();
        }
        let now = Now { monotonic: Duration::ZERO, wall: Duration::ZERO };
        let mut state = Self::new(0, self.plan.as_ref().clone(), self.stable.clone(), 0, now);
        state.shares = self.shares.clone();
        state.hold(self.exposure.clone(), 0);
        let per = self.constraints().per;
        let mut due = per.saturating_sub(self.since_change);
        let mut ahead = Vec::new();
        while ahead.len() < MOST_SUB_STEPS {
            let Onward::Next(next) = state.onward(self.step) else { break };
            state.hold(next.exposure.clone(), 0);
            ahead.push((next.exposure, due));
            due += per;
        }
        ahead
    }

    /// How long the current stage takes at the least; none where that is not a matter of time.
    fn stage_left(&self, ahead: &[(Exposure, Duration)]) -> Option<Duration> {
        let walk = ahead.last().map_or(Duration::ZERO, |(_, due)| *due);
        match self.required_dwell() {
            Dwell::For(pause) => Some(walk + pause.saturating_sub(self.dwell)),
            Dwell::UntilResumed => None,
        }
    }

    /// The same of the rest of the rollout: pauses only, not what caps add.
    fn rollout_left(&self, stage: Option<Duration>) -> Option<Duration> {
        let now = self.stage(self.step)?;
        let mut left = stage.filter(|_| !is_open_ended(now.kind))?;
        for index in self.step + 1..self.stage_count() {
            let stage = self.stage(index)?;
            left += match stage.dwell() {
                Dwell::For(pause) if !is_open_ended(stage.kind) => self.accelerated(pause),
                Dwell::For(_) | Dwell::UntilResumed => return None,
            };
        }
        Some(left)
    }

    /// The present sub-step and those ahead.
    fn sub_steps(&self, ahead: &[(Exposure, Duration)]) -> Vec<ProgressPart> {
        let now = part(self.exposure.said(), Standing::Now, None);
        let next = ahead.iter().take(SHOWN).map(|(next, due)| part(next.said(), Standing::Ahead, Some(*due)));
        let last = ahead.iter().skip(SHOWN).last();
        let last = last.map(|(last, due)| part(last.said(), Standing::Ahead, Some(*due)));
        std::iter::once(now).chain(next).chain(last).collect()
    }

    /// The point before, the present one with the sub-steps to it, the next ones and the last.
    fn points(
        &self,
        ramp: &Ramp,
        index: u32,
        ahead: &[(Exposure, Duration)],
        left: Option<Duration>,
    ) -> Vec<ProgressPart> {
        let said = |index: u32| Exposure::of(points::weight(ramp, index)).said();
        let before = index.checked_sub(1).map(|before| part(said(before), Standing::Done, None));
        let mut parts: Vec<_> = before.into_iter().chain(self.sub_steps(ahead)).collect();
        let (mut due, last) = (left.unwrap_or_default(), points::count(ramp) - 1);
        for next in index + 1..=last {
            if next <= index + 2 || next == last {
                parts.push(part(said(next), Standing::Ahead, Some(due)));
            }
            due += self.accelerated(points::dwell(ramp, next));
        }
        parts
    }
}

/// How long the points after one take.
fn after(state: &State, ramp: &Ramp, index: u32) -> Duration {
    (index + 1..points::count(ramp)).map(|index| state.accelerated(points::dwell(ramp, index))).sum()
}

/// Whether something else than time ends a stage.
const fn is_open_ended(kind: StageKind<'_>) -> bool {
    match kind {
        StageKind::Test(_) | StageKind::Batch(..) => true,
        StageKind::Step(_, step) => step.ab_test.is_some(),
        StageKind::Instance(_)
        | StageKind::Point { .. }
        | StageKind::Preview(_)
        | StageKind::Switch(..)
        | StageKind::Shadow(_) => false,
    }
}

/// The parts of a batch.
fn batch_parts(now: Part, target: Weight) -> Vec<ProgressPart> {
    let order = [Part::Drain, Part::Replace, Part::Serve];
    let at = order.iter().position(|part| *part == now).unwrap_or_default();
    let parts = order.into_iter().enumerate().map(|(index, of)| {
        let what = match of {
            Part::Drain => "drain".to_owned(),
            Part::Replace => "replace".to_owned(),
            Part::Serve => format!("serve, {target} %"),
        };
        let standing = match index.cmp(&at) {
            std::cmp::Ordering::Less => Standing::Done,
            std::cmp::Ordering::Equal => Standing::Now,
            std::cmp::Ordering::Greater => Standing::Ahead,
        };
        part(what, standing, None)
    });
    parts.collect()
}

fn part(what: String, standing: Standing, due: Option<Duration>) -> ProgressPart {
    ProgressPart { what, standing, due_seconds: due.map(|due| due.as_secs_f64()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::plan::Plan;

    fn state(strategy: serde_json::Value, more: serde_json::Value) -> State {
        let mut json = json!({
            "apiVersion": "grayxdp.io/v1", "kind": "Rollout", "metadata": {"name": "a"},
            "spec": {"service": "recsys", "candidate": "v2", "strategy": strategy},
        });
        for (key, value) in more.as_object().expect("fields") {
            json["spec"][key] = value.clone();
        }
        let plan: Plan = serde_json::from_value(json).expect("a plan");
        let now = Now { monotonic: Duration::ZERO, wall: Duration::ZERO };
        let mut state = State::new(1, plan, "v1".parse().expect("a name"), 0, now);
        state.phase = RolloutState::Progressing;
        state
    }

    fn exposed(hundredths: u16) -> Exposure {
        Exposure::of(Weight::from_hundredths(hundredths).expect("a weight"))
    }

    fn said(progress: &Progress) -> Vec<(&str, Standing, Option<f64>)> {
        progress.parts.iter().map(|part| (part.what.as_str(), part.standing, part.due_seconds)).collect()
    }

    #[test]
    fn a_ramp_shows_the_point_before_the_next_ones_and_the_last() {
        // 20, 40, 60, 80, 100 %, ten minutes apart; 25 minutes are 5 after the third.
        let ramp = json!({"canary": {"ramp": {"curve": "linear", "from": 20, "duration": "40m", "interval": "10m"}}});
        let mut state = state(ramp, json!({}));
        state.hold(exposed(4_000), 2);
        (state.step, state.reached, state.dwell) = (1, true, Duration::from_secs(300));
        let progress = state.progress().expect("it is on its way");
        assert_eq!((progress.position, progress.count), (2, 5));
        assert!((progress.share - 0.4).abs() < 1e-9);
        assert_eq!(progress.target, Some(Weight::FULL));
        use Standing::{Ahead, Done, Now};
        let expected = [
            ("20 %", Done, None),
            ("40 %", Now, None),
            ("60 %", Ahead, Some(300.0)),
            ("80 %", Ahead, Some(900.0)),
            ("100 %", Ahead, Some(1_500.0)),
        ];
        assert_eq!(said(&progress), expected);
        assert_eq!((progress.step_seconds_left, progress.seconds_left), (Some(1_500.0), Some(1_500.0)));
    }

    #[test]
    fn a_walk_under_caps_shows_its_sub_steps_and_when_they_are_due() {
        let caps = json!({"constraints": {"maxTotalStep": 20, "per": "5m"}});
        let steps =
            json!([{"setWeight": 90, "pause": {"duration": "30m"}}, {"setWeight": 100, "pause": {"duration": "1h"}}]);
        let mut state = state(json!({"canary": {"steps": steps}}), caps);
        state.hold(exposed(2_000), 2);
        (state.walking, state.since_change) = (true, Duration::from_secs(60));
        let progress = state.progress().expect("it is on its way");
        use Standing::{Ahead, Now};
        let expected = [
            ("20 %", Now, None),
            ("40 %", Ahead, Some(240.0)),
            ("60 %", Ahead, Some(540.0)),
            ("80 %", Ahead, Some(840.0)),
            ("90 %", Ahead, Some(1_140.0)),
        ];
        assert_eq!(said(&progress), expected);
        // The walk's 19 minutes and the pause of 30; then an hour more.
        let (step, all) = (1_140.0 + 1_800.0, 1_140.0 + 1_800.0 + 3_600.0);
        assert_eq!((progress.step_seconds_left, progress.seconds_left), (Some(step), Some(all)));
    }

    #[test]
    fn what_waits_for_an_operator_has_no_end_in_time() {
        let steps = json!([{"setWeight": 5, "pause": {"duration": "30m"}}, {"setWeight": 25, "pause": {}}]);
        let mut state = state(json!({"canary": {"steps": steps}}), json!({}));
        state.hold(exposed(500), 2);
        state.reached = true;
        let progress = state.progress().expect("it is on its way");
        assert_eq!((progress.step_seconds_left, progress.seconds_left), (Some(1_800.0), None));
        assert_eq!((said(&progress), progress.target.map(|weight| weight.to_string())), (vec![], Some("5".to_owned())));
        state.phase = RolloutState::Promoted;
        assert_eq!(state.progress(), None);
    }
}
