//! What a step can show with its traffic: the least effect that it finds on average, and how long a pass takes.
//!
//! - *Failures at every look*: ln e grows by the Kullback–Leibler divergence of the failures' split (A. Wald: Sequential Analysis, 1947, §3.5; see
//!   [`sample_size`]); the least effect is where the failures of the step suffice for 1/α.
//! - *Quantiles at every look*: the same for the flows beyond stable's quantile, `n·KL(pₐ‖p₀) + m·KL(p_b‖p₀)` (R. Turner, A. Ly, P. Grünwald, J.
//!   Statistical Planning and Inference 230, 2024).
//! - *Means at every look*: the difference at the edge of the normal mixture of H. Robbins (Annals of Mathematical Statistics 41, 1970), in standard deviations.
//! - *Once*: `d = (z₁₋α⸝₂ + z₀.₈)·√(2 ÷ n)` (J. Cohen: Statistical Power Analysis for the Behavioral Sciences, 2nd ed., 1988, chapter 2); ranks have
//!   3/π of the efficiency of means (E. J. G. Pitman, 1948); ratios as in [`sample_size`].
//!
//! α is divided by the number of metrics that may roll back: the first step of Holm's procedure.

use std::time::Duration;

use crate::{
    analysis::{
        said::{grouped, percent, short},
        statistics::{
            confidence_sequence::{LAMBDAS, TIGHTEST},
            quantile_test::ALTERNATIVES,
            ratio_bound, sample_size,
            special::{normal_upper, solve_rising},
        },
    },
    model::{
        config::duration::said,
        plan::{Judge, JudgeType, Metric, Signal},
        state::Prospect,
    },
};

/// Probability with which tests that look once find the least effect.
const POWER: f64 = 0.8;
/// Efficiency of ranks where values are normal.
const OF_RANKS: f64 = 3.0 / std::f64::consts::PI;
/// A step that lasts until an operator resumes is looked at as if it lasted so long.
const OPEN_END: Duration = Duration::from_secs(3_600);

/// The traffic of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// New flows of both versions a second.
    pub flows_per_second: f64,
    /// The candidate's part of them, above 0 and below 1.
    pub share: f64,
    /// The part of all flows that is followed.
    pub followed: f64,
    /// Whether handshakes are measured: of TCP.
    pub has_handshakes: bool,
    /// Stable's ratio of failures.
    pub failing: f64,
    /// How long the step lasts; none: until an operator resumes.
    pub lasts: Option<Duration>,
    /// Metrics that compare and may roll back.
    pub family: usize,
}

impl Setting {
    /// Samples of the candidate and of stable a second.
    fn rates(&self, signal: Signal) -> (f64, f64) {
        let part = match signal {
            Signal::ConnectFailureRatio | Signal::Connect | Signal::SynTimeoutRatio if self.has_handshakes => 1.0,
            Signal::ConnectFailureRatio
            | Signal::Connect
            | Signal::SynTimeoutRatio
            | Signal::FirstByte
            | Signal::ResetRatio
            | Signal::RetransmitRatio
            | Signal::BytesPerFlow
            | Signal::FlowsPerSecond
            | Signal::ZeroWindowRatio => self.followed,
        };
        let all = self.flows_per_second * part;
        (all * self.share, all * (1.0 - self.share))
    }
}

/// What is said of the least effect.
enum Effect {
    /// A ratio of failures.
    Ratio(f64),
    /// The part of the candidate's flows beyond stable's quantile.
    Beyond(f64),
    /// A difference of means in standard deviations.
    Deviations(f64),
}

