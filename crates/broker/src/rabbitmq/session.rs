//! What one consuming channel has brought: messages that wait in memory, messages in hand, and their bytes.
//!
//! lapin buffers deliveries without bound. So they are counted where they arrive, in lapin's own thread, and what does not
//! fit is dropped there and then: the broker has it still, and gives it again when the channel is closed.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use lapin::message::{Delivery, DeliveryResult};
use lapin::{Acker, ConsumerDelegate};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::acks::Acks;
use super::convert;
use crate::port::{Ack, AckError, Incoming};

/// Spare capacity of a body that is worth giving back to the allocator.
const SPARE_BYTES_MAX: usize = 64 * 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that runs under these locks leaves things half done when it panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of bodies held by one consumption, whatever channel brought them.
pub(crate) struct Ledger {
    bytes_max: u64,
    bytes: AtomicU64,
    /// The largest message since the prefetch was last full.
    largest: AtomicU64,
    pub(crate) released: Notify,
}

impl Ledger {
    pub(crate) fn new(bytes_max: u64) -> Ledger {
        Ledger {
            bytes_max,
            bytes: AtomicU64::new(0),
            largest: AtomicU64::new(0),
            released: Notify::new(),
        }
    }

    /// Whether one more like the largest fits. When nothing is held, one always does: it must be judged by somebody.
    pub(crate) fn has_room(&self) -> bool {
        self.fits(self.largest.load(Ordering::Relaxed))
    }

    fn fits(&self, bytes: u64) -> bool {
        let held = self.bytes.load(Ordering::Relaxed);
        held == 0 || held.saturating_add(bytes) <= self.bytes_max
    }

    /// The prefetch with which the largest seen could come every time.
    pub(crate) fn prefetch(&self, full: u16) -> u16 {
        let largest = self.largest.load(Ordering::Relaxed).max(1);
        u16::try_from(self.bytes_max / largest)
            .unwrap_or(full)
            .clamp(1, full)
    }

    pub(crate) fn forget_largest(&self) {
        self.largest.store(0, Ordering::Relaxed);
    }
}

/// Messages between lapin's thread and `Consumption::next`.
#[derive(Default)]
pub(crate) struct Buffer {
    messages: Mutex<VecDeque<Held>>,
    pub(crate) arrived: Notify,
    closed: AtomicBool,
}

impl Buffer {
    pub(crate) fn pop(&self) -> Option<Held> {
        lock(&self.messages).pop_front()
    }

    /// Drops what waits.
    pub(crate) fn discard(&self) {
        let dropped = std::mem::take(&mut *lock(&self.messages));
        drop(dropped);
    }

    /// Nothing comes any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

#[derive(Default)]
struct Counts {
    buffered: usize,
    in_hand: usize,
    given_back: usize,
    over_bytes: bool,
    /// Messages in a row that would fit with the full prefetch.
    small_in_a_row: u32,
    ended: Option<String>,
}

/// What the one who looks after the channel has to act on, the gravest first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The broker ended the subscription; why, in words.
    Ended(String),
    /// More bytes came than may be held.
    OverBytes,
    /// A message was dropped without an ack.
    GivenBack,
}

/// One channel's share.
pub(crate) struct Session {
    ledger: Arc<Ledger>,
    buffer: Arc<Buffer>,
    /// Soft state: no acks, and what does not fit is lost.
    lossy: bool,
    prefetch_full: u16,
    ended: CancellationToken,
    accepting: AtomicBool,
    acks: Acks,
    counts: Mutex<Counts>,
    pub(crate) changed: Notify,
}

