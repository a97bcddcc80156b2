//! `POST /app/{app_id}/msg`: what ingest serves, described.

use std::collections::BTreeMap;

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::out::MessageOut;
use crate::endpoint::fields::Channels;
use crate::operation::{Need, Operation};
use crate::text::{NotHonoured, Uid};

/// A message to be published.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "read by ingest, and only described here")]
struct MessageIn {
    event_type: Uid,
    /// Any JSON object.
    payload: BTreeMap<String, Value>,
    /// The producer's own id of the event: another message with it is refused.
    #[serde(default)]
    event_id: Option<Uid>,
    /// Endpoints with other channels do not get it; at most five.
    #[serde(default)]
    #[schemars(length(max = 5))]
    channels: Option<Channels>,
    #[serde(default)]
    application: NotHonoured,
    #[serde(default)]
    payload_retention_period: NotHonoured,
    #[serde(default)]
    payload_retention_hours: NotHonoured,
    #[serde(default)]
    tags: NotHonoured,
    #[serde(default)]
    transformations_params: NotHonoured,
    #[serde(default)]
    deliver_at: NotHonoured,
}

pub(super) fn operation() -> Operation {
    Operation::elsewhere(Method::POST, super::ALL, "v1.message.create", "Publish a message")
        .needs(Need::Organisation)
        .with_content("Whether the answer holds the payload")
        .takes::<MessageIn>()
        .answers::<MessageOut>(202)
        .refuses(&[409, 415, 429])
}
