//! The stages of a rollout, whatever its strategy: at each a target, a pause and the metrics that judge. An instance, a
//! step, a point of a ramp are one stage each; the points of a ramp are one *part* of the plan.

pub(super) mod points;

use std::{collections::BTreeMap, time::Duration};

use crate::{
    model::{
        Name, Weight,
        plan::{AbTest, Adaptive, BlueGreen, Canary, Instance, Metric, Pause, Preview, Ramp, Shadow, Step, Strategy},
    },
    rollout::{exposure::Aside, rolling::Part, state::State},
};

/// A stage of a rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StageKind<'a> {
    /// The canary instance; the candidate stands at 0 %.
    Instance(&'a Instance),
    /// A step; with its index among the steps of the plan.
    Step(usize, &'a Step),
    /// A point of a ramp.
    Point {
        /// The ramp.
        ramp: &'a Ramp,
        /// Which point, from 0.
        index: u32,
    },
    /// Of a blue-green release, before the switch: a preview, an operator's word, or both.
    Preview(&'a BlueGreen),
    /// Of a blue-green release: this much of the switch.
    Switch(&'a BlueGreen, Weight),
    /// An A/B test.
    Test(&'a AbTest),
    /// Of a rolling release: a part of a batch.
    Batch(usize, Part),
    /// Copies go to the candidate, which stands at 0 %.
    Shadow(&'a Shadow),
}

/// A stage, and where in the plan it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage<'a> {
    /// Index of the part of the plan that it belongs to, as people count them.
    pub part: usize,
    /// What it is.
    pub kind: StageKind<'a>,
}

/// How long a stage lasts once it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dwell {
    /// So long.
    For(Duration),
    /// Until an operator resumes.
    UntilResumed,
}

/// What a stage exposes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Goal {
    /// The candidate's share of all new flows; none: what it has.
    pub total: Option<Weight>,
    /// Segments that are to have exactly this.
    pub fixed: BTreeMap<Name, Weight>,
    /// Clients beside the weights.
    pub aside: Option<Aside>,
}

impl<'a> Stage<'a> {
    /// How long it lasts.
    #[must_use]
    pub fn dwell(self) -> Dwell {
        let of = |pause: Option<&Pause>| match pause {
            None => Dwell::For(Duration::ZERO),
            Some(Pause { duration: Some(duration) }) => Dwell::For(*duration),
            Some(Pause { duration: None }) => Dwell::UntilResumed,
        };
        match self.kind {
            StageKind::Instance(instance) => of(instance.pause.as_ref()),
            StageKind::Step(_, Step { ab_test: Some(test), .. }) | StageKind::Test(test) => {
                Dwell::For(test.max_duration)
            }
            StageKind::Step(_, step) => of(step.pause.as_ref()),
            StageKind::Point { ramp, index } => Dwell::For(points::dwell(ramp, index)),
            StageKind::Preview(blue_green) if blue_green.auto_promotion_enabled => Dwell::For(Duration::ZERO),
            StageKind::Preview(_) => Dwell::UntilResumed,
            StageKind::Switch(blue_green, Weight::FULL) => Dwell::For(blue_green.post_promotion_duration),
            StageKind::Switch(_, _) | StageKind::Batch(..) => Dwell::For(Duration::ZERO),
            StageKind::Shadow(shadow) => Dwell::For(shadow.duration),
        }
    }

    /// The metrics that it names; all where it names none.
    #[must_use]
    pub fn analysis(self) -> Option<&'a [Name]> {
        match self.kind {
            StageKind::Instance(instance) => instance.analysis.as_deref(),
            StageKind::Step(_, step) => step.analysis.as_deref(),
            StageKind::Point { ramp, index: _ } => ramp.analysis.as_deref(),
            // Without a preview there is nobody to be judged.
            StageKind::Preview(BlueGreen { preview: None, .. }) => Some(&[]),
            StageKind::Preview(blue_green) => blue_green.pre_promotion_analysis.as_deref(),
            StageKind::Switch(blue_green, Weight::FULL) => blue_green.post_promotion_analysis.as_deref(),
            StageKind::Switch(_, _) => None,
            StageKind::Test(test) => test.analysis.as_deref(),
            StageKind::Batch(..) => None,
            StageKind::Shadow(shadow) => shadow.analysis.as_deref(),
        }
    }
}

impl State {
    /// How many stages there are.
    #[must_use]
    pub fn stage_count(&self) -> usize {
        match &self.plan.spec.strategy {
            Strategy::Canary(Canary { instance, steps, ramp, adaptive: _ }) => {
                usize::from(instance.is_some())
                    + steps.len()
                    + ramp.as_ref().map_or(0, |ramp| points::count(ramp) as usize)
            }
            Strategy::BlueGreen(blue_green) => usize::from(has_preview(blue_green)) + blue_green.steps.len(),
            Strategy::AbTest(_) | Strategy::Shadow(_) => 1,
            Strategy::Rolling(rolling) => self.rolling_stages(rolling),
        }
    }

    /// A stage by its index.
    #[must_use]
    pub fn stage(&self, index: usize) -> Option<Stage<'_>> {
        match &self.plan.spec.strategy {
            Strategy::Canary(canary) => stage_of_canary(canary, index),
            Strategy::BlueGreen(blue_green) => {
                let kind = match index.checked_sub(usize::from(has_preview(blue_green))) {
                    None => StageKind::Preview(blue_green),
                    Some(step) => StageKind::Switch(blue_green, *blue_green.steps.get(step)?),
                };
                Some(Stage { part: index, kind })
            }
            Strategy::Rolling(rolling) => (index < self.rolling_stages(rolling)).then(|| {
                let part = [Part::Drain, Part::Replace, Part::Serve][index % 3];
                Stage { part: index / 3, kind: StageKind::Batch(index / 3, part) }
            }),
            Strategy::AbTest(test) => (index == 0).then_some(Stage { part: 0, kind: StageKind::Test(test) }),
            Strategy::Shadow(shadow) => (index == 0).then_some(Stage { part: 0, kind: StageKind::Shadow(shadow) }),
        }
    }

    /// What a stage exposes.
    #[must_use]
    pub fn goal(&self, index: usize) -> Goal {
        let of = |weight: Weight| Goal { total: Some(weight), ..Goal::default() };
        match (self.stage(index).map(|stage| stage.kind), &self.plan.spec.strategy) {
            (Some(StageKind::Instance(instance)), _) => {
                let aside = Aside { r#match: instance.r#match.clone(), backend: Some(instance.backend) };
                Goal { aside: Some(aside), ..of(Weight::ZERO) }
            }
            (Some(StageKind::Step(step, of)), Strategy::Canary(canary)) => {
                let fixed = canary.segments_at(step);
                // Without `segments` a step that sets no weight keeps the last one: also where it was lost meanwhile.
                let last = || canary.steps.iter().take(step + 1).rev().find_map(|step| step.set_weight);
                let total = of.set_weight.or_else(|| of.segments.is_empty().then(|| last().unwrap_or_default()));
                Goal { total, fixed, aside: None }
            }
            (Some(StageKind::Point { ramp, index }), _) => of(points::weight(ramp, index)),
            (Some(StageKind::Preview(blue_green)), _) => {
                let aside = |preview: &Preview| Aside { r#match: preview.r#match.clone(), backend: None };
                Goal { aside: blue_green.preview.as_ref().map(aside), ..of(Weight::ZERO) }
            }
            (Some(StageKind::Switch(_, weight)), _) => of(weight),
            (Some(StageKind::Shadow(_)), _) => of(Weight::ZERO),
            (Some(StageKind::Test(test)), _) => of(self.test_weight(test)),
            (Some(StageKind::Batch(batch, part)), Strategy::Rolling(rolling)) => {
                of(self.rolling_weight(rolling, batch, part))
            }
            (Some(StageKind::Step(..) | StageKind::Batch(..)) | None, _) => Goal::default(),
        }
    }

    /// The candidate's part of an A/B test.
    fn test_weight(&self, test: &AbTest) -> Weight {
        let half = Weight::from_hundredths(Weight::FULL.hundredths() / 2).unwrap_or_default();
        test.weights.get(self.candidate()).copied().unwrap_or(half)
    }

    /// The test that runs at the current stage.
    #[must_use]
    pub fn test(&self) -> Option<&AbTest> {
        match self.stage(self.step)?.kind {
            StageKind::Step(_, step) => step.ab_test.as_ref(),
            StageKind::Test(test) => Some(test),
            StageKind::Instance(_)
            | StageKind::Point { .. }
            | StageKind::Preview(_)
            | StageKind::Switch(..)
            | StageKind::Batch(..)
            | StageKind::Shadow(_) => None,
        }
    }

    /// How long the current stage lasts: shorter where it was accelerated.
    #[must_use]
    pub fn required_dwell(&self) -> Dwell {
        if self.resumed {
            return Dwell::For(Duration::ZERO);
        }
        let planned = match (self.stage(self.step).map(|stage| stage.kind), &self.plan.spec.strategy) {
            (Some(StageKind::Batch(_, Part::Serve)), Strategy::Rolling(rolling)) => Dwell::For(rolling.pause),
            _ => self.stage(self.step).map_or(Dwell::For(Duration::ZERO), Stage::dwell),
        };
        match planned {
            Dwell::For(pause) => Dwell::For(self.accelerated(pause)),
            Dwell::UntilResumed => planned,
        }
    }

    /// What is left of a planned pause after all accelerations.
    pub(super) fn accelerated(&self, pause: Duration) -> Duration {
        if self.boost == 0 {
            return pause;
        }
        let (factor, least) = self.acceleration();
        let shorter = pause.div_f64(factor.powi(i32::try_from(self.boost).unwrap_or(i32::MAX)));
        shorter.max(least).min(pause)
    }

    /// Whether pauses become shorter by themselves.
    pub(super) fn adaptive(&self) -> Option<Adaptive> {
        match &self.plan.spec.strategy {
            Strategy::Canary(canary) => canary.adaptive,
            Strategy::BlueGreen(_) | Strategy::AbTest(_) | Strategy::Rolling(_) | Strategy::Shadow(_) => None,
        }
    }

    /// By what an acceleration divides pauses, and the least that is left of one.
    fn acceleration(&self) -> (f64, Duration) {
        self.adaptive().map_or((2.0, Duration::ZERO), |adaptive| (adaptive.factor, adaptive.min_pause))
    }

    /// The metrics that judge the current stage. Without a concurrent stable only those that need none.
    #[must_use]
    pub fn active_metrics(&self) -> Vec<Metric> {
        let named = match (self.stage(self.step).map(|stage| stage.kind), &self.plan.spec.strategy) {
            (Some(StageKind::Batch(_, Part::Serve)), Strategy::Rolling(rolling)) => rolling.analysis.as_deref(),
            // While a batch is out, nothing new is judged.
            (Some(StageKind::Batch(_, Part::Drain | Part::Replace)), _) => Some(&[][..]),
            _ => self.stage(self.step).and_then(Stage::analysis),
        };
        // A preview has nobody beside it who could be compared.
        let has_stable = self.has_stable() && !self.is_preview();
        let active = |metric: &&Metric| {
            named.is_none_or(|names| names.contains(&metric.name)) && (has_stable || !metric.needs_stable())
        };
        self.plan.spec.analysis.metrics.iter().filter(active).cloned().collect()
    }

    /// Whether the clients of a preview are all that the candidate has.
    fn is_preview(&self) -> bool {
        self.exposure.aside.as_ref().is_some_and(|aside| aside.backend.is_none())
    }

    /// The parts of the plan in words, in their order.
    #[must_use]
    pub fn parts(&self) -> Vec<String> {
        match &self.plan.spec.strategy {
            Strategy::Canary(Canary { instance, steps, ramp, adaptive: _ }) => {
                let first = instance.iter().map(|instance| {
                    let pause = said_pause(instance.pause.as_ref());
                    joined([Some(format!("instance {}", instance.backend)), None, pause])
                });
                first.chain(steps.iter().map(said_step)).chain(ramp.iter().map(said_ramp)).collect()
            }
            Strategy::BlueGreen(blue_green) => {
                let what = if blue_green.preview.is_some() { "preview" } else { "gate" };
                let until = if blue_green.auto_promotion_enabled { "" } else { " until resumed" };
                let first = has_preview(blue_green).then(|| format!("{what}{until}"));
                let steps = blue_green.steps.iter().map(|weight| match *weight {
                    Weight::FULL if !blue_green.post_promotion_duration.is_zero() => {
                        let judged = humantime::format_duration(blue_green.post_promotion_duration);
                        format!("switch 100, judged {judged}")
                    }
                    weight => format!("switch {weight}"),
                });
                first.into_iter().chain(steps).collect()
            }
            Strategy::AbTest(test) => vec![said_test(test, self.test_weight(test))],
            Strategy::Shadow(Shadow { sample, duration, analysis: _ }) => {
                vec![format!("shadow {sample}, {}", humantime::format_duration(*duration))]
            }
            Strategy::Rolling(rolling) => {
                let batches = 0..self.rolling_stages(rolling) / 3;
                let said = |batch: usize| {
                    let (from, to) = self.batch(rolling, batch);
                    let names: Vec<_> = self.pools.stable[from..to].iter().map(ToString::to_string).collect();
                    format!("replace {}", names.join(" "))
                };
                batches.map(said).collect()
            }
        }
    }

    /// The current part of the plan, from 0.
    #[must_use]
    pub fn part(&self) -> usize {
        self.stage(self.step).map_or(0, |stage| stage.part)
    }
}

fn stage_of_canary(canary: &Canary, index: usize) -> Option<Stage<'_>> {
    let Canary { instance, steps, ramp, adaptive: _ } = canary;
    let first = usize::from(instance.is_some());
    if let Some(instance) = instance.as_ref().filter(|_| index == 0) {
        return Some(Stage { part: 0, kind: StageKind::Instance(instance) });
    }
    let index = index - first;
    if let Some(step) = steps.get(index) {
        return Some(Stage { part: first + index, kind: StageKind::Step(index, step) });
    }
    let point = u32::try_from(index - steps.len()).ok()?;
    let ramp = ramp.as_ref().filter(|ramp| point < points::count(ramp))?;
    Some(Stage { part: first + steps.len(), kind: StageKind::Point { ramp, index: point } })
}

/// Whether something comes before the switch: a preview, or an operator's word.
const fn has_preview(blue_green: &BlueGreen) -> bool {
    blue_green.preview.is_some() || !blue_green.auto_promotion_enabled
}

/// `A/B 50, latency, at most 14days`.
fn said_test(test: &AbTest, weight: Weight) -> String {
    format!("A/B {weight}, {}, at most {}", test.primary, humantime::format_duration(test.max_duration))
}

/// A step in the words of the plan: `setWeight 25, pause 30m`.
fn said_step(step: &Step) -> String {
    let weight = step.set_weight.map(|weight| format!("setWeight {weight}"));
    let segments: Vec<_> = step.segments.iter().map(|(name, weight)| format!("{name} {weight}")).collect();
    let segments = (!segments.is_empty()).then(|| format!("segments {}", segments.join(" ")));
    let test = step.ab_test.as_ref().map(|test| format!("A/B by {}", test.primary));
    let parts = [weight, segments, test, said_pause(step.pause.as_ref())];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `ramp linear 5 to 50 in 2h`.
fn said_ramp(ramp: &Ramp) -> String {
    let last = points::weight(ramp, points::count(ramp) - 1);
    let duration = humantime::format_duration(ramp.duration);
    format!("ramp {} {} to {last} in {duration}", ramp.curve.label(), points::weight(ramp, 0))
}

fn said_pause(pause: Option<&Pause>) -> Option<String> {
    pause.map(|Pause { duration }| match duration {
        Some(duration) => format!("pause {}", humantime::format_duration(*duration)),
        None => "pause until resumed".to_owned(),
    })
}

fn joined(parts: [Option<String>; 3]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
