//! Looks at the depths of the queues every few seconds: for the metrics, and to stop taking new events while the inner
//! backlog is over its bound, so that `events` fills and producers are told. And at their consumers: how many dispatchers there are.

use std::sync::Arc;
use std::time::Duration;

use hooklane_broker::{Depth, Queue};
use hooklane_telemetry::Metric;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::core::Core;

/// Short enough that a backlog grows little past its bound, long enough to cost the broker nothing.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A paused queue is consumed again when the backlog is under this share of its bound, in hundredths: without the gap it
/// would be subscribed and closed all the time.
const RESUME_UNDER: u64 = 80;
/// Label of all levels of the delay ladder together.
const DELAY_LABEL: &str = "delay";
/// The queues that are paused.
const PAUSED: [Queue; 2] = [Queue::Events, Queue::Ordered];
/// Every dispatcher consumes these; while the inner backlog is over its bound, the last alone.
const OF_DISPATCHERS: [Queue; 3] = [Queue::Events, Queue::Ordered, Queue::Deliveries];

/// Looks until it is aborted.
pub(crate) async fn run(core: Arc<Core>, pause: watch::Sender<bool>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        measure(&core);
        look(&core, &pause).await;
    }
}

/// Gauges that follow from this process's own state.
fn measure(core: &Core) {
    let now = core.moment();
    let window = core.claims.window(now.monotonic_ms);
    core.metrics.set(Metric::ClaimsHeld, &[], window.entries as f64);
    core.metrics.set(Metric::ClaimsWindowSeconds, &[], window.seconds);
    core.endpoints.measure(&core.metrics, now);
}

async fn look(core: &Core, pause: &watch::Sender<bool>) {
    let began_ms = core.clock.monotonic_ms();
    let mut consumers = None;
    for queue in Queue::ALL {
        match core.broker.depth(queue).await {
            Ok(depth) => {
                core.metrics
                    .set(Metric::QueueDepth, &[queue.name()], depth.messages as f64);
                if OF_DISPATCHERS.contains(&queue) {
                    consumers = consumers.max(Some(depth.consumers));
                }
                if queue == Queue::Deliveries {
                    judge(core, pause, depth);
                }
            }
            Err(error) => {
                tracing::debug!(queue = queue.name(), %error, "the queue's depth cannot be looked at")
            }
        }
    }
    if let Some(consumers) = consumers {
        core.dispatchers.looked(began_ms, consumers);
    }
    match core.broker.delay_depths().await {
        Ok(levels) => {
            let waiting: u64 = levels.iter().map(|level| level.messages).sum();
            core.metrics
                .set(Metric::QueueDepth, &[DELAY_LABEL], waiting as f64);
        }
        Err(error) => tracing::debug!(%error, "the depth of the delay ladder cannot be looked at"),
    }
}

fn judge(core: &Core, pause: &watch::Sender<bool>, depth: Depth) {
    let before = *pause.borrow();
    let now = must_pause(before, depth.messages, core.settings.inner_backlog_max);
    if now == before {
        return;
    }
    pause.send_replace(now);
    for queue in PAUSED {
        core.metrics
            .set(Metric::ConsumingPaused, &[queue.name()], f64::from(u8::from(now)));
    }
    if now {
        let (messages, bound) = (depth.messages, core.settings.inner_backlog_max);
        tracing::warn!(
            messages,
            bound,
            "the inner backlog is over its bound: no new events are taken"
        );
    } else {
        tracing::info!(
            messages = depth.messages,
            "the inner backlog is under its bound: new events are taken again"
        );
    }
}

fn must_pause(paused: bool, messages: u64, messages_max: u64) -> bool {
    if paused {
        messages.saturating_mul(100) >= messages_max.saturating_mul(RESUME_UNDER)
    } else {
        messages > messages_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consuming_pauses_over_the_bound_and_resumes_well_under_it() {
        // Goal: both edges, and nothing changes between them.
        for (paused, messages, expected) in [
            (false, 100_000, false),
            (false, 100_001, true),
            (true, 80_000, true),
            (true, 79_999, false),
            (false, 90_000, false),
            (true, 90_000, true),
        ] {
            assert_eq!(
                must_pause(paused, messages, 100_000),
                expected,
                "{paused} {messages}"
            );
        }
    }
}
