//! Those outside, as the owner sees them: the other ends of its channels are the test's.

use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::{
    analysis::Answer,
    model::{plan::Provider, state::Verdict},
    providers::{Errand, Failure, Outcome, Outlet, Report, Targets, Told, Whose},
};

type Errands = mpsc::UnboundedReceiver<Errand>;

fn listening(owner: &mut Owner) -> (watch::Receiver<Targets>, Errands) {
    let (targets, asked) = watch::channel(Targets::default());
    let (sender, errands) = mpsc::unbounded_channel();
    owner.begin_asking(targets, sender);
    (asked, errands)
}

/// `canary()` with more in its spec.
fn canary_with(more: serde_json::Value) -> Plan {
    let mut plan = serde_json::to_value(canary()).expect("JSON");
    plan["spec"].as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    serde_json::from_value(plan).expect("a plan")
}

fn all(errands: &mut Errands) -> Vec<Errand> {
    std::iter::from_fn(|| errands.try_recv().ok()).collect()
}

fn posted(metric: Option<&str>, matrices: serde_json::Value) -> Request {
    let json = json!({"metric": metric, "matrices": matrices});
    let quality = Box::new(serde_json::from_value(json).expect("a quality"));
    Request::QualityPost { rollout: name("recsys-v2"), quality }
}

#[test]
fn posted_quality_judges_at_the_next_look_and_counts_for_its_time() {
    let host = Host::new();
    let mut owner = host.start();
    let (asked, _errands) = listening(&mut owner);
    let metric = |limits: serde_json::Value| {
        json!({"analysis": {"interval": "1s", "maxExtension": "1h", "metrics": [{
            "name": "model", "provider": {"posted": {"maxAge": "10s"}}, "quality": limits, "critical": true,
        }]}})
    };
    let (old, new) = (json!({"tp": 80, "fp": 15, "fn": 20}), json!({"tp": 85, "fp": 10, "fn": 15}));
    let early = posted(None, json!({"v2": new}));
    assert!(refused(ask(&mut owner, early)).message.contains("recsys-v2"), "no rollout runs");
    start_rollout(&mut owner, canary_with(metric(json!({"minF1": 0.85, "margin": 0.2})))).expect("started");
    host.seconds(&mut owner, 3);
    assert!(asked.borrow().is_empty(), "nobody is asked for what is posted");
    let verdict = |owner: &mut Owner| rollout(owner, "recsys-v2").findings[0].verdict;
    assert_eq!(verdict(&mut owner), Verdict::NoData);
    for (wrong, word) in [
        (posted(Some("cpu"), json!({"v2": new})), "cpu"),
        (posted(None, json!({"v1": old})), "the counts of v2 are missing"),
        (posted(None, json!({"v2": new, "v3": old})), "v3"),
        (posted(None, json!({"v2": {"tp": 1_u64 << 53, "fp": 0, "fn": 0}})), "2^53"),
    ] {
        let message = refused(ask(&mut owner, wrong)).message;
        assert!(message.contains(word), "{message}");
    }
    let said = done(ask(&mut owner, posted(Some("model"), json!({"v1": old, "v2": new})))).changes;
    assert_eq!(said, ["model: v1 has F1 0.821 (80/15/20), v2 has F1 0.872 (85/10/15)"]);
    assert!(events(&mut owner).contains(&"qualityPosted".to_owned()));
    host.seconds(&mut owner, 2);
    let sentence = rollout(&mut owner, "recsys-v2").findings[0].sentence.clone();
    assert_eq!(verdict(&mut owner), Verdict::Pass, "{sentence}");
    assert!(
        sentence.starts_with("v2 has F1 0.872 (at least 0.85)") && sentence.contains("v1 has F1 0.821"),
        "{sentence}"
    );
    // At 50 % nothing was posted yet, and nothing advances; then what was posted grows too old.
    host.seconds(&mut owner, 20);
    assert_eq!(
        (verdict(&mut owner), rollout(&mut owner, "recsys-v2").weight.to_string()),
        (Verdict::NoData, "50".to_owned())
    );
    done(ask(&mut owner, posted(None, json!({"v1": new, "v2": old}))));
    host.seconds(&mut owner, 2);
    assert_eq!(state(&mut owner), RolloutState::RolledBack, "F1 0.821 is below 0.85");
    assert!(refused(ask(&mut owner, posted(None, json!({"v2": new})))).message.contains("nothing is judged any more"));
}

