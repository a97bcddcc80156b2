//! What `hooklane check` hears of the history: what had to be dropped of it, as the dispatchers that run know it.

use std::sync::Arc;
use std::time::Duration;

use hooklane_broker::SharedBroker;
use hooklane_broker::rabbitmq::check::{Finding, Verdict};
use hooklane_broker::rabbitmq::{RabbitMq, RabbitMqSettings, host_name};
use hooklane_broker::socket::SocketBroker;
use hooklane_control::status::{self, Dropped};
use hooklane_telemetry::Metrics;

use crate::commands::{admin_socket, now, print};
use crate::settings::EmbeddedSection;

const REMEDY: &str = "those events are delivered as ever, their messages or attempts are missing in the history; that a delivery was given up is never \
                      dropped. See that the store answers and `hooklane control` runs; a larger `records_bytes_max` in [broker] bridges a \
                      longer time. It is told as long as the dispatchers run that heard it";

/// On RabbitMQ.
pub async fn on_broker(settings: RabbitMqSettings, within: Duration) -> Option<Finding> {
    let broker: SharedBroker = RabbitMq::start(settings, Arc::new(Metrics::new())).ok()?;
    let found = ask(&broker, within).await;
    broker.shut_down().await;
    found
}

/// In the process that serves from this directory, if one does.
pub async fn in_process(section: &EmbeddedSection, within: Duration) -> Option<Finding> {
    let socket = admin_socket::path(&section.data_dir).ok()?;
    let broker: SharedBroker = Arc::new(SocketBroker::find(&socket).await.ok()??);
    ask(&broker, within).await
}

/// None where nobody can say, and where nothing was dropped.
async fn ask(broker: &SharedBroker, within: Duration) -> Option<Finding> {
    let id = format!("check {}@{}/{}", std::process::id(), host_name(), now().0);
    let found = status::gather(&**broker, &id, within).await.ok()?;
    finding(&found.records_dropped)
}

fn finding(dropped: &[Dropped]) -> Option<Finding> {
    let contents: u64 = dropped.iter().map(|by| by.contents).sum();
    let records: u64 = dropped.iter().map(|by| by.records).sum();
    let last_at = dropped.iter().map(|by| by.last_at.as_str()).max()?;
    let by: Vec<&str> = dropped.iter().map(|by| by.pod.as_str()).collect();
    Some(Finding {
        verdict: Verdict::Warning,
        what: format!(
            "history: {} and {} were dropped, because their queues were full, the last at {last_at}, by {}",
            print::count(contents, "content"),
            print::count(records, "record"),
            by.join(", ")
        ),
        remedy: REMEDY.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_processes_dropped_is_summed_and_nothing_is_no_finding() {
        let by = |pod: &str, contents, last_at: &str| Dropped {
            pod: pod.to_owned(),
            since: "2026-01-01T00:00:00Z".to_owned(),
            contents,
            records: 1,
            last_at: last_at.to_owned(),
        };
        assert!(finding(&[]).is_none());
        let dropped = [
            by("ingest a", 4, "2026-01-01T00:00:02Z"),
            by("dispatcher b", 0, "2026-01-01T00:00:01Z"),
        ];
        let found = finding(&dropped).expect("a finding");
        assert_eq!(
            found.what,
            "history: 4 contents and 2 records were dropped, because their queues were full, the last at 2026-01-01T00:00:02Z, by \
             ingest a, dispatcher b"
        );
    }
}
