//! `/app/{application}/endpoint`: endpoints.

mod delivery;
pub(crate) mod fields;
mod headers;
mod messages;
pub(crate) mod recover;
mod secret;
mod send_example;
mod stats;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use hooklane_store::catalog::{Address, Document, Kind};
use hooklane_store::items::{self, EndpointSecrets};
use hooklane_types::operational::News;
use hooklane_types::{Channel, EndpointId, EventType};
use http::{Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use self::delivery::{DeliveryIn, DeliveryOut};
use self::fields::{Channels, EventTypes, SecretText, Target, Version};
use crate::answer::Refusal;
use crate::auth::Caller;
use crate::body::Json;
use crate::list::List;
use crate::operation::Operation;
use crate::patch::{Field, not_null};
use crate::path::Path;
use crate::query::Query;
use crate::rate::{self, Rate};
use crate::state::{Api, Read};
use crate::text::{Line, Metadata, Uid, time};

/// `EndpointIn`, and `EndpointUpdate` where no secret may be given.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(crate) struct EndpointIn {
    url: Target,
    #[serde(default)]
    description: Line,
    #[serde(default)]
    uid: Option<Uid>,
    #[serde(default)]
    disabled: bool,
    #[serde(default, alias = "filterTypes")]
    event_types: Option<EventTypes>,
    #[serde(default)]
    channels: Option<Channels>,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    secret: Option<SecretText>,
    #[serde(default, rename = "version")]
    _version: Version,
    #[serde(default)]
    throttle_rate: Option<Rate>,
    /// What older clients call `throttleRate`.
    #[serde(default)]
    rate_limit: Option<Rate>,
    /// Missing, it stays as it is.
    #[serde(default)]
    hooklane: Field<DeliveryIn>,
}

/// `EndpointUpdate`: there is a path of its own for the secret.
struct EndpointUpdate;

impl JsonSchema for EndpointUpdate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EndpointUpdate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = EndpointIn::json_schema(generator);
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.remove("secret");
        }
        schema
    }
}

/// `EndpointPatch`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(crate) struct EndpointPatch {
    #[serde(default, deserialize_with = "not_null")]
    #[schemars(with = "Target")]
    url: Option<Target>,
    #[serde(default, deserialize_with = "not_null")]
    #[schemars(with = "Line")]
    description: Option<Line>,
    #[serde(default)]
    uid: Field<Uid>,
    #[serde(default, deserialize_with = "not_null")]
    #[schemars(with = "bool")]
    disabled: Option<bool>,
    #[serde(default, alias = "filterTypes")]
    event_types: Field<EventTypes>,
    #[serde(default)]
    channels: Field<Channels>,
    #[serde(default, deserialize_with = "not_null")]
    #[schemars(with = "Metadata")]
    metadata: Option<Metadata>,
    #[serde(default, rename = "version")]
    _version: Version,
    #[serde(default)]
    throttle_rate: Field<Rate>,
    /// What older clients call `throttleRate`.
    #[serde(default)]
    rate_limit: Field<Rate>,
    /// Missing, it stays as it is.
    #[serde(default)]
    hooklane: Field<DeliveryIn>,
}

/// `EndpointOut`, with the fields that older clients still read.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointOut {
    id: String,
    uid: Option<String>,
    #[schemars(with = "String")]
    url: Url,
    description: String,
    disabled: bool,
    #[schemars(with = "Option<Vec<String>>")]
    event_types: Option<Vec<EventType>>,
    #[schemars(with = "Option<Vec<String>>")]
    filter_types: Option<Vec<EventType>>,
    #[schemars(with = "Option<Vec<String>>")]
    channels: Option<Vec<Channel>>,
    metadata: BTreeMap<String, String>,
    throttle_rate: Option<u16>,
    rate_limit: Option<u16>,
    version: u16,
    hooklane: DeliveryOut,
    created_at: String,
    updated_at: String,
}

impl From<Read<items::Endpoint>> for EndpointOut {
    fn from(Read { document, item }: Read<items::Endpoint>) -> EndpointOut {
        EndpointOut {
            hooklane: DeliveryOut::from(&item),
            id: document.address.id,
            uid: document.uid,
            url: item.url,
            description: item.description,
            disabled: item.disabled,
            filter_types: item.event_types.clone(),
            event_types: item.event_types,
            channels: item.channels,
            metadata: item.metadata,
            throttle_rate: item.throttle_rate.map(Into::into),
            rate_limit: item.throttle_rate.map(Into::into),
            version: fields::VERSION,
            created_at: time(document.created_at),
            updated_at: time(document.updated_at),
        }
    }
}

