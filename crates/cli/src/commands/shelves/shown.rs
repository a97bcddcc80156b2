//! Messages of the broker's shelves as the API shows them.

use hooklane_api::shelf::{
    DeadDeliveryOut, DeadLetterOut, DeadLetterWholeOut, DeadLetters, FaultOut, FaultWholeOut, Faults, Kind,
    PastAttemptOut, PayloadOut,
};
use hooklane_control::{
    DeadDetail, DeadEntry, DeadRow, DeliveryDetail, Entry, FaultDetail, FaultEntry, FaultRow, present,
};
use hooklane_types::UnixMillis;

/// A message of the broker's shelf as the API shows it.
pub trait Told: Entry<Reason = <Self::Kind as Kind>::Reason> + 'static {
    /// As the API knows it.
    type Kind: Kind;

    /// As a list shows it.
    fn told_row(row: Self::Row) -> <Self::Kind as Kind>::Row;

    /// With all that is known of it.
    fn told(&self, now: UnixMillis) -> <Self::Kind as Kind>::Whole;
}

impl Told for DeadEntry {
    type Kind = DeadLetters;

    fn told_row(row: DeadRow) -> DeadLetterOut {
        // What cannot be read has a name of its own, and no event.
        let (id, msg_id) = match row.dead_letter {
            Some(own) => (own, Some(row.id)),
            None => (row.id, None),
        };
        DeadLetterOut {
            id,
            msg_id,
            app_id: row.application,
            event_type: row.event_type,
            endpoint_id: row.endpoint,
            reason: row.reason.to_owned(),
            attempts: row.attempts,
            run: row.run,
            last_outcome: row.last_outcome,
            died_at: row.died_at.map(present::time),
        }
    }

    fn told(&self, now: UnixMillis) -> DeadLetterWholeOut {
        let DeadDetail {
            error,
            delivery,
            payload,
            ..
        } = self.detail(usize::MAX);
        DeadLetterWholeOut {
            row: DeadEntry::told_row(self.row(now)),
            error,
            delivery: delivery.map(dead_delivery),
            payload: told_payload(payload),
        }
    }
}

fn dead_delivery(delivery: DeliveryDetail) -> DeadDeliveryOut {
    let attempt = |attempt: present::Attempt| PastAttemptOut {
        id: attempt.id,
        at: attempt.at,
        duration_ms: attempt.duration_ms,
        outcome: attempt.outcome,
        retry_after_ms: attempt.retry_after_ms,
    };
    DeadDeliveryOut {
        event_id: delivery.producer_id,
        channels: delivery.channels,
        accepted_at: delivery.accepted_at,
        content_type: delivery.content_type,
        traceparent: delivery.traceparent,
        headers: delivery.headers,
        target: delivery.target,
        parks: delivery.parks,
        deadline: delivery.deadline.map(present::time),
        history: delivery.history.into_iter().map(attempt).collect(),
    }
}

impl Told for FaultEntry {
    type Kind = Faults;

    fn told_row(row: FaultRow) -> FaultOut {
        FaultOut {
            id: row.id,
            reason: row.reason.to_owned(),
            detail: row.detail,
            origin: row.origin.to_owned(),
            app_id: row.application,
            event_type: row.event_type,
            msg_id: row.event_id,
            at: row.at.map(present::time),
        }
    }

    fn told(&self, now: UnixMillis) -> FaultWholeOut {
        let FaultDetail {
            endpoint,
            exchange,
            routing_key,
            properties,
            payload,
            ..
        } = self.detail(usize::MAX);
        FaultWholeOut {
            row: FaultEntry::told_row(self.row(now)),
            endpoint_id: endpoint,
            exchange,
            routing_key,
            properties,
            payload: told_payload(payload),
        }
    }
}

fn told_payload(payload: present::Payload) -> PayloadOut {
    PayloadOut {
        payload_bytes: payload.payload_bytes,
        payload: payload.payload,
        payload_base64: payload.payload_base64,
    }
}
