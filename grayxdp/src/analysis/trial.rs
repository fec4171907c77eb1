//! An A/B test: which of two versions is better, or that neither is.
//!
//! Values are those of single flows: the times of `connect` and `firstByte` (what went out of sight counts with its age), and 1
//! or 0 for `connectFailureRatio` and `resetRatio`. Less is better. A winner's mean is below `(1 − minImprovement)` × the
//! other's:
//!
//! - sequential: the confidence sequence of [`MeanDifference`] at `alpha` excludes the contrary, at any look; of times it rests
//!   on the law of large numbers;
//! - else once, when both have `minSamples`: Welch's or Student's test finds a difference at `alpha`, and the means differ by so
//!   much.

use serde::{Deserialize, Serialize};

use crate::{
    analysis::{
        Distribution, Measured,
        statistics::{
            Sample,
            confidence_sequence::MeanDifference,
            t_test::{Effect, cohens_d, student, welch},
        },
    },
    model::{
        Name,
        plan::{AbTest, Signal, TestKind, Unit},
    },
};

/// How an A/B test stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Not decided yet.
    Undecided,
    /// The candidate is better.
    Candidate,
    /// Stable is better.
    Stable,
    /// There may be a difference, but not one of `minImprovement`.
    TooSmall,
    /// None was found in the whole time.
    NoDifference,
}

/// What a look at an A/B test found, said in one sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrialFinding {
    /// How it stands.
    pub outcome: Outcome,
    /// With the numbers.
    pub sentence: String,
}

/// What an A/B test has measured. It is journaled with the rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// The candidate below `(1 − minImprovement)` × stable.
    candidate_wins: MeanDifference,
    /// Stable below `(1 − minImprovement)` × the candidate.
    stable_wins: MeanDifference,
    /// Values of the candidate and of stable.
    values: [Values; 2],
    /// The cumulative counts at the last look; none after a restart, when what came in between is left out.
    mark: Option<[Values; 2]>,
    /// The newest finding.
    pub finding: Option<TrialFinding>,
}

/// Values with how often each occurred.
type Values = Vec<(f64, u64)>;

impl Trial {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(test: &AbTest, signal: Signal) -> Self {
        let ratio = 1.0 - test.min_improvement.min(1.0);
        let range = match signal.unit() {
            Unit::Ratio => Some((0.0, 1.0)),
            Unit::Seconds | Unit::Bytes | Unit::PerSecond => None,
        };
        let of = || MeanDifference::new(ratio, range);
        Self { candidate_wins: of(), stable_wins: of(), values: [Vec::new(), Vec::new()], mark: None, finding: None }
    }

    /// The counts begin anew: what comes in until the next look is left out.
    pub fn forget_mark(&mut self) {
        self.mark = None;
    }

    /// Takes the cumulative counts of candidate and stable.
    pub fn take(&mut self, signal: Signal, candidate: &Measured, stable: &Measured) {
        let now = [values(signal, candidate), values(signal, stable)];
        let grown = self.mark.as_ref().and_then(|mark| Some([grown(&now[0], &mark[0])?, grown(&now[1], &mark[1])?]));
        self.mark = Some(now);
        let Some([own, others]) = grown else { return };
        let (candidate, stable) = (Sample::grouped(own.iter().copied()), Sample::grouped(others.iter().copied()));
        self.candidate_wins.take(&candidate, &stable);
        self.stable_wins.take(&stable, &candidate);
        for (sum, more) in self.values.iter_mut().zip([own, others]) {
            let all = sum.drain(..).chain(more).collect::<Vec<_>>();
            *sum = Sample::grouped(all).values().to_vec();
        }
    }

