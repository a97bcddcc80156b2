//! Applications and endpoints in memory, and which endpoints an event goes to.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::id::{ApplicationId, EndpointId};

/// Why a registry can't be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Two endpoints share an id.
    #[error("endpoint id {0} is used twice")]
    EndpointTwice(EndpointId),
}

/// What ingest and dispatcher know of applications and endpoints. Never changed in place: a new one replaces it.
#[derive(Debug, Default)]
pub struct Registry {
    applications: HashSet<ApplicationId>,
    /// Other names of applications.
    uids: HashMap<ApplicationId, ApplicationId>,
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

    /// Gives applications further names: pairs of uid and id. An application's own id comes before another's uid.
    #[must_use]
    pub fn with_uids(mut self, uids: impl IntoIterator<Item = (ApplicationId, ApplicationId)>) -> Registry {
        self.uids = uids.into_iter().collect();
        self
    }

    /// The id of the application that is called so, by its id or its uid; none when none is.
    pub fn resolve<'a>(&'a self, name: &ApplicationId) -> Option<&'a ApplicationId> {
        self.applications.get(name).or_else(|| self.uids.get(name))
    }

    /// Whether the application is known, by its id or its uid.
    pub fn knows(&self, application: &ApplicationId) -> bool {
        self.resolve(application).is_some()
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
