//! `/app`: applications.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use hooklane_store::catalog::{Address, CatalogError, Kind};
use hooklane_store::items;
use hooklane_types::ApplicationId;
use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answer::Refusal;
use crate::auth::{Caller, Organisation};
use crate::body::Json;
use crate::list::List;
use crate::operation::{Need, Operation};
use crate::patch::{Field, not_null};
use crate::path::Path;
use crate::query::Query;
use crate::rate::{self, Rate};
use crate::state::{Api, Read};
use crate::text::{Metadata, Name, Uid, time};

/// `ApplicationIn`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(crate) struct ApplicationIn {
    name: Name,
    #[serde(default)]
    uid: Option<Uid>,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    throttle_rate: Option<Rate>,
    /// What older clients call `throttleRate`.
    #[serde(default)]
    rate_limit: Option<Rate>,
}

/// `ApplicationPatch`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(crate) struct ApplicationPatch {
    #[serde(default, deserialize_with = "not_null")]
    #[schemars(with = "Name")]
    name: Option<Name>,
    #[serde(default)]
    uid: Field<Uid>,
    #[serde(default, deserialize_with = "not_null")]
    #[schemars(with = "Metadata")]
    metadata: Option<Metadata>,
    #[serde(default)]
    throttle_rate: Field<Rate>,
    /// What older clients call `throttleRate`.
    #[serde(default)]
    rate_limit: Field<Rate>,
}

/// `ApplicationOut`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApplicationOut {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    name: String,
    metadata: BTreeMap<String, String>,
    throttle_rate: Option<u16>,
    created_at: String,
    updated_at: String,
}

impl From<Read<items::Application>> for ApplicationOut {
    fn from(read: Read<items::Application>) -> ApplicationOut {
        ApplicationOut {
            id: read.document.address.id,
            uid: read.document.uid,
            name: read.item.name,
            metadata: read.item.metadata,
            throttle_rate: read.item.throttle_rate.map(Into::into),
            created_at: time(read.document.created_at),
            updated_at: time(read.document.updated_at),
        }
    }
}

impl ApplicationIn {
    fn into_parts(self) -> Result<(Option<String>, items::Application), Refusal> {
        let throttle_rate = rate::one(self.throttle_rate, self.rate_limit)?;
        let item = items::Application {
            name: self.name.into_text(),
            metadata: self.metadata.into(),
            throttle_rate: throttle_rate.map(Into::into),
        };
        Ok((self.uid.map(Into::into), item))
    }
}

pub(crate) fn operations() -> Vec<Operation> {
    const ALL: &str = "/app";
    const ONE: &str = "/app/{app_id}";
    vec![
        Operation::new(Method::GET, ALL, "v1.application.list", "List applications", list)
            .needs(Need::Organisation)
            .pages()
            .answers::<List<ApplicationOut>>(200),
        Operation::new(
            Method::POST,
            ALL,
            "v1.application.create",
            "Create an application",
            create,
        )
        .needs(Need::Organisation)
        .flag("get_if_exists", "Whether the one that has the uid is answered")
        .takes::<ApplicationIn>()
        .answers::<ApplicationOut>(200)
        .answers::<ApplicationOut>(201),
        Operation::new(Method::GET, ONE, "v1.application.get", "Get an application", get)
            .answers::<ApplicationOut>(200),
        Operation::new(
            Method::PUT,
            ONE,
            "v1.application.update",
            "Replace an application",
            put,
        )
        .needs(Need::Organisation)
        .takes::<ApplicationIn>()
        .answers::<ApplicationOut>(200)
        .answers::<ApplicationOut>(201),
        Operation::new(
            Method::PATCH,
            ONE,
            "patch_application",
            "Change an application",
            patch,
        )
        .needs(Need::Organisation)
        .takes::<ApplicationPatch>()
        .answers::<ApplicationOut>(200),
        Operation::new(
            Method::DELETE,
            ONE,
            "v1.application.delete",
            "Delete an application",
            delete,
        )
        .needs(Need::Organisation)
        .answers_nothing(204),
    ]
}

type Answer = Result<(StatusCode, Out<ApplicationOut>), Refusal>;

