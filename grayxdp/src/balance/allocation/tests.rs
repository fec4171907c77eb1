use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::{
    balance::vectors,
    model::{Name, Weight},
};

/// A case of `allocation.json`.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    share: Vec<f64>,
    previous: Vec<f64>,
    rate: Vec<f64>,
    key: Vec<u8>,
    alpha: f64,
    growth: f64,
    total: f64,
    spread: f64,
    p: Vec<f64>,
}

#[derive(Debug, Deserialize)]
struct File {
    cases: Vec<Case>,
}

fn segments_of(case: &Case) -> Vec<Segment> {
    let segment = |index: usize| Segment {
        share: case.share[index],
        previous: case.previous[index],
        max_step: case.rate[index],
        key: case.key[index] != 0,
    };
    (0..case.share.len()).map(segment).collect()
}

#[test]
fn vectors_of_allocation() {
    let file: File = serde_json::from_value(vectors::read("allocation.json")).expect("the form of allocation.json");
    assert!(!file.cases.is_empty());
    for case in file.cases {
        let found = allocate(&segments_of(&case), case.alpha, case.growth);
        let name = &case.name;
        assert!((found.total - case.total).abs() < 1e-6, "{name}: total {}, not {}", found.total, case.total);
        assert!((found.spread - case.spread).abs() < 1e-6, "{name}: spread {}, not {}", found.spread, case.spread);
        assert_eq!(found.shares.len(), case.p.len(), "{name}");
        for (index, (found, expected)) in found.shares.iter().zip(&case.p).enumerate() {
            assert!((found - expected).abs() < 1e-4, "{name}: segment {index} gets {found}, not {expected}");
        }
    }
}

fn segment(share: f64, previous: f64, max_step: f64, key: bool) -> Segment {
    Segment { share, previous, max_step, key }
}

#[test]
fn a_cap_that_binds_is_named_and_one_that_does_not_is_not() {
    let asia_held = [segment(0.4, 0.0, 0.05, true), segment(0.6, 0.0, 0.3, false)];
    assert_eq!(allocate(&asia_held, 0.1, 1.0).binding, [Cap::MaxStep(0)]);
    let free = [segment(0.4, 0.0, 0.2, false), segment(0.6, 0.0, 0.3, false)];
    assert_eq!(allocate(&free, 0.1, 1.0).binding, []);
    assert_eq!(allocate(&free, 0.9, 1.0).binding, [Cap::MaxStep(0), Cap::MaxStep(1)]);
    assert_eq!(allocate(&free, 0.9, 0.1).binding, [Cap::MaxTotalStep]);
    let waiting = [segment(0.4, 0.5, 1.0, true), segment(0.6, 0.1, 0.1, false)];
    assert_eq!(allocate(&waiting, 0.9, 1.0).binding, [Cap::Key(0), Cap::MaxStep(1)]);
}

#[test]
fn a_segment_without_traffic_goes_along() {
    let segments = [segment(0.0, 0.0, 1.0, false), segment(1.0, 0.0, 1.0, false)];
    assert_eq!(allocate(&segments, 1.0, 1.0).shares, [1.0, 1.0]);
    let half = allocate(&segments, 0.5, 1.0);
    assert!(half.shares.iter().all(|share| (share - 0.5).abs() < 1e-6), "{half:?}");
}

fn percent(percent: f64) -> Weight {
    Weight::from_percent(percent).expect("a weight")
}

fn part(name: &str, share: f64, weight: f64, max_step: f64, key: bool, fixed: Option<f64>) -> Part {
    let name = Name::try_from(name.to_owned()).expect("a name");
    Part { name, share, weight: percent(weight), max_step: percent(max_step), key, fixed: fixed.map(percent) }
}

fn goal(total: f64, step: f64) -> Goal {
    Goal { total: Some(percent(total)), max_total_step: percent(step) }
}

fn weights(walk: &Walk) -> Vec<Vec<f64>> {
    let of = |sub: &SubStep| sub.weights.iter().map(|weight| f64::from(weight.hundredths()) / 100.0).collect();
    walk.sub_steps.iter().map(of).collect()
}

