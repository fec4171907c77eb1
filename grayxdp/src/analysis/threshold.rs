//! The judge of plain limits.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    analysis::{
        Quantile,
        history::{ANSWER_TIME, Counted, History},
        outside, quotient,
        said::{grouped, percent, said},
        signal::{self, Reading},
    },
    model::{
        Name,
        plan::{JudgeType, KernelSignal, Metric, Provider, Signal, ThresholdRange, Unit},
        state::{Finding, Verdict},
    },
};

/// Least length of a window; a shorter one would rest on too few connections.
const LEAST_WINDOW: Duration = Duration::from_secs(10);

/// What one look sees.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What was observed.
    pub history: &'a History,
    /// The version that is judged.
    pub candidate: &'a Name,
    /// The version that it may be compared with.
    pub stable: &'a Name,
    /// Since when the present weight is in the kernel, on the monotonic clock: nothing older counts.
    pub since: Duration,
    /// Now, on the monotonic clock.
    pub now: Duration,
    /// Length of a window.
    pub window: Duration,
}

/// Length of the window of a plan with looks `interval` apart.
#[must_use]
pub fn window(interval: Duration) -> Duration {
    interval.max(LEAST_WINDOW)
}

/// Looks at a metric once. One that compares is judged by [`crate::analysis::Comparison`]; here it never passes.
#[must_use]
pub fn judge(metric: &Metric, view: &View<'_>) -> Finding {
    if metric.is_comparative() {
        return not_compared(metric, view);
    }
    let kernel = match &metric.provider {
        Provider::Kernel(kernel) => kernel,
        Provider::Prometheus(_) | Provider::Http(_) | Provider::Command(_) | Provider::Posted(_) => {
            return outside::judge(metric, view);
        }
    };
    if metric.judge.is_some_and(|judge| judge.r#type == JudgeType::Ratio) {
        return quotient::judge(metric, kernel, view);
    }
    match kernel.signal {
        Signal::ConnectFailureRatio if view.history.has_handshakes(view.candidate) => {
            judge_connect_failures(metric, view)
        }
        Signal::ConnectFailureRatio
        | Signal::Connect
        | Signal::FirstByte
        | Signal::ResetRatio
        | Signal::SynTimeoutRatio
        | Signal::RetransmitRatio
        | Signal::BytesPerFlow
        | Signal::FlowsPerSecond
        | Signal::ZeroWindowRatio => judge_signal(metric, kernel, view),
    }
}

/// Looks at a signal over the closed window.
fn judge_signal(metric: &Metric, kernel: &KernelSignal, view: &View<'_>) -> Finding {
    let from = view.since.max(view.now.saturating_sub(ANSWER_TIME + view.window));
    let measured = view.history.measured(view.candidate, from);
    let rate = view.history.sample_rate();
    let reading = measured.map(|(measured, length)| signal::read(kernel, &measured, length, rate));
    let Reading { value, samples } = reading.unwrap_or(Reading { value: None, samples: 0 });
    let version = view.candidate;
    let Some(value) = value.filter(|_| samples >= metric.min_samples) else {
        let (had, needed) = (grouped(samples), grouped(metric.min_samples.max(1)));
        let sentence = format!("{version} had {had} samples of {}; {needed} are needed", kernel.signal.label());
        return Finding {
            metric: metric.name.clone(),
            verdict: Verdict::NoData,
            value: None,
            samples,
            numbers: BTreeMap::new(),
            sentence,
        };
    };
    let ThresholdRange { min, max } = metric.threshold_range;
    let (least, is_open) = (value.least(), matches!(value, Quantile::Above(_)));
    let above = max.is_some_and(|max| least > max);
    let below = !is_open && min.is_some_and(|min| least < min);
    // What is only known to be above something may be above the limit too, and need not.
    let is_unknown = is_open && (max.is_some() || min.is_some_and(|min| least < min));
    let verdict = match (above || below, is_unknown) {
        (true, _) => Verdict::Fail,
        (false, true) => Verdict::Inconclusive,
        (false, false) => Verdict::Pass,
    };
    let unit = kernel.signal.unit();
    let name = match kernel.quantile {
        Some(quantile) => format!("{} (quantile {quantile})", kernel.signal.label()),
        None => kernel.signal.label().to_owned(),
    };
    let (more, said, of) = (if is_open { "more than " } else { "" }, said(least, unit), grouped(samples));
    let sentence =
        format!("{version} has {name} {more}{said} of {of} samples; {}", said_limits(metric.threshold_range, unit));
    Finding { metric: metric.name.clone(), verdict, value: Some(least), samples, numbers: BTreeMap::new(), sentence }
}

/// The finding of a look for which nothing could be measured.
#[must_use]
pub fn unmeasured(metric: &Metric, why: &str) -> Finding {
    Finding {
        metric: metric.name.clone(),
        verdict: Verdict::Error,
        value: None,
        samples: 0,
        numbers: BTreeMap::new(),
        sentence: format!("{} could not be measured: {why}", metric.name),
    }
}

