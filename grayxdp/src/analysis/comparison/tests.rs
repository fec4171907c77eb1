//! One look after the other: what a comparison makes of versions that fail, stall, disappear and come back.

use std::sync::Arc;

use super::*;
use crate::analysis::Stratum;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn metric(words: serde_json::Value) -> Metric {
    let mut json = serde_json::json!({"name": "errors", "provider": {"kernel": {"signal": "connectFailureRatio"}}});
    json.as_object_mut().expect("an object").extend(words.as_object().expect("an object").clone());
    serde_json::from_value(json).expect("a metric")
}

/// What happens in one look: flows, and how many of 1,000 fail.
#[derive(Clone, Copy)]
struct Happening {
    flows: (u64, u64),
    failing: (u64, u64),
}

/// Two versions whose flows are counted, and the comparison of them.
struct World {
    strata: Strata,
    comparison: Comparison,
    metrics: Vec<Metric>,
    since: u64,
    stratum: Stratum,
    carried: (u64, u64),
}

impl World {
    fn new(metrics: Vec<Metric>) -> Self {
        let stratum = Stratum { epoch: 1, segment: 0 };
        let mut world = Self {
            strata: Strata::default(),
            comparison: Comparison::default(),
            metrics,
            since: 0,
            stratum,
            carried: (0, 0),
        };
        // Before the rollout stable failed 2 of 1,000, and the candidate's test traffic all: neither counts.
        world.count(Happening { flows: (50, 10_000), failing: (1_000, 2) });
        world.comparison.begin(&world.strata, &name("v1"));
        world.step(2, 0.5);
        world
    }

    fn step(&mut self, epoch: u64, share: f64) {
        self.since = epoch;
        self.stratum = Stratum { epoch, segment: 0 };
        self.strata.shares = [(self.stratum, share)].into();
    }

    fn count(&mut self, Happening { flows, failing }: Happening) {
        for (version, flows, failing, carried) in
            [("v2", flows.0, failing.0, &mut self.carried.0), ("v1", flows.1, failing.1, &mut self.carried.1)]
        {
            let due = flows * failing + *carried;
            let (failed, rest) = (due / 1_000, due % 1_000);
            *carried = rest;
            let entry = self.strata.counts.entry((name(version), self.stratum)).or_default();
            let measured = Arc::make_mut(entry);
            measured.attempts += flows;
            measured.refused += failed;
            measured.opened += flows - failed;
            for flow in 0..flows {
                measured.cell_attempts[(flow * 37 % 256) as usize] += 1;
            }
            for flow in 0..failed {
                measured.cell_failures[((flow * 91 + measured.attempts) % 256) as usize] += 1;
            }
        }
    }

    fn look(&mut self) -> BTreeMap<Name, Finding> {
        let metrics: Vec<_> = self.metrics.iter().collect();
        let family: Vec<_> = metrics.iter().map(|metric| &metric.name).collect();
        self.comparison.look(&Look {
            strata: &self.strata,
            candidate: &name("v2"),
            stable: &name("v1"),
            metrics: &metrics,
            family: &family,
            since: Duration::from_secs(self.since),
            is_apart: false,
        })
    }

    /// Looks until a verdict, at most so often; how often it took, and the finding.
    fn until(&mut self, verdict: Verdict, happening: Happening, at_most: usize) -> (usize, Finding) {
        let mut found = None;
        for look in 1..=at_most {
            self.count(happening);
            let finding = self.look().remove(&self.metrics[0].name).expect("a finding");
            if finding.verdict == verdict {
                return (look, finding);
            }
            found = Some(finding);
        }
        panic!("no {verdict:?} in {at_most} looks: {found:?}")
    }
}

const GOOD: Happening = Happening { flows: (1_000, 1_000), failing: (2, 2) };
const BAD: Happening = Happening { flows: (1_000, 1_000), failing: (50, 2) };

#[test]
fn a_candidate_that_refuses_five_percent_fails_for_good_within_six_looks() {
    let mut world = World::new(vec![metric(serde_json::json!({}))]);
    let (looks, finding) = world.until(Verdict::Fail, BAD, 6);
    assert!(looks <= 2, "{looks}");
    assert!(finding.sentence.starts_with("v2 fails 5 % of "), "{}", finding.sentence);
    assert!(
        finding.sentence.contains(", v1 0.2 %; e-value ") && finding.sentence.ends_with("alarm at 100"),
        "{}",
        finding.sentence
    );
    assert!(finding.numbers["eValue"] >= 100.0);
    world.count(GOOD);
    assert_eq!(world.look()[&name("errors")].verdict, Verdict::Fail, "it is final");
}

