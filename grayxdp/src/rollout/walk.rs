//! The way to a stage's goal: at once, or under caps in sub-steps that are apart in time.

use std::collections::BTreeSet;

use crate::{
    balance::allocation,
    model::{Name, Weight, config::DEFAULT_SEGMENT, plan::Constraints},
    rollout::{exposure::Exposure, stages::Goal, state::State},
};

/// What comes next on the way to a stage's goal.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Onward {
    /// The goal is exposed.
    There,
    /// This is to be exposed next.
    Next(SubStep),
    /// The goal cannot be reached from here, with the reason.
    Stuck(String),
}

/// A sub-step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SubStep {
    /// What is exposed.
    pub(super) exposure: Exposure,
    /// What kept it from going further, in words; empty at the goal.
    pub(super) binding: Vec<String>,
}

impl State {
    /// What comes next on the way to a stage's goal.
    pub(super) fn onward(&self, stage: usize) -> Onward {
        let goal = self.goal(stage);
        let next = if self.is_allocated(stage) {
            match self.allocated(&goal, true) {
                Ok(next) => next,
                Err(why) => return Onward::Stuck(why),
            }
        } else {
            let weight = goal.total.unwrap_or(self.exposure.weight);
            Some(SubStep { exposure: Exposure::of(weight), binding: Vec::new() })
        };
        let Some(SubStep { mut exposure, binding }) = next else {
            let exposure = Exposure { aside: goal.aside, ..self.exposure.clone() };
            return self.onward_to(SubStep { exposure, binding: Vec::new() });
        };
        exposure.aside = goal.aside;
        self.onward_to(SubStep { exposure, binding })
    }

    fn onward_to(&self, next: SubStep) -> Onward {
        if next.exposure == self.exposure { Onward::There } else { Onward::Next(next) }
    }

    /// The goal of a stage at once: without caps, as far as it can be reached.
    pub(super) fn whole(&self, stage: usize) -> Exposure {
        let mut goal = self.goal(stage);
        goal.total = goal.total.or_else(|| self.total_at(stage));
        let aside = goal.aside.clone();
        let exposure = match self.is_allocated(stage) {
            true => match self.allocated(&goal, false) {
                Ok(Some(SubStep { exposure, binding: _ })) => exposure,
                Ok(None) | Err(_) => Exposure { segments: goal.fixed, ..self.exposure.clone() },
            },
            false => Exposure::of(goal.total.unwrap_or_default()),
        };
        Exposure { aside, ..exposure }
    }

    /// The last share of all new flows that a stage up to this one sets.
    fn total_at(&self, stage: usize) -> Option<Weight> {
        (0..=stage).rev().find_map(|stage| self.goal(stage).total)
    }

    /// The plan's caps.
    pub(super) fn constraints(&self) -> Constraints {
        self.plan.spec.constraints.unwrap_or_default()
    }

    /// Whether segments or caps decide how a stage's goal is reached.
    fn is_allocated(&self, stage: usize) -> bool {
        let spec = &self.plan.spec;
        let has_segments = !spec.segments.is_empty() || !self.exposure.segments.is_empty();
        has_segments || spec.constraints.is_some() || !self.goal(stage).fixed.is_empty()
    }

    /// The next sub-step by allocation; none where weights and segments are at the goal.
    fn allocated(&self, goal: &Goal, is_capped: bool) -> Result<Option<SubStep>, String> {
        let rest: Name = DEFAULT_SEGMENT.parse().expect("a name");
        let rules = &self.plan.spec.segments;
        let named = rules.iter().map(|rule| &rule.name).chain(goal.fixed.keys()).chain(self.exposure.segments.keys());
        let names: BTreeSet<&Name> = named.filter(|name| **name != rest).collect();
        let shares: Vec<f64> = names.iter().map(|name| self.shares.get(*name).copied().unwrap_or(0.0)).collect();
        let left = (1.0 - shares.iter().sum::<f64>()).max(0.0);
        let part = |name: &Name, share: f64, weight: Weight| {
            let rule = rules.iter().find(|rule| rule.name == *name);
            allocation::Part {
                name: name.clone(),
                share,
                weight,
                max_step: rule.filter(|_| is_capped).map_or(Weight::FULL, |rule| rule.max_step),
                key: rule.is_some_and(|rule| rule.key),
                fixed: goal.fixed.get(name).copied(),
            }
        };
        let own =
            names.iter().zip(&shares).map(|(name, share)| part(name, *share, self.exposure.in_segment(Some(name))));
        let parts: Vec<_> = own.chain([part(&rest, left, self.exposure.weight)]).collect();
        let max_total_step = if is_capped { self.constraints().max_total_step } else { Weight::FULL };
        let goal = allocation::Goal { total: goal.total, max_total_step };
        let walk = allocation::walk(&parts, goal).map_err(|why| why.to_string())?;
        let Some(first) = walk.sub_steps.into_iter().next() else { return Ok(None) };
        let weight = first.weights.last().copied().unwrap_or_default();
        let segments = names.into_iter().cloned().zip(first.weights.iter().copied()).collect();
        Ok(Some(SubStep { exposure: Exposure { weight, segments, aside: None }, binding: first.binding }))
    }
}
