//! Judging what others measured: values from Prometheus, from HTTP servers and from programs.
//!
//! An answer counts from the present weight on, and until the next one is overdue; what is posted for its `maxAge`. No value at all is no data; a value that
//! is not a number, or an answer that did not come, is an error.

use std::time::Duration;

use serde_json::Value;

use crate::{
    analysis::{View, model_quality},
    model::{
        plan::{Metric, Provider, ThresholdRange},
        state::{Finding, Verdict},
    },
};

/// Looks after which an answer is too old.
const LOOKS: u32 = 3;

/// What a busy machine may add to that.
const PATIENCE: Duration = Duration::from_secs(10);

/// What somebody outside answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// One value or more.
    Values(Vec<f64>),
    /// A JSON object, for judges that know its members.
    Document(Value),
    /// There is nothing to be measured now.
    Empty,
    /// Why there is no answer: one line.
    Failed(String),
}

/// An answer and when it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// On the monotonic clock.
    pub at: Duration,
    /// What it says.
    pub answer: Answer,
}

/// The answer that counts now, or the verdict that there is none.
///
/// # Errors
/// No data before the first answer under the present weight; an error where the newest is overdue.
pub fn answer<'a>(metric: &Metric, view: &View<'a>) -> Result<&'a Answer, Finding> {
    let finding = |verdict, sentence: String| Finding {
        metric: metric.name.clone(),
        verdict,
        value: None,
        samples: 0,
        sentence,
        numbers: Default::default(),
    };
    let found = view.history.outside(&metric.name).filter(|found| found.at >= view.since);
    let Some(found) = found else {
        return Err(finding(Verdict::NoData, format!("{} has no answer under the present weight yet", metric.name)));
    };
    let age = view.now.saturating_sub(found.at);
    if let Provider::Posted(posted) = &metric.provider {
        if age > posted.max_age {
            let sentence = format!("what was posted about {} is {} s old", metric.name, age.as_secs());
            return Err(finding(Verdict::NoData, sentence));
        }
        return Ok(&found.answer);
    }
    if age > view.window * LOOKS + PATIENCE {
        let sentence = format!("the newest answer about {} is {} s old", metric.name, age.as_secs());
        return Err(finding(Verdict::Error, sentence));
    }
    Ok(&found.answer)
}

/// Looks at a metric from outside once.
#[must_use]
pub fn judge(metric: &Metric, view: &View<'_>) -> Finding {
    if let Some(limits) = &metric.quality {
        return model_quality::judge(metric, limits, view);
    }
    let answer = match answer(metric, view) {
        Ok(answer) => answer,
        Err(finding) => return finding,
    };
    let (verdict, value, samples, sentence) = match answer {
        Answer::Values(values) => {
            let (verdict, sentence) = judge_values(metric, values);
            (verdict, values.first().copied().filter(|value| value.is_finite()), values.len() as u64, sentence)
        }
        Answer::Document(_) => {
            let sentence = format!("{} is a JSON object: name one of its numbers with `pointer`", metric.name);
            (Verdict::Error, None, 0, sentence)
        }
        Answer::Empty => (Verdict::NoData, None, 0, format!("{} has no value now", metric.name)),
        Answer::Failed(why) => (Verdict::Error, None, 0, format!("{} could not be measured: {why}", metric.name)),
    };
    Finding { metric: metric.name.clone(), verdict, value, samples, sentence, numbers: Default::default() }
}

fn judge_values(metric: &Metric, values: &[f64]) -> (Verdict, String) {
    let name = &metric.name;
    let said = values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let judged = match (&metric.success_condition, &metric.failure_condition) {
        (None, None) => within(metric.threshold_range, values).map(|verdict| (verdict, limits(metric.threshold_range))),
        (success, failure) => {
            let holds = |condition: &Option<crate::model::plan::Condition>| {
                condition.as_ref().map(|condition| condition.holds(values)).transpose()
            };
            holds(success).and_then(|is_success| Ok((is_success, holds(failure)?))).map(|holds| match holds {
                (_, Some(true)) => (Verdict::Fail, conditions("failureCondition", failure)),
                (Some(true), _) => (Verdict::Pass, conditions("successCondition", success)),
                (Some(false), None) => (Verdict::Fail, conditions("not successCondition", success)),
                (None, Some(false)) => (Verdict::Pass, conditions("not failureCondition", failure)),
                (Some(false), Some(false)) | (None, None) => {
                    (Verdict::Inconclusive, "neither successCondition nor failureCondition holds".to_owned())
                }
            })
        }
    };
    match judged {
        Ok((verdict, why)) => (verdict, format!("{name} is {said}; {why}")),
        Err(why) => (Verdict::Error, format!("{name} is {said}: {why}")),
    }
}

