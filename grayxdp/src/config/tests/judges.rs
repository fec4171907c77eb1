//! How metrics are judged: what is understood, and what is refused with its place and remedy.

use super::{PLAN, plan_lines};
use crate::{
    config::load_plan,
    model::plan::{Judge, JudgeType, Metric, Provider},
};

const LIMITS: &str = "      thresholdRange: {max: 0.01}\n";

/// The one metric of the plan with other words in place of its limits.
fn metric(words: &str) -> Metric {
    let plan = load_plan(&PLAN.replacen(LIMITS, &format!("      {words}\n"), 1), "p.yaml");
    plan.unwrap_or_else(|error| panic!("{words}: {error}")).spec.analysis.metrics.remove(0)
}

#[test]
fn failures_are_counted_against_stable_unless_a_limit_is_given() {
    let judged = |words: &str| metric(words).judged().expect("a judge");
    assert_eq!(judged("minSamples: 20"), Judge::new(JudgeType::CountEProcess));
    assert_eq!(judged("thresholdRange: {max: 0.1}").r#type, JudgeType::Threshold);
    let said = judged("judge: {type: countEProcess, alpha: 0.001, tolerateRatio: 1.5, tolerateAbsolute: 0.002}");
    assert_eq!((said.alpha, said.tolerate_ratio, said.tolerate_absolute), (0.001, 1.5, Some(0.002)));
    assert_eq!((said.detected(), judged("minSamples: 20").detected()), (3.0, 2.0), "twice what is tolerated");
    let text = PLAN.replacen(LIMITS, "", 1).replacen(
        "{signal: connectFailureRatio}}",
        "{signal: connect}}\n      judge: {type: confidenceSequence, range: [0, 10s], tolerateAbsolute: 5ms}",
        1,
    );
    let plan = load_plan(&text, "p.yaml").expect("good");
    let said = plan.spec.analysis.metrics[0].judged().expect("a judge");
    assert_eq!((said.bounds(), said.tolerate_absolute), (Some((0.0, 10.0)), Some(0.005)));
    let again = serde_json::from_value(serde_json::to_value(&plan).expect("JSON")).expect("what it wrote");
    assert_eq!(plan, again);
}

#[test]
fn what_is_posted_is_a_confusion_matrix_that_counts_for_a_time() {
    let with = |provider: &str, words: &str| {
        let text = PLAN.replacen(LIMITS, &format!("      {words}\n"), 1);
        load_plan(&text.replacen("{kernel: {signal: connectFailureRatio}}", provider, 1), "p.yaml")
    };
    let plan = with("{posted: {}}", "quality: {minF1: 0.85}").expect("good");
    let metric = &plan.spec.analysis.metrics[0];
    let Provider::Posted(posted) = metric.provider else { panic!("{metric:?}") };
    assert_eq!(
        (posted.max_age.as_secs(), metric.judged().map(|judge| judge.r#type)),
        (3_600, Some(JudgeType::Quality))
    );
    for (provider, words, expected) in [
        ("{posted: {}}", "thresholdRange: {max: 1}", "is posted and has no `quality`; add `quality`"),
        ("{posted: {maxAge: 1s}}", "quality: {minF1: 0.85}", "a maxAge of 1s; use 10s to 30d"),
        ("{posted: {age: 1h}}", "quality: {minF1: 0.85}", "unknown field `age`"),
    ] {
        let said = with(provider, words).expect_err(words).to_string();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn what_a_judge_cannot_do_is_said_with_line_column_and_remedy() {
    for (words, expected) in [
        ("judge: {type: guess}", "unknown value `guess`"),
        ("judge: {type: countEProcess, alpha: 0}", "p.yaml:19:36: metric `errors`: alpha 0; use a number above 0"),
        ("judge: {type: countEProcess, alpha: 0.9}", "alpha 0.9; use a number above 0 and at most 0.5"),
        ("judge: {type: countEProcess, tolerateRatio: 0}", "tolerateRatio 0; use 0.1 to 100"),
        (
            "judge: {type: countEProcess, tolerateRatio: 2, detectRatio: 2}",
            "detectRatio 2 is not above tolerateRatio 2; leave it out for twice tolerateRatio",
        ),
        ("judge: {type: countEProcess, tolerateAbsolute: 2}", "tolerateAbsolute 2; use 0 to 1"),
        ("judge: {type: countEProcess, range: [0, 1]}", "countEProcess has no range; leave it out"),
        ("judge: {type: countEProcess, rnage: 1}", "unknown field `rnage`"),
        (
            "judge: {type: quantileTest}",
            "p.yaml:19:15: metric `errors`: quantileTest cannot judge connectFailureRatio; use countEProcess, proportion, threshold, ratio",
        ),
        ("judge: {type: proportion}", "proportion looks once, at 20 samples a side; set the metric's `minSamples`"),
        ("judge: {type: threshold}", "threshold without a limit; give `thresholdRange`"),
        ("judge: {type: countEProcess}\n      thresholdRange: {max: 0.1}", "countEProcess has no thresholdRange"),
        ("failureLimit: 2", "a fail of countEProcess is final and has no failureLimit"),
        ("thresholdRange: {max: 0.1}\n      perClientCap: 3", "threshold has no perClientCap"),
        ("perClientCap: 0", "perClientCap 0; use 1 or more"),
        ("stableLimit: 1.5", "stableLimit 1.5; use a number between 0 and 1"),
        ("quality: {minF1: 0.8}", "the kernel's connectFailureRatio is no confusion matrix"),
        ("thresholdRange: {max: 1.5}", "max 1.5 of a ratio"),
    ] {
        let lines = plan_lines(LIMITS, &format!("      {words}\n"));
        assert!(lines.iter().any(|line| line.contains(expected)), "{words}: {lines:?}\nnot: {expected}");
    }
    let lines = plan_lines("{signal: connectFailureRatio}}\n      thresholdRange: {max: 0.01}", "{signal: connect}}");
    assert!(
        lines[0].contains("metric `errors`: no limit; give `thresholdRange` with `min` or `max`, or `judge`"),
        "{lines:?}"
    );
}

#[test]
fn at_a_hundred_percent_nothing_can_be_compared() {
    let text = PLAN.replacen(LIMITS, "", 1);
    load_plan(&text, "p.yaml").expect("named at 5 % only");
    let error = load_plan(&text.replacen("{setWeight: 100}", "{setWeight: 100, analysis: [errors]}", 1), "p.yaml");
    let lines = error.expect_err("named at 100 %").lines().to_vec();
    let expected = "metric `errors` compares with the stable version, which has no flows at 100 %; leave it out here";
    assert!(lines[0].starts_with("p.yaml:13:37: ") && lines[0].contains(expected), "{lines:?}");
}

#[test]
fn quality_is_of_an_object_that_is_asked_for() {
    let with = |provider: &str, words: &str| {
        let text = PLAN.replacen("{kernel: {signal: connectFailureRatio}}", provider, 1);
        load_plan(&text.replacen(LIMITS, &format!("      {words}\n"), 1), "p.yaml")
    };
    let http = "{http: {url: \"http://127.0.0.1:8500/cm\"}}";
    let plan = with(http, "quality: {minF1: 0.85, margin: 0.01}").expect("good");
    assert_eq!(plan.spec.analysis.metrics[0].judged().map(|judge| judge.r#type), Some(JudgeType::Quality));
    for (provider, words, expected) in [
        (http, "quality: {}", "metric `errors`: no limit; give `minF1`, `minPrecision`, `minRecall` or `margin`"),
        (http, "quality: {minF1: 85}", "minF1 85; use 0 to 1, as 0.85"),
        (
            http,
            "quality: {minF1: 0.8}\n      thresholdRange: {max: 1}",
            "quality beside other limits; make two metrics",
        ),
        (
            "{prometheus: {address: \"http://127.0.0.1:9090\", query: up}}",
            "quality: {minF1: 0.8}",
            "quality of a Prometheus query; use `http` or `command`",
        ),
    ] {
        let lines = with(provider, words).expect_err(words).lines().to_vec();
        assert!(lines.iter().any(|line| line.contains(expected)), "{words}: {lines:?}\nnot: {expected}");
    }
}