fn judge_connect_failures(metric: &Metric, view: &View<'_>) -> Finding {
    let version = view.candidate;
    let closed_from = view.since.max(view.now.saturating_sub(ANSWER_TIME + view.window));
    let newest_from = view.since.max(view.now.saturating_sub(view.window));
    let enough = |counted: &Counted| counted.syns >= metric.min_samples;
    let unanswered = view.history.unanswered(version, closed_from);
    let closed = unanswered.filter(enough).and_then(|counted| Some((counted.ratio()?, counted.syns, "fails")));
    let refused = view.history.refused(version, newest_from).filter(enough);
    let newest = refused.and_then(|counted| Some((counted.ratio()?, counted.syns, "refuses")));
    let newest = newest.filter(|(ratio, _, _)| *ratio > 0.0);

    let worst = [closed, newest].into_iter().flatten().max_by(|a, b| a.0.total_cmp(&b.0));
    let Some((value, samples, does)) = worst else {
        return no_data(metric, version, unanswered);
    };
    let range = metric.threshold_range;
    let above = range.max.is_some_and(|max| value > max);
    let below = range.min.is_some_and(|min| value < min);
    if closed.is_none() && !above {
        return no_data(metric, version, unanswered);
    }
    let verdict = if above || below { Verdict::Fail } else { Verdict::Pass };
    let (share, limits) = (percent(value), said_limits(range, Unit::Ratio));
    let sentence = format!("{version} {does} {share} of {} connections; {limits}", grouped(samples));
    Finding { metric: metric.name.clone(), verdict, value: Some(value), samples, numbers: BTreeMap::new(), sentence }
}

/// The finding of a comparison for which nothing was counted.
fn not_compared(metric: &Metric, view: &View<'_>) -> Finding {
    Finding {
        metric: metric.name.clone(),
        verdict: Verdict::NoData,
        value: None,
        samples: 0,
        numbers: BTreeMap::new(),
        sentence: format!("nothing was counted by which {} and {} could be compared", view.candidate, view.stable),
    }
}

fn no_data(metric: &Metric, version: &Name, counted: Option<Counted>) -> Finding {
    let samples = counted.map_or(0, |counted| counted.syns);
    let (had, needed) = (grouped(samples), grouped(metric.min_samples.max(1)));
    Finding {
        metric: metric.name.clone(),
        verdict: Verdict::NoData,
        value: None,
        samples,
        numbers: BTreeMap::new(),
        sentence: format!("{version} had {had} concluded connections; {needed} are needed"),
    }
}

