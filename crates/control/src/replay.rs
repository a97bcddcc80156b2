//! Replay: a move from the shelf back into the pipeline. Published, confirmed, and only then taken off the shelf: killed at any
//! point, a message is on the shelf, or published, or both.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hooklane_broker::{Broker, BrokerError, Handle, Shelf};
use tokio::time::{Instant, sleep_until};

use crate::entry::Entry;
use crate::error::ControlError;
use crate::filter::Filter;
use crate::shelf::{Ended, Reader, Scanned};

/// Publishes that wait for their confirm at once.
const IN_FLIGHT_MAX: usize = 32;
/// Longest time for which messages that are not meant are kept aside, unless set otherwise: RabbitMQ closes a channel after half an
/// hour without an ack.
pub const ROUND_MAX: Duration = Duration::from_secs(10 * 60);

/// How to replay.
#[derive(Clone, Copy, Debug)]
pub struct ReplayOptions {
    /// At most so many per second.
    pub rate: Option<NonZeroU32>,
    /// How long a confirm is waited for.
    pub publish_timeout: Duration,
    /// After so long the shelf is put back in order and opened again: [`ROUND_MAX`].
    pub round: Duration,
}

/// How far a replay came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Messages that lay there at the beginning.
    pub total: u64,
    /// Messages that were published and taken off the shelf.
    pub replayed: u64,
    /// Messages that were meant and cannot be replayed; they stay.
    pub left: u64,
    /// Why it ended.
    pub ended: Ended,
}

impl Reader<'_> {
    /// Replays every message that the filter lets through and that became one before [`Reader::now`]: what comes back during
    /// the replay is not replayed again. `progress` gets how far it is after each message.
    ///
    /// # Errors
    /// When the shelf cannot be read or the broker takes no more. What was not replayed is still there.
    pub async fn replay<E: Entry>(
        &self,
        broker: &dyn Broker,
        filter: &Filter<E::Reason>,
        options: ReplayOptions,
        mut progress: impl FnMut(&Replayed) + Send,
    ) -> Result<Replayed, ControlError> {
        let mut replayed = Replayed {
            total: 0,
            replayed: 0,
            left: 0,
            ended: Ended::AtTheEnd,
        };
        let mut pace = Pace::new(options.rate);
        let mut first_total = None;
        loop {
            let mut shelf = self.shelves.open(E::SHELF, self.holder.clone()).await?;
            let total = *first_total.get_or_insert(shelf.total());
            replayed.total = total;
            replayed.left = 0;
            let round = Round {
                broker,
                publish_timeout: options.publish_timeout,
                until: Instant::now() + options.round,
                pace: &mut pace,
                progress: &mut progress,
                replayed: &mut replayed,
            };
            let ended = self.replay_round::<E>(shelf.as_mut(), filter, round).await;
            let closed = shelf.close().await;
            let over = ended?;
            closed?;
            // Raw messages carry no time, so their number bounds the rounds.
            if let Some(ended) = over.or((replayed.replayed >= total).then_some(Ended::AtTheEnd)) {
                replayed.ended = ended;
                return Ok(replayed);
            }
        }
    }

    /// `None` when another round must follow.
    async fn replay_round<E: Entry>(
        &self,
        shelf: &mut dyn Shelf,
        filter: &Filter<E::Reason>,
        round: Round<'_>,
    ) -> Result<Option<Ended>, ControlError> {
        let Round {
            broker,
            publish_timeout,
            until,
            pace,
            progress,
            replayed,
        } = round;
        let mut scanned = Scanned {
            total: shelf.total(),
            read: 0,
            matched: 0,
            ended: Ended::AtTheEnd,
        };
        let moved_before = replayed.replayed;
        let mut in_flight = FuturesUnordered::new();
        let mut settled = Settled {
            progress,
            replayed,
            failed: None,
        };
        let ended = loop {
            // A round that moved nothing would be followed by the same again.
            if Instant::now() >= until && settled.replayed.replayed > moved_before {
                break None;
            }
            let next = match self.next_matching::<E>(shelf, filter, &mut scanned).await {
                Ok(Some(next)) => next,
                Ok(None) => break Some(scanned.ended),
                Err(error) => {
                    settled.failed = Some(error);
                    break None;
                }
            };
            let (entry, handle) = next;
            if self.is_later(&entry) {
                continue;
            }
            let replay = match entry.replay() {
                Ok(replay) => replay,
                Err(reason) => {
                    tracing::warn!(id = entry.facts().id, %reason, "cannot be replayed, and stays on the shelf");
                    settled.replayed.left += 1;
                    continue;
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break Some(Ended::Stopped),
                () = pace.turn() => {}
            }
            in_flight.push(async move {
                (
                    handle,
                    broker.publish(replay.to, replay.message, publish_timeout).await,
                )
            });
            while in_flight.len() >= IN_FLIGHT_MAX
                && let Some(published) = in_flight.next().await
            {
                settled.settle(shelf, published).await;
            }
            // What is confirmed already is taken off the shelf at once.
            while let Some(Some(published)) = futures_util::FutureExt::now_or_never(in_flight.next()) {
                settled.settle(shelf, published).await;
            }
            if settled.failed.is_some() {
                break None;
            }
        };
        while let Some(published) = in_flight.next().await {
            settled.settle(shelf, published).await;
        }
        settled.failed.map_or(Ok(ended), Err)
    }
}

struct Round<'a> {
    broker: &'a dyn Broker,
    publish_timeout: Duration,
    until: Instant,
    pace: &'a mut Pace,
    progress: &'a mut (dyn FnMut(&Replayed) + Send),
    replayed: &'a mut Replayed,
}

struct Settled<'a> {
    progress: &'a mut (dyn FnMut(&Replayed) + Send),
    replayed: &'a mut Replayed,
    /// The first failure; what is in flight is still settled.
    failed: Option<ControlError>,
}

impl Settled<'_> {
    async fn settle(
        &mut self,
        shelf: &mut dyn Shelf,
        (handle, published): (Handle, Result<(), BrokerError>),
    ) {
        let removed = match published {
            Ok(()) => shelf.remove(handle).await.map_err(ControlError::from),
            Err(error) => Err(error.into()),
        };
        match removed {
            Ok(()) => {
                self.replayed.replayed += 1;
                (self.progress)(self.replayed);
            }
            Err(error) => {
                self.failed.get_or_insert(error);
            }
        }
    }
}

/// Lets at most so many through per second, evenly.
struct Pace {
    interval: Option<Duration>,
    next: Instant,
}

impl Pace {
    fn new(rate: Option<NonZeroU32>) -> Pace {
        Pace {
            interval: rate.map(|rate| Duration::from_secs(1) / rate.get()),
            next: Instant::now(),
        }
    }

    /// Waits for the next turn. What was missed is not made up for.
    async fn turn(&mut self) {
        let Some(interval) = self.interval else { return };
        sleep_until(self.next).await;
        self.next = self.next.max(Instant::now()) + interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_never_passed_also_after_a_pause() {
        // Goal: --rate protects endpoints; a stall must not be followed by a burst.
        let mut pace = Pace::new(NonZeroU32::new(10));
        let begun = Instant::now();
        for _ in 0..11 {
            pace.turn().await;
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(60)).await;
        let resumed = Instant::now();
        for _ in 0..11 {
            pace.turn().await;
        }
        assert_eq!(resumed.elapsed(), Duration::from_secs(1));
    }
}