    /// Looks once; `is_over` at the end of the test's time. `names` are candidate and stable.
    #[must_use]
    pub fn look(&self, test: &AbTest, is_over: bool, [candidate, stable]: [&Name; 2]) -> TrialFinding {
        let [own, others] = self.values.each_ref().map(|values| Sample::grouped(values.iter().copied()));
        let (n, m) = (own.count(), others.count());
        let means = own.mean().zip(others.mean());
        let Some((mean, other)) = means.filter(|_| n.min(m) >= test.min_samples.max(2)) else {
            let needed = test.min_samples.max(2);
            let outcome = if is_over { Outcome::NoDifference } else { Outcome::Undecided };
            let sentence = format!("{candidate} has {n} and {stable} {m} samples; {needed} of each are needed");
            return TrialFinding { outcome, sentence };
        };
        let outcome = match test.sequential {
            true => self.sequential(test, is_over),
            false => fixed(test, &own, &others, (mean, other)),
        };
        let change = if other > 0.0 { (mean / other - 1.0) * 100.0 } else { 0.0 };
        let effect = cohens_d(&others, &own);
        let effect = effect.map_or_else(String::new, |d| format!("; Cohen's d {d:.2} ({})", Effect::of(d).label()));
        let p = compared(test, &own, &others).map_or_else(String::new, |p| format!(", p {p:.4}"));
        let level = if test.sequential {
            format!("at every look, alpha {}", test.alpha)
        } else {
            format!("alpha {}", test.alpha)
        };
        let verdict = match outcome {
            Outcome::Undecided => "not decided yet".to_owned(),
            Outcome::Candidate => format!("{candidate} is better"),
            Outcome::Stable => format!("{stable} is better"),
            Outcome::TooSmall => format!("the difference is below {} %", test.min_improvement * 100.0),
            Outcome::NoDifference => "no difference was found".to_owned(),
        };
        let numbers = format!("mean {mean:.6} of {n} against {other:.6} of {m} ({change:+.1} %{p}{effect}; {level})");
        TrialFinding { outcome, sentence: format!("{verdict}: {candidate} has {numbers}") }
    }

    fn sequential(&self, test: &AbTest, is_over: bool) -> Outcome {
        let below = |difference: &MeanDifference| difference.interval(test.alpha).is_some_and(|(_, high)| high < 0.0);
        let not_below = |difference: &MeanDifference| difference.interval(test.alpha).is_some_and(|(low, _)| low > 0.0);
        if below(&self.candidate_wins) {
            Outcome::Candidate
        } else if below(&self.stable_wins) {
            Outcome::Stable
        } else if test.min_improvement > 0.0 && not_below(&self.candidate_wins) && not_below(&self.stable_wins) {
            Outcome::TooSmall
        } else if is_over {
            Outcome::NoDifference
        } else {
            Outcome::Undecided
        }
    }
}

/// The p-value of the means' difference.
fn compared(test: &AbTest, own: &Sample, others: &Sample) -> Option<f64> {
    let found = match test.test {
        TestKind::Welch => welch(own, others),
        TestKind::Student => student(own, others),
    };
    found.map(|found| found.p)
}

fn fixed(test: &AbTest, own: &Sample, others: &Sample, (mean, other): (f64, f64)) -> Outcome {
    let is_sure = compared(test, own, others).is_some_and(|p| p < test.alpha);
    let least = 1.0 - test.min_improvement;
    match is_sure {
        false => Outcome::NoDifference,
        true if mean < other * least => Outcome::Candidate,
        true if other < mean * least => Outcome::Stable,
        true => Outcome::TooSmall,
    }
}

/// The values of all flows so far.
fn values(signal: Signal, measured: &Measured) -> Values {
    let parts = |part: u64, whole: u64| vec![(0.0, whole.saturating_sub(part)), (1.0, part)];
    let seconds = |of: &Distribution| Sample::of_cells(of, 1e-9).values().to_vec();
    match signal {
        Signal::ConnectFailureRatio if measured.attempts == 0 => parts(measured.unanswered, measured.flows),
        Signal::ConnectFailureRatio => parts(measured.refused + measured.timeouts, measured.concluded()),
        Signal::ResetRatio => parts(measured.reset_by_client + measured.reset_by_backend, measured.ended),
        Signal::Connect => seconds(&measured.connect),
        Signal::FirstByte => [seconds(&measured.first_byte), seconds(&measured.first_byte_censored)].concat(),
        Signal::SynTimeoutRatio
        | Signal::RetransmitRatio
        | Signal::BytesPerFlow
        | Signal::FlowsPerSecond
        | Signal::ZeroWindowRatio => Vec::new(),
    }
}

