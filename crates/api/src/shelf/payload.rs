//! A body as the shelves show it.

use schemars::JsonSchema;
use serde::Serialize;

/// A body: as text where it is UTF-8, else in base 64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PayloadOut {
    /// Its length.
    pub payload_bytes: usize,
    /// The text, as it was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The bytes, where they are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
}
