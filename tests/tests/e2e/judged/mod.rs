//! Candidates with faults that show only under traffic, judged by what the data path saw of real servers.
//!
//! For every change: scenes side by side behind one load balancer, few connections, looks a second apart, coarse faults. At full size: one
//! after the other, 200 new flows a second of which the candidate has half, looks 10 s apart, and each ends within the looks
//! that it may take.

mod stage;

use std::{net::Ipv4Addr, time::Duration};

use grayxdp::model::{
    api::RolloutStatus,
    event::Event,
    state::{RolloutState, Verdict},
};
use grayxdp_tests::{
    faulty::{Body, Fault, FaultyServers, Manners, inflict},
    size::Size,
    stand::{assert_one_line, eventually, get, within},
};

use self::stage::{NOISY, Scene, Stage, V1, V2, looks, said};

const ERRORS: &str = "{name: errors, provider: {kernel: {signal: connectFailureRatio}}}";
const RESETS: &str = "{name: resets, provider: {kernel: {signal: resetRatio}}}";
const LATENCY: &str = "{name: latency, provider: {kernel: {signal: firstByte, quantile: 0.5}}, judge: {type: quantileTest, \
                       tolerateRatio: 2, tolerateAbsolute: 50ms}}";
const SLOWEST: &str = "{name: slowest, provider: {kernel: {signal: firstByte, quantile: 0.99}}, judge: {type: quantileTest, \
                       tolerateRatio: 2, tolerateAbsolute: 50ms}}";
const BYTES: &str = "{name: bytes, provider: {kernel: {signal: bytesPerFlow}}, judge: {type: confidenceSequence, range: [0, \
                     10000]}}";

/// Where outside metrics are asked for on the load balancer.
const OUTSIDE: u16 = 9_191;
const PROMETHEUS: u16 = 9_090;

fn size<T>(quick: T, full: T) -> T {
    Size::of_this_run().pick(quick, full)
}

/// Groups of scenes that run side by side.
fn groups(scenes: Vec<Scene>) -> Vec<Vec<Scene>> {
    match Size::of_this_run() {
        Size::Small | Size::Quick => vec![scenes],
        Size::Full => scenes.into_iter().map(|scene| vec![scene]).collect(),
    }
}

fn interval() -> &'static str {
    size("1s", "10s")
}

/// As long as something may take: at full size so many looks and a few more; else two busy cores.
fn patience(intervals: u64) -> Duration {
    size(Duration::from_secs(60), Duration::from_secs(10 * intervals + 60))
}

fn per_second() -> u32 {
    size(60, 200)
}

/// A candidate with that fault, and the metric that finds it.
fn faulty(name: &str, metric: &str, manners: Manners) -> Scene {
    let metrics = [ERRORS, RESETS, metric];
    let count = if metrics[..2].contains(&metric) { 2 } else { 3 };
    Scene { manners: [Manners::default(), manners], ..Scene::new(name, per_second(), &metrics[..count]) }
}

/// Scenes that end in a rollback, with the metric that is to blame and the looks that it may take.
fn broken() -> Vec<(Scene, &'static str, u64)> {
    let good = Manners::default;
    let late = Manners { late: size(200, 30), delay: Duration::from_millis(size(300, 100)), ..good() };
    let behind = Manners { first_byte: Duration::from_secs(5), ..good() };
    let refusing = Fault::Refuse(size(200, 50));
    let swallowing = Fault::Swallow(size(200, 50));
    vec![
        (faulty("slow", SLOWEST, late), "slowest", 12),
        (Scene { faults: vec![(V2, refusing)], ..faulty("refusing", ERRORS, good()) }, "errors", 6),
        (faulty("resetting", RESETS, Manners { resets: size(200, 20), ..good() }), "resets", 6),
        (Scene { faults: vec![(V2, swallowing)], ..faulty("swallowing", ERRORS, good()) }, "errors", 6),
        (faulty("behind", LATENCY, behind), "latency", 12),
        (faulty("empty", BYTES, Manners { body: Body::Bytes(0), ..good() }), "bytes", 12),
    ]
}

#[test]
fn each_fault_of_a_candidate_is_found_by_the_signal_that_shows_it() {
    let scenes = broken();
    for group in groups(scenes.iter().map(|(scene, ..)| scene.clone()).collect()) {
        let stage = Stage::set(group, interval());
        stage.until(patience(12), |rollout| rollout.state == RolloutState::RolledBack);
        for (name, rollout) in stage.rollouts() {
            let (_, metric, most) = scenes.iter().find(|(scene, ..)| scene.name == name).unwrap();
            let said = said(&rollout);
            println!("after {} looks, {:?}: {said}", looks(&rollout)[*metric], stage.loading.met());
            assert!(rollout.message.starts_with(&format!("{metric} broke its limit")), "{said}");
            if Size::of_this_run() == Size::Full {
                assert!(looks(&rollout)[*metric] <= *most, "more than {most} looks: {said}");
            }
        }
    }
}

