//! Building metric families out of values instead of registered counters.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

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
}

impl Family {
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
        debug_assert_eq!(values.len(), self.labels.len(), "{}: a value for each label", self.name);
        let pair = |(name, value): (&&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        let mut metric = Metric::from_label(self.labels.iter().zip(values).map(pair).collect());
        match self.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
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
        });
        family.set_metric(self.metrics);
        Some(family)
    }
}
