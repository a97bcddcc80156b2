//! What the follower knows. Changes are collected first, and take force together.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hooklane_types::{ApplicationId, Endpoint, Owned, Registry, RegistryError, UnixMillis};
use tracing::error;

use crate::catalog::{Address, Change, Document, Kind};
use crate::items::{self, EndpointSecrets};
use crate::registry::Keys;
use crate::vault::Vault;

pub(super) struct State {
    vault: Arc<Vault>,
    known: Known,
    /// What an "everything" has told so far: the old state stays in force until it is whole.
    pending: Option<Known>,
}

/// Ordered, so that endpoints of one application keep their order.
#[derive(Default)]
struct Known {
    applications: HashMap<ApplicationId, Owned>,
    endpoints: BTreeMap<Address, Kept>,
    keys: Keys,
}

struct Kept {
    endpoint: Arc<Endpoint>,
    /// What it is made anew from when one of its secrets ends.
    ending: Option<Box<Ending>>,
}

struct Ending {
    at: UnixMillis,
    item: items::Endpoint,
    secrets: EndpointSecrets,
}

impl State {
    pub(super) fn new(vault: Arc<Vault>) -> State {
        State {
            vault,
            known: Known::default(),
            pending: None,
        }
    }

    /// Takes a change in; says what is wrong with a document that cannot be used, which changes nothing.
    pub(super) fn apply(&mut self, change: Change, now: UnixMillis) -> Option<String> {
        let known = self.pending.as_mut().unwrap_or(&mut self.known);
        match change {
            Change::Everything => {
                self.pending = Some(Known::default());
                None
            }
            Change::Removed(address) => {
                known.remove(&address);
                None
            }
            Change::Put(document) => {
                let address = document.address.clone();
                let why = known.put(document, &self.vault, now).err()?;
                self.keep(&address);
                Some(format!("{}: {why}", address.id))
            }
        }
    }

    /// An endpoint that cannot be read stays as it was: without it, its deliveries would be given up.
    fn keep(&mut self, address: &Address) {
        if let (Some(pending), Some(kept)) = (&mut self.pending, self.known.endpoints.get(address)) {
            let kept = Kept {
                endpoint: kept.endpoint.clone(),
                ending: None,
            };
            pending.endpoints.insert(address.clone(), kept);
        }
    }

    /// Everything was told. Makes endpoints anew whose secrets have ended, and says whether anything is another now.
    pub(super) fn finish(&mut self, now: UnixMillis) -> bool {
        let replaced = self.pending.take().map(|known| self.known = known).is_some();
        let mut ended = false;
        for (address, kept) in &mut self.known.endpoints {
            let Some(ending) = kept.ending.take_if(|ending| ending.at <= now) else {
                continue;
            };
            // It was served with these secrets and one more.
            if let Ok(again) = make(address, ending.item, ending.secrets, now) {
                *kept = again;
                ended = true;
            }
        }
        replaced || ended
    }

    /// What was told was not whole.
    pub(super) fn forget_pending(&mut self) {
        self.pending = None;
    }

    /// How long until the next secret ends.
    pub(super) fn next_end(&self, now: UnixMillis) -> Option<Duration> {
        let endings = self
            .known
            .endpoints
            .values()
            .filter_map(|kept| kept.ending.as_ref());
        endings.map(|ending| ending.at.since(now)).min()
    }

    /// The keys of the API.
    pub(super) fn keys(&self) -> &Keys {
        &self.known.keys
    }

    /// All of it, beside what stands in `base`.
    pub(super) fn registry(&self, base: &Registry, organisation: &str) -> Result<Registry, RegistryError> {
        let applications = self.known.applications.values().cloned();
        let endpoints = self.known.endpoints.values().map(|kept| kept.endpoint.clone());
        base.with_owned(organisation, applications, endpoints)
    }
}

impl Known {
    fn put(&mut self, document: Document, vault: &Vault, now: UnixMillis) -> Result<(), String> {
        match document.address.kind {
            Kind::Application => {
                let id = ApplicationId::parse(&document.address.id).map_err(|error| error.to_string())?;
                let item: items::Application = items::read(&document).map_err(|error| error.to_string())?;
                let uid = document.uid.as_deref().map(ApplicationId::parse).transpose();
                let owned = Owned {
                    id: id.clone(),
                    organisation: document.address.scope,
                    uid: uid.map_err(|error| error.to_string())?,
                    throttle_rate: item.throttle_rate,
                };
                self.applications.insert(id, owned);
            }
            Kind::Endpoint => {
                let item: items::Endpoint = items::read(&document).map_err(|error| error.to_string())?;
                let secrets = EndpointSecrets::open(vault, &document.address.id, &item.sealed)
                    .map_err(|error| format!("its secrets do not open: {error}"))?;
                let kept = make(&document.address, item, secrets, now)?;
                self.endpoints.insert(document.address, kept);
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

    fn remove(&mut self, address: &Address) {
        match address.kind {
            Kind::Application => {
                if let Ok(id) = ApplicationId::parse(&address.id) {
                    self.applications.remove(&id);
                }
            }
            Kind::Endpoint => {
                self.endpoints.remove(address);
            }
            Kind::Key => self.keys.remove(address),
            Kind::EventType => {}
        }
    }
}

fn make(
    address: &Address,
    item: items::Endpoint,
    secrets: EndpointSecrets,
    now: UnixMillis,
) -> Result<Kept, String> {
    let application = ApplicationId::parse(&address.scope).map_err(|error| error.to_string())?;
    let endpoint = item.serve(&address.id, application, &secrets, now)?;
    let ending = secrets
        .next_end(now)
        .map(|at| Box::new(Ending { at, item, secrets }));
    Ok(Kept {
        endpoint: Arc::new(endpoint),
        ending,
    })
}
