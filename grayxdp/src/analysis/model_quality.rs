//! The judge of a model's quality: floors of F1, precision and recall, and F1 against stable's.
//!
//! Who is asked answers with a JSON object. Of one version: `{"tp": 85, "fp": 10, "fn": 15}`; of several by their names, which
//! `margin` needs: `{"v1": {"tp": …}, "v2": {"tp": …}}`. What is undefined is no data. Worse than stable by more than `margin` is a
//! fail where the whole 95 % interval of the difference lies beyond it, and a pass where none of it does.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    analysis::{
        View,
        outside::{self, Answer},
        statistics::quality::{Confusion, f1_difference},
    },
    model::{
        Name,
        api::Matrix,
        plan::{Metric, QualityLimits},
        state::{Finding, Verdict},
    },
};

/// Level of the interval of the difference.
const ALPHA: f64 = 0.05;

/// Looks at a model's quality once.
pub(super) fn judge(metric: &Metric, limits: &QualityLimits, view: &View<'_>) -> Finding {
    let finding = |verdict, sentence| Finding {
        metric: metric.name.clone(),
        verdict,
        value: None,
        samples: 0,
        numbers: BTreeMap::new(),
        sentence,
    };
    let document = match outside::answer(metric, view) {
        Err(finding) => return finding,
        Ok(Answer::Document(document)) => document,
        Ok(Answer::Values(_)) => {
            let sentence = format!("{} is a number: an object with `tp`, `fp` and `fn` is needed", metric.name);
            return finding(Verdict::Error, sentence);
        }
        Ok(Answer::Empty) => return finding(Verdict::NoData, format!("{} has no value now", metric.name)),
        Ok(Answer::Failed(why)) => {
            return finding(Verdict::Error, format!("{} could not be measured: {why}", metric.name));
        }
    };
    let read = |version: &Name| document.get(version.as_str()).map(matrix);
    let own = read(view.candidate).unwrap_or_else(|| matrix(document));
    let both =
        own.and_then(|own| Ok((own, limits.margin.map(|_| needed(read(view.stable), view.stable)).transpose()?)));
    match both {
        Err(why) => finding(Verdict::Error, format!("{}: {why}", metric.name)),
        Ok((own, stable)) => weighed(metric, limits, view, own, stable),
    }
}

fn weighed(
    metric: &Metric,
    limits: &QualityLimits,
    view: &View<'_>,
    own: Confusion,
    stable: Option<Confusion>,
) -> Finding {
    let QualityLimits { min_f1, min_precision, min_recall, margin } = *limits;
    let floors =
        [("F1", own.f1(), min_f1), ("precision", own.precision(), min_precision), ("recall", own.recall(), min_recall)];
    let verdicts = floors.iter().filter_map(|(_, value, least)| Some(floor(*value, (*least)?)));
    let mut verdict = verdicts.fold(Verdict::Pass, graver);
    let said = floors.map(|(name, value, least)| {
        let value = value.map_or_else(|| "undefined".to_owned(), |value| format!("{value:.3}"));
        least.map_or_else(|| format!("{name} {value}"), |least| format!("{name} {value} (at least {least})"))
    });
    let mut sentence = format!("{} has {}", view.candidate, said.join(", "));
    let named = |name: &str, value: Option<f64>| value.map(|value| (name.to_owned(), value));
    let mut numbers: BTreeMap<_, _> = floors.iter().filter_map(|(name, value, _)| named(name, *value)).collect();
    if let (Some(margin), Some(stable)) = (margin, stable) {
        let against = f1_difference(stable, own, ALPHA);
        verdict = graver(verdict, difference(against, margin));
        let theirs = stable.f1().map_or_else(|| "undefined".to_owned(), |f1| format!("{f1:.3}"));
        sentence.push_str(&format!("; {} has F1 {theirs}, by {margin} it may be worse", view.stable));
        if let Some((low, high)) = against {
            sentence.push_str(&format!(": the difference is {low:.3} to {high:.3}"));
            numbers.extend([("differenceLow".to_owned(), low), ("differenceHigh".to_owned(), high)]);
        }
    }
    let samples = own.tp + own.fp + own.r#fn;
    Finding { metric: metric.name.clone(), verdict, value: own.f1(), samples, numbers, sentence }
}

fn floor(value: Option<f64>, least: f64) -> Verdict {
    match value {
        None => Verdict::NoData,
        Some(value) if value < least => Verdict::Fail,
        Some(_) => Verdict::Pass,
    }
}

fn difference(interval: Option<(f64, f64)>, margin: f64) -> Verdict {
    match interval {
        None => Verdict::NoData,
        Some((_, high)) if high < -margin => Verdict::Fail,
        Some((low, _)) if low >= -margin => Verdict::Pass,
        Some(_) => Verdict::Inconclusive,
    }
}

