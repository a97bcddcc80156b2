//! The collectors behind the names.

use prometheus::{CounterVec, Encoder, GaugeVec, HistogramOpts, HistogramVec, Opts, Registry, TextEncoder};

use crate::metric::{Kind, Metric};

/// Bounds of duration buckets, in seconds: from a loopback POST to the longest attempt timeout.
const SECONDS_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

enum Collector {
    Counter(CounterVec),
    Gauge(GaugeVec),
    Seconds(HistogramVec),
}

/// All metrics of one process. Made once, handed to whoever counts.
pub struct Metrics {
    registry: Registry,
    collectors: Vec<Collector>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// Registers every metric; those without labels show 0 at once.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let collectors = Metric::ALL
            .iter()
            .map(|metric| Metrics::register(&registry, *metric))
            .collect();
        Metrics { registry, collectors }
    }

    fn register(registry: &Registry, metric: Metric) -> Collector {
        const VALID: &str = "names and labels of the enum are valid and unique (tested)";
        let opts = Opts::new(metric.name(), metric.help());
        let collector = match metric.kind() {
            Kind::Counter => Collector::Counter(CounterVec::new(opts, metric.labels()).expect(VALID)),
            Kind::Gauge => Collector::Gauge(GaugeVec::new(opts, metric.labels()).expect(VALID)),
            Kind::Seconds => {
                let opts = HistogramOpts::from(opts).buckets(SECONDS_BUCKETS.to_vec());
                Collector::Seconds(HistogramVec::new(opts, metric.labels()).expect(VALID))
            }
        };
        let unlabelled = metric.labels().is_empty();
        match &collector {
            Collector::Counter(counter) => {
                registry.register(Box::new(counter.clone())).expect(VALID);
                if unlabelled {
                    counter.with_label_values(&[] as &[&str]);
                }
            }
            Collector::Gauge(gauge) => {
                registry.register(Box::new(gauge.clone())).expect(VALID);
                if unlabelled {
                    gauge.with_label_values(&[] as &[&str]);
                }
            }
            Collector::Seconds(histogram) => {
                registry.register(Box::new(histogram.clone())).expect(VALID);
                if unlabelled {
                    histogram.with_label_values(&[] as &[&str]);
                }
            }
        }
        collector
    }

    /// Counts one. On a gauge: one more.
    pub fn count(&self, metric: Metric, labels: &[&str]) {
        self.add(metric, labels, 1.0);
    }

    /// Adds to a counter (never negative) or a gauge.
    pub fn add(&self, metric: Metric, labels: &[&str], amount: f64) {
        match &self.collectors[metric as usize] {
            Collector::Counter(counter) => counter.with_label_values(labels).inc_by(amount),
            Collector::Gauge(gauge) => gauge.with_label_values(labels).add(amount),
            Collector::Seconds(histogram) => histogram.with_label_values(labels).observe(amount),
        }
    }

    /// Sets a gauge. On another kind it does nothing: only gauges can be set.
    pub fn set(&self, metric: Metric, labels: &[&str], value: f64) {
        if let Collector::Gauge(gauge) = &self.collectors[metric as usize] {
            gauge.with_label_values(labels).set(value);
        }
    }

    /// Records a duration, in seconds.
    pub fn observe(&self, metric: Metric, labels: &[&str], seconds: f64) {
        self.add(metric, labels, seconds);
    }

    /// The current value of a counter or gauge; of a distribution, its count. For tests and `hooklane status`.
    pub fn value(&self, metric: Metric, labels: &[&str]) -> f64 {
        match &self.collectors[metric as usize] {
            Collector::Counter(counter) => counter.with_label_values(labels).get(),
            Collector::Gauge(gauge) => gauge.with_label_values(labels).get(),
            Collector::Seconds(histogram) => histogram.with_label_values(labels).get_sample_count() as f64,
        }
    }

    /// Forgets one set of labels, so that a removed endpoint leaves `/metrics`.
    pub fn forget(&self, metric: Metric, labels: &[&str]) {
        // An error only says that nothing was there.
        let _ = match &self.collectors[metric as usize] {
            Collector::Counter(counter) => counter.remove_label_values(labels),
            Collector::Gauge(gauge) => gauge.remove_label_values(labels),
            Collector::Seconds(histogram) => histogram.remove_label_values(labels),
        };
    }

    /// Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail");
        String::from_utf8(text).expect("the text format is UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_can_be_counted_and_is_shown_by_its_name() {
        let metrics = Metrics::new();
        for metric in Metric::ALL {
            let labels = vec!["x"; metric.labels().len()];
            metrics.count(*metric, &labels);
            assert_eq!(metrics.value(*metric, &labels), 1.0, "{metric:?}");
        }
        let text = metrics.text();
        for metric in Metric::ALL {
            assert!(text.contains(metric.name()), "{metric:?}");
        }
    }

    #[test]
    fn names_follow_the_convention() {
        for metric in Metric::ALL {
            let name = metric.name();
            assert!(name.starts_with("hooklane_"), "{name}");
            match metric.kind() {
                Kind::Counter => assert!(name.ends_with("_total"), "{name}"),
                Kind::Seconds => assert!(name.ends_with("_seconds"), "{name}"),
                Kind::Gauge => assert!(!name.ends_with("_total"), "{name}"),
            }
        }
    }

    #[test]
    fn a_forgotten_label_set_leaves_the_text() {
        let metrics = Metrics::new();
        metrics.count(Metric::EndpointAttempts, &["ep_gone", "2xx"]);
        assert!(metrics.text().contains("ep_gone"));
        metrics.forget(Metric::EndpointAttempts, &["ep_gone", "2xx"]);
        assert!(!metrics.text().contains("ep_gone"));
    }
}
