//! Building metric families out of values instead of registered counters.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::analysis::Distribution;

/// One metric name with its samples.
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    metrics: Vec<Metric>,
}

enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Bounds of a histogram's buckets: powers of two of nanoseconds, which are bounds of the data path's cells, from 16 µs to
/// 34 s.
const BOUNDS: std::ops::RangeInclusive<u32> = 14..=35;

impl Family {
    /// A distribution of times.
    pub(super) fn times(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, help, kind: Kind::Histogram, labels, metrics: Vec::new() }
    }

    /// Adds a distribution of nanoseconds, shown in seconds.
    pub(super) fn distribution<const N: usize>(&mut self, values: [&str; N], of: &Distribution) {
        let mut histogram = Histogram::default();
        let bucket = |power: u32| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound((1_u64 << power) as f64 / 1e9);
            bucket.set_cumulative_count(of.below(1 << power));
            bucket
        };
        histogram.set_bucket(BOUNDS.map(bucket).collect());
        histogram.set_sample_count(of.count());
        histogram.set_sample_sum(of.sum() / 1e9);
        let mut metric = self.labelled(values);
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }

    /// A sample without a value. `values` belong to the labels, in their order.
    fn labelled<const N: usize>(&self, values: [&str; N]) -> Metric {
        debug_assert_eq!(values.len(), self.labels.len(), "{}: a value for each label", self.name);
        let pair = |(name, value): (&&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        Metric::from_label(self.labels.iter().zip(values).map(pair).collect())
    }

    /// A metric that only rises; its name ends in `_total`.
    pub(super) fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, help, kind: Kind::Counter, labels, metrics: Vec::new() }
    }

    /// A metric that rises and falls.
    pub(super) fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, help, kind: Kind::Gauge, labels, metrics: Vec::new() }
    }

    /// Adds a whole number; exact up to 2^53, as all Prometheus values.
    pub(super) fn count<const N: usize>(&mut self, values: [&str; N], count: u64) {
        self.ratio(values, count as f64);
    }

    /// Adds a number. `values` belong to the labels, in their order.
    pub(super) fn ratio<const N: usize>(&mut self, values: [&str; N], value: f64) {
        let mut metric = self.labelled(values);
        match self.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Histogram => unreachable!("{} is a distribution", self.name),
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.metrics.push(metric);
    }

    /// The family for the encoder; none without samples, which the text format does not allow.
    pub(super) fn finish(self) -> Option<MetricFamily> {
        if self.metrics.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(match self.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(self.metrics);
        Some(family)
    }
}
