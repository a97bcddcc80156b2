//! Which endpoints have a metric label of their own.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::EndpointId;

/// Most endpoints with labels of their own: each costs a time series per outcome in every process and in Prometheus.
const LABELS_MAX: usize = 1_000;
/// The label that all others share.
pub(crate) const OTHER: &str = "other";

/// Every outcome that an attempt can be counted under.
const OUTCOMES: [&str; 14] = [
    "1xx",
    "2xx",
    "3xx",
    "4xx",
    "5xx",
    "other",
    "timeout",
    "dns",
    "connect",
    "tls",
    "blocked",
    "closed",
    "protocol",
    "configuration",
];

/// The labels in use.
pub(crate) struct Labels {
    metrics: Arc<Metrics>,
    own: Mutex<HashSet<EndpointId>>,
}

impl Labels {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Labels {
        Labels {
            metrics,
            own: Mutex::new(HashSet::new()),
        }
    }

    /// The endpoint's label: its id while there is room.
    pub(crate) fn label(&self, id: &EndpointId) -> Arc<str> {
        let mut own = self.lock();
        if own.contains(id) || own.len() < LABELS_MAX {
            own.insert(id.clone());
            return Arc::from(id.as_str());
        }
        Arc::from(OTHER)
    }

    /// A removed endpoint leaves `/metrics` and makes room.
    pub(crate) fn forget(&self, id: &EndpointId) {
        if self.lock().remove(id) {
            for outcome in OUTCOMES {
                self.metrics
                    .forget(Metric::EndpointAttempts, &[id.as_str(), outcome]);
            }
            self.metrics.forget(Metric::EndpointInFlight, &[id.as_str()]);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<EndpointId>> {
        // A set of labels is whole after any panic.
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use hooklane_types::{AttemptOutcome, FailureKind};

    use super::*;

    #[test]
    fn labels_are_bounded_and_a_removed_endpoint_makes_room() {
        // Goal: the 1,001st endpoint counts as `other` until another one leaves, which takes its series with it.
        let metrics = Arc::new(Metrics::new());
        let labels = Labels::new(metrics.clone());
        let id = |n: usize| EndpointId::parse(&format!("ep_{n}")).unwrap();
        for n in 0..LABELS_MAX {
            assert_eq!(*labels.label(&id(n)), *id(n).as_str());
        }
        assert_eq!(*labels.label(&id(LABELS_MAX)), *OTHER);
        assert_eq!(*labels.label(&id(0)), *"ep_0");
        metrics.count(Metric::EndpointAttempts, &["ep_0", "2xx"]);
        labels.forget(&id(0));
        assert!(!metrics.text().contains("ep_0\""));
        assert_eq!(*labels.label(&id(LABELS_MAX)), *"ep_1000");
    }

    #[test]
    fn every_outcome_is_forgotten_with_its_endpoint() {
        // Goal: the list here holds all labels that policy gives out.
        let kinds = [
            FailureKind::Timeout,
            FailureKind::Dns,
            FailureKind::Connect,
            FailureKind::Tls,
            FailureKind::Blocked,
            FailureKind::Closed,
            FailureKind::Protocol,
            FailureKind::Configuration,
        ];
        let statuses = (0..700).map(|code| AttemptOutcome::Status {
            code,
            retry_after_ms: None,
        });
        for outcome in statuses.chain(kinds.map(AttemptOutcome::Failed)) {
            assert!(
                OUTCOMES.contains(&hooklane_policy::classify::label(&outcome)),
                "{outcome:?}"
            );
        }
    }
}
