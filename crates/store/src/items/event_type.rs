//! What an organisation publishes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An event type. Its name is the document's id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventType {
    /// What it means.
    pub description: String,
    /// Not offered any more. Whoever wants it keeps getting it.
    #[serde(default)]
    pub archived: bool,
    /// Still published, and to be replaced.
    #[serde(default)]
    pub deprecated: bool,
    /// JSON schemas of its payload, by version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemas: Option<BTreeMap<String, Value>>,
    /// Shown only to applications whose token has this flag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_flag: Option<String>,
}