/// What a step can show of a metric; none of one that compares nothing, or without traffic of both versions.
#[must_use]
pub fn prospect(metric: &Metric, setting: &Setting) -> Option<Prospect> {
    let judge = metric.judged().filter(|_| metric.is_comparative())?;
    let kernel = metric.kernel()?;
    let (own, others) = setting.rates(kernel.signal);
    let has_both = own.is_finite() && others.is_finite() && own > 0.0 && others > 0.0;
    if !has_both {
        return None;
    }
    let seconds = setting.lasts.unwrap_or(OPEN_END).as_secs_f64();
    let judge = Judge { alpha: judge.alpha / setting.family.max(1) as f64, ..judge };
    let samples = (own * seconds, others * seconds);
    let planned = metric.min_samples.max(1) as f64;
    let effect = least_effect(&judge, kernel.quantile.unwrap_or(0.5), setting, samples, planned);
    let until_enough = planned / own.min(others);
    let needed = match judge.r#type {
        JudgeType::CountEProcess => seconds_to_pass(&judge, setting, (own, others)).map(|pass| pass.max(until_enough)),
        JudgeType::MannWhitney | JudgeType::Welch | JudgeType::Student | JudgeType::Proportion => Some(until_enough),
        JudgeType::ConfidenceSequence
        | JudgeType::QuantileTest
        | JudgeType::Threshold
        | JudgeType::Ratio
        | JudgeType::Quality => None,
    };
    let sentence = sentence(setting, effect.as_ref(), needed, (&judge, kernel.quantile.unwrap_or(0.5)));
    let detectable = effect.map(|effect| match effect {
        Effect::Ratio(value) | Effect::Beyond(value) | Effect::Deviations(value) => value,
    });
    Some(Prospect { metric: metric.name.clone(), detectable, seconds_needed: needed, sentence })
}

fn least_effect(judge: &Judge, quantile: f64, setting: &Setting, samples: (f64, f64), planned: f64) -> Option<Effect> {
    let reach = samples.0 * samples.1 / (samples.0 + samples.1);
    let is_enough = samples.0.min(samples.1) >= planned;
    let level = normal_upper(judge.alpha / 2.0) + normal_upper(1.0 - POWER);
    match judge.r#type {
        JudgeType::CountEProcess => least_ratio(judge, setting, samples).map(Effect::Ratio),
        JudgeType::QuantileTest => least_beyond(judge, quantile, samples).map(Effect::Beyond),
        JudgeType::ConfidenceSequence if judge.range.is_some() => {
            Some(Effect::Deviations((2.0 * (f64::from(LAMBDAS) / judge.alpha).ln() / reach).sqrt()))
        }
        JudgeType::ConfidenceSequence => {
            let all = reach + TIGHTEST;
            let edge = 2.0 * judge.alpha.recip().ln() + (all / TIGHTEST).ln();
            Some(Effect::Deviations((all * edge).sqrt() / reach))
        }
        JudgeType::Welch | JudgeType::Student => is_enough.then(|| Effect::Deviations(level * (2.0 / planned).sqrt())),
        JudgeType::MannWhitney => is_enough.then(|| Effect::Deviations(level * (2.0 / (planned * OF_RANKS)).sqrt())),
        JudgeType::Proportion => is_enough
            .then(|| Effect::Ratio(sample_size::detectable(setting.failing, planned as u64, judge.alpha, POWER))),
        JudgeType::Threshold | JudgeType::Ratio | JudgeType::Quality => None,
    }
}

/// The least ratio of failures whose failures suffice for an alarm; none where not even failing always does.
fn least_ratio(judge: &Judge, setting: &Setting, (own, others): (f64, f64)) -> Option<f64> {
    let failing = setting.failing.clamp(1e-9, 1.0);
    let suffices = |ratio: f64| {
        let alarm =
            sample_size::failures_until_alarm(judge.tolerate_ratio, ratio / failing, setting.share, judge.alpha);
        alarm.is_some_and(|alarm| own * ratio + others * failing >= alarm)
    };
    let least = judge.tolerate_absolute.unwrap_or(super::comparison::TOLERATED_RATIO).max(setting.failing);
    least_that(least.min(1.0), suffices)
}

/// The least part of the candidate's flows beyond stable's quantile that suffices for an alarm.
fn least_beyond(judge: &Judge, quantile: f64, (own, others): (f64, f64)) -> Option<f64> {
    let beyond = 1.0 - quantile;
    let divergence = |p: f64, q: f64| {
        let term = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
        term(p, q) + term(1.0 - p, 1.0 - q)
    };
    let suffices = |part: f64| {
        let both = own.mul_add(part, others * beyond) / (own + others);
        own * divergence(part, both) + others * divergence(beyond, both) >= (ALTERNATIVES as f64 / judge.alpha).ln()
    };
    least_that(beyond, suffices)
}

