#![doc = include_str!("../README.md")]

pub mod cloudevent;
pub mod content_type;
pub mod control;
pub mod custom_header;
pub mod delivery;
pub mod endpoint;
pub mod envelope;
pub mod event;
pub mod filter;
pub mod header_value;
pub mod id;
pub mod message;
pub mod operational;
pub mod record;
pub mod registry;
pub mod retry;
mod sequence;
pub mod throttle;
pub mod time;
pub mod traceparent;

pub use cloudevent::{CloudEvent, CloudEventError};
pub use custom_header::{HeaderError, check_header};
pub use delivery::{
    AttemptOutcome, AttemptSummary, DeadLetter, DeadReason, Delivery, FailureKind, HISTORY_ENTRIES_MAX,
    SLICE_ENDPOINTS_MAX,
};
pub use endpoint::{Endpoint, HttpAuth, TlsFiles};
pub use envelope::{EnvelopeError, Internal};
pub use event::Event;
pub use filter::{Channel, EventType, TypePattern};
pub use header_value::HeaderValue;
pub use id::{ApplicationId, AttemptId, EndpointId, EventId, IdError, ProducerId};
pub use message::{Fault, FaultReason, Origin, Original, Properties, RawMessage, Suspect};
pub use record::Record;
pub use registry::{Owned, Registry, RegistryError};
pub use retry::{RetryPolicy, RetryPolicyError};
pub use throttle::{ThrottleRate, ThrottleRateError};
pub use time::UnixMillis;