/// Of two verdicts the one that counts: a fail, then what is not known.
fn graver(one: Verdict, other: Verdict) -> Verdict {
    let rank = |verdict| match verdict {
        Verdict::Fail => 4,
        Verdict::Error => 3,
        Verdict::NoData => 2,
        Verdict::Inconclusive => 1,
        Verdict::Pass => 0,
    };
    if rank(other) > rank(one) { other } else { one }
}

fn needed(found: Option<Result<Confusion, String>>, version: &Name) -> Result<Confusion, String> {
    found.unwrap_or_else(|| Err(format!("`margin` needs the counts of `{version}` beside the candidate's")))
}

fn matrix(document: &Value) -> Result<Confusion, String> {
    let count = |name: &str| {
        let wrong = || format!("an object with the counts `tp`, `fp` and `fn` is needed; `{name}` is no count");
        document.get(name).and_then(Value::as_u64).filter(|count| *count < Matrix::COUNTS).ok_or_else(wrong)
    };
    Ok(Confusion { tp: count("tp")?, fp: count("fp")?, r#fn: count("fn")? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::analysis::{History, outside::Measurement};

    fn look(limits: Value, document: Value) -> (Verdict, String) {
        let json = json!({"name": "model", "provider": {"http": {"url": "http://127.0.0.1/cm"}}, "quality": limits});
        let metric: Metric = serde_json::from_value(json).expect("a metric");
        let mut history = History::new(Duration::from_secs(10));
        let at = Duration::from_secs(5);
        history.note_outside(metric.name.clone(), Measurement { at, answer: Answer::Document(document) });
        let (candidate, stable) = ("v2".parse().expect("a name"), "v1".parse().expect("a name"));
        let (since, now, window) = (Duration::ZERO, Duration::from_secs(6), Duration::from_secs(10));
        let view = View { history: &history, candidate: &candidate, stable: &stable, since, now, window };
        let found = crate::analysis::judge(&metric, &view);
        (found.verdict, found.sentence)
    }

    #[test]
    fn floors_are_kept_and_what_is_undefined_is_no_data() {
        let good = || json!({"tp": 85, "fp": 10, "fn": 15});
        let worse = || json!({"tp": 80, "fp": 15, "fn": 20});
        for (limits, document, expected) in [
            (json!({"minF1": 0.85}), good(), Verdict::Pass),
            (json!({"minF1": 0.85}), worse(), Verdict::Fail),
            (json!({"minPrecision": 0.9}), good(), Verdict::Fail),
            (json!({"minRecall": 0.85}), good(), Verdict::Pass),
            (json!({"minPrecision": 0.5}), json!({"tp": 0, "fp": 0, "fn": 5}), Verdict::NoData),
            (json!({"minF1": 0.5, "minPrecision": 0.5}), json!({"tp": 0, "fp": 0, "fn": 5}), Verdict::Fail),
            (json!({"minF1": 0.5}), json!({"tp": -1, "fp": 0, "fn": 5}), Verdict::Error),
            (json!({"minF1": 0.5}), json!({"v2": good(), "v1": worse()}), Verdict::Pass),
            (json!({"margin": 0.01}), good(), Verdict::Error),
            (json!({"minF1": 0.5}), json!({"tp": u64::MAX, "fp": 0, "fn": 5}), Verdict::Error),
        ] {
            let (verdict, sentence) = look(limits.clone(), document.clone());
            assert_eq!(verdict, expected, "{limits} {document}: {sentence}");
        }
        let (_, said) = look(json!({"minF1": 0.85}), worse());
        assert_eq!(said, "v2 has F1 0.821 (at least 0.85), precision 0.842, recall 0.800");
    }

    #[test]
    fn worse_than_stable_needs_enough_counts_to_be_said() {
        let of = |times: u64, tp: u64| json!({"tp": tp * times, "fp": 10 * times, "fn": (100 - tp) * times});
        let against = |times, own, stable| json!({"v1": of(times, stable), "v2": of(times, own)});
        let margin = || json!({"margin": 0.01});
        assert_eq!(look(margin(), against(1, 80, 85)).0, Verdict::Inconclusive);
        assert_eq!(look(margin(), against(100, 80, 85)).0, Verdict::Fail);
        assert_eq!(look(margin(), against(100, 85, 80)).0, Verdict::Pass);
        assert_eq!(look(margin(), against(1_000, 85, 85)).0, Verdict::Pass, "no difference, and surely so");
        let (_, said) = look(margin(), against(100, 85, 80));
        assert!(said.contains("; v1 has F1 0.842, by 0.01 it may be worse: the difference is 0.0"), "{said}");
    }
}
