//! Metrics as a scraper sees them.

use std::{collections::BTreeMap, time::Instant};

use grayxdp::lab::Namespace;

use super::{HTTP, PATIENCE, get};

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    samples: Vec<Sample>,
}

/// One line of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Metrics {
    /// Scrapes the daemon inside a namespace.
    pub(super) fn scrape(balancer: &Namespace) -> Self {
        // Under a flood the daemon may have no time for a scraper.
        let end = Instant::now() + PATIENCE;
        let (status, text) = loop {
            match get(balancer, HTTP.parse().expect("an endpoint"), "/metrics") {
                Ok(answer) => break answer,
                Err(error) => assert!(Instant::now() < end, "metrics are served: {error}"),
            }
        };
        assert_eq!(status, 200, "{text}");
        Self { samples: text.lines().filter(|line| !line.starts_with('#')).map(Sample::of_line).collect() }
    }

    /// The samples of a metric that have all of these labels.
    pub fn of<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        let has = |sample: &Sample, (key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|is| is == value);
        self.samples.iter().filter(move |sample| sample.name == name && labels.iter().all(|label| has(sample, label)))
    }

    /// The sum of a metric over all samples that have these labels; 0 where there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.of(name, labels).fold(0.0, |sum, sample| sum + sample.value)
    }

    /// The sums of a metric by the values of a label.
    #[must_use]
    pub fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.of(name, &[]) {
            *sums.entry(sample.labels.get(label).cloned().unwrap_or_default()).or_default() += sample.value;
        }
        sums
    }
}

impl Sample {
    /// Reads `name{key="value",…} 1.5`. The product's label values hold no quotes and no commas.
    fn of_line(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let pairs = labels.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
        Self {
            name: name.to_owned(),
            labels: pairs.map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned())).collect(),
            value: value.parse().expect("a sample's value is a number"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_their_labels() {
        let lines = ["a{kind=\"x\",v=\"1\"} 2", "a{kind=\"y\",v=\"1\"} 3.5", "b 7"];
        let metrics = Metrics { samples: lines.into_iter().map(Sample::of_line).collect() };
        let sums =
            [metrics.sum("a", &[]), metrics.sum("a", &[("kind", "y")]), metrics.sum("b", &[]), metrics.sum("c", &[])];
        assert_eq!(sums, [5.5, 3.5, 7.0, 0.0]);
        assert_eq!(metrics.by("a", "kind"), BTreeMap::from([("x".to_owned(), 2.0), ("y".to_owned(), 3.5)]));
    }
}
