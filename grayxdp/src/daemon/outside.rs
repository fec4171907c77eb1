//! What the owner has to do with those outside: metrics that others measure, webhooks and notifications. The owner only
//! hands on and takes in; who asks and waits runs elsewhere.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};

use crate::{
    analysis::Measurement,
    config::EVENT_KINDS,
    daemon::owner::Owner,
    model::{
        Name,
        api::OutletStatus,
        config::BackendAddress,
        event::Event,
        plan::{HookType, Notification, Provider, ReplaceHook, SecretSource, Webhook},
    },
    providers::{Errand, Failure, Key, Outcome, Outlet, Post, Report, Target, Targets, Told, Web, Whose},
    rollout::{HookAnswer, Input, State, hooks::documents},
};

/// The owner's ends of the channels to those who ask.
#[derive(Debug, Default)]
pub(super) struct Outside {
    channels: Option<(watch::Sender<Targets>, mpsc::UnboundedSender<Errand>)>,
    /// By service and index in the plan.
    deliveries: BTreeMap<Whose, Delivery>,
}

/// What became of the news of one endpoint.
#[derive(Clone, Debug, Default)]
struct Delivery {
    sent: u64,
    delivered: u64,
    lost: u64,
    error: Option<String>,
}

impl Owner {
    /// From now on somebody asks and delivers.
    pub(super) fn begin_asking(&mut self, targets: watch::Sender<Targets>, errands: mpsc::UnboundedSender<Errand>) {
        self.outside.channels = Some((targets, errands));
        self.renew_targets();
    }

    /// Tells those who ask which metrics the running rollouts need.
    pub(super) fn renew_targets(&mut self) {
        let Some((sender, _)) = &self.outside.channels else { return };
        let running = self.engines.values().map(|engine| &engine.state).filter(|state| !state.phase.is_final());
        let targets = running.flat_map(|state| {
            let analysis = &state.plan.spec.analysis;
            let outside = analysis.metrics.iter().filter(|metric| metric.provider.is_asked());
            outside.map(|metric| {
                let (service, metric_name) = (state.service().clone(), metric.name.clone());
                let key = Key { service, rollout: state.number, metric: metric_name };
                (key, Target { provider: filled(&metric.provider, state), interval: analysis.interval })
            })
        });
        let targets: BTreeMap<_, _> = targets.collect();
        sender.send_if_modified(|present| {
            let differs = **present != targets;
            if differs {
                *present = Arc::new(targets);
            }
            differs
        });
    }

    /// Somebody outside answered about a metric.
    pub(super) fn note_measurement(&mut self, report: Report) {
        let Report { key, answer } = report;
        let at = self.clock.now().monotonic;
        let engine = self.engines.get_mut(&key.service).filter(|engine| engine.state.number == key.rollout);
        if let Some(engine) = engine {
            engine.history.note_outside(key.metric, Measurement { at, answer });
        }
    }

