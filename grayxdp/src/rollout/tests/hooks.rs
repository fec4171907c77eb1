//! Webhooks: when each is called, what waits for it, what its answer does.

use serde_json::{Value, json};

use super::*;
use crate::{
    model::plan::{HookType, NotificationType},
    rollout::{HookAnswer, hooks::documents},
};

/// The plan of `plan()`, with a webhook of each of these types; its name is its type.
fn plan_of(hooks: &[(&str, Value)]) -> Plan {
    let mut plan = serde_json::to_value(plan()).expect("JSON");
    let hook = |(kind, more): &(&str, Value)| {
        let mut hook = json!({"name": kind, "type": kind, "url": "http://127.0.0.1:9/"});
        hook.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        hook
    };
    plan["spec"]["webhooks"] = hooks.iter().map(hook).collect();
    serde_json::from_value(plan).expect("a plan")
}

/// A world, and how webhooks answer there; one that is left out never does.
struct Asked {
    world: World,
    answers: std::collections::BTreeMap<&'static str, HookAnswer>,
    /// Type and second of every call.
    calls: Vec<(String, u64)>,
}

impl Asked {
    fn new(hooks: &[(&str, Value)], answers: &[(&'static str, HookAnswer)]) -> Self {
        Self { world: World::new(plan_of(hooks)), answers: answers.iter().cloned().collect(), calls: Vec::new() }
    }

    fn seconds(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.world.second();
            for (hook, call) in std::mem::take(&mut self.world.calls) {
                let second = (self.world.now.monotonic - Duration::from_secs(1_000)).as_secs();
                self.calls.push((hook.to_string(), second));
                if let Some(answer) = self.answers.get(hook.as_str()).cloned() {
                    self.world.input(Input::Answered { hook, call, answer });
                }
            }
        }
    }

    fn called(&self, kind: &str) -> usize {
        self.calls.iter().filter(|(called, _)| called == kind).count()
    }

    fn state(&self) -> (RolloutState, Weight) {
        (self.world.state.phase, self.world.kernel.weight)
    }
}

fn no(why: &str) -> HookAnswer {
    HookAnswer::No(why.to_owned())
}

#[test]
fn nothing_is_exposed_before_it_is_confirmed_and_made_ready() {
    let hooks = [("pre-rollout", json!({})), ("confirm-rollout", json!({}))];
    let mut asked = Asked::new(&hooks, &[("confirm-rollout", no("HTTP status 403"))]);
    asked.seconds(9);
    assert_eq!(asked.state(), (RolloutState::Pending, Weight::ZERO));
    // At once, and again every look: two seconds.
    assert_eq!(asked.called("confirm-rollout"), 5, "{:?}", asked.calls);
    assert_eq!(asked.called("pre-rollout"), 0);
    let waits = "waits for the yes of webhook confirm-rollout (confirm-rollout): HTTP status 403";
    assert_eq!(asked.world.state.message, waits);
    asked.answers = [("confirm-rollout", HookAnswer::Yes), ("pre-rollout", HookAnswer::Failed("late".into()))].into();
    asked.seconds(6);
    assert_eq!(asked.state(), (RolloutState::Pending, Weight::ZERO));
    assert!(asked.called("pre-rollout") >= 1);
    asked.answers = [("pre-rollout", HookAnswer::Yes)].into();
    asked.seconds(4);
    assert_eq!(asked.state(), (RolloutState::Progressing, percent(5)));
    let (confirmed, ready) = (asked.called("confirm-rollout"), asked.called("pre-rollout"));
    asked.seconds(60);
    assert_eq!((asked.called("confirm-rollout"), asked.called("pre-rollout")), (confirmed, ready), "once is enough");
    assert_eq!(asked.state().0, RolloutState::Promoted);
}

#[test]
fn every_rise_is_confirmed_for_itself_and_promotion_once() {
    let hooks = [("confirm-traffic-increase", json!({})), ("confirm-promotion", json!({}))];
    let yes = [("confirm-traffic-increase", HookAnswer::Yes), ("confirm-promotion", no("not yet"))];
    let mut asked = Asked::new(&hooks, &yes);
    asked.seconds(120);
    // 5, 25, 50 were reached; 100 waits.
    assert_eq!(asked.state(), (RolloutState::Progressing, percent(50)));
    assert_eq!(asked.called("confirm-traffic-increase"), 4, "{:?}", asked.calls);
    assert!(asked.called("confirm-promotion") > 20, "{:?}", asked.calls);
    asked.world.operator(RolloutAction::Promote { full: false });
    asked.seconds(5);
    assert_eq!(asked.state().1, percent(50), "an operator does not go past it");
    asked.world.operator(RolloutAction::Promote { full: true });
    asked.seconds(5);
    assert_eq!(asked.state(), (RolloutState::Promoting, percent(50)), "nor does --full");
    asked.answers = yes.into_iter().map(|(kind, _)| (kind, HookAnswer::Yes)).collect();
    asked.seconds(10);
    assert_eq!(asked.state(), (RolloutState::Promoted, Weight::FULL));
}

#[test]
fn a_failing_webhook_of_every_look_holds_rolls_back_or_is_ignored() {
    let fails = [("rollout", no("HTTP status 500: load test failed"))];
    let mut held = Asked::new(&[("rollout", json!({}))], &fails);
    held.seconds(25);
    assert_eq!(held.state(), (RolloutState::Progressing, percent(5)));
    assert!(held.world.state.message.contains("webhook rollout: HTTP status 500: load test failed"));
    let mut strict = Asked::new(&[("rollout", json!({"onError": "rollback"}))], &fails);
    strict.seconds(10);
    assert_eq!(strict.state(), (RolloutState::RolledBack, Weight::ZERO));
    let mut lax = Asked::new(&[("rollout", json!({"onError": "ignore"}))], &fails);
    lax.seconds(90);
    assert_eq!(lax.state().0, RolloutState::Promoted);
}

#[test]
fn a_dead_endpoint_of_a_confirmation_means_what_on_error_says() {
    let dead = [("confirm-rollout", HookAnswer::Failed("connection refused".to_owned()))];
    let mut held = Asked::new(&[("confirm-rollout", json!({}))], &dead);
    held.seconds(20);
    assert_eq!(held.state().0, RolloutState::Pending);
    let mut ignored = Asked::new(&[("confirm-rollout", json!({"onError": "ignore"}))], &dead);
    ignored.seconds(5);
    assert_eq!(ignored.state(), (RolloutState::Progressing, percent(5)));
    let mut never = Asked::new(&[("confirm-rollout", json!({"onError": "ignore"}))], &[]);
    never.seconds(20);
    assert_eq!((never.state().0, never.called("confirm-rollout")), (RolloutState::Pending, 1), "one at a time");
}

#[test]
fn a_yes_of_a_rollback_webhook_rolls_back_and_post_rollout_is_told_once() {
    let hooks = [("rollback", json!({})), ("post-rollout", json!({}))];
    let mut asked = Asked::new(&hooks, &[("rollback", no("HTTP status 404")), ("post-rollout", HookAnswer::Yes)]);
    asked.seconds(15);
    assert_eq!(asked.state(), (RolloutState::Progressing, percent(25)));
    asked.answers.insert("rollback", HookAnswer::Yes);
    asked.seconds(4);
    assert_eq!(asked.state(), (RolloutState::RolledBack, Weight::ZERO));
    asked.seconds(30);
    assert_eq!(asked.called("post-rollout"), 1, "{:?}", asked.calls);
}

#[test]
fn a_restart_asks_again_what_was_not_answered() {
    let mut asked = Asked::new(&[("confirm-rollout", json!({}))], &[]);
    asked.seconds(3);
    assert_eq!(asked.called("confirm-rollout"), 1);
    let kernel = asked.world.kernel;
    asked.world.input(Input::Restarted { kernel: Some(kernel) });
    asked.seconds(3);
    assert_eq!(asked.called("confirm-rollout"), 2);
    // The answer to the first call, which nobody waits for any more.
    let hook = name("confirm-rollout");
    asked.world.input(Input::Answered { hook, call: 1, answer: HookAnswer::Yes });
    asked.seconds(1);
    assert_eq!(asked.state().0, RolloutState::Pending);
}

#[test]
fn documents_have_flaggers_fields_and_slacks_form() {
    let plan = plan_of(&[("pre-rollout", json!({"metadata": {"cmd": "hey -z 1m"}})), ("event", json!({}))]);
    let mut plan = serde_json::to_value(plan).expect("JSON");
    plan["spec"]["notifications"] = json!([
        {"type": "slack", "url": "http://127.0.0.1:9/"},
        {"type": "generic", "url": "http://127.0.0.1:9/", "events": ["paused"]},
    ]);
    let world = World::new(serde_json::from_value(plan).expect("a plan"));
    let (state, spec) = (&world.state, &world.state.plan.spec);
    let payload = documents::payload(state, &spec.webhooks[0]);
    let own = |field: &str| payload[field].clone();
    assert_eq!([own("name"), own("namespace"), own("phase")], ["recsys-v2", "grayxdp", "Initializing"]);
    assert_eq!((own("metadata"), own("weight")), (json!({"cmd": "hey -z 1m"}), json!(0)));
    let event = crate::model::event::Event {
        id: 0,
        time: jiff::Timestamp::constant(1_767_600_000, 0),
        actor: "uid 0 (root)".to_owned(),
        service: Some(name("recsys")),
        rollout: Some(name("recsys-v2")),
        kind: "paused".to_owned(),
        message: "paused at <5 %> & more".to_owned(),
        reason: Some("lunch".to_owned()),
    };
    assert_eq!(spec.webhooks[1].r#type, HookType::Event);
    let told = documents::event_payload(state, &spec.webhooks[1], &event);
    assert_eq!(told["metadata"]["eventMessage"], event.message);
    assert_eq!(
        (&told["metadata"]["eventType"], &told["metadata"]["timestamp"]),
        (&json!("Warning"), &json!("1767600000000"))
    );
    let [slack, generic] = spec.notifications.as_slice() else { panic!("two") };
    assert_eq!(slack.r#type, NotificationType::Slack);
    let message = documents::notice(state, slack, &event);
    assert_eq!(message["text"], "*recsys-v2* (recsys): paused at &lt;5 %&gt; &amp; more");
    assert_eq!(documents::notice(state, generic, &event)["reason"], "lunch");
    assert!(documents::is_wanted(slack, "paused") && !documents::is_wanted(slack, "verdict"));
    assert!(documents::is_wanted(generic, "paused") && !documents::is_wanted(generic, "frozen"));
}