impl EndpointIn {
    /// What the body says, beside the secrets.
    fn write(self, uid: &mut Option<String>, item: &mut items::Endpoint) -> Result<(), Refusal> {
        let throttle_rate = rate::one(self.throttle_rate, self.rate_limit)?;
        item.throttle_rate = throttle_rate.map(Into::into);
        *uid = self.uid.map(Into::into);
        item.url = self.url.into();
        item.description = self.description.into();
        item.disabled = self.disabled;
        item.event_types = self.event_types.map(Into::into);
        item.channels = self.channels.map(Into::into);
        item.metadata = self.metadata.into();
        write_delivery(self.hooklane, item);
        Ok(())
    }
}

/// `null` takes everything back to what it is without.
fn write_delivery(given: Field<DeliveryIn>, item: &mut items::Endpoint) {
    match given {
        Field::Missing => {}
        Field::Null => DeliveryIn::reset().write(item),
        Field::Given(delivery) => delivery.write(item),
    }
}

impl EndpointPatch {
    fn write(self, uid: &mut Option<String>, item: &mut items::Endpoint) -> Result<(), Refusal> {
        let throttle_rate = rate::one_field(self.throttle_rate, self.rate_limit)?;
        item.throttle_rate = throttle_rate.or(item.throttle_rate);
        *uid = self.uid.or(uid.take());
        if let Some(url) = self.url {
            item.url = url.into();
        }
        if let Some(description) = self.description {
            item.description = description.into();
        }
        if let Some(disabled) = self.disabled {
            item.disabled = disabled;
        }
        item.event_types = self.event_types.or(item.event_types.take());
        item.channels = self.channels.or(item.channels.take());
        if let Some(metadata) = self.metadata {
            item.metadata = metadata.into();
        }
        write_delivery(self.hooklane, item);
        Ok(())
    }
}

impl Api {
    /// Whether deliveries to this URL are possible at all.
    fn check_url(&self, url: &Target) -> Result<(), Refusal> {
        match url.is_plain() && self.https_only {
            false => Ok(()),
            true => Err(Refusal::field(
                ["body", "url"],
                "only https is allowed here",
                "value_error",
            )),
        }
    }

    /// The endpoint with this id or uid.
    pub(crate) async fn endpoint(
        &self,
        application: &Document,
        id_or_uid: &str,
    ) -> Result<Read<items::Endpoint>, Refusal> {
        self.read(Kind::Endpoint, &application.address.id, id_or_uid)
            .await
    }

    fn open(&self, address: &Address, item: &items::Endpoint) -> Result<EndpointSecrets, Refusal> {
        let opened = EndpointSecrets::open(&self.vault, &address.id, &item.sealed);
        opened.map_err(|error| Refusal::Broken(format!("the secrets of {}: {error}", address.id)))
    }

    /// That the endpoint's secrets go with another format than before.
    fn check_signature(
        &self,
        before: &items::Signature,
        address: &Address,
        item: &items::Endpoint,
    ) -> Result<(), Refusal> {
        if item.signature == *before {
            return Ok(());
        }
        delivery::check(item, &self.open(address, item)?, self.now())
    }

    /// Changes an endpoint's secrets.
    async fn change_secrets(
        &self,
        application: &Document,
        id_or_uid: &str,
        mut change: impl FnMut(&items::Endpoint, &mut EndpointSecrets) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let scope = &application.address.id;
        let changed = self.change(
            Kind::Endpoint,
            scope,
            id_or_uid,
            |address, _, item: &mut items::Endpoint| {
                let mut secrets = self.open(address, item)?;
                change(item, &mut secrets)?;
                item.sealed = secrets.seal(&self.vault, &address.id);
                Ok(())
            },
        );
        let changed = changed.await?;
        self.tell(News::EndpointUpdated, application, &changed.document)
            .await;
        Ok(())
    }
}

pub(crate) fn operations() -> Vec<Operation> {
    const ALL: &str = "/app/{app_id}/endpoint";
    const ONE: &str = "/app/{app_id}/endpoint/{endpoint_id}";
    let mut all = vec![
        Operation::new(Method::GET, ALL, "v1.endpoint.list", "List endpoints", list)
            .pages()
            .answers::<List<EndpointOut>>(200),
        Operation::new(
            Method::POST,
            ALL,
            "v1.endpoint.create",
            "Create an endpoint",
            create,
        )
        .takes::<EndpointIn>()
        .answers::<EndpointOut>(201),
        Operation::new(Method::GET, ONE, "v1.endpoint.get", "Get an endpoint", get)
            .answers::<EndpointOut>(200),
        Operation::new(Method::PUT, ONE, "v1.endpoint.update", "Replace an endpoint", put)
            .takes::<EndpointUpdate>()
            .answers::<EndpointOut>(200)
            .answers::<EndpointOut>(201),
        Operation::new(Method::PATCH, ONE, "patch_endpoint", "Change an endpoint", patch)
            .takes::<EndpointPatch>()
            .answers::<EndpointOut>(200),
        Operation::new(
            Method::DELETE,
            ONE,
            "v1.endpoint.delete",
            "Delete an endpoint",
            delete,
        )
        .answers_nothing(204),
    ];
    all.extend(headers::operations());
    all.extend(secret::operations());
    all.extend(messages::operations());
    all.extend(stats::operations());
    all.extend(recover::operations());
    all.extend(send_example::operations());
    all
}