/// What was added to counts; none where any fell.
fn grown(now: &Values, before: &Values) -> Option<Values> {
    let (now, before) = (Sample::grouped(now.iter().copied()), Sample::grouped(before.iter().copied()));
    let count = |of: &Sample, value: f64| of.values().iter().find(|(known, _)| *known == value).map_or(0, |(_, n)| *n);
    if before.values().iter().any(|(value, times)| count(&now, *value) < *times) {
        return None;
    }
    Some(now.values().iter().map(|(value, times)| (*value, times - count(&before, *value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(json: serde_json::Value) -> AbTest {
        let mut whole = serde_json::json!({"primary": "latency"});
        whole.as_object_mut().expect("an object").extend(json.as_object().expect("an object").clone());
        serde_json::from_value(whole).expect("a test")
    }

    /// First bytes that come after 20 ms or so of stable, and after `percent` of that of the candidate, over so many looks.
    fn run(test: &AbTest, percent: u64, looks: u64) -> (Trial, TrialFinding) {
        let mut trial = Trial::new(test, Signal::FirstByte);
        let (mut candidate, mut stable) = (Measured::default(), Measured::default());
        let names = ["v2", "v1"].map(|name| name.parse::<Name>().expect("a name"));
        for look in 0..=looks {
            trial.take(Signal::FirstByte, &candidate, &stable);
            for flow in 0..100_u64 {
                let time = 15_000_000 + (flow * 37 + look * 11) % 100 * 100_000;
                stable.first_byte.record(time);
                candidate.first_byte.record(time * percent / 100);
            }
        }
        let finding = trial.look(test, false, [&names[0], &names[1]]);
        (trial, finding)
    }

    #[test]
    fn a_better_candidate_wins_a_worse_one_loses_and_a_small_difference_is_called_so() {
        let sequential = test(serde_json::json!({"minImprovement": 0.05}));
        assert_eq!(run(&sequential, 70, 40).1.outcome, Outcome::Candidate);
        assert_eq!(run(&sequential, 140, 40).1.outcome, Outcome::Stable);
        assert_eq!(run(&sequential, 100, 400).1.outcome, Outcome::TooSmall);
        let few = run(&sequential, 70, 5).1;
        assert_eq!(few.outcome, Outcome::Undecided);
        assert_eq!(few.sentence, "v2 has 500 and v1 500 samples; 1000 of each are needed");
    }

    #[test]
    fn the_articles_rule_is_one_plan() {
        // n ≥ 1000, p < 0.05, improvement > 5 %.
        let once = test(serde_json::json!({"sequential": false, "minImprovement": 0.05, "test": "welch"}));
        let won = run(&once, 70, 10).1;
        assert_eq!(won.outcome, Outcome::Candidate);
        assert!(won.sentence.contains("v2 is better: v2 has mean 0.01") && won.sentence.contains("(large)"), "{won:?}");
        assert_eq!(run(&once, 100, 10).1.outcome, Outcome::NoDifference);
    }

    #[test]
    fn counts_that_fall_or_a_restart_add_nothing() {
        let plan = test(serde_json::json!({}));
        let (mut trial, _) = run(&plan, 70, 10);
        let before = trial.values.clone();
        trial.take(Signal::FirstByte, &Measured::default(), &Measured::default());
        assert_eq!(trial.values, before);
        trial.forget_mark();
        let mut many = Measured::default();
        (0..50).for_each(|_| many.first_byte.record(20_000_000));
        trial.take(Signal::FirstByte, &many, &many);
        assert_eq!(trial.values, before);
    }
}