fn said_limits(range: ThresholdRange, unit: Unit) -> String {
    let said = |bound| said(bound, unit);
    match (range.min, range.max) {
        (None, Some(max)) => format!("limit {}", said(max)),
        (Some(min), None) => format!("at least {}", said(min)),
        (Some(min), Some(max)) => format!("limits {} to {}", said(min), said(max)),
        (None, None) => "no limit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::sync::Arc;

    use super::*;
    use crate::analysis::{Measured, Sample, history::Reading};

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn metric(max: f64) -> Metric {
        let json = serde_json::json!({
            "name": "errors",
            "provider": {"kernel": {"signal": "connectFailureRatio"}},
            "thresholdRange": {"max": max},
        });
        serde_json::from_value(json).expect("a metric")
    }

    fn look(metric: &Metric, readings: &[(u64, u64, u64, u64)], since: u64) -> Finding {
        let mut history = History::new(LEAST_WINDOW);
        for &(second, syns, syn_acks, refusals) in readings {
            let versions = [(name("v2"), Reading { syns, syn_acks, refusals })].into();
            history.push(Sample { at: Duration::from_secs(second), versions });
        }
        let now = Duration::from_secs(readings.last().map_or(0, |reading| reading.0));
        let (candidate, since) = (name("v2"), Duration::from_secs(since));
        judge(
            metric,
            &View { history: &history, candidate: &candidate, stable: &name("v1"), since, now, window: LEAST_WINDOW },
        )
    }

    /// A look at 100 flows a second whose first byte takes 20 ms, and of some of which it never came.
    fn look_at_first_bytes(limits: serde_json::Value, lost: u64) -> Finding {
        let json = serde_json::json!({
            "name": "latency", "provider": {"kernel": {"signal": "firstByte", "quantile": 0.9}},
            "thresholdRange": limits, "minSamples": 100,
        });
        let metric: Metric = serde_json::from_value(json).expect("a metric");
        let mut history = History::new(LEAST_WINDOW);
        let mut measured = Measured::default();
        for second in 0..=10 {
            history.push_signals(Duration::from_secs(second), [(name("v2"), Arc::new(measured.clone()))].into());
            (0..100 - lost).for_each(|_| measured.first_byte.record(20_000_000));
            (0..lost).for_each(|_| measured.first_byte_censored.record(60_000_000));
        }
        let (candidate, now) = (name("v2"), Duration::from_secs(10));
        judge(
            &metric,
            &View {
                history: &history,
                candidate: &candidate,
                stable: &name("v1"),
                since: Duration::ZERO,
                now,
                window: LEAST_WINDOW,
            },
        )
    }

    #[test]
    fn what_is_only_known_to_be_above_something_does_not_pass_an_upper_limit() {
        let json = |text: &str| serde_json::from_str(text).expect("JSON");
        for (limits, lost, expected) in [
            (r#"{"max": "25ms"}"#, 0, Verdict::Pass),
            (r#"{"max": "10ms"}"#, 0, Verdict::Fail),
            (r#"{"max": "25ms"}"#, 20, Verdict::Fail),
            (r#"{"max": "250ms"}"#, 20, Verdict::Inconclusive),
            (r#"{"min": "10ms"}"#, 20, Verdict::Pass),
            (r#"{"min": "250ms"}"#, 20, Verdict::Inconclusive),
            (r#"{"min": "250ms"}"#, 0, Verdict::Fail),
        ] {
            let found = look_at_first_bytes(json(limits), lost);
            assert_eq!(found.verdict, expected, "{limits}, {lost} of 100 lost: {}", found.sentence);
        }
        let said = look_at_first_bytes(json(r#"{"max": "250ms"}"#), 20).sentence;
        assert!(said.starts_with("v2 has firstByte (quantile 0.9) more than 58.7 ms of 700 samples"), "{said}");
        let none = judge(
            &metric(0.1),
            &View {
                history: &History::new(LEAST_WINDOW),
                candidate: &name("v2"),
                stable: &name("v1"),
                since: Duration::ZERO,
                now: Duration::from_secs(9),
                window: LEAST_WINDOW,
            },
        );
        assert_eq!(none.verdict, Verdict::NoData);
    }

    #[test]
    fn a_verdict_says_itself_with_its_numbers() {
        // 1,200 SYNs of which 49 are refused at once: 4.08 %.
        let fail = look(&metric(0.01), &[(0, 0, 0, 0), (2, 1_200, 1_151, 49)], 0);
        assert_eq!(fail.sentence, "v2 refuses 4.08 % of 1,200 connections; limit 1 %");
        assert_eq!((fail.verdict, fail.samples), (Verdict::Fail, 1_200));

        let good: Vec<_> = (0..=13).map(|t| (t, 100 * t, 100 * t, 0)).collect();
        let pass = look(&metric(0.01), &good, 0);
        assert_eq!(pass.sentence, "v2 fails 0 % of 1,000 connections; limit 1 %");
        assert_eq!((pass.verdict, pass.value), (Verdict::Pass, Some(0.0)));
    }

    #[test]
    fn silent_drops_fail_once_the_window_has_closed() {
        let dropping: Vec<_> = (0..=7).map(|t| (t, 100 * t, 90 * t, 0)).collect();
        let fail = look(&metric(0.05), &dropping, 0);
        assert_eq!((fail.verdict, fail.value), (Verdict::Fail, Some(0.1)));
        let at_once = look(&metric(0.05), &dropping[..3], 0);
        assert_eq!(at_once.verdict, Verdict::NoData);
    }

    #[test]
    fn refusals_alone_can_fail_but_never_pass() {
        assert_eq!(look(&metric(0.5), &[(0, 0, 0, 0), (1, 100, 60, 40)], 0).verdict, Verdict::NoData);
        assert_eq!(look(&metric(0.3), &[(0, 0, 0, 0), (1, 100, 60, 40)], 0).verdict, Verdict::Fail);
    }

    #[test]
    fn too_few_samples_are_no_data_with_the_number_that_is_needed() {
        let few: Vec<_> = (0..=13).map(|t| (t, t, 0, t)).collect();
        let finding = look(&metric(0.01), &few, 0);
        assert_eq!(finding.verdict, Verdict::NoData);
        assert_eq!(finding.sentence, "v2 had 10 concluded connections; 20 are needed");
    }

    #[test]
    fn what_happened_before_the_present_weight_counts_for_nothing() {
        let good: Vec<_> = (0..=13).map(|t| (t, 100 * t, 100 * t, 0)).collect();
        assert_eq!(look(&metric(0.01), &good, 11).verdict, Verdict::NoData);
        assert_eq!(look(&metric(0.01), &good, 9).verdict, Verdict::Pass);
    }

    #[test]
    fn counters_made_anew_are_no_data_and_never_a_pass() {
        let mut readings: Vec<_> = (0..=13).map(|t| (t, 100 * t, 100 * t, 0)).collect();
        readings.push((14, 100, 100, 0));
        assert_eq!(look(&metric(0.01), &readings, 0).verdict, Verdict::NoData);
    }

    proptest! {
        #[test]
        fn a_value_is_never_outside_0_to_1_whatever_is_counted(
            readings in proptest::collection::vec((0_u64..1_000, 0_u64..1_000, 0_u64..1_000), 0..20),
            min_samples in 0_u64..3,
        ) {
            let readings: Vec<_> = readings.into_iter().zip(0..).map(|((a, b, c), t)| (t, a, b, c)).collect();
            let metric = Metric { min_samples, ..metric(0.1) };
            let finding = look(&metric, &readings, 0);
            prop_assert!(finding.value.is_none_or(|value| (0.0..=1.0).contains(&value)));
            prop_assert!(finding.value.is_some() || finding.verdict == Verdict::NoData);
        }
    }
}
