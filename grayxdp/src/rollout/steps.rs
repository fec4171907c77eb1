//! The steps of a rollout: a canary instance, if there is one, counts as the first. What each exposes, how long it lasts
//! and what judges it.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    model::{
        Name, Weight,
        plan::{Canary, Instance, Metric, Pause, Step, Strategy},
    },
    rollout::state::State,
};

/// A step of a rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepOf<'a> {
    /// The canary instance; the candidate stands at 0 %.
    Instance(&'a Instance),
    /// A step; with its index among the steps of the plan.
    Step(usize, &'a Step),
}

impl<'a> StepOf<'a> {
    /// Its pause, if it has one.
    #[must_use]
    pub const fn pause(self) -> Option<&'a Pause> {
        match self {
            Self::Instance(instance) => instance.pause.as_ref(),
            Self::Step(_, step) => step.pause.as_ref(),
        }
    }

    /// The metrics that it names; all where it names none.
    #[must_use]
    pub const fn analysis(self) -> Option<&'a Vec<Name>> {
        match self {
            Self::Instance(instance) => instance.analysis.as_ref(),
            Self::Step(_, step) => step.analysis.as_ref(),
        }
    }
}

impl State {
    fn canary(&self) -> &Canary {
        let Strategy::Canary(canary) = &self.plan.spec.strategy;
        canary
    }

    /// The canary instance and the steps, in their order.
    pub fn steps(&self) -> impl Iterator<Item = StepOf<'_>> {
        let Canary { instance, steps } = self.canary();
        let steps = steps.iter().enumerate().map(|(index, step)| StepOf::Step(index, step));
        instance.iter().map(StepOf::Instance).chain(steps)
    }

    /// How many steps there are.
    #[must_use]
    pub fn step_count(&self) -> usize {
        usize::from(self.canary().instance.is_some()) + self.canary().steps.len()
    }

    /// A step by its index.
    #[must_use]
    pub fn step_at(&self, index: usize) -> Option<StepOf<'_>> {
        self.steps().nth(index)
    }

    /// The candidate's weight at a step: that of the step, or of the last one before it that sets one.
    #[must_use]
    pub fn target(&self, index: usize) -> Weight {
        let set = self.steps().take(index + 1).filter_map(|step| match step {
            StepOf::Instance(_) => None,
            StepOf::Step(_, step) => step.set_weight,
        });
        set.last().unwrap_or(Weight::ZERO)
    }

    /// The canary instance that runs while a step is exposed.
    #[must_use]
    pub fn instance_at(&self, index: usize) -> Option<&Instance> {
        match self.step_at(index)? {
            StepOf::Instance(instance) => Some(instance),
            StepOf::Step(..) => None,
        }
    }

    /// Segments that have another weight of the candidate than the rest while a step is exposed.
    #[must_use]
    pub fn segments_at(&self, index: usize) -> BTreeMap<Name, Weight> {
        match self.step_at(index) {
            Some(StepOf::Step(index, _)) => self.canary().segments_at(index),
            Some(StepOf::Instance(_)) | None => BTreeMap::new(),
        }
    }

    /// Whether two steps expose the same, so that nothing needs to be published between them.
    pub(super) fn expose_the_same(&self, one: Option<usize>, other: Option<usize>) -> bool {
        let of = |index: Option<usize>| {
            let instance = index.and_then(|index| self.instance_at(index));
            (instance, index.map(|index| self.segments_at(index)).unwrap_or_default())
        };
        of(one) == of(other)
    }

    /// How long the current step pauses; none: until an operator resumes.
    #[must_use]
    pub fn required_dwell(&self) -> Option<Duration> {
        if self.resumed {
            return Some(Duration::ZERO);
        }
        self.step_at(self.step).and_then(StepOf::pause).map_or(Some(Duration::ZERO), |pause| pause.duration)
    }

    /// The metrics that judge the current step; where stable has no flows, those that need none of it.
    #[must_use]
    pub fn active_metrics(&self) -> Vec<Metric> {
        let named = self.step_at(self.step).and_then(StepOf::analysis);
        let has_stable = self.has_stable();
        let active = |metric: &&Metric| {
            named.is_none_or(|names| names.contains(&metric.name)) && (has_stable || !metric.needs_stable())
        };
        self.plan.spec.analysis.metrics.iter().filter(active).cloned().collect()
    }
}

/// A step in the words of the plan: `setWeight 25, pause 30m`, `instance 10.0.2.1:8080, pause 1h`.
pub(super) fn said(step: StepOf<'_>) -> String {
    let first = match step {
        StepOf::Instance(instance) => Some(format!("instance {}", instance.backend)),
        StepOf::Step(_, step) => step.set_weight.map(|weight| format!("setWeight {weight}")),
    };
    let segments = match step {
        StepOf::Instance(_) => None,
        StepOf::Step(_, step) => {
            let said: Vec<_> = step.segments.iter().map(|(name, weight)| format!("{name} {weight}")).collect();
            (!said.is_empty()).then(|| format!("segments {}", said.join(" ")))
        }
    };
    let pause = step.pause().map(|Pause { duration }| match duration {
        Some(duration) => format!("pause {}", humantime::format_duration(*duration)),
        None => "pause until resumed".to_owned(),
    });
    [first, segments, pause].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
