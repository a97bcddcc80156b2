//! What is chosen, read from a query or a body.

use std::marker::PhantomData;

use hooklane_store::catalog;
use hooklane_types::{EndpointId, TypePattern, UnixMillis};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::Kind;
use super::port::{Reading, Selection};
use super::scope::Scope;
use crate::answer::Refusal;
use crate::query::Query;
use crate::state::Api;
use crate::text::Time;

/// A reason, by its name.
pub(crate) struct ReasonIn<K: Kind>(pub(crate) K::Reason, PhantomData<K>);

impl<K: Kind> ReasonIn<K> {
    fn parse(name: &str) -> Result<ReasonIn<K>, String> {
        let mut reasons = K::REASONS.iter().copied();
        let found = reasons.find(|reason| K::reason_name(*reason) == name);
        found.map(|reason| ReasonIn(reason, PhantomData)).ok_or_else(|| {
            let names: Vec<&str> = K::REASONS.iter().map(|reason| K::reason_name(*reason)).collect();
            format!("there is no such reason; reasons are {}", names.join(", "))
        })
    }
}

impl<'de, K: Kind> Deserialize<'de> for ReasonIn<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ReasonIn<K>, D::Error> {
        let name = String::deserialize(deserializer)?;
        ReasonIn::parse(&name).map_err(serde::de::Error::custom)
    }
}

impl<K: Kind> JsonSchema for ReasonIn<K> {
    fn inline_schema() -> bool {
        true
    }

    /// Whose names bear it.
    fn schema_name() -> std::borrow::Cow<'static, str> {
        K::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = K::REASONS.iter().map(|reason| K::reason_name(*reason)).collect();
        json_schema!({"type": "string", "enum": names})
    }
}

/// What is chosen: all conditions hold at once.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields, rename = "{R}FilterIn")]
pub(crate) struct FilterIn<R> {
    /// The one with this id, or those of this event.
    id: Option<String>,
    /// Of this application, by its id or uid.
    app_id: Option<String>,
    /// For this endpoint, by its id; with `appId`, by its uid too.
    endpoint_id: Option<String>,
    /// Of this type: `invoice.paid`, or `invoice.*` for all below.
    event_type: Option<String>,
    /// Lying there for this reason.
    reason: Option<R>,
    /// What came to the shelf earlier.
    before: Option<Time>,
    /// What came to the shelf later.
    after: Option<Time>,
}

/// Where a field stands, to be named when it is wrong.
#[derive(Clone, Copy)]
enum In {
    Query,
    Body,
}

impl In {
    fn refuse(self, in_query: &str, in_body: &str, why: impl Into<String>) -> Refusal {
        match self {
            In::Query => Refusal::field(["query", in_query], why, "value_error"),
            In::Body => Refusal::field(["body", "filter", in_body], why, "value_error"),
        }
    }
}

/// What is chosen, before names are looked up.
pub(crate) struct Chosen<K: Kind> {
    place: In,
    id: Option<String>,
    application: Option<String>,
    endpoint: Option<String>,
    event_type: Option<String>,
    reason: Option<K::Reason>,
    before: Option<UnixMillis>,
    after: Option<UnixMillis>,
}

impl<K: Kind> Chosen<K> {
    /// Nothing is left out.
    pub(crate) fn everything() -> Chosen<K> {
        Chosen {
            place: In::Body,
            id: None,
            application: None,
            endpoint: None,
            event_type: None,
            reason: None,
            before: None,
            after: None,
        }
    }

    /// The one with this id.
    pub(crate) fn one(id: String) -> Chosen<K> {
        Chosen {
            id: Some(id),
            ..Chosen::everything()
        }
    }

    pub(crate) fn of_query(query: &mut Query) -> Chosen<K> {
        let reason = query.take("reason").map(|name| ReasonIn::<K>::parse(&name));
        let reason = match reason.transpose() {
            Ok(reason) => reason.map(|ReasonIn(reason, _)| reason),
            Err(why) => {
                query.add("reason", &why);
                None
            }
        };
        let range = query.range();
        Chosen {
            place: In::Query,
            id: query.take("id"),
            application: query.take("app_id"),
            endpoint: query.take("endpoint_id"),
            event_type: query.take("event_type"),
            reason,
            before: range.before,
            after: range.after,
        }
    }

    pub(crate) fn of_body(filter: FilterIn<ReasonIn<K>>) -> Chosen<K> {
        Chosen {
            place: In::Body,
            id: filter.id,
            application: filter.app_id,
            endpoint: filter.endpoint_id,
            event_type: filter.event_type,
            reason: filter.reason.map(|ReasonIn(reason, _)| reason),
            before: filter.before.map(|Time(at)| at),
            after: filter.after.map(|Time(at)| at),
        }
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.id.is_none()
            && self.application.is_none()
            && self.endpoint.is_none()
            && self.event_type.is_none()
            && self.reason.is_none()
            && self.before.is_none()
            && self.after.is_none()
    }

    /// What a caller means by it.
    pub(crate) async fn selection(self, api: &Api, scope: &Scope) -> Result<Selection<K>, Refusal> {
        let application = match &self.application {
            Some(name) => Some(scope.application(&api.registry.borrow(), name)?),
            None => scope.application.clone(),
        };
        let endpoint = match &self.endpoint {
            Some(name) => {
                let of = application.as_ref().map(|id| id.as_str());
                Some(endpoint(api, of, name).await?.ok_or_else(|| {
                    let why =
                        "there is no such endpoint; by its uid it is known together with its application";
                    self.place.refuse("endpoint_id", "endpointId", why)
                })?)
            }
            None => None,
        };
        let event_type = self.event_type.as_deref().map(TypePattern::parse).transpose();
        let event_type =
            event_type.map_err(|error| self.place.refuse("event_type", "eventType", error.to_string()))?;
        Ok(Selection {
            whose: scope.whose(api),
            id: self.id,
            application,
            endpoint,
            event_type,
            reason: self.reason,
            after: self.after,
            before: self.before,
        })
    }
}

/// By its uid, where its application is known; else the text is its id, also of one that is gone.
async fn endpoint(api: &Api, application: Option<&str>, name: &str) -> Result<Option<EndpointId>, Refusal> {
    let found = match application {
        Some(id) => api.catalog.get(catalog::Kind::Endpoint, id, name).await?,
        None => None,
    };
    let id = found.map_or_else(|| name.to_owned(), |document| document.address.id);
    Ok(EndpointId::parse(&id).ok())
}

impl<K: Kind> Reading<K> {
    /// What is meant, for the log.
    pub(crate) fn words(&self) -> String {
        let Selection {
            whose: _,
            id,
            application,
            endpoint,
            event_type,
            reason,
            after,
            before,
        } = &self.selection;
        let conditions = [
            id.as_ref().map(|id| format!("id {id}")),
            application.as_ref().map(|id| format!("application {id}")),
            endpoint.as_ref().map(|id| format!("endpoint {id}")),
            event_type.as_ref().map(|pattern| format!("type {pattern}")),
            reason.map(|reason| format!("reason {}", K::reason_name(reason))),
            after.map(|at| format!("after {}", at.rfc3339())),
            before.map(|at| format!("before {}", at.rfc3339())),
        ];
        let words: Vec<String> = conditions.into_iter().flatten().collect();
        match words.is_empty() {
            true => "everything".to_owned(),
            false => words.join(", "),
        }
    }
}