#[test]
fn a_target_beyond_the_caps_is_walked_to_in_sub_steps() {
    let parts = [part("asia", 0.4, 0.0, 25.0, true, None), part("default", 0.6, 0.0, 100.0, false, None)];
    let found = walk(&parts, goal(100.0, 50.0)).expect("reachable");
    // By hand: 50 = 0.4·25 + 0.6·66.67; then asia by 25 at most and the total by 50 at most.
    let steps = weights(&found);
    assert_eq!(steps.len(), 4, "{steps:?}");
    assert_eq!(steps[0], [25.0, 66.66]);
    assert_eq!(steps[1], [50.0, 100.0]);
    assert_eq!(steps[2], [75.0, 100.0]);
    assert_eq!(steps[3], [100.0, 100.0]);
    assert_eq!(found.sub_steps[0].binding, ["maxStep of asia", "maxTotalStep"]);
    assert_eq!(walk(&[part("a", 1.0, 100.0, 1.0, false, None)], goal(100.0, 1.0)), Ok(Walk::default()));
}

#[test]
fn segments_given_by_name_stay_there_and_the_rest_makes_the_total() {
    let parts = [part("asia", 0.4, 5.0, 100.0, false, Some(10.0)), part("default", 0.6, 5.0, 100.0, false, None)];
    let found = walk(&parts, goal(50.0, 100.0)).expect("reachable");
    // 0.4·10 + 0.6·x = 50
    assert_eq!(weights(&found), [[10.0, 76.66]]);
    let alone = walk(&parts, Goal { total: None, max_total_step: percent(1.0) }).expect("reachable");
    // 0.4 of the flows by 5 points is 2 points of the total.
    assert_eq!(weights(&alone), [[7.5, 5.0], [10.0, 5.0]]);
}

#[test]
fn what_can_never_be_reached_is_said_with_its_reason() {
    let refused = |parts: &[Part], goal| walk(parts, goal).expect_err("unreachable").to_string();
    let held = [part("asia", 0.4, 0.0, 100.0, false, Some(10.0)), part("default", 0.6, 0.0, 100.0, false, None)];
    assert_eq!(
        refused(&held, goal(80.0, 100.0)),
        "with the segments given by name (asia 10) at most 64 % can be reached, not 80 %"
    );
    assert_eq!(
        refused(&held, goal(2.0, 100.0)),
        "the segments given by name (asia 10) make 4 % already, more than 2 %"
    );
    let waits = [part("asia", 0.4, 50.0, 100.0, true, None), part("default", 0.6, 10.0, 100.0, false, Some(10.0))];
    assert_eq!(refused(&waits, goal(40.0, 100.0)), "from 26 % on key segment asia allows no further step");
    let still = [part("asia", 1.0, 0.0, 0.0, false, None)];
    assert_eq!(refused(&still, goal(5.0, 100.0)), "from 0 % on maxStep of asia allows no further step");
}

