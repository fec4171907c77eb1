//! How a metric is judged, as a plan says it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::plan::{KernelSignal, Metric, Provider, Signal, signal};

/// How a metric is judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Judge {
    /// Which judge.
    pub r#type: JudgeType,
    /// How often it may be wrong in a whole rollout, above 0 and at most 0.5.
    #[serde(default = "default_alpha")]
    pub alpha: f64,
    /// How many times stable's value the candidate's may be.
    #[serde(default = "default_tolerate_ratio")]
    pub tolerate_ratio: f64,
    /// Below this the candidate's value never fails, and passes once it is surely there; in the signal's unit, seconds also as a
    /// duration. 0.001 for ratios, else none, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "signal::bound")]
    #[schemars(with = "Option<signal::Bound>")]
    pub tolerate_absolute: Option<f64>,
    /// How many times stable's value the candidate's must not be for a pass; twice `tolerateRatio` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detect_ratio: Option<f64>,
    /// Of `confidenceSequence`: least and greatest value, in the signal's unit; what is beyond counts as the end. Without it the
    /// judge rests on the law of large numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[ValueBound; 2]>,
}

/// An end of a range: a number, or a duration as its seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ValueBound(#[serde(deserialize_with = "signal::value")] pub f64);

impl JsonSchema for ValueBound {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        signal::Bound::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        signal::Bound::json_schema(generator)
    }
}

const fn default_alpha() -> f64 {
    0.01
}

const fn default_tolerate_ratio() -> f64 {
    1.0
}

/// The judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum JudgeType {
    /// Failed flows of the candidate against stable's, at every look.
    CountEProcess,
    /// Means against stable's, at every look.
    ConfidenceSequence,
    /// A latency quantile against stable's, at every look.
    QuantileTest,
    /// Ranks against stable's, once, at `minSamples`.
    MannWhitney,
    /// Means against stable's by Welch's t test, once, at `minSamples`.
    Welch,
    /// Means against stable's by Student's t test, once, at `minSamples`.
    Student,
    /// Ratios against stable's, once, at `minSamples`.
    Proportion,
    /// `thresholdRange` on the candidate's value.
    Threshold,
    /// `thresholdRange` on the candidate's value ÷ stable's.
    Ratio,
    /// `quality` on a confusion matrix.
    Quality,
}

impl JudgeType {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::CountEProcess,
        Self::ConfidenceSequence,
        Self::QuantileTest,
        Self::MannWhitney,
        Self::Welch,
        Self::Student,
        Self::Proportion,
        Self::Threshold,
        Self::Ratio,
        Self::Quality,
    ];

    /// Its name in plans.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::CountEProcess => "countEProcess",
            Self::ConfidenceSequence => "confidenceSequence",
            Self::QuantileTest => "quantileTest",
            Self::MannWhitney => "mannWhitney",
            Self::Welch => "welch",
            Self::Student => "student",
            Self::Proportion => "proportion",
            Self::Threshold => "threshold",
            Self::Ratio => "ratio",
            Self::Quality => "quality",
        }
    }

    /// Whether it compares with a stable version that has flows at the same time, over the whole rollout.
    #[must_use]
    pub const fn is_comparative(self) -> bool {
        match self {
            Self::CountEProcess
            | Self::ConfidenceSequence
            | Self::QuantileTest
            | Self::MannWhitney
            | Self::Welch
            | Self::Student
            | Self::Proportion => true,
            Self::Threshold | Self::Ratio | Self::Quality => false,
        }
    }

    /// Whether it can only judge where stable has new flows too.
    #[must_use]
    pub const fn needs_stable(self) -> bool {
        self.is_comparative() || matches!(self, Self::Ratio)
    }

    /// Whether it looks only once, when the planned sample is there.
    #[must_use]
    pub const fn is_fixed(self) -> bool {
        matches!(self, Self::MannWhitney | Self::Welch | Self::Student | Self::Proportion)
    }

    /// Whether it can judge a signal of the data path.
    #[must_use]
    pub const fn judges(self, signal: Signal) -> bool {
        match self {
            Self::CountEProcess | Self::Proportion => signal.is_failure(),
            Self::ConfidenceSequence | Self::MannWhitney | Self::Welch | Self::Student => {
                matches!(signal, Signal::Connect | Signal::FirstByte | Signal::BytesPerFlow)
            }
            Self::QuantileTest => matches!(signal, Signal::Connect | Signal::FirstByte),
            Self::Threshold | Self::Ratio => true,
            Self::Quality => false,
        }
    }
}

/// Limits of a model's quality, each `0.0..=1.0`.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QualityLimits {
    /// Least F1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_f1: Option<f64>,
    /// Least precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_precision: Option<f64>,
    /// Least recall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_recall: Option<f64>,
    /// By how much F1 may be below stable's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
}

impl Judge {
    /// A judge with nothing said about it.
    #[must_use]
    pub const fn new(r#type: JudgeType) -> Self {
        let (alpha, tolerate_ratio) = (default_alpha(), default_tolerate_ratio());
        Self { r#type, alpha, tolerate_ratio, tolerate_absolute: None, detect_ratio: None, range: None }
    }

    /// How many times stable's value the candidate's must not be for a pass.
    #[must_use]
    pub fn detected(&self) -> f64 {
        self.detect_ratio.unwrap_or(2.0 * self.tolerate_ratio)
    }

    /// The range in the signal's unit.
    #[must_use]
    pub fn bounds(&self) -> Option<(f64, f64)> {
        self.range.map(|[ValueBound(low), ValueBound(high)]| (low, high))
    }
}

impl Metric {
    /// The signal of the data path that it is; none where somebody outside is asked.
    #[must_use]
    pub const fn kernel(&self) -> Option<&KernelSignal> {
        match &self.provider {
            Provider::Kernel(kernel) => Some(kernel),
            Provider::Prometheus(_) | Provider::Http(_) | Provider::Command(_) | Provider::Posted(_) => None,
        }
    }

    /// The judge that the plan names, else the one that fits: limits are a threshold's, failures are counted against stable's.
    /// None where nothing is said that could judge.
    #[must_use]
    pub fn judged(&self) -> Option<Judge> {
        let has_conditions = self.success_condition.is_some() || self.failure_condition.is_some();
        let fits = || {
            if !self.threshold_range.is_none() || has_conditions {
                Some(JudgeType::Threshold)
            } else if self.quality.is_some() {
                Some(JudgeType::Quality)
            } else {
                match &self.provider {
                    Provider::Kernel(kernel) => kernel.signal.is_failure().then_some(JudgeType::CountEProcess),
                    Provider::Prometheus(_) | Provider::Http(_) | Provider::Command(_) | Provider::Posted(_) => None,
                }
            }
        };
        self.judge.or_else(|| fits().map(Judge::new))
    }

    /// Whether it compares with stable over the whole rollout.
    #[must_use]
    pub fn is_comparative(&self) -> bool {
        self.kernel().is_some() && self.judged().is_some_and(|judge| judge.r#type.is_comparative())
    }

    /// Whether it can only be judged where stable has new flows too.
    #[must_use]
    pub fn needs_stable(&self) -> bool {
        self.kernel().is_some() && self.judged().is_some_and(|judge| judge.r#type.needs_stable())
    }

    /// Failures of one cell of clients that count in a look.
    #[must_use]
    pub fn client_cap(&self) -> u32 {
        self.per_client_cap.unwrap_or(3)
    }
}
