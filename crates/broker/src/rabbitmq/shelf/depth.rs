//! How many messages are ready, and how that changes while the broker puts back what somebody had in hand.

use std::time::Duration;

use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::time::{Instant, sleep};

use super::answered;
use crate::shelf::ShelfError;

/// How long the broker may take to put back what a closed channel, or a reader that died, had in hand.
const RETURN_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two looks at a queue's depth.
const RETURN_LOOK: Duration = Duration::from_millis(20);
/// Looks with the same depth after which nothing more is expected from a reader that died.
const SETTLED_LOOKS: u32 = 10;

/// Messages that are ready. Those that we have in hand are not counted.
pub(super) async fn depth(channel: &Channel, queue: &str) -> Result<u64, ShelfError> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declare = channel.queue_declare(queue.into(), passive, FieldTable::default());
    let declared = answered("counting the shelf's messages", declare).await?;
    Ok(u64::from(declared.message_count()))
}

/// The depth once it no longer changes: what a reader that died had in hand comes back a moment after its lock is free.
pub(super) async fn settled_depth(channel: &Channel, queue: &str) -> Result<u64, ShelfError> {
    let deadline = Instant::now() + RETURN_TIMEOUT;
    let mut last = depth(channel, queue).await?;
    let mut looks = 0;
    while looks < SETTLED_LOOKS && Instant::now() < deadline {
        sleep(RETURN_LOOK).await;
        let now = depth(channel, queue).await?;
        looks = if now == last { looks + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}

/// Waits until so many messages are ready; false when that does not happen in time (a stranger consumes the queue).
pub(super) async fn depth_reaches(channel: &Channel, queue: &str, wanted: u64) -> Result<bool, ShelfError> {
    let deadline = Instant::now() + RETURN_TIMEOUT;
    while depth(channel, queue).await? < wanted {
        if Instant::now() > deadline {
            return Ok(false);
        }
        sleep(RETURN_LOOK).await;
    }
    Ok(true)
}
