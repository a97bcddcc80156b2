//! The wire form of internal messages.
//!
//! `magic (2) | version (1) | head length (4, big endian) | head (postcard) | payload`. The payload stands at the end as it
//! is, so that reading a message copies nothing of it. A version never changes once it was released: a new field is a
//! new version, and version N reads N-1. The golden bytes in the tests hold us to that.

pub(crate) mod frame;
mod head;

use bytes::Bytes;

use self::head::{DeliveryHead, EventHead, Head, OriginalHead};
use crate::delivery::{DeadLetter, Delivery};
use crate::event::Event;
use crate::message::{Fault, Suspect, cut_detail};

pub(crate) const MAGIC: [u8; 2] = *b"HL";
/// The version that this code writes, and the newest that it reads.
pub const VERSION: u8 = 1;
/// What travels through internal queues.
#[derive(Clone, Debug, PartialEq)]
pub enum Internal {
    /// An event that ingest accepted.
    Event(Event),
    /// A delivery on its way back, or a slice.
    Delivery(Delivery),
    /// A message to be tried alone.
    Suspect(Suspect),
    /// For the shelf `dead`.
    Dead(DeadLetter),
    /// For the shelf `faults`.
    Fault(Fault),
}

/// Why bytes are not an internal message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Another beginning than ours.
    #[error("not a Hooklane envelope")]
    NotOurs,
    /// Written by a newer Hooklane: hand it back, another process may read it.
    #[error("envelope version {version} is newer than {VERSION}, which this process reads")]
    Newer {
        /// Its version.
        version: u8,
    },
    /// Ours, and broken.
    #[error("broken envelope: {0}")]
    Broken(String),
}

impl Internal {
    /// The message's bytes.
    pub fn encode(&self) -> Bytes {
        let (head, payload) = self.split();
        frame::write(MAGIC, &head, payload)
    }

    /// Reads a message; the payload shares memory with `bytes`.
    ///
    /// # Errors
    /// See [`EnvelopeError`]; a newer version is told apart, for it must be handed back and is no fault.
    pub fn decode(bytes: Bytes) -> Result<Internal, EnvelopeError> {
        let (head, payload) = frame::read(MAGIC, bytes)?;
        Internal::join(head, payload)
    }

    fn split(&self) -> (Head, &[u8]) {
        match self {
            Internal::Event(event) => (Head::Event(EventHead::from(event)), &event.payload),
            Internal::Delivery(delivery) => (
                Head::Delivery(DeliveryHead::from(delivery)),
                &delivery.event.payload,
            ),
            Internal::Suspect(suspect) => (
                Head::Suspect {
                    original: OriginalHead::from(&suspect.original),
                    deaths: suspect.deaths,
                    since: suspect.since,
                },
                &suspect.original.message.body,
            ),
            Internal::Dead(dead) => (
                Head::Dead {
                    delivery: DeliveryHead::from(&dead.delivery),
                    reason: dead.reason,
                    at: dead.at,
                },
                &dead.delivery.event.payload,
            ),
            Internal::Fault(fault) => (
                Head::Fault {
                    reason: fault.reason,
                    detail: detail(fault),
                    at: fault.at,
                    original: OriginalHead::from(&fault.original),
                },
                &fault.original.message.body,
            ),
        }
    }

    fn join(head: Head, payload: Bytes) -> Result<Internal, EnvelopeError> {
        Ok(match head {
            Head::Event(event) => Internal::Event(event.with(payload)?),
            Head::Delivery(delivery) => Internal::Delivery(delivery.with(payload)?),
            Head::Suspect {
                original,
                deaths,
                since,
            } => Internal::Suspect(Suspect {
                original: original.with(payload),
                deaths,
                since,
            }),
            Head::Dead { delivery, reason, at } => Internal::Dead(DeadLetter {
                delivery: delivery.with(payload)?,
                reason,
                at,
            }),
            Head::Fault {
                reason,
                detail,
                at,
                original,
            } => Internal::Fault(Fault::new(reason, detail, at, original.with(payload))),
        })
    }
}

/// The field is public, so its bound is kept here too.
fn detail(fault: &Fault) -> String {
    let mut detail = fault.detail.clone();
    cut_detail(&mut detail);
    detail
}