#[test]
fn a_good_candidate_passes_and_each_step_needs_samples_of_its_own() {
    let mut world = World::new(vec![metric(serde_json::json!({"minSamples": 500}))]);
    let (_, finding) = world.until(Verdict::Pass, GOOD, 60);
    assert!(finding.sentence.ends_with("it is not 2 times stable's"), "{}", finding.sentence);
    world.step(3, 0.5);
    assert_eq!(world.look()[&name("errors")].verdict, Verdict::NoData);
    world.count(Happening { flows: (499, 5_000), failing: (2, 2) });
    assert_eq!(world.look()[&name("errors")].verdict, Verdict::NoData);
    world.count(Happening { flows: (1, 1), failing: (0, 0) });
    assert_eq!(world.look()[&name("errors")].verdict, Verdict::Pass, "what was shown before still holds");
}

#[test]
fn while_it_waits_it_says_how_much_longer_about() {
    let mut world = World::new(vec![metric(serde_json::json!({}))]);
    world.count(GOOD);
    let first = world.look().remove(&name("errors")).expect("a finding");
    let expected = first.numbers["looksToPass"];
    let words = format!("; a pass takes some {expected} more looks at this traffic");
    assert!(first.sentence.ends_with(&words), "{}", first.sentence);
    let (looks, _) = world.until(Verdict::Pass, GOOD, 60);
    assert!((looks as f64 - expected).abs() <= 0.35 * expected, "{looks} looks, {expected} were foretold");
    assert!(first.numbers["detectable"] > 0.002 && first.numbers["detectable"] < 0.05, "{:?}", first.numbers);
}

#[test]
fn a_candidate_without_a_failure_passes_once_its_ratio_is_surely_small() {
    let mut world = World::new(vec![metric(serde_json::json!({}))]);
    let (looks, finding) = world.until(Verdict::Pass, Happening { flows: (1_000, 1_000), failing: (0, 0) }, 20);
    assert!(looks > 3 && finding.sentence.ends_with("it is below 0.1 % at every look"), "{looks} {}", finding.sentence);
}

#[test]
fn a_ratio_that_nobody_minds_never_fails_however_much_greater_it_is() {
    let mut world =
        World::new(vec![metric(serde_json::json!({"judge": {"type": "countEProcess", "tolerateAbsolute": 0.1}}))]);
    let (_, finding) = world.until(Verdict::Pass, BAD, 20);
    assert!(finding.numbers["eValue"] > 100.0, "{finding:?}");
}

#[test]
fn while_stable_itself_breaks_its_limit_nothing_passes() {
    let mut world = World::new(vec![metric(serde_json::json!({}))]);
    world.until(Verdict::Pass, GOOD, 60);
    let both = Happening { flows: (1_000, 1_000), failing: (400, 400) };
    let (_, finding) = world.until(Verdict::Inconclusive, both, 1);
    assert!(
        finding.sentence.starts_with("v1 itself fails 40 % of 1,000 connections, above its limit of 1 %"),
        "{}",
        finding.sentence
    );
    assert_eq!(world.comparison.environment(), Some(finding.sentence.as_str()));
    for _ in 0..20 {
        world.count(both);
        assert_eq!(world.look()[&name("errors")].verdict, Verdict::Inconclusive, "nor does it fail");
    }
    world.until(Verdict::Pass, GOOD, 1);
    assert_eq!(world.comparison.environment(), None);
}

#[test]
fn a_failure_of_stable_among_few_flows_is_no_broken_limit() {
    let mut world = World::new(vec![metric(serde_json::json!({}))]);
    // One failure of 40 flows, 2.5 %, is nothing unusual of a version that fails 1 %; ten of 40 are.
    world.count(Happening { flows: (40, 40), failing: (0, 25) });
    world.look();
    assert_eq!(world.comparison.environment(), None);
    world.count(Happening { flows: (40, 40), failing: (0, 250) });
    world.look();
    assert!(world.comparison.environment().is_some());
}

