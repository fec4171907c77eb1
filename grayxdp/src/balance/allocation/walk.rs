//! The way to a step's target in sub-steps, each within every cap, in the resolution of weights.

use std::fmt;

use super::{Cap, SAME, Segment, allocate};
use crate::model::{Name, Weight};

/// Hundredths of a percent of the whole.
const WHOLE: f64 = 10_000.0;

/// A segment on its way to a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its name, for what is said about it.
    pub name: Name,
    /// Its part of all new flows, `0.0..=1.0`; those of all segments make 1, the rest of the service being one of them.
    pub share: f64,
    /// The candidate's weight in it now.
    pub weight: Weight,
    /// By how much that may change at once.
    pub max_step: Weight,
    /// Whether it may never be ahead of the segments that are not key.
    pub key: bool,
    /// The weight that the plan gives it by name; allocation leaves it there.
    pub fixed: Option<Weight>,
}

/// Where a step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The candidate's share of all new flows, filled from the segments that are not fixed; without it those keep theirs.
    pub total: Option<Weight>,
    /// By how much the share of all new flows may grow at once.
    pub max_total_step: Weight,
}

/// One sub-step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubStep {
    /// The candidate's weight in each segment, in the order given.
    pub weights: Vec<Weight>,
    /// What kept it from going further, in words.
    pub binding: Vec<String>,
}

/// All sub-steps of a step; none where it is reached already.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Walk {
    /// In their order. The last one is the target.
    pub sub_steps: Vec<SubStep>,
}

/// Why a target can never be reached, in a sentence's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(String);

/// Walks to the goal.
///
/// # Errors
/// [`Unreachable`]: what stands in the way.
pub fn walk(parts: &[Part], goal: Goal) -> Result<Walk, Unreachable> {
    let mut parts = parts.to_vec();
    let mut walk = Walk::default();
    let target = target_of_free(&parts, goal)?;
    while !arrived(&parts, target) {
        let sub_step = advance(&parts, goal, target);
        if parts.iter().map(|part| part.weight).eq(sub_step.weights.iter().copied()) {
            return Err(stuck(&parts, &sub_step));
        }
        for (part, weight) in parts.iter_mut().zip(&sub_step.weights) {
            part.weight = *weight;
        }
        walk.sub_steps.push(sub_step);
    }
    Ok(walk)
}

/// What the segments that are not fixed have to add to the total; none: they stay.
fn target_of_free(parts: &[Part], goal: Goal) -> Result<Option<f64>, Unreachable> {
    let Some(total) = goal.total else { return Ok(None) };
    let fixed: f64 = parts.iter().filter_map(|part| part.fixed.map(|fixed| part.share * fixed.ratio())).sum();
    let room: f64 = parts.iter().filter(|part| part.fixed.is_none()).map(|part| part.share).sum();
    let target = total.ratio() - fixed;
    let names = || {
        let said = parts.iter().filter_map(|part| part.fixed.map(|fixed| format!("{} {fixed}", part.name)));
        said.collect::<Vec<_>>().join(", ")
    };
    // A hundredth of a percent is the resolution of what a share is compared with.
    if target < -1.0 / WHOLE {
        let least = Percent(fixed);
        return Err(Unreachable(format!(
            "the segments given by name ({}) make {least} % already, more than {total} %",
            names()
        )));
    }
    if target > room + 1.0 / WHOLE {
        let most = Percent(fixed + room);
        let why =
            format!("with the segments given by name ({}) at most {most} % can be reached, not {total} %", names());
        return Err(Unreachable(why));
    }
    Ok(Some(target.clamp(0.0, room)))
}

/// Whether every fixed segment is at its weight and the others' total as near to theirs as weights allow.
fn arrived(parts: &[Part], target: Option<f64>) -> bool {
    let fixed = parts.iter().all(|part| part.fixed.is_none_or(|fixed| fixed == part.weight));
    let free = || parts.iter().filter(|part| part.fixed.is_none());
    let total: f64 = free().map(|part| part.share * part.weight.ratio()).sum();
    let room: f64 = free().map(|part| part.share).sum();
    fixed
        && target.is_none_or(|target| {
            // At the ends nobody is left behind, however little traffic they have.
            let all = |weight: Weight| free().all(|part| part.weight == weight);
            match (target < SAME, target > room - SAME) {
                (true, true) => true,
                (true, false) => all(Weight::ZERO),
                (false, true) => all(Weight::FULL),
                (false, false) => (total - target).abs() < 1.0 / WHOLE,
            }
        })
}

/// One sub-step: the fixed segments first, the others with what is left of the total's growth.
fn advance(parts: &[Part], goal: Goal, target: Option<f64>) -> SubStep {
    let mut weights: Vec<_> = parts.iter().map(|part| part.weight).collect();
    let mut binding = Vec::new();
    let mut budget = goal.max_total_step.ratio();
    for (index, part) in parts.iter().enumerate() {
        let Some(fixed) = part.fixed else { continue };
        let (weight, cap) = towards(part, fixed, budget);
        weights[index] = weight;
        budget -= part.share * (weight.ratio() - part.weight.ratio()).max(0.0);
        binding.extend(cap);
    }
    let free: Vec<_> = (0..parts.len()).filter(|index| parts[*index].fixed.is_none()).collect();
    if let Some(target) = target.filter(|_| !free.is_empty()) {
        let ceilings: Vec<_> = free.iter().map(|index| ceiling(parts, &weights, *index)).collect();
        let segments: Vec<_> =
            free.iter().zip(&ceilings).map(|(index, ceiling)| segment(&parts[*index], *ceiling)).collect();
        let allocation = allocate(&segments, target, budget.max(0.0));
        let name = |index: usize| &parts[free[index]].name;
        binding.extend(allocation.binding.iter().map(|cap| match cap {
            Cap::MaxStep(index) if ceilings[*index] < parts[free[*index]].max_step => {
                format!("key segment {}", name(*index))
            }
            Cap::MaxStep(index) => format!("maxStep of {}", name(*index)),
            Cap::Key(index) => format!("key segment {}", name(*index)),
            Cap::MaxTotalStep => "maxTotalStep".to_owned(),
        }));
        for (index, weight) in free.iter().zip(rounded(&segments, &allocation.shares, target, budget.max(0.0))) {
            weights[*index] = weight;
        }
    }
    SubStep { weights, binding }
}

