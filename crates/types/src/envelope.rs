//! The wire form of internal messages.
//!
//! `magic (2) | version (1) | head length (4, big endian) | head (postcard) | payload`. The payload stands at the end as it
//! is, so that reading a message copies nothing of it. A version never changes once it was released: a new field is a
//! new version, and version N reads N-1. The golden bytes in the tests hold us to that.

mod head;

use bytes::{BufMut, Bytes, BytesMut};

use self::head::{DeliveryHead, EventHead, Head, OriginalHead};
use crate::delivery::{DeadLetter, Delivery};
use crate::event::Event;
use crate::message::{Fault, Suspect, cut_detail};

const MAGIC: [u8; 2] = *b"HL";
/// The version that this code writes, and the newest that it reads.
pub const VERSION: u8 = 1;
/// Magic, version and head length.
const PREFIX_BYTES: usize = 7;

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
        // Heads hold only types whose serialisation cannot fail (no maps of unknown length, no custom errors).
        let head = postcard::to_stdvec(&head).expect("a head of plain data serialises");
        let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + head.len() + payload.len());
        bytes.put_slice(&MAGIC);
        bytes.put_u8(VERSION);
        bytes.put_u32(head.len() as u32);
        bytes.put_slice(&head);
        bytes.put_slice(payload);
        bytes.freeze()
    }

    /// Reads a message; the payload shares memory with `bytes`.
    ///
    /// # Errors
    /// See [`EnvelopeError`]; a newer version is told apart, for it must be handed back and is no fault.
    pub fn decode(bytes: Bytes) -> Result<Internal, EnvelopeError> {
        let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
            return Err(EnvelopeError::NotOurs);
        };
        let [m0, m1, version, l0, l1, l2, l3] = *prefix;
        if [m0, m1] != MAGIC {
            return Err(EnvelopeError::NotOurs);
        }
        match version {
            0 => return Err(EnvelopeError::Broken("version 0 does not exist".to_owned())),
            VERSION => {}
            version => return Err(EnvelopeError::Newer { version }),
        }
        let head_bytes = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if bytes.len() - PREFIX_BYTES < head_bytes {
            return Err(EnvelopeError::Broken(format!(
                "a head of {head_bytes} bytes does not fit"
            )));
        }
        let payload_at = PREFIX_BYTES + head_bytes;
        let (head, rest) = postcard::take_from_bytes::<Head>(&bytes[PREFIX_BYTES..payload_at])
            .map_err(|error| EnvelopeError::Broken(error.to_string()))?;
        if !rest.is_empty() {
            return Err(EnvelopeError::Broken(format!(
                "{} bytes after the head",
                rest.len()
            )));
        }
        Internal::join(head, bytes.slice(payload_at..))
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
