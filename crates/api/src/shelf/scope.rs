//! What of a shelf a caller may see. What belongs to others does not exist.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use hooklane_types::{ApplicationId, Registry};
use http::request::Parts;

use super::port::{ShelfError, Whose};
use super::{Kind, desk};
use crate::answer::Refusal;
use crate::auth::Caller;
use crate::state::Api;

/// A caller at a shelf.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) organisation: String,
    /// The only application that it speaks for.
    pub(crate) application: Option<ApplicationId>,
    /// It speaks for whoever runs Hooklane: what belongs to nobody else is shown to it.
    pub(crate) is_operator: bool,
}

/// May look at a shelf and replay from it. Found out before a body is read.
pub(crate) struct May<K>(pub(crate) Scope, pub(super) PhantomData<K>);

/// May purge it too.
pub(crate) struct MayPurge<K>(pub(crate) Scope, pub(super) PhantomData<K>);

impl<K: Kind> FromRequestParts<Arc<Api>> for May<K> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<May<K>, Refusal> {
        let caller = Caller::from_request_parts(parts, api).await?;
        let scope = Scope::of(api, caller)?;
        match K::IS_OPERATORS && !scope.is_operator {
            true => Err(Refusal::NotTheOperator),
            false => Ok(May(scope, PhantomData)),
        }
    }
}

impl<K: Kind> FromRequestParts<Arc<Api>> for MayPurge<K> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<MayPurge<K>, Refusal> {
        let May(scope, _) = May::<K>::from_request_parts(parts, api).await?;
        match scope.application {
            Some(_) => Err(Refusal::Forbidden),
            None => Ok(MayPurge(scope, PhantomData)),
        }
    }
}

impl Scope {
    fn of(api: &Api, caller: Caller) -> Result<Scope, Refusal> {
        let application = caller
            .application
            .as_deref()
            .map(ApplicationId::parse)
            .transpose();
        let application = application.map_err(|error| Refusal::Broken(error.to_string()))?;
        Ok(Scope {
            is_operator: application.is_none() && caller.organisation == api.organisation,
            organisation: caller.organisation,
            application,
        })
    }

    /// The application with this id or uid, if the caller may see it. Of one that is gone there may still be letters, which the operator finds by its id.
    pub(crate) fn application(&self, registry: &Registry, name: &str) -> Result<ApplicationId, Refusal> {
        let name = ApplicationId::parse(name).map_err(|_| Refusal::NotFound)?;
        let found = match registry.resolve_in(&self.organisation, &name) {
            Some(id) => id.clone(),
            None if self.is_operator => name,
            None => return Err(Refusal::NotFound),
        };
        match &self.application {
            Some(own) if *own != found => Err(Refusal::NotFound),
            _ => Ok(found),
        }
    }

    /// Whose messages it may see.
    pub(crate) fn whose(&self, api: &Api) -> Whose {
        let (registry, organisation) = (api.registry.clone(), self.organisation.clone());
        if let Some(own) = self.application.clone() {
            // A token outlives its application.
            return Arc::new(move |named| {
                named == Some(own.as_str()) && registry.borrow().resolve_in(&organisation, &own) == Some(&own)
            });
        }
        let is_operator = self.is_operator;
        Arc::new(move |named| {
            let Some(id) = named.and_then(|named| ApplicationId::parse(named).ok()) else {
                return is_operator;
            };
            let registry = registry.borrow();
            match registry.resolve_in(&organisation, &id) == Some(&id) {
                true => true,
                false => is_operator && registry.resolve(&id) != Some(&id),
            }
        })
    }

    /// What it is told when a shelf cannot be read. Who reads it is the operator's business alone.
    pub(crate) fn refusal<K: Kind>(&self, error: desk::Unread) -> Refusal {
        let general = "this shelf is being read by somebody else; ask again in a moment".to_owned();
        match error {
            desk::Unread::Job(job) if self.sees(&job.owner) => Refusal::Held(format!(
                "a {} of this shelf runs, {}: see {}, cancel it, or wait until it ends",
                job.task.name(),
                job.id,
                K::PATHS.job.replace("{job_id}", &job.id),
            )),
            desk::Unread::Shelf(ShelfError::Held(who)) if self.is_operator => Refusal::Held(who),
            desk::Unread::Job(_) | desk::Unread::Busy | desk::Unread::Shelf(ShelfError::Held(_)) => {
                Refusal::Held(general)
            }
            desk::Unread::Shelf(ShelfError::TooDeep { .. }) if self.is_operator => Refusal::Held(
                "too much lies in front of what is asked for; replay or purge the oldest first".to_owned(),
            ),
            desk::Unread::Shelf(ShelfError::TooDeep { .. }) => Refusal::Held(
                "too much lies in front of what is asked for; whoever runs this has to clear the shelf"
                    .to_owned(),
            ),
            desk::Unread::Shelf(ShelfError::Away(why)) => Refusal::ShelfAway(why),
            desk::Unread::Broken => Refusal::Broken("the reading of a shelf broke down".to_owned()),
        }
    }

    /// Whether a job is its business. The operator can end any that holds a shelf.
    pub(crate) fn sees(&self, owner: &Scope) -> bool {
        let is_own = self.organisation == owner.organisation
            && self
                .application
                .as_ref()
                .is_none_or(|own| owner.application.as_ref() == Some(own));
        self.is_operator || is_own
    }
}