#[test]
fn metrics_from_outside_are_asked_for_while_the_rollout_runs_and_judge_it() {
    let host = Host::new();
    let mut owner = host.start();
    let (asked, _errands) = listening(&mut owner);
    let analysis = json!({"interval": "2s", "maxExtension": "30s", "metrics": [{
        "name": "cpu", "failureCondition": "result > 0.95",
        "provider": {"prometheus": {"address": "http://127.0.0.1:9090", "query": "cpu{v=\"{{candidate}}\",s=\"{{ service }}\"}"}},
    }]});
    start_rollout(&mut owner, canary_with(json!({ "analysis": analysis }))).expect("started");
    host.second(&mut owner);
    let targets = asked.borrow().clone();
    let (key, target) = targets.first_key_value().expect("one metric");
    let Provider::Prometheus(query) = &target.provider else { panic!("{target:?}") };
    assert_eq!((query.query.as_str(), target.interval), ("cpu{v=\"v2\",s=\"recsys\"}", Duration::from_secs(2)));
    let answer = |owner: &mut Owner, value: f64| {
        owner.note_measurement(Report { key: key.clone(), answer: Answer::Values(vec![value]) });
        host.second(owner);
    };
    for _ in 0..9 {
        answer(&mut owner, 0.5);
    }
    let good = rollout(&mut owner, "recsys-v2");
    assert_eq!(good.findings[0].sentence, "cpu is 0.5; not failureCondition `result > 0.95`");
    assert_eq!(good.weight.to_string(), "50");
    for _ in 0..4 {
        answer(&mut owner, 0.97);
    }
    assert_eq!(state(&mut owner), RolloutState::RolledBack);
    host.second(&mut owner);
    assert!(asked.borrow().is_empty(), "nobody is asked after the end");
}

#[test]
fn a_webhook_is_called_with_the_payload_and_its_answer_goes_to_the_engine() {
    let host = Host::new();
    let mut owner = host.start();
    let (_asked, mut errands) = listening(&mut owner);
    let hooks = json!([{"name": "gate", "type": "confirm-rollout", "url": "http://127.0.0.1:9/gate", "retries": 2}]);
    start_rollout(&mut owner, canary_with(json!({ "webhooks": hooks }))).expect("started");
    host.seconds(&mut owner, 3);
    let calls = all(&mut errands);
    let [Errand::Call { whose, call, post, retries: 2 }] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((whose.outlet.clone(), *call), (Outlet::Hook(name("gate")), 1));
    assert_eq!(post.web.address, Ok("http://127.0.0.1:9/gate".to_owned()));
    assert_eq!((&post.body["name"], &post.body["phase"]), (&json!("recsys-v2"), &json!("Initializing")));
    assert_eq!(host.candidate_buckets(), 0);
    let result = Err(Failure::Refused { status: 403, why: "HTTP status 403".to_owned() });
    owner.note_told(Told { whose: whose.clone(), outcome: Outcome::Answered { call: 1, result } });
    host.seconds(&mut owner, 3);
    let shown = rollout(&mut owner, "recsys-v2");
    assert_eq!(shown.hooks[0].error.as_deref(), Some("HTTP status 403"));
    let again = all(&mut errands);
    assert!(matches!(again.as_slice(), [Errand::Call { call: 2, .. }]), "{again:?}");
    owner.note_told(Told { whose: whose.clone(), outcome: Outcome::Answered { call: 2, result: Ok(()) } });
    host.seconds(&mut owner, 2);
    assert!(host.candidate_buckets() > 0);
    let kinds = events(&mut owner);
    assert!(kinds.contains(&"hookWaiting".to_owned()) && kinds.contains(&"hookPassed".to_owned()), "{kinds:?}");
}

#[test]
fn news_goes_out_once_an_event_and_what_becomes_of_it_is_shown() {
    let host = Host::new();
    let mut owner = host.start();
    let (_asked, mut errands) = listening(&mut owner);
    let outlets = json!({
        "notifications": [{"type": "slack", "urlFrom": {"file": "/etc/grayxdp/slack"}, "events": ["paused"]},
                          {"type": "generic", "url": "http://127.0.0.1:9/"}],
        "webhooks": [{"name": "log", "type": "event", "url": "http://127.0.0.1:9/log"}],
    });
    start_rollout(&mut owner, canary_with(outlets)).expect("started");
    host.seconds(&mut owner, 3);
    ask(&mut owner, change("recsys-v2", RolloutAction::Pause)).expect("paused");
    let (mut slack, mut generic, mut log) = (Vec::new(), Vec::new(), Vec::new());
    for errand in all(&mut errands) {
        let Errand::Note { whose, post } = errand else { panic!("nobody is asked") };
        match whose.outlet {
            Outlet::Notification(0) => slack.push((whose, post)),
            Outlet::Notification(_) => generic.push(post.body["kind"].as_str().expect("a kind").to_owned()),
            Outlet::Replace => panic!("nothing is replaced"),
            Outlet::Hook(_) => log.push(post.body["metadata"]["eventKind"].as_str().expect("a kind").to_owned()),
        }
    }
    let own: Vec<_> = events(&mut owner).into_iter().filter(|kind| kind != "weightsApplied").collect();
    assert_eq!(log, own, "every event of the rollout");
    assert!(generic.contains(&"rolloutStarted".to_owned()) && !generic.contains(&"verdict".to_owned()), "{generic:?}");
    let [(whose, post)] = slack.as_slice() else { panic!("{slack:?}") };
    assert!(post.web.address.is_err(), "read where it is needed");
    assert!(post.body["text"].as_str().expect("a text").starts_with("*recsys-v2* (recsys): paused"));
    let undelivered = Outcome::Undelivered { why: "connection refused".to_owned(), is_last: true };
    owner.note_told(Told { whose: whose.clone(), outcome: undelivered });
    let shown = rollout(&mut owner, "recsys-v2").outlets;
    let first = shown.iter().find(|outlet| outlet.outlet == "notification 1").expect("shown");
    assert_eq!((first.delivered, first.lost, first.waiting), (0, 1, 0));
    assert_eq!(first.error.as_deref(), Some("connection refused"));
    assert_eq!(owner.deliveries()[&name("recsys")].1, 1);
}