#[test]
fn after_a_restart_what_came_in_may_fail_and_never_pass() {
    let fresh = || World::new(vec![metric(serde_json::json!({}))]);
    let restarted = |mut world: World| {
        world.look();
        let journaled = serde_json::to_string(&world.comparison).expect("JSON");
        world.comparison = serde_json::from_str(&journaled).expect("what it wrote");
        world.comparison.restarted();
        world
    };
    // Enough for a pass, had anybody looked.
    let mut world = restarted(fresh());
    (0..60).for_each(|_| world.count(GOOD));
    assert_eq!(world.look()[&name("errors")].verdict, Verdict::Inconclusive);
    let mut watched = fresh();
    watched.look();
    (0..60).for_each(|_| watched.count(GOOD));
    assert_eq!(watched.look()[&name("errors")].verdict, Verdict::Pass);

    let mut world = restarted(fresh());
    (0..3).for_each(|_| world.count(BAD));
    assert_eq!(world.look()[&name("errors")].verdict, Verdict::Fail);
}

#[test]
fn what_was_counted_before_the_journal_was_written_counts_once() {
    let mut world = World::new(vec![metric(serde_json::json!({}))]);
    world.count(GOOD);
    let before = world.look()[&name("errors")].clone();
    let journaled = serde_json::to_string(&world.comparison).expect("JSON");
    world.comparison = serde_json::from_str(&journaled).expect("what it wrote");
    assert_eq!(world.look()[&name("errors")].numbers["eValue"], before.numbers["eValue"]);
}

#[test]
fn one_client_that_makes_most_failures_does_not_decide_alone() {
    let mut world = World::new(vec![metric(serde_json::json!({}))]);
    let mut last = None;
    for _ in 0..30 {
        world.count(GOOD);
        let measured = Arc::make_mut(world.strata.counts.get_mut(&(name("v2"), world.stratum)).expect("counted"));
        (measured.attempts, measured.refused) = (measured.attempts + 40, measured.refused + 40);
        (measured.cell_attempts[7], measured.cell_failures[7]) =
            (measured.cell_attempts[7] + 40, measured.cell_failures[7] + 40);
        last = world.look().remove(&name("errors"));
    }
    let last = last.expect("a finding");
    assert_ne!(last.verdict, Verdict::Fail, "{}", last.sentence);
    assert!(
        last.sentence.contains("clients of cell 7 have ") && last.sentence.contains("failures come in clusters"),
        "{}",
        last.sentence
    );
}

#[test]
fn nor_does_a_client_that_stays_below_the_cap_look_by_look() {
    let mut world = World::new(vec![metric(serde_json::json!({}))]);
    for _ in 0..30 {
        world.count(Happening { flows: (100, 100), failing: (0, 0) });
        let measured = Arc::make_mut(world.strata.counts.get_mut(&(name("v2"), world.stratum)).expect("counted"));
        (measured.attempts, measured.refused) = (measured.attempts + 3, measured.refused + 3);
        (measured.cell_attempts[7], measured.cell_failures[7]) =
            (measured.cell_attempts[7] + 3, measured.cell_failures[7] + 3);
        let found = world.look().remove(&name("errors")).expect("a finding");
        assert_ne!(found.verdict, Verdict::Fail, "{}", found.sentence);
    }
    // The same failures by clients of all cells are the candidate's.
    world.until(Verdict::Fail, Happening { flows: (103, 100), failing: (29, 0) }, 60);
}

#[test]
fn weights_that_change_with_the_failures_of_both_deceive_nobody() {
    // Both fail 1 of 1,000 at 5 %, and 8 of 1,000 at 50 %: summed over the steps the candidate would seem much worse.
    let mut world = World::new(vec![metric(serde_json::json!({"stableLimit": 0.5}))]);
    for (epoch, flows, failing) in [(2, (500, 9_500), 1), (3, (5_000, 5_000), 8)] {
        world.step(epoch, flows.0 as f64 / 10_000.0);
        for _ in 0..20 {
            world.count(Happening { flows, failing: (failing, failing) });
            let finding = world.look().remove(&name("errors")).expect("a finding");
            assert_ne!(finding.verdict, Verdict::Fail, "{}", finding.sentence);
        }
    }
}

