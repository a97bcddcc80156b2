//! What the follower knows. Changes are collected first, and take force together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hooklane_types::{ApplicationId, EndpointId, Owned, Registry, RegistryError, UnixMillis};
use tracing::error;

use crate::catalog::{Address, Change, Document, Kind};
use crate::items::{self, EndpointSecrets};
use crate::registry::Keys;
use crate::vault::Vault;

pub(super) struct State {
    vault: Arc<Vault>,
    organisation: String,
    known: Known,
    /// What an "everything" has told so far: the old state stays in force until it is whole.
    pending: Option<Known>,
}

struct Known {
    /// What the catalog has.
    registry: Registry,
    /// Endpoints of which a secret ends.
    endings: HashMap<EndpointId, Ending>,
    keys: Keys,
}

/// An endpoint is made anew when one of its secrets ends.
struct Ending {
    at: UnixMillis,
    parts: Parts,
}

/// What an endpoint is made from.
struct Parts {
    application: ApplicationId,
    item: items::Endpoint,
    secrets: EndpointSecrets,
}

impl State {
    /// `organisation` is the one that speaks where none is named.
    pub(super) fn new(vault: Arc<Vault>, organisation: String) -> State {
        State {
            vault,
            known: Known::new(&organisation),
            organisation,
            pending: None,
        }
    }

    /// Takes a change in; says what is wrong with a document that cannot be used, which changes nothing.
    pub(super) fn apply(&mut self, change: Change, now: UnixMillis) -> Option<String> {
        let known = self.pending.as_mut().unwrap_or(&mut self.known);
        match change {
            Change::Everything => {
                self.pending = Some(Known::new(&self.organisation));
                None
            }
            Change::Removed(address) => {
                known.remove(&address);
                None
            }
            Change::Put(document) => {
                let id = document.address.id.clone();
                let why = known.put(document, &self.vault, now).err()?;
                self.keep(&id);
                Some(format!("{id}: {why}"))
            }
        }
    }

    /// An endpoint that cannot be read stays as it was: without it, its deliveries would be given up.
    fn keep(&mut self, id: &str) {
        let Some(pending) = &mut self.pending else {
            return;
        };
        let kept = EndpointId::parse(id).ok();
        let kept = kept.and_then(|id| self.known.registry.endpoint(&id).cloned());
        if let Some(Err(error)) = kept.map(|endpoint| pending.registry.put(endpoint)) {
            error!("an endpoint is not served: {error}");
        }
    }

    /// Everything was told. Makes endpoints anew whose secrets have ended, and says whether anything is another now.
    pub(super) fn finish(&mut self, now: UnixMillis) -> bool {
        let replaced = self.pending.take().map(|known| self.known = known).is_some();
        let ended: Vec<(EndpointId, Ending)> = self
            .known
            .endings
            .extract_if(|_, ending| ending.at <= now)
            .collect();
        let is_any = !ended.is_empty();
        for (id, ending) in ended {
            // It was served with these secrets and one more.
            if let Err(why) = self.known.serve(id, ending.parts, now) {
                error!("an endpoint stays as it was: {why}");
            }
        }
        replaced || is_any
    }

    /// What was told was not whole.
    pub(super) fn forget_pending(&mut self) {
        self.pending = None;
    }

    /// How long until the next secret ends.
    pub(super) fn next_end(&self, now: UnixMillis) -> Option<Duration> {
        let endings = self.known.endings.values();
        endings.map(|ending| ending.at.since(now)).min()
    }

    /// The keys of the API.
    pub(super) fn keys(&self) -> &Keys {
        &self.known.keys
    }

    /// All of it, beside what stands in `base`.
    pub(super) fn registry(&self, base: &Registry) -> Result<Registry, RegistryError> {
        self.known.registry.beside(base)
    }
}

impl Known {
    fn new(organisation: &str) -> Known {
        Known {
            registry: Registry::of(organisation),
            endings: HashMap::new(),
            keys: Keys::default(),
        }
    }

    fn put(&mut self, document: Document, vault: &Vault, now: UnixMillis) -> Result<(), String> {
        match document.address.kind {
            Kind::Application => {
                let id = ApplicationId::parse(&document.address.id).map_err(|error| error.to_string())?;
                let item: items::Application = items::read(&document).map_err(|error| error.to_string())?;
                let uid = document.uid.as_deref().map(ApplicationId::parse).transpose();
                self.registry.own(Owned {
                    id,
                    organisation: document.address.scope,
                    uid: uid.map_err(|error| error.to_string())?,
                    throttle_rate: item.throttle_rate,
                });
            }
            Kind::Endpoint => {
                let item: items::Endpoint = items::read(&document).map_err(|error| error.to_string())?;
                let Address { scope, id, .. } = document.address;
                let secrets = EndpointSecrets::open(vault, &id, &item.sealed)
                    .map_err(|error| format!("its secrets do not open: {error}"))?;
                let id = EndpointId::parse(&id).map_err(|error| error.to_string())?;
                let application = ApplicationId::parse(&scope).map_err(|error| error.to_string())?;
                let parts = Parts {
                    application,
                    item,
                    secrets,
                };
                self.serve(id, parts, now)?;
            }
            // One that cannot be read opens nothing, and whatever else there is stays in force.
            Kind::Key => {
                let id = document.address.id.clone();
                if let Err(why) = self.keys.put(document) {
                    error!("the key {id} of the API is not taken: {why}");
                }
            }
            Kind::EventType => {}
        }
        Ok(())
    }

    fn serve(&mut self, id: EndpointId, parts: Parts, now: UnixMillis) -> Result<(), String> {
        let (application, secrets) = (parts.application.clone(), &parts.secrets);
        let endpoint = parts.item.serve(id.as_str(), application, secrets, now)?;
        self.registry
            .put(Arc::new(endpoint))
            .map_err(|error| error.to_string())?;
        match secrets.next_end(now) {
            None => drop(self.endings.remove(&id)),
            Some(at) => drop(self.endings.insert(id, Ending { at, parts })),
        }
        Ok(())
    }

    fn remove(&mut self, address: &Address) {
        match address.kind {
            Kind::Application => {
                if let Ok(id) = ApplicationId::parse(&address.id) {
                    self.registry.disown(&id);
                }
            }
            Kind::Endpoint => {
                if let Ok(id) = EndpointId::parse(&address.id) {
                    self.endings.remove(&id);
                    self.registry.remove(&id);
                }
            }
            Kind::Key => self.keys.remove(address),
            Kind::EventType => {}
        }
    }
}