async fn list(
    State(api): State<Arc<Api>>,
    Organisation(organisation): Organisation,
    mut query: Query,
) -> Result<Out<List<ApplicationOut>>, Refusal> {
    let part = query.part();
    query.finish()?;
    let found = api.page(Kind::Application, &organisation, &part).await?;
    let data = found.into_iter().map(ApplicationOut::from).collect();
    Ok(Out(List::new(&part, data, |out| out.id.clone())))
}

async fn create(
    State(api): State<Arc<Api>>,
    Organisation(organisation): Organisation,
    mut query: Query,
    Json(body): Json<ApplicationIn>,
) -> Answer {
    let get_if_exists = query.flag("get_if_exists");
    query.finish()?;
    let (uid, item) = body.into_parts()?;
    match (add(&api, &organisation, uid.clone(), item).await, uid) {
        (Err(CatalogError::UidTaken), Some(uid)) if get_if_exists => {
            let found = api.read::<items::Application>(Kind::Application, &organisation, &uid);
            Ok((StatusCode::OK, Out(found.await?.into())))
        }
        (added, _) => Ok((StatusCode::CREATED, Out(added?.into()))),
    }
}

async fn add(
    api: &Api,
    organisation: &str,
    uid: Option<String>,
    item: items::Application,
) -> Result<Read<items::Application>, CatalogError> {
    let address = Address {
        kind: Kind::Application,
        scope: organisation.to_owned(),
        id: ApplicationId::fresh(api.now(), rand::random()).to_string(),
    };
    api.insert(address, uid, item).await
}

/// Makes one that is called as a path says, and says its id.
pub(crate) async fn named(
    api: &Api,
    organisation: &str,
    name: String,
    mut body: ApplicationIn,
) -> Result<String, Refusal> {
    let wrong = |why: &str| Refusal::field(["body", "application", "uid"], why, "value_error");
    let uid = Uid::try_from(name).map_err(|why| wrong(&why))?;
    if body.uid.as_ref().is_some_and(|given| *given != uid) {
        return Err(wrong("this is another uid than the path's"));
    }
    body.uid = Some(uid);
    let (uid, item) = body.into_parts()?;
    Ok(add(api, organisation, uid, item).await?.document.address.id)
}

async fn get(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(application): Path<String>,
    query: Query,
) -> Result<Out<ApplicationOut>, Refusal> {
    query.finish()?;
    let found = caller.application(&api, &application).await?;
    let read: Read<items::Application> = found.try_into()?;
    Ok(Out(read.into()))
}

async fn put(
    State(api): State<Arc<Api>>,
    Organisation(organisation): Organisation,
    Path(application): Path<String>,
    query: Query,
    Json(body): Json<ApplicationIn>,
) -> Answer {
    query.finish()?;
    let (uid, item) = body.into_parts()?;
    let changed = api.change(Kind::Application, &organisation, &application, |_, at, there| {
        *at = uid.clone();
        *there = item.clone();
        Ok(())
    });
    match changed.await {
        Err(Refusal::NotFound) => {
            let added = add(&api, &organisation, uid, item).await?;
            Ok((StatusCode::CREATED, Out(added.into())))
        }
        changed => Ok((StatusCode::OK, Out(changed?.into()))),
    }
}

async fn patch(
    State(api): State<Arc<Api>>,
    Organisation(organisation): Organisation,
    Path(application): Path<String>,
    query: Query,
    Json(body): Json<ApplicationPatch>,
) -> Result<Out<ApplicationOut>, Refusal> {
    query.finish()?;
    let throttle_rate = rate::one_field(body.throttle_rate.clone(), body.rate_limit.clone())?;
    let changed = api.change(
        Kind::Application,
        &organisation,
        &application,
        |_, uid, item: &mut items::Application| {
            let body = body.clone();
            *uid = body.uid.or(uid.take());
            if let Some(name) = body.name {
                item.name = name.into_text();
            }
            if let Some(metadata) = body.metadata {
                item.metadata = metadata.into();
            }
            item.throttle_rate = throttle_rate.clone().or(item.throttle_rate);
            Ok(())
        },
    );
    Ok(Out(changed.await?.into()))
}

async fn delete(
    State(api): State<Arc<Api>>,
    Organisation(organisation): Organisation,
    Path(application): Path<String>,
    query: Query,
) -> Result<StatusCode, Refusal> {
    query.finish()?;
    api.remove(Kind::Application, &organisation, &application).await?;
    Ok(StatusCode::NO_CONTENT)
}