/// The least number from `from` to 1 of which something holds that holds for all greater ones.
fn least_that(from: f64, holds: impl Fn(f64) -> bool) -> Option<f64> {
    let as_number = |ratio: f64| if holds(ratio) { 1.0 } else { -1.0 };
    holds(1.0).then(|| if holds(from) { from } else { solve_rising(0.0, (from, 1.0), as_number) })
}

/// Seconds until a candidate that fails as often as stable passes.
fn seconds_to_pass(judge: &Judge, setting: &Setting, (own, others): (f64, f64)) -> Option<f64> {
    let failures = sample_size::failures_until_pass(judge.detected(), 1.0, setting.share, judge.alpha);
    let by_failures = failures.map(|failures| failures / (setting.failing * (own + others)));
    let tolerated = judge.tolerate_absolute.unwrap_or(super::comparison::TOLERATED_RATIO);
    let is_below = |flows: &f64| {
        ratio_bound::upper((flows * setting.failing).round() as u64, *flows as u64, judge.alpha) < tolerated
    };
    let flows = (8..100).map(|power| 1.25_f64.powi(power)).filter(|_| setting.failing < tolerated).find(is_below);
    let by_flows = flows.map(|flows| flows / own);
    [by_failures, by_flows].into_iter().flatten().filter(|seconds| seconds.is_finite()).min_by(f64::total_cmp)
}