#[test]
fn two_metrics_alarm_later_than_one() {
    let other = |text: &str| Metric { name: name(text), ..metric(serde_json::json!({})) };
    let mut world = World::new(vec![other("one"), other("two")]);
    world.count(BAD);
    let findings = world.look();
    // The same data: the first of Holm's order has to reach 200, and then so has the other.
    assert_eq!(findings[&name("one")].numbers["alarm"], 200.0);
    assert_eq!(findings[&name("two")].numbers["alarm"], 200.0);
    assert_eq!(World::new(vec![other("one")]).look()[&name("one")].numbers["alarm"], 100.0);
}

#[test]
fn flows_that_are_not_divided_as_the_buckets_say_are_noticed() {
    let mut world = World::new(vec![metric(serde_json::json!({}))]);
    for _ in 0..20 {
        world.count(Happening { flows: (1_000, 1_010), failing: (2, 2) });
        world.look();
    }
    assert_eq!(world.comparison.mismatch(), None);
    assert_eq!(world.comparison.division().expect("flows").verdict, Verdict::Pass);
    for _ in 0..20 {
        world.count(Happening { flows: (1_100, 900), failing: (2, 2) });
        world.look();
    }
    let found = world.comparison.mismatch().expect("a mismatch").to_owned();
    assert!(found.starts_with("v2 had ") && found.contains("where its buckets are 50 %: e-value "), "{found}");
    assert_eq!(world.comparison.division().expect("flows").verdict, Verdict::Fail);
}

/// Connect times of a look: 400 flows a side over 10 to 20 ms, the candidate's later by so much.
fn connected(world: &mut World, later_ms: u64) {
    for (version, later) in [("v2", later_ms), ("v1", 0)] {
        let measured = Arc::make_mut(world.strata.counts.entry((name(version), world.stratum)).or_default());
        (measured.attempts, measured.opened) = (measured.attempts + 400, measured.opened + 400);
        (0..400).for_each(|flow| measured.connect.record((10_000 + flow * 25 + later * 1_000) * 1_000));
    }
}

fn of_connect(judge: serde_json::Value) -> Metric {
    let signal = if judge["type"] == "quantileTest" {
        serde_json::json!({"kernel": {"signal": "connect", "quantile": 0.9}})
    } else {
        serde_json::json!({"kernel": {"signal": "connect"}})
    };
    metric(serde_json::json!({"name": "latency", "provider": signal, "judge": judge, "minSamples": 1_000}))
}

#[test]
fn every_judge_of_times_finds_a_slow_candidate_and_passes_one_as_fast() {
    for judge in [
        serde_json::json!({"type": "quantileTest"}),
        serde_json::json!({"type": "confidenceSequence", "range": [0, "100ms"]}),
        serde_json::json!({"type": "confidenceSequence"}),
        serde_json::json!({"type": "mannWhitney"}),
        serde_json::json!({"type": "welch"}),
        serde_json::json!({"type": "student"}),
    ] {
        for (later, expected) in [(5, Verdict::Fail), (0, Verdict::Pass)] {
            let mut world = World::new(vec![of_connect(judge.clone())]);
            let mut last = None;
            for _ in 0..30 {
                connected(&mut world, later);
                let journaled = serde_json::to_string(&world.comparison).expect("JSON");
                world.comparison = serde_json::from_str(&journaled).expect("what it wrote");
                last = world.look().remove(&name("latency"));
            }
            let last = last.expect("a finding");
            assert_eq!(last.verdict, expected, "{judge} {later} ms: {last:?}");
        }
    }
}

#[test]
fn planned_samples_are_of_one_weight() {
    let mut world = World::new(vec![metric(serde_json::json!({"judge": {"type": "proportion"}, "minSamples": 3_000}))]);
    for _ in 0..2 {
        world.count(BAD);
        assert_eq!(world.look()[&name("errors")].verdict, Verdict::NoData);
    }
    world.step(3, 0.5);
    world.count(BAD);
    assert_eq!(world.look()[&name("errors")].verdict, Verdict::NoData, "what came before is of another weight");
    let (looks, finding) = world.until(Verdict::Fail, BAD, 2);
    assert!(looks == 2 && finding.sentence.ends_with("p below 0.0001"), "{}", finding.sentence);
}
