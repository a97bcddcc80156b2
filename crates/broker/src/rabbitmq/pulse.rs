//! A small message on `control` every few seconds, for nobody. RabbitMQ tells an alarm only to connections that publish: without it a
//! process that has nothing to publish would say that it is ready, and begin attempts whose outcome could not be published.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hooklane_types::control::PULSE;
use lapin::types::ShortString;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::convert;
use super::publish::{Message, Publisher};
use crate::port::{BrokerError, BrokerState};

/// How long an alarm may go unnoticed. Every dispatcher hears every pulse, and drops it: a hundred processes make some thousand tiny
/// messages a second.
const EVERY: Duration = Duration::from_secs(5);
/// After a refusal, which costs the publishing channel.
const EVERY_REFUSED: Duration = Duration::from_secs(60);

/// Publishes to this exchange until `stop`: at once when the connection is up, then every few seconds, and not while it is blocked.
pub(crate) async fn run(publisher: Arc<Publisher>, exchange: ShortString, stop: CancellationToken) {
    let mut state = publisher.state();
    loop {
        let up = state.wait_for(|state| *state == BrokerState::Connected);
        // An error means that the connection is given up; whoever uses it ends then.
        if !matches!(stop.run_until_cancelled(up).await, Some(Ok(_))) {
            return stop.cancelled().await;
        }
        let pulse = Message {
            exchange: exchange.clone(),
            routing_key: ShortString::default(),
            properties: convert::internal(false),
            body: Bytes::from_static(PULSE.as_bytes()),
        };
        let rest = match stop.run_until_cancelled(publisher.attempt(pulse, EVERY)).await {
            None => return,
            Some(Ok(())) => EVERY,
            Some(Err(BrokerError::Refused(error))) => {
                warn!(
                    "an alarm of the broker cannot be noticed in time: this account must be allowed to write to {exchange} (see `hooklane topology`): {error}"
                );
                EVERY_REFUSED
            }
            Some(Err(error)) => {
                debug!("the pulse was not confirmed: {error}");
                EVERY
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(rest)).await.is_none() {
            return;
        }
    }
}
