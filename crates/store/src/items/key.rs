//! Who may use the API, beside whoever holds a token that is signed.

use serde::{Deserialize, Serialize};

/// A document of [`Kind::Key`](crate::catalog::Kind::Key).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Key {
    /// A key that is valid until it is removed, or until its time.
    Static(StaticKey),
    /// A signed token that was ended before its time. The document's id is made from its hash.
    Ended {
        /// When it would have ended by itself: then this document is of no use any more.
        until_ms: i64,
    },
}

/// A static key. What it opens is shown once, and only its hash is kept: of 256 random bits, so that nobody finds them by trying.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticKey {
    /// What people call it.
    pub name: String,
    /// SHA-256 of the whole key, in hexadecimal.
    pub sha256: String,
    /// The only application that it speaks for, by its id; none for the whole organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// Until when it is valid; for ever, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
}