type Answer = Result<(StatusCode, Out<EndpointOut>), Refusal>;

async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(application): Path<String>,
    mut query: Query,
) -> Result<Out<List<EndpointOut>>, Refusal> {
    let application = caller.application(&api, &application).await?;
    let part = query.part();
    query.finish()?;
    let found = api.page(Kind::Endpoint, &application.address.id, &part).await?;
    let data = found.into_iter().map(EndpointOut::from).collect();
    Ok(Out(List::new(&part, data, |out| out.id.clone())))
}

async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(application): Path<String>,
    query: Query,
    Json(body): Json<EndpointIn>,
) -> Answer {
    let application = caller.application(&api, &application).await?;
    query.finish()?;
    let added = add(&api, &application, body).await?;
    Ok((StatusCode::CREATED, Out(added.into())))
}

async fn add(api: &Api, application: &Document, body: EndpointIn) -> Result<Read<items::Endpoint>, Refusal> {
    api.check_url(&body.url)?;
    let address = Address {
        kind: Kind::Endpoint,
        scope: application.address.id.clone(),
        id: EndpointId::fresh(api.now(), rand::random()).to_string(),
    };
    let mut uid = None;
    let secret = body.secret.clone();
    let mut item = items::Endpoint {
        url: body.url.clone().into(),
        description: String::new(),
        disabled: false,
        event_types: None,
        channels: None,
        metadata: BTreeMap::new(),
        throttle_rate: None,
        retry: None,
        signature: items::Signature::default(),
        sealed: String::new(),
    };
    body.write(&mut uid, &mut item)?;
    let secrets = EndpointSecrets {
        current: secret::current(secret, &item.signature, "secret")?,
        old: Vec::new(),
        headers: BTreeMap::new(),
    };
    delivery::check(&item, &secrets, api.now())?;
    item.sealed = secrets.seal(&api.vault, &address.id);
    let added = api.insert(address, uid, item).await?;
    api.tell(News::EndpointCreated, application, &added.document)
        .await;
    Ok(added)
}

async fn get(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, endpoint)): Path<(String, String)>,
    query: Query,
) -> Result<Out<EndpointOut>, Refusal> {
    query.finish()?;
    let application = caller.application(&api, &application).await?;
    Ok(Out(api.endpoint(&application, &endpoint).await?.into()))
}

async fn put(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, endpoint)): Path<(String, String)>,
    query: Query,
    Json(body): Json<EndpointIn>,
) -> Answer {
    query.finish()?;
    if body.secret.is_some() {
        let msg = "a secret is changed by …/secret/rotate";
        return Err(Refusal::field(["body", "secret"], msg, "value_error.unknown"));
    }
    let application = caller.application(&api, &application).await?;
    api.check_url(&body.url)?;
    let changed = api.change(
        Kind::Endpoint,
        &application.address.id,
        &endpoint,
        |address, uid, item: &mut items::Endpoint| {
            let before = item.signature.clone();
            body.clone().write(uid, item)?;
            api.check_signature(&before, address, item)
        },
    );
    match changed.await {
        Err(Refusal::NotFound) => {
            let added = add(&api, &application, body).await?;
            Ok((StatusCode::CREATED, Out(added.into())))
        }
        changed => {
            let changed = changed?;
            api.tell(News::EndpointUpdated, &application, &changed.document)
                .await;
            Ok((StatusCode::OK, Out(changed.into())))
        }
    }
}

async fn patch(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, endpoint)): Path<(String, String)>,
    query: Query,
    Json(body): Json<EndpointPatch>,
) -> Result<Out<EndpointOut>, Refusal> {
    query.finish()?;
    let application = caller.application(&api, &application).await?;
    if let Some(url) = &body.url {
        api.check_url(url)?;
    }
    let changed = api.change(
        Kind::Endpoint,
        &application.address.id,
        &endpoint,
        |address, uid, item: &mut items::Endpoint| {
            let before = item.signature.clone();
            body.clone().write(uid, item)?;
            api.check_signature(&before, address, item)
        },
    );
    let changed = changed.await?;
    api.tell(News::EndpointUpdated, &application, &changed.document)
        .await;
    Ok(Out(changed.into()))
}

async fn delete(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, endpoint)): Path<(String, String)>,
    query: Query,
) -> Result<StatusCode, Refusal> {
    query.finish()?;
    let application = caller.application(&api, &application).await?;
    let removed = api
        .remove(Kind::Endpoint, &application.address.id, &endpoint)
        .await?;
    api.tell(News::EndpointDeleted, &application, &removed).await;
    Ok(StatusCode::NO_CONTENT)
}
