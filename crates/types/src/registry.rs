//! Applications and endpoints in memory, and which endpoints an event goes to.

mod shards;

use std::sync::Arc;

use self::shards::{Named, Shards};
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::id::{ApplicationId, EndpointId};
use crate::throttle::ThrottleRate;

/// Why a registry can't be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Two endpoints share an id.
    #[error("endpoint id {0} is used twice")]
    EndpointTwice(EndpointId),
}

/// An application that belongs to an organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Its id.
    pub id: ApplicationId,
    /// Whose it is.
    pub organisation: String,
    /// Its other name, of which there is one in an organisation.
    pub uid: Option<ApplicationId>,
    /// Most attempts a second at all its endpoints together; none: no limit.
    pub throttle_rate: Option<ThrottleRate>,
}

#[derive(Clone, Debug)]
struct Owner {
    organisation: Arc<str>,
    uid: Option<ApplicationId>,
    throttle_rate: Option<ThrottleRate>,
}

/// An application, and what it has.
#[derive(Clone, Debug)]
struct Application {
    id: ApplicationId,
    /// Known without any endpoint.
    is_listed: bool,
    /// Where the owner sets none.
    throttle_rate: Option<ThrottleRate>,
    /// None is the organisation that speaks where none is named.
    owner: Option<Owner>,
    /// In the order in which they came.
    endpoints: Vec<Arc<Endpoint>>,
}

impl Application {
    fn is_known(&self) -> bool {
        self.is_listed || self.owner.is_some() || !self.endpoints.is_empty()
    }
}

/// What an organisation calls an application.
#[derive(Debug)]
struct Uid {
    /// See [`Uid::name_of`].
    name: String,
    id: ApplicationId,
}

impl Uid {
    /// No uid holds a line break.
    fn name_of(organisation: &str, uid: &ApplicationId) -> String {
        format!("{uid}\n{organisation}")
    }
}

impl Named for Endpoint {
    fn name(&self) -> &str {
        self.id.as_str()
    }
}

impl Named for Application {
    fn name(&self) -> &str {
        self.id.as_str()
    }
}

impl Named for Uid {
    fn name(&self) -> &str {
        &self.name
    }
}

/// What ingest and dispatcher know of applications and endpoints. A copy is cheap, and so is a change of it: whoever follows a store changes a
/// copy and shows it in place of the one before.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// The organisation that speaks where none is named.
    organisation: Arc<str>,
    applications: Shards<Application>,
    uids: Shards<Uid>,
    endpoints: Shards<Endpoint>,
}

impl Registry {
    /// Builds the index. Applications that only endpoints name are known too.
    ///
    /// # Errors
    /// When an endpoint id stands twice.
    pub fn new(
        applications: impl IntoIterator<Item = ApplicationId>,
        endpoints: impl IntoIterator<Item = Endpoint>,
    ) -> Result<Registry, RegistryError> {
        let mut registry = Registry::default();
        for id in applications {
            registry.change(&id, |application| application.is_listed = true);
        }
        for endpoint in endpoints {
            registry.add(Arc::new(endpoint))?;
        }
        Ok(registry)
    }

    /// With these limits of applications, which are known by them.
    pub fn with_throttle_rates(
        mut self,
        throttle_rates: impl IntoIterator<Item = (ApplicationId, ThrottleRate)>,
    ) -> Registry {
        for (id, rate) in throttle_rates {
            self.change(&id, |application| {
                application.is_listed = true;
                application.throttle_rate = Some(rate);
            });
        }
        self
    }

    /// Without anything; `organisation` is the one that speaks where none is named.
    pub fn of(organisation: &str) -> Registry {
        Registry {
            organisation: organisation.into(),
            ..Registry::default()
        }
    }

    /// Adds an application, or changes whose it is and how it is called.
    pub fn own(&mut self, owned: Owned) {
        let organisation = match owned.organisation == *self.organisation {
            true => self.organisation.clone(),
            false => owned.organisation.into(),
        };
        self.forget_uid(&owned.id);
        if let Some(uid) = &owned.uid {
            let name = Uid::name_of(&organisation, uid);
            let id = owned.id.clone();
            self.uids.put(Arc::new(Uid { name, id }));
        }
        let owner = Owner {
            organisation,
            uid: owned.uid,
            throttle_rate: owned.throttle_rate,
        };
        self.change(&owned.id, |application| application.owner = Some(owner));
    }

    /// An application is nobody's any more. It is known as long as it has endpoints.
    pub fn disown(&mut self, id: &ApplicationId) {
        self.forget_uid(id);
        self.change(id, |application| application.owner = None);
    }

    /// Adds an endpoint, or puts it in the place of the application's one with its id.
    ///
    /// # Errors
    /// When another application has an endpoint with its id. Nothing has changed then.
    pub fn put(&mut self, endpoint: Arc<Endpoint>) -> Result<(), RegistryError> {
        let Some(earlier) = self.endpoints.get(endpoint.id.as_str()).cloned() else {
            return self.add(endpoint);
        };
        if earlier.application != endpoint.application {
            return Err(RegistryError::EndpointTwice(endpoint.id.clone()));
        }
        self.change(&endpoint.application, |application| {
            let is_it = |known: &&mut Arc<Endpoint>| Arc::ptr_eq(known, &earlier);
            if let Some(place) = application.endpoints.iter_mut().find(is_it) {
                *place = endpoint.clone();
            }
        });
        self.endpoints.put(endpoint);
        Ok(())
    }

