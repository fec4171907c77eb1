//! What the webhooks and notifications of a plan must be.

use crate::{
    config::{
        check::Seen,
        problem::{Place, Problem, suggestion},
        providers::{headers, patience, retries, web_address},
    },
    model::plan::{HookError, Notification, ReplaceHook, Spec, Webhook},
};

/// Webhooks or notifications of one plan.
const MAX_OUTLETS: usize = 32;

/// Kinds of events of a rollout that can be asked for. The engine's own list is compared with it by a test.
pub const EVENT_KINDS: [&str; 37] = [
    "accelerated",
    "clockJumped",
    "completed",
    "completing",
    "failed",
    "foreignWeights",
    "frozen",
    "fuseTripped",
    "hookFailed",
    "hookPassed",
    "hookWaiting",
    "journalFailed",
    "journalWritable",
    "leaseExpired",
    "noStableBackend",
    "pauseEnded",
    "paused",
    "planApplied",
    "promoted",
    "promoting",
    "publishFailed",
    "qualityPosted",
    "replaced",
    "restarted",
    "resumed",
    "retried",
    "rollbackFailing",
    "rolledBack",
    "rollingBack",
    "rolloutStarted",
    "stepReached",
    "steppedBack",
    "subStepReached",
    "testDecided",
    "verdict",
    "windowClosed",
    "windowOpened",
];

/// All that is wrong with them.
pub(super) fn outlets(spec: &Spec, place: &Place, problems: &mut Vec<Problem>) {
    let mut seen = Seen::default();
    for (index, hook) in spec.webhooks.iter().enumerate() {
        let place = place.field("webhooks").index(index);
        if let Some(first) = seen.clash(&hook.name, &place.field("name")) {
            let what = format!("webhook `{}` stands twice", hook.name);
            let remedy = "give each webhook a name of its own";
            problems.push(Problem::new(place.field("name"), what, remedy).with_other(&first));
        }
        webhook(hook, &place, problems);
    }
    for (index, notification) in spec.notifications.iter().enumerate() {
        self::notification(notification, &place.field("notifications").index(index), problems);
    }
    for (field, count) in [("webhooks", spec.webhooks.len()), ("notifications", spec.notifications.len())] {
        if count > MAX_OUTLETS {
            let remedy = format!("use at most {MAX_OUTLETS}");
            problems.push(Problem::new(place.field(field), format!("{count} {field}"), remedy));
        }
    }
}

fn webhook(hook: &Webhook, place: &Place, problems: &mut Vec<Problem>) {
    let Webhook {
        name: _,
        r#type,
        url,
        url_from,
        headers: plain,
        headers_from,
        timeout,
        retries,
        on_error,
        metadata: _,
    } = hook;
    web_address(("url", url.as_ref()), ("urlFrom", url_from.as_ref()), place, problems);
    headers(plain, headers_from, place, problems);
    patience(*timeout, *retries, place, problems);
    if !r#type.is_waited_for() && *on_error != HookError::Hold {
        let what = format!("`onError` of a webhook of type {}", r#type.label());
        problems.push(Problem::new(place.field("onError"), what, "leave it out: nothing waits for its answer"));
    }
}

/// What is wrong with a webhook that replaces backends.
pub(super) fn replacement(hook: &ReplaceHook, place: &Place, problems: &mut Vec<Problem>) {
    let ReplaceHook { url, url_from, headers: plain, headers_from, retries: again, metadata: _ } = hook;
    web_address(("url", url.as_ref()), ("urlFrom", url_from.as_ref()), place, problems);
    headers(plain, headers_from, place, problems);
    retries(*again, place, problems);
}

fn notification(notification: &Notification, place: &Place, problems: &mut Vec<Problem>) {
    let Notification { r#type: _, url, url_from, headers: plain, headers_from, timeout, events } = notification;
    web_address(("url", url.as_ref()), ("urlFrom", url_from.as_ref()), place, problems);
    headers(plain, headers_from, place, problems);
    patience(*timeout, 0, place, problems);
    for (index, kind) in events.iter().enumerate().filter(|(_, kind)| !EVENT_KINDS.contains(&kind.as_str())) {
        let what = format!("there is no event `{kind}`");
        problems.push(Problem::new(place.field("events").index(index), what, suggestion(kind, EVENT_KINDS)));
    }
}
