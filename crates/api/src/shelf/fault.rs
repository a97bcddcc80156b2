//! Faults as the API shows them.

use std::collections::BTreeMap;

use hooklane_types::FaultReason;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::desk::{Desk, Shelves};
use super::payload::PayloadOut;
use super::{Kind, Paths};

/// Messages that the pipeline itself could not handle.
pub enum Faults {}

impl Kind for Faults {
    type Reason = FaultReason;
    type Row = FaultOut;
    type Whole = FaultWholeOut;
    const NAME: &'static str = "Fault";
    const SHELF: &'static str = "faults";
    const IDS: &'static [&'static str] = &["flt_"];
    const PATHS: Paths = super::paths!("/fault", "v1.fault", "fault_id");
    const IS_OPERATORS: bool = true;
    const REASONS: &'static [FaultReason] = &FaultReason::ALL;

    fn reason_name(reason: FaultReason) -> &'static str {
        reason.name()
    }

    fn desk(shelves: &Shelves) -> &Desk<Faults> {
        &shelves.faults
    }
}

/// A message that the pipeline itself could not handle.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultOut {
    /// A hash over its content.
    pub id: String,
    /// Why it lies there.
    pub reason: String,
    /// In words.
    pub detail: String,
    /// The queue that it came from.
    pub origin: String,
    /// Whose event it is, as the message says it.
    pub app_id: Option<String>,
    /// The event's type, as the message says it.
    pub event_type: Option<String>,
    /// The event's id, where it had one.
    pub msg_id: Option<String>,
    /// When it became a fault; null where the broker put it aside and does not say.
    pub at: Option<String>,
}

/// A message that the pipeline itself could not handle, with its original.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultWholeOut {
    /// What lists show.
    #[serde(flatten)]
    pub row: FaultOut,
    /// To whom, where it was on its way to one endpoint.
    pub endpoint_id: Option<String>,
    /// The exchange that the original was published to.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Its properties, by their AMQP names.
    #[schemars(with = "BTreeMap<String, Value>")]
    pub properties: Value,
    /// Its body.
    #[serde(flatten)]
    pub payload: PayloadOut,
}
