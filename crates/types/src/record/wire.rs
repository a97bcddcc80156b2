//! The wire form of records.
//!
//! A record of an event is the event's envelope, as it is, so that who has that need not copy it. A record of what became of one is an envelope
//! with another beginning, whose payload is the answer's body. A batch holds many: `magic (2) | version (1) | records`, each as
//! `length (4, big endian) | record`. A message is a batch, or one record alone.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{ANSWER_BYTES_MAX, Attempt, Decision, DeliveryKey, Record, Settled, Trigger};
use crate::delivery::AttemptOutcome;
use crate::envelope::{self, EnvelopeError, Internal, VERSION, frame};
use crate::id::{ApplicationId, AttemptId, EndpointId, EventId};
use crate::time::UnixMillis;

/// Of what became of an event.
const MAGIC: [u8; 2] = *b"HR";
/// Of a batch.
const BATCH: [u8; 2] = *b"HB";
/// Magic and version.
const BATCH_PREFIX_BYTES: usize = 3;

#[derive(Serialize, Deserialize)]
enum Head {
    Attempt(AttemptHead),
    Settled(Settled),
}

#[derive(Serialize, Deserialize)]
struct AttemptHead {
    id: AttemptId,
    delivery: DeliveryKey,
    at: UnixMillis,
    duration_ms: u32,
    outcome: AttemptOutcome,
    url: String,
    trigger: Trigger,
    decision: Decision,
}

impl Record {
    /// The record's bytes. Of an answer's body the first [`ANSWER_BYTES_MAX`] are written.
    pub fn encode(&self) -> Bytes {
        match self {
            Record::Event(event) => Internal::Event(event.clone()).encode(),
            Record::Attempt(attempt) => {
                let answer = &attempt.answer[..attempt.answer.len().min(ANSWER_BYTES_MAX)];
                let head = Head::Attempt(AttemptHead {
                    id: attempt.id.clone(),
                    delivery: attempt.delivery.clone(),
                    at: attempt.at,
                    duration_ms: attempt.duration_ms,
                    outcome: attempt.outcome,
                    url: attempt.url.clone(),
                    trigger: attempt.trigger,
                    decision: attempt.decision,
                });
                frame::write(MAGIC, &head, answer)
            }
            Record::Settled(settled) => frame::write(MAGIC, &Head::Settled(settled.clone()), &[]),
        }
    }
}

/// Records on their way into one message.
#[derive(Debug, Default)]
pub struct Batch {
    records: Vec<Bytes>,
    bytes: usize,
}

impl Batch {
    /// Adds a record, encoded.
    pub fn push(&mut self, record: Bytes) {
        self.bytes += 4 + record.len();
        self.records.push(record);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many bytes the message will have, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The message: one record stays as it is, and is not copied.
    pub fn encode(self) -> Bytes {
        if let [record] = &self.records[..] {
            return record.clone();
        }
        let mut bytes = BytesMut::with_capacity(BATCH_PREFIX_BYTES + self.bytes);
        bytes.put_slice(&BATCH);
        bytes.put_u8(VERSION);
        for record in self.records {
            bytes.put_u32(record.len() as u32);
            bytes.put_slice(&record);
        }
        bytes.freeze()
    }
}

/// Reads a message of records; payloads and answers share memory with it.
///
/// # Errors
/// See [`EnvelopeError`]. A message is read whole or not at all.
pub fn decode(bytes: Bytes) -> Result<Vec<Record>, EnvelopeError> {
    let Some(rest) = bytes.strip_prefix(&BATCH) else {
        return Ok(vec![one(bytes)?]);
    };
    let version = *rest.first().ok_or(EnvelopeError::NotOurs)?;
    frame::check_version(version)?;
    let mut rest = bytes.slice(BATCH_PREFIX_BYTES..);
    let mut records = Vec::new();
    while rest.has_remaining() {
        let cut = || EnvelopeError::Broken("the batch is cut off".to_owned());
        let length = rest.try_get_u32().map_err(|_| cut())? as usize;
        if rest.len() < length {
            return Err(cut());
        }
        records.push(one(rest.split_to(length))?);
    }
    Ok(records)
}

fn one(bytes: Bytes) -> Result<Record, EnvelopeError> {
    if bytes.starts_with(&envelope::MAGIC) {
        return match Internal::decode(bytes)? {
            Internal::Event(event) => Ok(Record::Event(event)),
            _ => Err(EnvelopeError::Broken(
                "an envelope that is no event's is no record".to_owned(),
            )),
        };
    }
    let (head, answer) = frame::read::<Head>(MAGIC, bytes)?;
    Ok(match head {
        Head::Attempt(head) => {
            AttemptId::parse(head.id.as_str()).map_err(broken)?;
            check(&head.delivery)?;
            Record::Attempt(Attempt {
                id: head.id,
                delivery: head.delivery,
                at: head.at,
                duration_ms: head.duration_ms,
                outcome: head.outcome,
                url: head.url,
                answer,
                trigger: head.trigger,
                decision: head.decision,
            })
        }
        Head::Settled(settled) => {
            check(&settled.delivery)?;
            Record::Settled(settled)
        }
    })
}

/// What is decoded here ends in answers and log lines.
fn check(delivery: &DeliveryKey) -> Result<(), EnvelopeError> {
    ApplicationId::parse(delivery.event.application.as_str()).map_err(broken)?;
    EventId::parse(delivery.event.id.as_str()).map_err(broken)?;
    EndpointId::parse(delivery.endpoint.as_str()).map_err(broken)?;
    Ok(())
}

fn broken(error: impl ToString) -> EnvelopeError {
    EnvelopeError::Broken(error.to_string())
}
