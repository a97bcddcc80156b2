//! What stands in the catalog's documents. Each is JSON: a field that is new has a default, one that goes is still read.

mod application;
mod delivery;
mod endpoint;
mod event_type;
mod key;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use application::Application;
pub use delivery::{EncodingName, HashName, Hmac, Retry, Signature};
pub use endpoint::{Endpoint, EndpointSecrets, OLD_SECRETS_MAX, OldSecret, signer};
pub use event_type::EventType;
pub use key::{Key, StaticKey};

use crate::catalog::Document;

/// A document whose content is not what its kind says.
#[derive(Debug, thiserror::Error)]
#[error("the {} {:?} cannot be read: {source}", address.kind.name(), address.id)]
pub struct UnreadableItem {
    /// Which.
    pub address: crate::catalog::Address,
    /// Why.
    #[source]
    pub source: serde_json::Error,
}

/// Reads a document.
///
/// # Errors
/// When somebody else wrote it.
pub fn read<T: DeserializeOwned>(document: &Document) -> Result<T, UnreadableItem> {
    serde_json::from_str(&document.content).map_err(|source| UnreadableItem {
        address: document.address.clone(),
        source,
    })
}

/// The content of a document.
///
/// # Panics
/// Never: items are structs with text as keys.
pub fn write<T: Serialize>(item: &T) -> String {
    serde_json::to_string(item).expect("structs with text as keys serialise")
}
