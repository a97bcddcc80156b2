//! Keys of the API as the follower knows them: no request needs the store to find out who asks.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{Address, Document, Kind};
use crate::items::{self, Key, StaticKey};

/// All keys of all organisations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Static keys, each with its organisation, by their ids.
    known: BTreeMap<String, (String, StaticKey)>,
    /// Ids of tokens that were ended.
    ended: BTreeSet<String>,
}

impl Keys {
    /// The organisation and the static key with this id.
    pub fn get(&self, id: &str) -> Option<(&str, &StaticKey)> {
        let (organisation, key) = self.known.get(id)?;
        Some((organisation, key))
    }

    /// Whether the token that this id was made from was ended.
    pub fn is_ended(&self, id: &str) -> bool {
        self.ended.contains(id)
    }

    /// Takes a document in. One that cannot be read opens nothing.
    pub(super) fn put(&mut self, document: Document) -> Result<(), String> {
        self.remove(&document.address);
        let key = items::read(&document).map_err(|error| error.to_string())?;
        let Address { scope, id, .. } = document.address;
        match key {
            Key::Static(key) => drop(self.known.insert(id, (scope, key))),
            Key::Ended { .. } => drop(self.ended.insert(id)),
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, address: &Address) {
        debug_assert_eq!(address.kind, Kind::Key);
        self.known.remove(&address.id);
        self.ended.remove(&address.id);
    }
}
