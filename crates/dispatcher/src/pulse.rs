//! A small message on `control` every few seconds, for nobody. RabbitMQ tells an alarm only to connections that publish: without it a
//! dispatcher that has nothing to publish would begin attempts, and say that it is ready, while no outcome could be published.

use std::sync::Arc;
use std::time::Duration;

use hooklane_broker::{Destination, Outgoing};
use hooklane_types::control::{Control, ControlMessage};
use tokio::time::MissedTickBehavior;

use crate::core::Core;

/// How long an alarm may go unnoticed.
const EVERY: Duration = Duration::from_secs(5);

/// Publishes until it is aborted.
pub(crate) async fn run(core: Arc<Core>) {
    let body = match serde_json::to_vec(&Control::new(ControlMessage::Pulse)) {
        Ok(body) => bytes::Bytes::from(body),
        Err(error) => {
            tracing::error!(%error, "the pulse cannot be written");
            return std::future::pending().await;
        }
    };
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let pulse = Outgoing::internal(body.clone());
        let published = core.broker.publish(Destination::Control, pulse, EVERY).await;
        if let Err(error) = published {
            tracing::debug!(%error, "the pulse was not published");
        }
    }
}