#[test]
fn what_is_not_the_candidates_fault_neither_rolls_it_back_nor_promotes_it() {
    let failing = vec![(V1, Fault::Refuse(400)), (V2, Fault::Refuse(400))];
    let both = Scene { later: failing, pause: size("5s", "60s"), ..Scene::new("both", per_second(), &[ERRORS]) };
    let none = Scene {
        pause: "1s",
        analysis: vec![format!("maxExtension: {}", size("3s", "30s"))],
        ..Scene::new("none", 0, &[ERRORS])
    };
    let client = Ipv4Addr::from_bits(Ipv4Addr::new(10, 64, 0, 0).to_bits() + NOISY);
    let noisy = Scene {
        faults: vec![(V2, Fault::RefuseClient(client))],
        noisy_per_second: size(10, 40),
        ..Scene::new("noisy", per_second(), &[ERRORS])
    };
    let most = size(9, 18);
    for group in groups(vec![both, none, noisy]) {
        let stage = Stage::set(group, interval());
        stage.go_on();
        let has_ended = |rollout: &RolloutStatus| match rollout.name.as_str() {
            "both" => rollout.state == RolloutState::Frozen,
            "none" => rollout.state == RolloutState::Paused,
            _ => looks_at_errors(rollout) >= most,
        };
        stage.until(patience(most), has_ended);
        for (name, rollout) in stage.rollouts() {
            let said = said(&rollout);
            println!("{said}");
            assert_eq!(rollout.weight.ratio(), 0.5, "{said}");
            let words = match name.as_str() {
                "both" => ["v1 itself fails", "nothing can be compared"],
                "none" => ["found no pass", "nothing was counted"],
                _ => {
                    assert_eq!(rollout.state, RolloutState::Progressing, "{said}");
                    ["clients of cell", " of the failures"]
                }
            };
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
        // A few looks later as well.
        let before = stage.rollouts();
        let more = |rollout: &RolloutStatus| {
            let name = rollout.name.as_str();
            looks_at_errors(rollout) >= looks_at_errors(&before[name]) + 3 && rollout.state == before[name].state
        };
        stage.until(patience(6), more);
    }
}

/// Looks at the metric that every scene has.
fn looks_at_errors(rollout: &RolloutStatus) -> u64 {
    looks(rollout).get("errors").copied().unwrap_or(0)
}

/// A metric from outside that may be missing for so long.
fn outside(provider: &str) -> String {
    // On a busy machine looks are seconds apart: the first error freezes, and not before the second the time is over.
    let (errors, most) = size((0, "8s"), (1, "60s"));
    format!(
        "{{name: load, provider: {provider}, failureCondition: result > 0.95, consecutiveErrorLimit: {errors}, maxOutage: {most}, \
         onOutage: rollback}}"
    )
}

#[test]
fn a_metric_from_outside_that_is_lost_freezes_the_rollout_and_then_ends_it() {
    let http = format!("{{http: {{url: \"http://127.0.0.1:{OUTSIDE}/\", pointer: /load, timeout: 500ms}}}}");
    let nan =
        format!("{{prometheus: {{address: \"http://127.0.0.1:{PROMETHEUS}\", query: \"vector(0) / vector(0)\"}}}}");
    let scene = |name, provider: &str| Scene::new(name, size(20, 200), &[ERRORS, &outside(provider)]);
    for group in groups(vec![scene("silent", &http), scene("nan", &nan)]) {
        let is_silent = group.iter().any(|scene| scene.name == "silent");
        let stage = Stage::set(group, interval());
        let balancer = stage.stand.lab().balancer();
        let address = format!("127.0.0.1:{OUTSIDE}").parse().unwrap();
        let words = Manners { body: Body::Words("{\"load\": 0.5}"), ..Manners::default() };
        let _answering = FaultyServers::start(balancer, vec![(address, words)]);
        let _prometheus = prometheus(&stage);
        if is_silent {
            let passes = || of_load(&stage.rollouts()["silent"], Verdict::Pass);
            eventually("an answer", passes, |passes| *passes > 0);
            inflict(balancer, OUTSIDE, Fault::Swallow(1_000));
        }
        stage.until(patience(8), |rollout| rollout.state == RolloutState::RolledBack);
        let events: Vec<Event> = stage.stand.answer(&["events", "--limit", "1000"]);
        for (name, rollout) in stage.rollouts() {
            let said = said(&rollout);
            println!("{said}");
            assert!(rollout.message.starts_with("load was not measured for "), "{said}");
            let of = |event: &&Event| event.rollout.as_ref().is_some_and(|rollout| rollout.as_str() == name);
            let kinds: Vec<_> = events.iter().filter(of).map(|event| event.kind.as_str()).collect();
            assert!(kinds.contains(&"frozen"), "{kinds:?}");
            if Size::of_this_run() == Size::Full {
                assert!(of_load(&rollout, Verdict::Error) <= 7, "{said}");
            }
        }
    }
}

/// How often a look at the metric from outside ended so.
fn of_load(rollout: &RolloutStatus, verdict: Verdict) -> u64 {
    let of_metric = rollout.verdicts.iter().find(|(metric, _)| metric.as_str() == "load");
    of_metric.and_then(|(_, verdicts)| verdicts.get(&verdict).copied()).unwrap_or(0)
}

/// A Prometheus server on the load balancer, with nothing to scrape.
fn prometheus(stage: &Stage) -> grayxdp::lab::Process {
    let balancer = stage.stand.lab().balancer();
    let file = stage.stand.write("prometheus.yml", "global: {scrape_interval: 1m}\n");
    let address = format!("127.0.0.1:{PROMETHEUS}");
    let mut command = balancer.command("prometheus");
    command.arg("--config.file").arg(&file).arg("--storage.tsdb.path").arg(stage.stand.file("tsdb"));
    command.arg(format!("--web.listen-address={address}")).arg("--log.level=error");
    let process = balancer.start(&mut command).expect("`cargo xtask setup` installs prometheus");
    let address = address.parse().unwrap();
    eventually(
        "prometheus",
        || get(balancer, address, "/-/ready").is_ok_and(|(status, _)| status == 200),
        |ready| *ready,
    );
    process
}

#[test]
fn the_quality_of_a_model_is_posted_and_judged() {
    let metric = "{name: model, provider: {posted: {}}, quality: {minF1: 0.85}}";
    let stage = Stage::set(vec![Scene::new("model", 0, &[metric])], interval());
    let rollout = || stage.rollouts().remove("model").unwrap();
    let waits = |rollout: &RolloutStatus| said(rollout).contains("has no answer under the present weight yet");
    within(patience(2), "a look without data", rollout, waits);
    let posted = stage.stand.done(&["quality", "post", "model", "v1=80/15/20", "v2=85/10/15"]);
    assert_eq!(posted.trim_end(), "model: v1 has F1 0.821 (80/15/20), v2 has F1 0.872 (85/10/15)");
    within(patience(2), "a pass", rollout, |rollout| said(rollout).contains("v2 has F1 0.872 (at least 0.85)"));
    assert_eq!(rollout().state, RolloutState::Progressing);
    let _ = stage.stand.done(&["quality", "post", "model", "v2=80/15/20", "--reason", "nightly run"]);
    let back = within(patience(2), "a fail", rollout, |rollout| rollout.state == RolloutState::RolledBack);
    assert!(back.message.starts_with("model broke its limit: v2 has F1 0.821 (at least 0.85)"), "{}", back.message);
    assert_one_line(&stage.stand.cli(&["quality", "post", "model", "v2=1/2"]), 2, &["v2=1/2", "VERSION=TP/FP/FN"]);
}

#[test]
fn a_good_candidate_is_never_rolled_back() {
    let strict = |metric: &str| match metric.contains("judge") {
        true => metric.replace("judge: {", "judge: {alpha: 0.0001, "),
        false => metric.replace("}}}", "}}, judge: {type: countEProcess, alpha: 0.0001, tolerateAbsolute: 0.2}}"),
    };
    let metrics = [ERRORS, RESETS, LATENCY, BYTES].map(strict);
    let metrics: Vec<&str> = metrics.iter().map(String::as_str).collect();
    let good = |number| Scene::new(&format!("good{number}"), size(10, 20), &metrics);
    let stage = Stage::set((0..20).map(good).collect(), interval());
    let most = size(10, 30);
    stage.until(patience(most), |rollout| looks_at_errors(rollout) >= most);
    let (answered, failed) = stage.loading.met();
    println!("{answered} answered, {failed} failed");
    for rollout in stage.rollouts().values() {
        println!("{}", said(rollout));
        assert_eq!(rollout.state, RolloutState::Progressing, "{}", said(rollout));
        let fails = rollout.verdicts.values().filter_map(|verdicts| verdicts.get(&Verdict::Fail)).sum::<u64>();
        assert_eq!(fails, 0, "{}", said(rollout));
    }
}
