//! A process tells the dispatchers what it had to drop of the history, so that `hooklane status` and `hooklane check` can say so.

use std::sync::Arc;
use std::time::Duration;

use hooklane_broker::{Destination, Outgoing, Queue, SharedBroker};
use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::control::{Control, ControlMessage, RecordsDropped};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::now;
use crate::settings::Settings;

/// As often, as long as the process runs: a dispatcher that begins hears of it within this time.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Tells it until the stop, once there is something to tell.
pub fn tell(
    role: &str,
    settings: &Settings,
    (broker, metrics): (SharedBroker, Arc<Metrics>),
    tasks: &mut JoinSet<anyhow::Result<()>>,
    stop: CancellationToken,
) {
    let mut told = RecordsDropped {
        pod: format!("{role} {}", settings.dispatcher.settings.pod),
        since: now(),
        contents: 0,
        records: 0,
        last_at: now(),
    };
    let within = settings.broker.publish_timeout;
    let telling = async move {
        loop {
            sleep(TELL_EVERY).await;
            let dropped = [Queue::Contents, Queue::Records]
                .map(|queue| metrics.value(Metric::RecordsDropped, &[queue.name()]) as u64);
            if dropped == [0, 0] {
                continue;
            }
            if dropped != [told.contents, told.records] {
                [told.contents, told.records] = dropped;
                told.last_at = now();
            }
            let message = Control::new(ControlMessage::RecordsDropped(told.clone()));
            let body = serde_json::to_vec(&message)?;
            let message = Outgoing::internal(body.into());
            if let Err(error) = broker.publish(Destination::Control, message, within).await {
                tracing::debug!(%error, "what was dropped of the history was not told; it is told again");
            }
        }
    };
    tasks.spawn(async move { stop.run_until_cancelled(telling).await.unwrap_or(Ok(())) });
}