/// A fixed segment as near to its weight as caps let it, and the cap that binds.
fn towards(part: &Part, fixed: Weight, budget: f64) -> (Weight, Option<String>) {
    let (now, to) = (part.weight.hundredths(), fixed.hundredths());
    let step = part.max_step.hundredths();
    if to < now {
        let weight = to.max(now.saturating_sub(step));
        let cap = (weight > to).then(|| format!("maxStep of {}", part.name));
        return (hundredths(weight), cap);
    }
    let by_step = to.min(now.saturating_add(step));
    // `as` saturates; a segment without traffic adds nothing to the total.
    let by_total = now.saturating_add((budget.max(0.0) * WHOLE / part.share + 1e-6).floor() as u16);
    let weight = by_step.min(by_total);
    let cap = match (weight < to, by_total < by_step) {
        (false, _) => None,
        (true, true) => Some("maxTotalStep".to_owned()),
        (true, false) => Some(format!("maxStep of {}", part.name)),
    };
    (hundredths(weight), cap)
}

/// By how much a segment that is not fixed may change: a key segment does not pass a fixed one either.
fn ceiling(parts: &[Part], weights: &[Weight], index: usize) -> Weight {
    let part = &parts[index];
    let fixed = |other: &Part| part.key && !other.key && other.fixed.is_some();
    let others = parts.iter().zip(weights).filter(|(other, _)| fixed(other));
    let above = |weight: Weight| hundredths(weight.hundredths().saturating_sub(part.weight.hundredths()));
    others.map(|(_, weight)| above(*weight)).fold(part.max_step, Weight::min)
}

fn segment(part: &Part, max_step: Weight) -> Segment {
    Segment { share: part.share, previous: part.weight.ratio(), max_step: max_step.ratio(), key: part.key }
}

/// The shares in hundredths of a percent: none beyond what was allocated by a whole hundredth, the total not beyond the
/// target and the cap on its growth, no key segment ahead. What rounding leaves goes to the greatest remainders.
fn rounded(segments: &[Segment], shares: &[f64], target: f64, growth: f64) -> Vec<Weight> {
    let now: f64 = segments.iter().map(|segment| segment.share * segment.previous).sum();
    let growing = target >= now - SAME;
    let exact: Vec<_> = shares.iter().map(|share| share * WHOLE).collect();
    let start = |exact: &f64| if growing { (exact + 1e-3).floor() } else { (exact - 1e-3).ceil() };
    let mut whole: Vec<f64> = exact.iter().map(start).collect();
    let total =
        |whole: &[f64]| segments.iter().zip(whole).map(|(segment, whole)| segment.share * whole / WHOLE).sum::<f64>();
    let limit = if growing { target.min(now + growth) } else { target };
    let beyond = |whole: &[f64]| if growing { total(whole) > limit + 1e-12 } else { total(whole) < limit - 1e-12 };
    let one = if growing { 1.0 } else { -1.0 };
    for index in 0..whole.len() {
        // What the solver left a little short is taken for whole only where the total allows it; nothing moves back for that.
        let behind = (whole[index] - one - segments[index].previous * WHOLE) * one;
        if (whole[index] - exact[index]) * one > 0.0 && behind > -0.5 && beyond(&whole) {
            whole[index] -= one;
        }
    }
    let mut order: Vec<_> = (0..whole.len()).filter(|index| (exact[*index] - whole[*index]).abs() > 1e-3).collect();
    order.sort_by(|one, other| (exact[*other] - whole[*other]).abs().total_cmp(&(exact[*one] - whole[*one]).abs()));
    for index in order {
        let before = whole[index];
        whole[index] += one;
        let ahead = segments.iter().enumerate().any(|(key, segment)| {
            let passes = |other: usize| {
                let kept = segment.previous <= segments[other].previous + SAME;
                !segments[other].key && kept && whole[key] > whole[other]
            };
            segment.key && (0..whole.len()).any(passes)
        });
        if beyond(&whole) || ahead {
            whole[index] = before;
        }
    }
    // `as` saturates.
    whole.into_iter().map(|whole| hundredths(whole as u16)).collect()
}

fn stuck(parts: &[Part], last: &SubStep) -> Unreachable {
    let at: f64 = parts.iter().map(|part| part.share * part.weight.ratio()).sum();
    let why = match last.binding.is_empty() {
        true => "no weight is small enough for it".to_owned(),
        false => format!("{} allows no further step", last.binding.join(", ")),
    };
    Unreachable(format!("from {} % on {why}", Percent(at)))
}

fn hundredths(hundredths: u16) -> Weight {
    Weight::from_hundredths(hundredths).unwrap_or(Weight::FULL)
}

/// A share in percent with at most two decimals.
struct Percent(f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", (self.0 * WHOLE).round() / 100.0)
    }
}