fn sentence(
    setting: &Setting,
    effect: Option<&Effect>,
    needed: Option<f64>,
    (judge, quantile): (&Judge, f64),
) -> String {
    let lasts = |seconds: f64| said(Duration::from_secs(seconds.clamp(1.0, 1e9).round() as u64));
    let step = match setting.lasts {
        Some(duration) => format!("{} of this step show", said(duration)),
        None => format!("{} show", said(OPEN_END)),
    };
    let what = match effect {
        Some(Effect::Ratio(ratio)) => {
            format!("a ratio of {} or more, where stable has {}", percent(*ratio), percent(setting.failing))
        }
        Some(Effect::Beyond(part)) => {
            format!(
                "{} or more of flows beyond {} times stable's quantile {quantile}",
                percent(*part),
                short(judge.tolerate_ratio)
            )
        }
        Some(Effect::Deviations(number)) => format!("a difference of {} standard deviations", short(*number)),
        None => "nothing".to_owned(),
    };
    let is_longer = needed.zip(setting.lasts).is_some_and(|(needed, lasts)| needed > lasts.as_secs_f64());
    let longer = if is_longer { ", longer than the step" } else { "" };
    let time = match (needed, judge.r#type.is_fixed()) {
        (Some(needed), true) => format!("; it looks once, after some {}{longer}", lasts(needed)),
        (Some(needed), false) => format!("; a pass takes some {}{longer}", lasts(needed)),
        (None, _) => String::new(),
    };
    let flows = grouped(setting.flows_per_second.round() as u64);
    format!("at {flows} new flows a second {step} {what}{time}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::statistics::count_e_process::CountEProcess;

    fn metric(words: &str) -> Metric {
        serde_json::from_str(&format!("{{\"name\": \"m\", \"provider\": {{\"kernel\": {words}}}")).expect("a metric")
    }

    const SETTING: Setting = Setting {
        flows_per_second: 200.0,
        share: 0.5,
        followed: 0.25,
        has_handshakes: true,
        failing: 0.01,
        lasts: Some(Duration::from_secs(600)),
        family: 1,
    };

    #[test]
    fn at_the_least_ratio_the_e_process_reaches_its_alarm_by_the_end_of_the_step() {
        let errors = metric("{\"signal\": \"connectFailureRatio\"}}");
        for (share, failing) in [(0.5, 0.01), (0.05, 0.01), (0.5, 0.0)] {
            let setting = Setting { share, failing, ..SETTING };
            let found = prospect(&errors, &setting).expect("both have traffic");
            let ratio = found.detectable.expect("it shows something");
            let flows = 200.0 * 600.0;
            let mut process = CountEProcess::worse_than(1.0);
            process.take(share, flows * share * ratio, flows * (1.0 - share) * failing);
            // The failures that the formula adds up are whole in the mean; e is averaged over five alternatives, of which one fits.
            let log = process.log_e() / 100_f64.ln();
            assert!((0.9..1.4).contains(&log) || ratio <= 0.001, "{share} {failing}: {ratio} {log}");
        }
    }

    #[test]
    fn shorter_steps_smaller_shares_and_larger_families_show_less() {
        let kinds = [
            "{\"signal\": \"connectFailureRatio\"}}",
            "{\"signal\": \"firstByte\", \"quantile\": 0.99}}, \"judge\": {\"type\": \"quantileTest\"}",
            "{\"signal\": \"bytesPerFlow\"}}, \"judge\": {\"type\": \"confidenceSequence\"}",
            "{\"signal\": \"bytesPerFlow\"}}, \"judge\": {\"type\": \"confidenceSequence\", \"range\": [0, 9]}",
        ];
        for kind in kinds {
            let metric: Metric =
                serde_json::from_str(&format!("{{\"name\": \"m\", \"provider\": {{\"kernel\": {kind}}}"))
                    .expect("a metric");
            let least = |setting: Setting| prospect(&metric, &setting).expect("traffic").detectable.expect("an effect");
            let base = least(SETTING);
            assert!(least(Setting { lasts: Some(Duration::from_secs(60)), ..SETTING }) > base, "{kind}");
            assert!(least(Setting { share: 0.05, ..SETTING }) > base, "{kind}");
            assert!(least(Setting { family: 4, ..SETTING }) > base, "{kind}");
        }
    }

    #[test]
    fn the_time_of_a_pass_is_that_of_the_e_process_and_is_said() {
        let errors = metric("{\"signal\": \"connectFailureRatio\"}}");
        let found = prospect(&errors, &SETTING).expect("traffic");
        // Two failures a second, one of each version: by the e-process itself.
        let (mut process, mut seconds) = (CountEProcess::better_than(2.0), 0.0);
        while process.e() < 100.0 {
            process.take(0.5, 1.0, 1.0);
            seconds += 1.0;
        }
        let needed = found.seconds_needed.expect("it passes");
        assert!((needed / seconds - 1.0).abs() < 0.1, "{needed} {seconds}");
        let begin = "at 200 new flows a second 10m of this step show a ratio of 1.";
        assert!(
            found.sentence.starts_with(begin) && found.sentence.contains("; a pass takes some "),
            "{}",
            found.sentence
        );
        let short = prospect(&errors, &Setting { lasts: Some(Duration::from_secs(5)), ..SETTING }).expect("traffic");
        assert!(short.sentence.ends_with(", longer than the step"), "{}", short.sentence);
        let none = prospect(&errors, &Setting { lasts: Some(Duration::from_millis(10)), ..SETTING }).expect("traffic");
        assert!(none.detectable.is_none() && none.sentence.contains("show nothing"), "{}", none.sentence);
    }

    #[test]
    fn a_test_that_looks_once_shows_what_its_planned_sample_shows() {
        // (1.96 + 0.8416)·√(2 ÷ 64) = 0.495: Cohen's half a deviation for 64 a side.
        let welch: Metric = serde_json::from_str(
            "{\"name\": \"m\", \"provider\": {\"kernel\": {\"signal\": \"connect\"}}, \"minSamples\": 64, \
             \"judge\": {\"type\": \"welch\", \"alpha\": 0.05}}",
        )
        .expect("a metric");
        let found = prospect(&welch, &SETTING).expect("traffic");
        assert!((found.detectable.expect("an effect") - 0.4953).abs() < 1e-3, "{found:?}");
        // 64 of each side at 100 a second of each.
        assert!((found.seconds_needed.expect("it looks") - 0.64).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn nothing_is_foretold_without_a_comparison_or_without_traffic() {
        let plain: Metric = serde_json::from_str(
            "{\"name\": \"m\", \"provider\": {\"kernel\": {\"signal\": \"connectFailureRatio\"}}, \"thresholdRange\": {\"max\": 0.1}}",
        )
        .expect("a metric");
        assert_eq!(prospect(&plain, &SETTING), None);
        let errors = metric("{\"signal\": \"connectFailureRatio\"}}");
        assert_eq!(prospect(&errors, &Setting { flows_per_second: 0.0, ..SETTING }), None);
        assert_eq!(prospect(&errors, &Setting { share: 1.0, ..SETTING }), None);
    }
}