impl Session {
    pub(crate) fn new(ledger: Arc<Ledger>, buffer: Arc<Buffer>, prefetch_full: u16, lossy: bool) -> Session {
        Session {
            ledger,
            buffer,
            lossy,
            prefetch_full,
            ended: CancellationToken::new(),
            accepting: AtomicBool::new(true),
            acks: Acks::default(),
            counts: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        !self.ended.is_cancelled()
    }

    /// From now on the broker has everything again that was not acked.
    pub(crate) fn end(&self) {
        self.refuse();
        self.ended.cancel();
        self.buffer.discard();
    }

    /// Drops what still comes.
    pub(crate) fn refuse(&self) {
        self.accepting.store(false, Ordering::Release);
    }

    pub(crate) fn finding(&self) -> Option<Finding> {
        let counts = lock(&self.counts);
        if let Some(why) = &counts.ended {
            return Some(Finding::Ended(why.clone()));
        }
        if counts.over_bytes {
            return Some(Finding::OverBytes);
        }
        (counts.given_back > 0).then_some(Finding::GivenBack)
    }

    pub(crate) fn small_in_a_row(&self) -> u32 {
        lock(&self.counts).small_in_a_row
    }

    /// Nothing is in hand; with `buffered`, nothing waits either.
    pub(crate) fn is_settled(&self, buffered: bool) -> bool {
        let counts = lock(&self.counts);
        counts.in_hand == 0 && (!buffered || counts.buffered == 0)
    }

    pub(crate) fn arrive(self: &Arc<Self>, mut delivery: Delivery) {
        if !self.lossy {
            self.acks.arrived(delivery.delivery_tag);
        }
        if !self.accepting.load(Ordering::Acquire) {
            return;
        }
        if delivery.data.capacity() - delivery.data.len() > SPARE_BYTES_MAX {
            delivery.data.shrink_to_fit();
        }
        let bytes = convert::delivery_bytes(&delivery);
        self.ledger.largest.fetch_max(bytes, Ordering::Relaxed);
        if !self.ledger.fits(bytes) {
            if !self.lossy {
                lock(&self.counts).over_bytes = true;
                self.refuse();
                self.changed.notify_one();
            }
            return;
        }
        self.ledger.bytes.fetch_add(bytes, Ordering::Relaxed);
        {
            let mut counts = lock(&self.counts);
            counts.buffered += 1;
            let small = bytes.saturating_mul(self.prefetch_full.into()) <= self.ledger.bytes_max;
            counts.small_in_a_row = if small {
                counts.small_in_a_row.saturating_add(1)
            } else {
                0
            };
        }
        let place = Place {
            session: self.clone(),
            bytes,
            stage: Stage::Buffered,
        };
        lock(&self.buffer.messages).push_back(Held {
            delivery,
            received_at: Instant::now(),
            place,
        });
        self.buffer.arrived.notify_one();
    }

    /// Sends the acks that were given and wait to be sent with others.
    pub(crate) async fn flush(&self) {
        self.acks.flush().await;
    }

    fn broker_ended(&self, why: String) {
        lock(&self.counts).ended.get_or_insert(why);
        self.changed.notify_one();
    }
}

/// A message that waits.
pub(crate) struct Held {
    delivery: Delivery,
    received_at: Instant,
    place: Place,
}

impl Held {
    /// Hands it out, unless its channel has ended meanwhile: then the broker has it again.
    pub(crate) fn hand_out(self) -> Option<Incoming> {
        let Held {
            delivery,
            received_at,
            mut place,
        } = self;
        if !place.session.is_live() || !delivery.acker.usable() {
            return None;
        }
        place.take_in_hand();
        let (acker, redelivered) = (delivery.acker.clone(), delivery.redelivered);
        let tag = delivery.delivery_tag;
        let (message, delivery_count) = convert::incoming(delivery);
        let ack = Box::new(ChannelAck { acker, tag, place });
        Some(Incoming {
            message,
            redelivered,
            delivery_count,
            received_at,
            ack,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Buffered,
    InHand,
    Acked,
}

/// A message's share in the counts; gives it back when dropped.
struct Place {
    session: Arc<Session>,
    bytes: u64,
    stage: Stage,
}

impl Place {
    fn take_in_hand(&mut self) {
        let mut counts = lock(&self.session.counts);
        counts.buffered -= 1;
        counts.in_hand += 1;
        self.stage = Stage::InHand;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Session {
            ledger,
            counts,
            changed,
            lossy,
            ..
        } = &*self.session;
        ledger.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        ledger.released.notify_one();
        let mut counts = lock(counts);
        match self.stage {
            Stage::Buffered => counts.buffered -= 1,
            Stage::InHand | Stage::Acked => counts.in_hand -= 1,
        }
        if self.stage == Stage::InHand && !lossy {
            counts.given_back += 1;
        }
        drop(counts);
        changed.notify_one();
    }
}

struct ChannelAck {
    acker: Acker,
    tag: u64,
    place: Place,
}

#[async_trait]
impl Ack for ChannelAck {
    fn is_live(&self) -> bool {
        self.place.session.is_live() && (self.place.session.lossy || self.acker.usable())
    }

    async fn ack(mut self: Box<Self>) -> Result<(), AckError> {
        if !self.is_live() {
            return Err(AckError);
        }
        if self.place.session.lossy {
            return Ok(());
        }
        let session = self.place.session.clone();
        tokio::select! {
            () = session.acks.ack(self.tag, self.acker.clone()) => {}
            // An ack that is on its way when the connection is lost may never be answered by lapin (seen).
            () = session.ended.cancelled() => return Err(AckError),
        }
        self.place.stage = Stage::Acked;
        Ok(())
    }
}

/// Takes deliveries in lapin's thread.
pub(crate) struct Inlet {
    session: Arc<Session>,
    /// Set before we cancel the consumer ourselves: its end is no finding then.
    retired: Arc<AtomicBool>,
}

impl Inlet {
    pub(crate) fn new(session: Arc<Session>) -> (Inlet, Arc<AtomicBool>) {
        let retired = Arc::new(AtomicBool::new(false));
        (
            Inlet {
                session,
                retired: retired.clone(),
            },
            retired,
        )
    }
}

impl ConsumerDelegate for Inlet {
    fn on_new_delivery(&self, delivery: DeliveryResult) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        match delivery {
            Ok(Some(delivery)) => self.session.arrive(delivery),
            Ok(None) if self.retired.load(Ordering::Acquire) => {}
            Ok(None) => self
                .session
                .broker_ended("the broker cancelled the consumer".to_owned()),
            Err(error) => self.session.broker_ended(error.to_string()),
        }
        Box::pin(std::future::ready(()))
    }
}