fn conditions(which: &str, condition: &Option<crate::model::plan::Condition>) -> String {
    condition.as_ref().map_or_else(String::new, |condition| format!("{which} `{condition}`"))
}

fn within(range: ThresholdRange, values: &[f64]) -> Result<Verdict, String> {
    match values {
        [value] if value.is_nan() => Err("the value is not a number".to_owned()),
        [value] => {
            let beyond = range.min.is_some_and(|min| *value < min) || range.max.is_some_and(|max| *value > max);
            Ok(if beyond { Verdict::Fail } else { Verdict::Pass })
        }
        values => Err(format!("there are {} values; make them one in the query", values.len())),
    }
}

fn limits(range: ThresholdRange) -> String {
    match (range.min, range.max) {
        (None, Some(max)) => format!("limit {max}"),
        (Some(min), None) => format!("at least {min}"),
        (Some(min), Some(max)) => format!("limits {min} to {max}"),
        (None, None) => "no limit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{analysis::History, model::Name};

    fn metric(limits: Value) -> Metric {
        let mut metric = json!({"name": "cpu", "provider": {"http": {"url": "http://127.0.0.1/"}}});
        let fields = metric.as_object_mut().expect("an object");
        fields.extend(limits.as_object().expect("an object").clone());
        serde_json::from_value(metric).expect("a metric")
    }

    fn look(limits: Value, answer: Option<Answer>, now: u64) -> (Verdict, String) {
        let metric = metric(limits);
        let mut history = History::new(Duration::from_secs(10));
        if let Some(answer) = answer {
            history.note_outside(metric.name.clone(), Measurement { at: Duration::from_secs(5), answer });
        }
        let candidate: Name = "v2".parse().expect("a name");
        let (since, now, window) = (Duration::from_secs(3), Duration::from_secs(now), Duration::from_secs(10));
        let stable = candidate.clone();
        let view = View { history: &history, candidate: &candidate, stable: &stable, since, now, window };
        let found = judge(&metric, &view);
        (found.verdict, found.sentence)
    }

    #[test]
    fn five_verdicts_from_outside_are_told_apart() {
        let values = |values: &[f64]| Some(Answer::Values(values.to_vec()));
        let failure = || json!({"failureCondition": "result > 0.95"});
        let both = || json!({"successCondition": "result < 0.5", "failureCondition": "result > 0.95"});
        let range = || json!({"thresholdRange": {"min": 1, "max": 2}});
        let cases = [
            (failure(), values(&[0.96]), Verdict::Fail, "cpu is 0.96; failureCondition `result > 0.95`"),
            (failure(), values(&[0.9]), Verdict::Pass, "cpu is 0.9; not failureCondition `result > 0.95`"),
            (
                json!({"successCondition": "result < 1"}),
                values(&[2.0]),
                Verdict::Fail,
                "cpu is 2; not successCondition",
            ),
            (
                both(),
                values(&[0.7]),
                Verdict::Inconclusive,
                "cpu is 0.7; neither successCondition nor failureCondition",
            ),
            (both(), values(&[0.4]), Verdict::Pass, "cpu is 0.4; successCondition `result < 0.5`"),
            (range(), values(&[1.5]), Verdict::Pass, "cpu is 1.5; limits 1 to 2"),
            (range(), values(&[2.5]), Verdict::Fail, "cpu is 2.5; limits 1 to 2"),
            (range(), values(&[1.0, 2.0]), Verdict::Error, "cpu is 1, 2: there are 2 values"),
            (range(), values(&[f64::NAN]), Verdict::Error, "cpu is NaN: the value is not a number"),
            (failure(), values(&[f64::NAN]), Verdict::Error, "cpu is NaN: the value is not a number"),
            (failure(), Some(Answer::Empty), Verdict::NoData, "cpu has no value now"),
            (failure(), Some(Answer::Failed("refused".into())), Verdict::Error, "cpu could not be measured: refused"),
            (failure(), Some(Answer::Document(json!({}))), Verdict::Error, "cpu is a JSON object"),
            (failure(), None, Verdict::NoData, "cpu has no answer under the present weight yet"),
        ];
        for (limits, answer, expected, said) in cases {
            let (verdict, sentence) = look(limits.clone(), answer.clone(), 9);
            assert_eq!(verdict, expected, "{limits} {answer:?}: {sentence}");
            assert!(sentence.starts_with(said), "{sentence}\nnot: {said}");
        }
    }

    #[test]
    fn an_answer_that_is_overdue_is_an_error() {
        let pass = || Some(Answer::Values(vec![1.0]));
        let range = || json!({"thresholdRange": {"max": 2}});
        assert_eq!(look(range(), pass(), 45).0, Verdict::Pass);
        let (verdict, sentence) = look(range(), pass(), 46);
        assert_eq!((verdict, sentence.as_str()), (Verdict::Error, "the newest answer about cpu is 41 s old"));
    }
}
