//! Webhooks: which is due when, what its answer does, and what waits for it. Who calls them is the daemon's business.
//!
//! A confirmation is asked again at every look until it says yes; the yes holds for the step that it was asked for, that of
//! `confirm-promotion` for the attempt. Neither `promote` nor `promote --full` goes past one.

pub mod documents;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        Name, Weight,
        api::HookStatus,
        plan::{HookError, HookType, Webhook},
        state::RolloutState,
    },
    rollout::{
        input::Command,
        state::{Cause, State},
        turn::Turn,
    },
};

/// What a webhook answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookAnswer {
    /// A status from 200 to 299.
    Yes,
    /// Another status.
    No(String),
    /// No answer: one line.
    Failed(String),
}

/// What is known of a webhook.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookRecord {
    /// How often it was called; the number of the newest call.
    pub calls: u64,
    /// Whether its answer is awaited.
    pub awaited: bool,
    /// Since the last answer.
    pub since: Duration,
    /// The stage that it was asked for.
    pub asked_for: usize,
    /// The stage that it said yes to, or that goes on without.
    pub open: Option<usize>,
    /// Why the newest answer was no yes.
    pub error: Option<String>,
}

impl State {
    /// The webhooks of the plan as operators see them; those that are only told of events are shown with the news.
    pub(super) fn hook_status(&self) -> Vec<HookStatus> {
        let asked = self.plan.spec.webhooks.iter().filter(|hook| hook.r#type != HookType::Event);
        let status = |hook: &Webhook| {
            let HookRecord { calls, awaited, error, .. } = self.hooks.get(&hook.name).cloned().unwrap_or_default();
            HookStatus { name: hook.name.clone(), r#type: hook.r#type, calls, awaited, error }
        };
        asked.map(status).collect()
    }
}

impl Turn {
    /// Time has passed: calls what is due.
    pub(super) fn call_hooks(&mut self, gap: Duration) {
        for record in self.state.hooks.values_mut() {
            record.since = record.since.saturating_add(gap);
        }
        for hook in self.state.plan.spec.webhooks.clone() {
            let Some(stage) = self.due(&hook) else { continue };
            let interval = self.state.plan.spec.analysis.interval;
            let record = self.state.hooks.entry(hook.name.clone()).or_default();
            let is_new = record.calls == 0 || hook.r#type.is_confirmation() && record.asked_for != stage;
            if !record.awaited && (is_new || record.since >= interval) {
                record.calls += 1;
                (record.awaited, record.asked_for) = (true, stage);
                let call = record.calls;
                self.command(Command::Call { hook: hook.name, call });
            }
        }
    }

    /// The stage that a webhook is to be asked for now, if it is.
    fn due(&self, hook: &Webhook) -> Option<usize> {
        let state = &self.state;
        let exposed = !state.exposure.is_nothing();
        let runs = match state.phase {
            RolloutState::Progressing | RolloutState::Paused | RolloutState::Frozen | RolloutState::Promoting => {
                exposed
            }
            RolloutState::Pending
            | RolloutState::RollingBack
            | RolloutState::Promoted
            | RolloutState::RolledBack
            | RolloutState::Completed
            | RolloutState::Failed => false,
        };
        match hook.r#type {
            HookType::ConfirmRollout
            | HookType::PreRollout
            | HookType::ConfirmTrafficIncrease
            | HookType::ConfirmPromotion => {
                let next = self.wants()?;
                let waiting = self.closed(next).into_iter().next()?;
                // `pre-rollout` is not begun before it is confirmed.
                let is_first = hook.r#type == waiting.r#type;
                (is_first && self.closed(next).contains(&hook)).then_some(next)
            }
            HookType::Rollout => (runs && state.phase == RolloutState::Progressing).then_some(state.step),
            HookType::Rollback => runs.then_some(state.step),
            HookType::PostRollout => {
                let told = state.hooks.get(&hook.name).is_some_and(|record| record.open.is_some());
                (state.phase.is_final() && !told).then_some(state.step)
            }
            HookType::Event => None,
        }
    }

    /// The stage that would begin now if no webhook were asked.
    fn wants(&self) -> Option<usize> {
        let state = &self.state;
        match state.phase {
            RolloutState::Pending if state.exposure.is_nothing() => Some(0),
            RolloutState::Progressing if !state.reached && !state.walking && state.exposure.is_nothing() => Some(0),
            RolloutState::Progressing => {
                let over = state.reached && (state.released || self.is_over() && self.lacking().is_none());
                over.then_some(state.step + 1)
            }
            RolloutState::Promoting => Some(state.stage_count()),
            RolloutState::Pending
            | RolloutState::Paused
            | RolloutState::Frozen
            | RolloutState::RollingBack
            | RolloutState::Promoted
            | RolloutState::RolledBack
            | RolloutState::Completed
            | RolloutState::Failed => None,
        }
    }

    /// Webhooks that a stage waits for, in the order in which they are asked.
    fn closed(&self, stage: usize) -> Vec<&Webhook> {
        let state = &self.state;
        let is_end = stage >= state.stage_count();
        let whole = (!is_end).then(|| state.whole(stage));
        let raises = whole.as_ref().map_or(state.weight != Weight::FULL, |whole| whole.exceeds(&state.exposure));
        let to_all = is_end || whole.is_some_and(|whole| whole.weight == Weight::FULL);
        let wanted = |kind: HookType| match kind {
            HookType::ConfirmRollout | HookType::PreRollout => stage == 0,
            HookType::ConfirmTrafficIncrease => raises,
            HookType::ConfirmPromotion => to_all,
            HookType::Rollout | HookType::PostRollout | HookType::Rollback | HookType::Event => false,
        };
        let is_open = |hook: &Webhook| {
            let open = state.hooks.get(&hook.name).and_then(|record| record.open);
            match hook.r#type {
                HookType::ConfirmTrafficIncrease => open == Some(stage),
                HookType::ConfirmRollout
                | HookType::PreRollout
                | HookType::Rollout
                | HookType::ConfirmPromotion
                | HookType::PostRollout
                | HookType::Rollback
                | HookType::Event => open.is_some(),
            }
        };
        let hooks = state.plan.spec.webhooks.iter();
        let mut closed: Vec<_> = hooks.filter(|hook| wanted(hook.r#type) && !is_open(hook)).collect();
        closed.sort_by_key(|hook| hook.r#type);
        closed
    }

    /// What keeps a stage from beginning, in words.
    pub(super) fn held(&self, stage: usize) -> Option<String> {
        let hook = *self.closed(stage).first()?;
        let error = self.state.hooks.get(&hook.name).and_then(|record| record.error.as_deref());
        let said = error.map_or_else(String::new, |error| format!(": {error}"));
        Some(format!("waits for the yes of webhook {} ({}){said}", hook.name, hook.r#type.label()))
    }

    /// The webhook of every look whose newest answer was no yes.
    pub(super) fn failing_hook(&self) -> Option<String> {
        self.state.plan.spec.webhooks.iter().filter(|hook| hook.r#type == HookType::Rollout).find_map(|hook| {
            let record = self.state.hooks.get(&hook.name);
            match record {
                Some(HookRecord { error: Some(error), .. }) if hook.on_error != HookError::Ignore => {
                    Some(format!("webhook {}: {error}", hook.name))
                }
                Some(record) if record.open.is_some() || hook.on_error == HookError::Ignore => None,
                Some(_) | None => Some(format!("webhook {}: no answer yet", hook.name)),
            }
        })
    }

    /// A webhook has answered its newest call.
    pub(super) fn answered(&mut self, name: &Name, call: u64, answer: HookAnswer) {
        let hook = self.state.plan.spec.webhooks.iter().find(|hook| hook.name == *name).cloned();
        let record = self.state.hooks.get_mut(name).filter(|record| record.awaited && record.calls == call);
        let (Some(hook), Some(record)) = (hook, record) else { return };
        (record.awaited, record.since) = (false, Duration::ZERO);
        let before = record.error.take();
        let stage = record.asked_for;
        match answer {
            HookAnswer::Yes => {
                record.open = Some(stage);
                self.said_yes(&hook, before.is_some());
            }
            HookAnswer::No(why) => {
                record.error = Some(why.clone());
                self.said_no(&hook, &why, before.is_none());
            }
            HookAnswer::Failed(why) => {
                record.error = Some(why.clone());
                self.could_not_be_asked(&hook, &why, before.is_none());
            }
        }
    }

    fn said_yes(&mut self, hook: &Webhook, failed_before: bool) {
        let message = format!("webhook {} ({}) said yes", hook.name, hook.r#type.label());
        match hook.r#type {
            HookType::Rollback => {
                let runs = match self.state.phase {
                    RolloutState::Progressing
                    | RolloutState::Paused
                    | RolloutState::Frozen
                    | RolloutState::Promoting => true,
                    RolloutState::Pending
                    | RolloutState::RollingBack
                    | RolloutState::Promoted
                    | RolloutState::RolledBack
                    | RolloutState::Completed
                    | RolloutState::Failed => false,
                };
                if runs {
                    self.roll_back(message.clone());
                    self.event("rollingBack", message);
                }
            }
            HookType::Rollout if !failed_before => {}
            HookType::ConfirmRollout
            | HookType::PreRollout
            | HookType::Rollout
            | HookType::ConfirmTrafficIncrease
            | HookType::ConfirmPromotion
            | HookType::PostRollout
            | HookType::Event => self.event("hookPassed", message),
        }
    }

    fn said_no(&mut self, hook: &Webhook, why: &str, is_first: bool) {
        match hook.r#type {
            HookType::ConfirmRollout | HookType::ConfirmTrafficIncrease | HookType::ConfirmPromotion if is_first => {
                let message = format!("webhook {} ({}) has not said yes: {why}", hook.name, hook.r#type.label());
                self.event("hookWaiting", message);
            }
            HookType::ConfirmRollout
            | HookType::ConfirmTrafficIncrease
            | HookType::ConfirmPromotion
            | HookType::Rollback => {}
            HookType::PreRollout | HookType::Rollout | HookType::PostRollout | HookType::Event => {
                self.could_not_be_asked(hook, why, is_first);
            }
        }
    }

    fn could_not_be_asked(&mut self, hook: &Webhook, why: &str, is_first: bool) {
        let message = format!("webhook {} ({}): {why}", hook.name, hook.r#type.label());
        if is_first {
            self.event("hookFailed", message.clone());
        }
        let record = self.state.hooks.entry(hook.name.clone()).or_default();
        match (hook.r#type, hook.on_error) {
            // It was told as well as could be.
            (HookType::PostRollout, _) | (_, HookError::Ignore) => record.open = Some(record.asked_for),
            (HookType::Rollback | HookType::Event, _) | (_, HookError::Hold) => {}
            (
                HookType::ConfirmRollout
                | HookType::PreRollout
                | HookType::Rollout
                | HookType::ConfirmTrafficIncrease
                | HookType::ConfirmPromotion,
                HookError::Rollback,
            ) if !self.state.phase.is_final() && self.state.phase != RolloutState::RollingBack => {
                let action = self.state.plan.spec.on_failure.action;
                self.fail(action, Cause::Breach, message);
            }
            (_, HookError::Rollback) => {}
        }
    }
}