    /// Calls a webhook for an engine. Where nobody can, that is the answer.
    pub(super) fn call_hook(&mut self, state: &State, hook: &Name, call: u64) -> Option<Input<'static>> {
        let webhook = state.plan.spec.webhooks.iter().find(|webhook| webhook.name == *hook)?;
        let whose = whose(state, Outlet::Hook(hook.clone()));
        let post = Post { web: hook_web(webhook), body: documents::payload(state, webhook), timeout: webhook.timeout };
        let errand = Errand::Call { whose, call, post, retries: webhook.retries };
        match self.send(errand) {
            true => None,
            false => {
                let answer = HookAnswer::Failed("nobody is there to call it".to_owned());
                Some(Input::Answered { hook: hook.clone(), call, answer })
            }
        }
    }

    /// Asks the webhook of a rolling release to replace backends; what keeps it from being asked.
    pub(super) fn ask_to_replace(
        &mut self,
        state: &State,
        hook: &ReplaceHook,
        timeout: Duration,
        backends: &[BackendAddress],
    ) -> Result<(), String> {
        let ReplaceHook { url, url_from, headers, headers_from, retries, metadata } = hook;
        let post = Post {
            web: web(url.as_ref(), url_from.as_ref(), headers, headers_from),
            body: documents::replacement(state, metadata, backends),
            timeout,
        };
        let errand =
            Errand::Call { whose: whose(state, Outlet::Replace), call: state.attempt, post, retries: *retries };
        if self.send(errand) { Ok(()) } else { Err("nobody is there to call the webhook".to_owned()) }
    }

    /// Tells webhooks and notifications of a rollout's event.
    pub(super) fn notify(&mut self, state: &State, event: &Event) {
        debug_assert!(EVENT_KINDS.contains(&event.kind.as_str()), "`{}` cannot be asked for", event.kind);
        for hook in state.plan.spec.webhooks.iter().filter(|hook| hook.r#type == HookType::Event) {
            let post =
                Post { web: hook_web(hook), body: documents::event_payload(state, hook, event), timeout: hook.timeout };
            self.send_note(whose(state, Outlet::Hook(hook.name.clone())), post);
        }
        for (index, notification) in state.plan.spec.notifications.iter().enumerate() {
            if documents::is_wanted(notification, &event.kind) {
                let post = Post {
                    web: notification_web(notification),
                    body: documents::notice(state, notification, event),
                    timeout: notification.timeout,
                };
                self.send_note(whose(state, Outlet::Notification(index)), post);
            }
        }
    }

    fn send_note(&mut self, whose: Whose, post: Post) {
        let sent = self.send(Errand::Note { whose: whose.clone(), post });
        let delivery = self.outside.deliveries.entry(whose).or_default();
        delivery.sent += 1;
        if !sent {
            delivery.lost += 1;
            delivery.error = Some("nobody is there to deliver it".to_owned());
        }
    }

    fn send(&self, errand: Errand) -> bool {
        self.outside.channels.as_ref().is_some_and(|(_, errands)| errands.send(errand).is_ok())
    }

    /// What became of an errand.
    pub(super) fn note_told(&mut self, told: Told) {
        let Told { whose, outcome } = told;
        match outcome {
            Outcome::Answered { call, result } => {
                let state = self.engines.get(&whose.service).map(|engine| &engine.state);
                let Some(state) = state.filter(|state| state.number == whose.rollout) else { return };
                match whose.outlet {
                    Outlet::Hook(hook) => {
                        let answer = match result {
                            Ok(()) => HookAnswer::Yes,
                            Err(Failure::Refused { status: _, why }) => HookAnswer::No(why),
                            Err(Failure::NoAnswer(why)) => HookAnswer::Failed(why),
                        };
                        self.drive(&whose.service, |_| Input::Answered { hook, call, answer });
                    }
                    // The call is the attempt: an answer to an earlier one is not this one's.
                    Outlet::Replace if state.attempt == call => {
                        let outcome = result.map_err(|failure| format!("the webhook: {failure}"));
                        self.drive(&whose.service, |_| Input::Replaced(outcome));
                    }
                    Outlet::Replace | Outlet::Notification(_) => {}
                }
            }
            Outcome::Delivered => {
                let delivery = self.outside.deliveries.entry(whose).or_default();
                delivery.delivered += 1;
                delivery.error = None;
            }
            Outcome::Undelivered { why, is_last } => {
                let delivery = self.outside.deliveries.entry(whose.clone()).or_default();
                if delivery.error.as_ref() != Some(&why) {
                    tracing::warn!("{}: {} not delivered: {why}", whose.service, said(&whose.outlet));
                }
                delivery.lost += u64::from(is_last);
                delivery.error = Some(why);
            }
            Outcome::Dropped => {
                let delivery = self.outside.deliveries.entry(whose).or_default();
                delivery.lost += 1;
                delivery.error = Some("too much waits already".to_owned());
            }
        }
    }

    /// Where the news of a rollout goes, and whether it arrives.
    pub(super) fn outlets(&self, state: &State) -> Vec<OutletStatus> {
        let is_its = |whose: &&Whose| whose.service == *state.service() && whose.rollout == state.number;
        let whose = self.outside.deliveries.keys().filter(is_its);
        whose
            .map(|whose| {
                let Delivery { sent, delivered, lost, error } = self.outside.deliveries[whose].clone();
                let outlet = said(&whose.outlet);
                OutletStatus { outlet, delivered, lost, waiting: sent.saturating_sub(delivered + lost), error }
            })
            .collect()
    }

    /// Sums over all rollouts that this run has seen: service, delivered, lost.
    pub(super) fn deliveries(&self) -> BTreeMap<Name, (u64, u64)> {
        let mut sums: BTreeMap<Name, (u64, u64)> = BTreeMap::new();
        for (whose, delivery) in &self.outside.deliveries {
            let sum = sums.entry(whose.service.clone()).or_default();
            *sum = (sum.0 + delivery.delivered, sum.1 + delivery.lost);
        }
        sums
    }
}

fn whose(state: &State, outlet: Outlet) -> Whose {
    Whose { service: state.service().clone(), rollout: state.number, outlet }
}

fn said(outlet: &Outlet) -> String {
    match outlet {
        Outlet::Hook(name) => format!("webhook {name}"),
        Outlet::Replace => "webhook of `rolling.replace`".to_owned(),
        Outlet::Notification(index) => format!("notification {}", index + 1),
    }
}

fn hook_web(hook: &Webhook) -> Web {
    web(hook.url.as_ref(), hook.url_from.as_ref(), &hook.headers, &hook.headers_from)
}

fn notification_web(notification: &Notification) -> Web {
    let Notification { r#type: _, url, url_from, headers, headers_from, timeout: _, events: _ } = notification;
    web(url.as_ref(), url_from.as_ref(), headers, headers_from)
}

fn web(
    url: Option<&String>,
    url_from: Option<&SecretSource>,
    headers: &BTreeMap<String, String>,
    headers_from: &BTreeMap<String, SecretSource>,
) -> Web {
    let address = match (url, url_from) {
        (None, Some(source)) => Err(source.clone()),
        // `config` refuses a plan with neither.
        (url, _) => Ok(url.cloned().unwrap_or_default()),
    };
    Web { address, headers: headers.clone(), headers_from: headers_from.clone() }
}

/// A provider with names in place of placeholders.
fn filled(provider: &Provider, state: &State) -> Provider {
    let names = [
        ("service", state.service().to_string()),
        ("stable", state.stable.to_string()),
        ("candidate", state.candidate().to_string()),
        ("rollout", state.name().to_string()),
        ("interval", humantime::format_duration(state.plan.spec.analysis.interval).to_string()),
    ];
    let fill = |text: &mut String| {
        let mut rest = std::mem::take(text);
        while let Some((before, name, after)) = rest.split_once("{{").and_then(|(before, rest)| {
            let (name, after) = rest.split_once("}}")?;
            Some((before.to_owned(), name.trim().to_owned(), after.to_owned()))
        }) {
            text.push_str(&before);
            text.extend(names.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str()));
            rest = after;
        }
        text.push_str(&rest);
    };
    let mut provider = provider.clone();
    match &mut provider {
        Provider::Kernel(_) | Provider::Posted(_) => {}
        Provider::Prometheus(query) => {
            fill(&mut query.query);
            query.address.iter_mut().for_each(fill);
        }
        Provider::Http(query) => query.url.iter_mut().for_each(fill),
        Provider::Command(query) => query.command.iter_mut().for_each(fill),
    }
    provider
}
