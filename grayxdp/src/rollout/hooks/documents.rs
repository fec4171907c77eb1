//! What webhooks and notifications are sent.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    model::{
        config::BackendAddress,
        event::Event,
        plan::{Notification, NotificationType, Webhook},
        state::RolloutState,
    },
    rollout::State,
};

/// Those that nobody is told of without having asked.
const FREQUENT: [&str; 2] = ["subStepReached", "verdict"];

/// What is posted to a webhook: Flagger's payload (`name`, `namespace`, `phase`, `metadata`), and where the rollout stands.
#[must_use]
pub fn payload(state: &State, hook: &Webhook) -> Value {
    let mut document = json!({
        "name": state.name(),
        "namespace": "grayxdp",
        "phase": phase(state.phase),
        "type": hook.r#type.label(),
        "metadata": hook.metadata,
    });
    extend(&mut document, standing(state));
    document
}

/// What is posted to the webhook that replaces backends of a rolling release.
#[must_use]
pub fn replacement(state: &State, metadata: &BTreeMap<String, String>, backends: &[BackendAddress]) -> Value {
    let backends: Vec<_> = backends.iter().map(ToString::to_string).collect();
    let mut document = json!({
        "name": state.name(),
        "namespace": "grayxdp",
        "phase": phase(state.phase),
        "type": "replace",
        "backends": backends,
        "metadata": metadata,
    });
    extend(&mut document, standing(state));
    document
}

/// What is posted to a webhook for an event: Flagger's `eventMessage`, `eventType` and `timestamp` are in `metadata`.
#[must_use]
pub fn event_payload(state: &State, hook: &Webhook, event: &Event) -> Value {
    let mut document = payload(state, hook);
    let alarm = if is_alarm(&event.kind) { "Warning" } else { "Normal" };
    let more = json!({
        "eventMessage": event.message, "eventType": alarm, "eventKind": event.kind,
        "timestamp": event.time.as_millisecond().to_string(),
    });
    if let Some(metadata) = document.get_mut("metadata") {
        extend(metadata, more);
    }
    document
}

/// Whether a notification wants an event.
#[must_use]
pub fn is_wanted(notification: &Notification, kind: &str) -> bool {
    match notification.events.is_empty() {
        true => !FREQUENT.contains(&kind),
        false => notification.events.iter().any(|wanted| wanted == kind),
    }
}

/// What a notification posts for an event.
#[must_use]
pub fn notice(state: &State, notification: &Notification, event: &Event) -> Value {
    match notification.r#type {
        NotificationType::Generic => {
            let mut document = json!({
                "name": state.name(), "time": event.time, "kind": event.kind, "message": event.message,
                "actor": event.actor, "reason": event.reason,
            });
            extend(&mut document, standing(state));
            document
        }
        NotificationType::Slack => slack(state, event),
    }
}

/// Slack's form: a line that is shown everywhere, and an attachment with a colour (<https://api.slack.com/messaging/webhooks>).
fn slack(state: &State, event: &Event) -> Value {
    let (name, service, phase) = (state.name(), state.service(), state.phase.label());
    let color = match state.phase {
        RolloutState::Promoted | RolloutState::Completed => "good",
        RolloutState::RollingBack | RolloutState::RolledBack | RolloutState::Failed => "danger",
        RolloutState::Paused | RolloutState::Frozen => "warning",
        RolloutState::Pending | RolloutState::Progressing | RolloutState::Promoting => "#439fe0",
    };
    let field = |title: &str, value: String| json!({"title": title, "value": value, "short": true});
    let mut fields = vec![
        field("Service", service.to_string()),
        field("State", phase.to_owned()),
        field("Candidate", format!("{} at {} %", state.candidate(), state.weight)),
        field("By", event.actor.clone()),
    ];
    fields.extend(event.reason.iter().map(|reason| field("Reason", escaped(reason))));
    let message = escaped(&event.message);
    json!({
        "text": format!("*{name}* ({service}): {message}"),
        "attachments": [{
            "color": color, "fallback": message, "fields": fields, "ts": event.time.as_second(),
        }],
    })
}

/// Slack reads these three as the beginning of something.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn standing(state: &State) -> Value {
    json!({
        "service": state.service(), "stable": state.stable, "candidate": state.candidate(), "state": state.phase,
        "weight": state.weight, "segments": state.exposure.segments, "step": state.part(), "steps": state.parts().len(),
        "attempt": state.attempt, "standing": state.message,
    })
}

/// Flagger's word for a state.
const fn phase(state: RolloutState) -> &'static str {
    match state {
        RolloutState::Pending => "Initializing",
        RolloutState::Progressing => "Progressing",
        RolloutState::Paused | RolloutState::Frozen => "Waiting",
        RolloutState::Promoting => "Promoting",
        RolloutState::RollingBack | RolloutState::RolledBack | RolloutState::Failed => "Failed",
        RolloutState::Promoted | RolloutState::Completed => "Succeeded",
    }
}

fn is_alarm(kind: &str) -> bool {
    ["failed", "frozen", "fuseTripped", "hookFailed", "journalFailed", "leaseExpired", "noStableBackend", "paused"]
        .into_iter()
        .chain(["publishFailed", "rollbackFailing", "rolledBack", "rollingBack"])
        .any(|alarm| alarm == kind)
}

fn extend(document: &mut Value, more: Value) {
    if let (Value::Object(document), Value::Object(more)) = (document, more) {
        document.extend(more);
    }
}
