//! Events and attempts, spread evenly over a time.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use hooklane_store::history::{Attempt, Decision, DeliveryKey, EventRef, Record, Trigger};
use hooklane_types::{
    ApplicationId, AttemptId, AttemptOutcome, EndpointId, Event, EventId, EventType, UnixMillis,
};

pub const PAYLOAD_BYTES: usize = 1024;
pub const ENDPOINTS: usize = 20;
const BEGIN_MS: i64 = 1_700_000_000_000;
const DAY_MS: i64 = 24 * 3600 * 1000;

/// So many events of one application in so many days, each with one attempt.
#[derive(Clone, Copy)]
pub struct Made {
    pub count: usize,
    pub days: usize,
}

impl Made {
    pub fn application() -> Result<ApplicationId> {
        Ok(ApplicationId::parse("app_2rYmL0pT4")?)
    }

    pub fn endpoint(n: usize) -> Result<EndpointId> {
        Ok(EndpointId::parse(&format!("ep_{:022}", n % ENDPOINTS))?)
    }

    /// When the n-th event was accepted.
    pub fn accepted_at(&self, n: usize) -> UnixMillis {
        UnixMillis(BEGIN_MS + self.days as i64 * DAY_MS * n as i64 / self.count.max(1) as i64)
    }

    /// The n-th event.
    pub fn event(&self, n: usize) -> Result<Record> {
        let at = self.accepted_at(n);
        Ok(Record::Event(Event {
            id: EventId::fresh(at, random(n)),
            producer_id: None,
            application: Made::application()?,
            event_type: EventType::parse(["invoice.paid", "user.made"][n % 2])?,
            channels: Vec::new(),
            accepted_at: at,
            content_type: "application/json".to_owned(),
            traceparent: None,
            headers: Vec::new(),
            payload: Bytes::from(vec![b'x'; PAYLOAD_BYTES]),
        }))
    }

    /// Its attempt; every tenth at an endpoint failed.
    pub fn attempt(&self, n: usize) -> Result<Record> {
        let (at, failed) = (self.accepted_at(n), n / ENDPOINTS % 10 == 9);
        Ok(Record::Attempt(Attempt {
            id: AttemptId::fresh(at, random(n)),
            delivery: DeliveryKey {
                event: EventRef {
                    application: Made::application()?,
                    id: EventId::fresh(at, random(n)),
                    accepted_at: at,
                },
                endpoint: Made::endpoint(n)?,
                target: 0,
                run: 0,
            },
            at,
            duration_ms: 20,
            outcome: AttemptOutcome::Status {
                code: if failed { 503 } else { 200 },
                retry_after_ms: None,
            },
            url: "https://hooks.example.com/in/17".to_owned(),
            answer: Bytes::from_static(b"ok"),
            trigger: Trigger::Schedule,
            decision: match failed {
                true => Decision::Again(at.plus(Duration::from_secs(5))),
                false => Decision::Delivered,
            },
        }))
    }
}

fn random(n: usize) -> [u8; 10] {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    random
}
