//! Applications and endpoints in memory, and which endpoints an event goes to.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

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

#[derive(Debug)]
struct Owner {
    organisation: String,
    uid: Option<ApplicationId>,
}

/// Whose applications are, and how they are called.
#[derive(Debug, Default)]
struct Names {
    /// The organisation that speaks where none is named.
    organisation: String,
    owners: HashMap<ApplicationId, Owner>,
    /// Ids by organisation and uid.
    uids: HashMap<String, HashMap<ApplicationId, ApplicationId>>,
}

/// What ingest and dispatcher know of applications and endpoints. Never changed in place: a new one replaces it.
#[derive(Debug, Default)]
pub struct Registry {
    applications: HashSet<ApplicationId>,
    throttle_rates: HashMap<ApplicationId, ThrottleRate>,
    names: Names,
    endpoints: HashMap<EndpointId, Arc<Endpoint>>,
    by_application: HashMap<ApplicationId, Vec<Arc<Endpoint>>>,
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
        Registry::shared(applications, endpoints.into_iter().map(Arc::new))
    }

    /// As `new`, of endpoints that stand in an earlier registry too.
    ///
    /// # Errors
    /// When an endpoint id stands twice.
    pub fn shared(
        applications: impl IntoIterator<Item = ApplicationId>,
        endpoints: impl IntoIterator<Item = Arc<Endpoint>>,
    ) -> Result<Registry, RegistryError> {
        let mut registry = Registry {
            applications: applications.into_iter().collect(),
            ..Registry::default()
        };
        for endpoint in endpoints {
            registry.applications.insert(endpoint.application.clone());
            registry
                .by_application
                .entry(endpoint.application.clone())
                .or_default()
                .push(endpoint.clone());
            if let Some(earlier) = registry.endpoints.insert(endpoint.id.clone(), endpoint) {
                return Err(RegistryError::EndpointTwice(earlier.id.clone()));
            }
        }
        Ok(registry)
    }

    /// With these limits of applications.
    pub fn with_throttle_rates(
        self,
        throttle_rates: impl IntoIterator<Item = (ApplicationId, ThrottleRate)>,
    ) -> Registry {
        Registry {
            throttle_rates: throttle_rates.into_iter().collect(),
            ..self
        }
    }

    /// What stands here, and what belongs to organisations; `organisation` is the one that speaks where none is named. Applications
    /// that stand here are its own.
    ///
    /// # Errors
    /// When an endpoint id stands twice.
    pub fn with_owned(
        &self,
        organisation: &str,
        applications: impl IntoIterator<Item = Owned>,
        endpoints: impl IntoIterator<Item = Arc<Endpoint>>,
    ) -> Result<Registry, RegistryError> {
        let mut names = Names {
            organisation: organisation.to_owned(),
            ..Names::default()
        };
        let mut ids: Vec<ApplicationId> = self.applications.iter().cloned().collect();
        let mut throttle_rates = self.throttle_rates.clone();
        for Owned {
            id,
            organisation,
            uid,
            throttle_rate,
        } in applications
        {
            ids.push(id.clone());
            throttle_rates.extend(throttle_rate.map(|rate| (id.clone(), rate)));
            let owner = Owner {
                organisation: organisation.clone(),
                uid: uid.clone(),
            };
            names.owners.insert(id.clone(), owner);
            if let Some(uid) = uid {
                names.uids.entry(organisation).or_default().insert(uid, id);
            }
        }
        let here = self.by_application.values().flatten().cloned();
        let registry = Registry::shared(ids, here.chain(endpoints))?;
        Ok(Registry {
            names,
            throttle_rates,
            ..registry
        })
    }

    /// The id of the application that is called so, by its id, or by its uid in the organisation that speaks where none is named.
    pub fn resolve(&self, name: &ApplicationId) -> Option<&ApplicationId> {
        let of_uid = || self.names.uids.get(&self.names.organisation)?.get(name);
        self.applications.get(name).or_else(of_uid)
    }

    /// The id of this organisation's application that is called so, by its id or its uid.
    pub fn resolve_in(&self, organisation: &str, name: &ApplicationId) -> Option<&ApplicationId> {
        let by_id = self.applications.get(name).filter(|id| {
            let owner = self.names.owners.get(*id);
            owner.map_or(&self.names.organisation, |owner| &owner.organisation) == organisation
        });
        let of_uid = || self.names.uids.get(organisation)?.get(name);
        by_id.or_else(of_uid)
    }

    /// The other name of the application with this id.
    pub fn uid(&self, id: &ApplicationId) -> Option<&ApplicationId> {
        self.names.owners.get(id)?.uid.as_ref()
    }

    /// Whether the application is known, by its id or its uid.
    pub fn knows(&self, application: &ApplicationId) -> bool {
        self.resolve(application).is_some()
    }

    /// Most attempts a second at all endpoints of an application together.
    pub fn throttle_rate(&self, application: &ApplicationId) -> Option<ThrottleRate> {
        self.throttle_rates.get(application).copied()
    }

    /// One endpoint.
    pub fn endpoint(&self, id: &EndpointId) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(id)
    }

    /// All endpoints, in no order.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values()
    }

    /// All applications, in no order.
    pub fn applications(&self) -> impl Iterator<Item = &ApplicationId> {
        self.applications.iter()
    }

    /// The endpoints that want this event, in the order of the configuration. The cost depends on the application's
    /// endpoints alone, not on how many are registered.
    pub fn route<'a>(&'a self, event: &'a Event) -> impl Iterator<Item = &'a Arc<Endpoint>> {
        self.by_application
            .get(&event.application)
            .into_iter()
            .flatten()
            .filter(|endpoint| endpoint.wants(&event.event_type, &event.channels))
    }
}

#[cfg(test)]
mod tests;