fn cases() -> impl Strategy<Value = (Vec<Segment>, f64, f64)> {
    let segment = (0.0_f64..1.0, 0_u32..=100, 0_u32..=100, any::<bool>());
    (prop::collection::vec(segment, 1..9), 0.0_f64..=1.0, 0.0_f64..=1.0).prop_map(|(raw, target, growth)| {
        let all: f64 = raw.iter().map(|(share, ..)| share + 0.001).sum();
        let segment = |(share, previous, max_step, key): (f64, u32, u32, bool)| Segment {
            share: (share + 0.001) / all,
            previous: f64::from(previous) / 100.0,
            max_step: f64::from(max_step) / 100.0,
            key,
        };
        (raw.into_iter().map(segment).collect(), target, growth)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_rule_holds_and_staying_is_always_allowed((segments, target, growth) in cases()) {
        let found = allocate(&segments, target, growth);
        let now: f64 = segments.iter().map(|segment| segment.share * segment.previous).sum();
        let growing = target >= now;
        prop_assert!(growing && found.total > now - 1e-9 && found.total < target.max(now) + 1e-7
            || !growing && found.total < now + 1e-9 && found.total > target - 1e-7, "{:?}", found);
        prop_assert!(found.total - now < growth + 1e-7);
        for (segment, share) in segments.iter().zip(&found.shares) {
            let moved = if growing { share - segment.previous } else { segment.previous - share };
            prop_assert!(moved >= 0.0 && moved <= segment.max_step + 1e-12, "{:?}", found);
            prop_assert!((0.0..=1.0).contains(share));
        }
        for (key, at) in segments.iter().zip(&found.shares).filter(|(segment, _)| segment.key) {
            for (other, of) in segments.iter().zip(&found.shares).filter(|(segment, _)| !segment.key) {
                let ahead = key.previous > other.previous;
                let stays = *at == key.previous;
                let kept = if growing { at <= of || ahead && stays } else { ahead || at <= of };
                prop_assert!(kept, "{:?}", found);
            }
        }
        // Nothing moves for the total that is there.
        let still = allocate(&segments, now, growth);
        for (segment, share) in segments.iter().zip(&still.shares) {
            prop_assert!((share - segment.previous).abs() < 1e-4, "{:?}", still);
        }
    }

    /// Optimality without another solver: no allowed exchange between two segments makes the answer better.
    #[test]
    fn no_exchange_between_two_segments_is_better((segments, target, growth) in cases(), size in 1e-3_f64..0.05) {
        let found = allocate(&segments, target, growth);
        let now: f64 = segments.iter().map(|segment| segment.share * segment.previous).sum();
        let growing = target >= now;
        let change = |shares: &[f64]| {
            segments.iter().zip(shares).map(|(s, p)| s.share * (p - s.previous).powi(2)).sum::<f64>()
        };
        let spread = |shares: &[f64]| {
            shares.iter().copied().fold(0.0, f64::max) - shares.iter().copied().fold(1.0, f64::min)
        };
        let allowed = |shares: &[f64]| segments.iter().zip(shares).all(|(segment, share)| {
            let moved = if growing { share - segment.previous } else { segment.previous - share };
            moved >= 0.0 && moved <= segment.max_step && (0.0..=1.0).contains(share)
        }) && segments.iter().zip(shares).all(|(key, at)| !key.key || segments.iter().zip(shares).all(|(other, of)| {
            let ahead = key.previous > other.previous;
            other.key || if growing && ahead { *at == key.previous } else { ahead || at <= of }
        }));
        for up in 0..segments.len() {
            for down in (0..segments.len()).filter(|down| *down != up) {
                let mut other = found.shares.clone();
                other[up] += size;
                other[down] -= size * segments[up].share / segments[down].share;
                if allowed(&other) {
                    let (wider, more) = (spread(&other) > found.spread - 1e-6, change(&other) > change(&found.shares) - 1e-7);
                    let narrower = spread(&other) < found.spread - 1e-6;
                    prop_assert!(wider && !narrower && (more || spread(&other) > found.spread + 1e-7), "{:?} {:?}", found, other);
                }
            }
        }
    }

    #[test]
    fn a_walk_keeps_every_cap_moves_nobody_back_and_arrives(
        (segments, _, _) in cases(), target in 0_u32..=100, steps in 1_u32..=100,
    ) {
        let part = |(index, segment): (usize, &Segment)| {
            let (weight, step) = (segment.previous * 100.0, (segment.max_step * 100.0).max(1.0));
            part(&format!("s{index}"), segment.share, weight.round(), step.round(), segment.key, None)
        };
        let parts: Vec<_> = segments.iter().enumerate().map(part).collect();
        let total = |weights: &[Weight]| {
            parts.iter().zip(weights).map(|(part, weight)| part.share * weight.ratio()).sum::<f64>()
        };
        let mut before: Vec<_> = parts.iter().map(|part| part.weight).collect();
        let target = f64::from(target);
        let growing = target / 100.0 >= total(&before);
        let found = walk(&parts, goal(target, f64::from(steps)));
        prop_assert!(found.is_ok(), "{:?}", found);
        for sub in found.expect("a walk").sub_steps {
            for ((part, old), new) in parts.iter().zip(&before).zip(&sub.weights) {
                prop_assert!(old.hundredths().abs_diff(new.hundredths()) <= part.max_step.hundredths());
                let forth = if growing { new >= old } else { new <= old };
                prop_assert!(forth);
            }
            prop_assert!(total(&sub.weights) - total(&before) <= f64::from(steps) / 100.0 + 1e-9);
            before = sub.weights;
        }
        prop_assert!((total(&before) - target / 100.0).abs() <= 1e-4);
    }
}