#[test]
fn a_rollout_whose_webhooks_nobody_can_call_says_so() {
    let host = Host::new();
    let mut owner = host.start();
    let hooks = json!([{"name": "gate", "type": "confirm-rollout", "url": "http://127.0.0.1:9/gate"}]);
    start_rollout(&mut owner, canary_with(json!({ "webhooks": hooks }))).expect("started");
    host.seconds(&mut owner, 3);
    let shown = rollout(&mut owner, "recsys-v2");
    assert_eq!(shown.hooks[0].error.as_deref(), Some("nobody is there to call it"));
    assert_eq!((shown.state, host.candidate_buckets()), (RolloutState::Pending, 0));
}

/// A rolling release of two backends, each of which a webhook replaces.
fn rolling() -> Plan {
    let replace = json!({"webhook": {"url": "http://127.0.0.1:9/deploy", "retries": 2, "metadata": {"build": "7"}}});
    let rolling = json!({"maxUnavailable": 1, "drainDeadline": "1s", "replace": replace});
    canary_with(json!({"strategy": {"rolling": rolling}, "analysis": {"interval": "1s", "metrics": []}}))
}

/// The calls that ask for backends to be replaced: which attempt, and which backends.
fn asked_to_replace(errands: &mut Errands) -> Vec<(Whose, u64, serde_json::Value)> {
    let calls = all(errands).into_iter().filter_map(|errand| match errand {
        Errand::Call { whose, call, post, retries: 2 } if whose.outlet == Outlet::Replace => {
            assert_eq!((&post.body["metadata"]["build"], &post.body["type"]), (&json!("7"), &json!("replace")));
            Some((whose, call, post.body["backends"].clone()))
        }
        Errand::Call { .. } | Errand::Note { .. } => None,
    });
    calls.collect()
}

#[test]
fn a_webhook_replaces_the_backends_of_a_rolling_release_batch_by_batch() {
    let host = Host::new();
    host.configure(&CONFIG.replace("[{address: 10.0.2.1}]", "[{address: 10.0.2.1}, {address: 10.0.2.2}]"));
    let mut owner = host.start();
    let (_asked, mut errands) = listening(&mut owner);
    start_rollout(&mut owner, rolling()).expect("started");
    for backend in ["10.0.2.1:80", "10.0.2.2:80"] {
        host.seconds(&mut owner, 6);
        let calls = asked_to_replace(&mut errands);
        let [(whose, call, backends)] = calls.as_slice() else { panic!("{calls:?}") };
        assert_eq!(backends, &json!([backend]));
        // An answer to another attempt changes nothing.
        for call in [call + 1, *call] {
            owner.note_told(Told { whose: whose.clone(), outcome: Outcome::Answered { call, result: Ok(()) } });
            assert_eq!(events(&mut owner).last().is_some_and(|kind| kind == "replaced"), call == 1);
        }
    }
    host.seconds(&mut owner, 6);
    assert_eq!(state(&mut owner), RolloutState::Promoted);
}

#[test]
fn a_webhook_that_cannot_replace_a_backend_ends_a_rolling_release() {
    let host = Host::new();
    host.configure(&CONFIG.replace("[{address: 10.0.2.1}]", "[{address: 10.0.2.1}, {address: 10.0.2.2}]"));
    let mut owner = host.start();
    let (_asked, mut errands) = listening(&mut owner);
    start_rollout(&mut owner, rolling()).expect("started");
    host.seconds(&mut owner, 6);
    let (whose, call, _) = asked_to_replace(&mut errands).remove(0);
    let result = Err(Failure::Refused { status: 500, why: "HTTP status 500: no image".to_owned() });
    owner.note_told(Told { whose, outcome: Outcome::Answered { call, result } });
    host.seconds(&mut owner, 3);
    let shown = rollout(&mut owner, "recsys-v2");
    assert_eq!(shown.state, RolloutState::RolledBack);
    assert!(shown.message.contains("HTTP status 500: no image"), "{}", shown.message);
}
