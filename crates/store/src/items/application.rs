//! A tenant.

use std::collections::BTreeMap;

use hooklane_types::ThrottleRate;
use serde::{Deserialize, Serialize};

/// An application. Its id and uid are the document's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// What people call it.
    pub name: String,
    /// The platform's own notes.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Most attempts a second at all its endpoints together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle_rate: Option<ThrottleRate>,
}
