//! Draining: from the embedded queue to another broker. Published, confirmed, and only then removed here.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use hooklane_broker::embedded::{Drain, Taken, Waiting};
use hooklane_broker::{Broker, BrokerError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::error::ControlError;
use crate::shelf::Ended;

/// How long it is waited while a queue there is full.
const FULL_WAIT: Duration = Duration::from_secs(1);
/// After so many publishes of a message that were not confirmed in time it ends: each waited for its confirm.
const TRIES_MAX: u32 = 6;

/// How far a drain is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Messages that were moved, by the queue they lay in; `delayed` for those that were not due yet.
    pub moved: BTreeMap<&'static str, u64>,
    /// Messages that are still in the directory.
    pub left: u64,
    /// A queue of the other broker is full: it is waited until somebody consumes there.
    pub is_waiting: bool,
}

impl Drained {
    /// How many were moved.
    pub fn total(&self) -> u64 {
        self.moved.values().sum()
    }
}

/// Moves everything. Blocks its thread while the file is read and written, so it needs a runtime with several. `progress` gets how
/// far it is after each batch.
///
/// # Errors
/// See [`ControlError`]; run it again then.
pub async fn drain(
    from: &mut Drain,
    to: &dyn Broker,
    publish_timeout: Duration,
    stop: &CancellationToken,
    mut fresh_id: impl FnMut() -> String,
    mut progress: impl FnMut(&Drained),
) -> Result<(Drained, Ended), ControlError> {
    let mut drained = Drained {
        left: from.messages(),
        ..Drained::default()
    };
    loop {
        if stop.is_cancelled() {
            return Ok((drained, Ended::Stopped));
        }
        let batch = tokio::task::block_in_place(|| from.take(&mut fresh_id))?;
        if batch.is_empty() {
            return Ok((drained, Ended::AtTheEnd));
        }
        let publishes = batch
            .into_iter()
            .map(|waiting| publish(to, waiting, publish_timeout, stop));
        let mut failed = None;
        let mut arrived: Vec<Taken> = Vec::new();
        drained.is_waiting = false;
        for published in join_all(publishes).await {
            match published {
                Ok(Some(taken)) => arrived.push(taken),
                Ok(None) => drained.is_waiting = true,
                Err(error) => failed = Some(error),
            }
        }
        tokio::task::block_in_place(|| from.remove(&arrived))?;
        for taken in &arrived {
            *drained.moved.entry(taken.queue_name()).or_default() += 1;
        }
        drained.left = from.messages();
        progress(&drained);
        if let Some(error) = failed {
            return Err(error.into());
        }
        if drained.is_waiting {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(FULL_WAIT) => {}
            }
        }
    }
}

/// None when its queue is full.
async fn publish(
    to: &dyn Broker,
    waiting: Waiting,
    publish_timeout: Duration,
    stop: &CancellationToken,
) -> Result<Option<Taken>, BrokerError> {
    let mut tries = 0;
    loop {
        let message = waiting.message.clone();
        match to.publish(waiting.to.clone(), message, publish_timeout).await {
            Ok(()) => return Ok(Some(waiting.taken)),
            Err(BrokerError::Full) => return Ok(None),
            Err(
                error
                @ (BrokerError::Unconfirmed { .. } | BrokerError::Lost(_) | BrokerError::Unavailable(_)),
            ) => {
                tries += 1;
                if tries >= TRIES_MAX || stop.is_cancelled() {
                    return Err(error);
                }
                tracing::warn!(%error, "not confirmed: it is published again, and may arrive twice, under the same id");
            }
            Err(error) => return Err(error),
        }
    }
}