    /// Takes an endpoint away.
    pub fn remove(&mut self, id: &EndpointId) {
        if let Some(gone) = self.endpoints.remove(id.as_str()) {
            self.change(&gone.application, |application| {
                application.endpoints.retain(|known| !Arc::ptr_eq(known, &gone));
            });
        }
    }

    /// What stands here and in the other one, which has no organisations. Its applications are those of the organisation that speaks where none
    /// is named.
    ///
    /// # Errors
    /// When an endpoint id stands in both.
    pub fn beside(&self, other: &Registry) -> Result<Registry, RegistryError> {
        let (more, less) = match other.endpoints.len() > self.endpoints.len() {
            true => (other, self),
            false => (self, other),
        };
        let mut both = Registry {
            organisation: self.organisation.clone(),
            ..more.clone()
        };
        for uid in less.uids.iter() {
            both.uids.put(uid.clone());
        }
        for known in less.applications.iter() {
            both.change(&known.id, |application| {
                application.is_listed |= known.is_listed;
                application.throttle_rate = application.throttle_rate.or(known.throttle_rate);
                application.owner = application.owner.take().or_else(|| known.owner.clone());
            });
            for endpoint in &known.endpoints {
                both.add(endpoint.clone())?;
            }
        }
        Ok(both)
    }

    /// Adds an endpoint whose id is new.
    fn add(&mut self, endpoint: Arc<Endpoint>) -> Result<(), RegistryError> {
        if self.endpoint(&endpoint.id).is_some() {
            return Err(RegistryError::EndpointTwice(endpoint.id.clone()));
        }
        self.change(&endpoint.application, |application| {
            application.endpoints.push(endpoint.clone());
        });
        self.endpoints.put(endpoint);
        Ok(())
    }

    /// Changes an application; one that is unknown is made, and one that nothing speaks of any more is gone.
    fn change(&mut self, id: &ApplicationId, change: impl FnOnce(&mut Application)) {
        let mut application = self.applications.remove(id.as_str()).unwrap_or_else(|| {
            Arc::new(Application {
                id: id.clone(),
                is_listed: false,
                throttle_rate: None,
                owner: None,
                endpoints: Vec::new(),
            })
        });
        // In place, unless another registry has it too.
        change(Arc::make_mut(&mut application));
        if application.is_known() {
            self.applications.put(application);
        }
    }

    fn forget_uid(&mut self, id: &ApplicationId) {
        let Some(owner) = self.application(id).and_then(|known| known.owner.as_ref()) else {
            return;
        };
        let Some(uid) = &owner.uid else {
            return;
        };
        let name = Uid::name_of(&owner.organisation, uid);
        // Another one may be called so by now.
        if self.uids.get(&name).is_some_and(|uid| uid.id == *id) {
            self.uids.remove(&name);
        }
    }

    fn application(&self, id: &ApplicationId) -> Option<&Arc<Application>> {
        self.applications.get(id.as_str())
    }

    fn of_uid(&self, organisation: &str, uid: &ApplicationId) -> Option<&ApplicationId> {
        let named = self.uids.get(&Uid::name_of(organisation, uid))?;
        Some(&named.id)
    }

    /// The id of the application that is called so, by its id, or by its uid in the organisation that speaks where none is named.
    pub fn resolve(&self, name: &ApplicationId) -> Option<&ApplicationId> {
        let by_id = self.application(name).map(|known| &known.id);
        by_id.or_else(|| self.of_uid(&self.organisation, name))
    }

    /// The id of this organisation's application that is called so, by its id or its uid.
    pub fn resolve_in(&self, organisation: &str, name: &ApplicationId) -> Option<&ApplicationId> {
        let by_id = self.application(name).filter(|known| {
            let owner = known.owner.as_ref().map(|owner| &owner.organisation);
            **owner.unwrap_or(&self.organisation) == *organisation
        });
        by_id
            .map(|known| &known.id)
            .or_else(|| self.of_uid(organisation, name))
    }

    /// The other name of the application with this id.
    pub fn uid(&self, id: &ApplicationId) -> Option<&ApplicationId> {
        self.application(id)?.owner.as_ref()?.uid.as_ref()
    }

    /// Whether the application is known, by its id or its uid.
    pub fn knows(&self, application: &ApplicationId) -> bool {
        self.resolve(application).is_some()
    }

    /// Most attempts a second at all endpoints of an application together.
    pub fn throttle_rate(&self, application: &ApplicationId) -> Option<ThrottleRate> {
        let known = self.application(application)?;
        let of_owner = known.owner.as_ref().and_then(|owner| owner.throttle_rate);
        of_owner.or(known.throttle_rate)
    }

    /// One endpoint.
    pub fn endpoint(&self, id: &EndpointId) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(id.as_str())
    }

    /// All endpoints, in no order.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.iter()
    }

    /// All applications, in no order.
    pub fn applications(&self) -> impl Iterator<Item = &ApplicationId> {
        self.applications.iter().map(|known| &known.id)
    }

    /// The endpoints that want this event, in the order of the configuration. The cost depends on the application's
    /// endpoints alone, not on how many are registered.
    pub fn route<'a>(&'a self, event: &'a Event) -> impl Iterator<Item = &'a Arc<Endpoint>> {
        self.application(&event.application)
            .into_iter()
            .flat_map(|known| &known.endpoints)
            .filter(|endpoint| endpoint.wants(&event.event_type, &event.channels))
    }
}

#[cfg(test)]
mod tests;
