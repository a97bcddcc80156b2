//! A tenant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An application. Its id and uid are the document's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// What people call it.
    pub name: String,
    /// The platform's own notes.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}
