//! `/event-type`: what an organisation publishes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use hooklane_store::catalog::{Address, CatalogError, Kind};
use hooklane_store::items;
use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::Refusal;
use crate::auth::{Caller, Organisation};
use crate::body::Json;
use crate::list::List;
use crate::operation::{Need, Operation};
use crate::patch::{Field, not_null};
use crate::path::Path;
use crate::query::{Part, Query};
use crate::state::{Api, Read};
use crate::text::{Line, Uid, time};

/// `EventTypeIn`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(crate) struct EventTypeIn {
    name: Uid,
    // Not flattened: what serde flattens is not seen to be unknown.
    description: Line,
    #[serde(default)]
    archived: bool,
    #[serde(default)]
    deprecated: bool,
    #[serde(default)]
    schemas: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    feature_flag: Option<Uid>,
}

/// `EventTypeUpdate`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(crate) struct EventTypeUpdate {
    description: Line,
    #[serde(default)]
    archived: bool,
    #[serde(default)]
    deprecated: bool,
    #[serde(default)]
    schemas: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    feature_flag: Option<Uid>,
}

/// `EventTypePatch`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(crate) struct EventTypePatch {
    #[serde(default, deserialize_with = "not_null")]
    #[schemars(with = "Line")]
    description: Option<Line>,
    #[serde(default, deserialize_with = "not_null")]
    #[schemars(with = "bool")]
    archived: Option<bool>,
    #[serde(default, deserialize_with = "not_null")]
    #[schemars(with = "bool")]
    deprecated: Option<bool>,
    #[serde(default)]
    schemas: Field<BTreeMap<String, Value>>,
    #[serde(default)]
    feature_flag: Field<Uid>,
}

/// `EventTypeOut`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventTypeOut {
    name: String,
    description: String,
    archived: bool,
    deprecated: bool,
    schemas: Option<BTreeMap<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    feature_flag: Option<String>,
    created_at: String,
    updated_at: String,
}

impl From<Read<items::EventType>> for EventTypeOut {
    fn from(Read { document, item }: Read<items::EventType>) -> EventTypeOut {
        EventTypeOut {
            name: document.address.id,
            description: item.description,
            archived: item.archived,
            deprecated: item.deprecated,
            schemas: item.schemas,
            feature_flag: item.feature_flag,
            created_at: time(document.created_at),
            updated_at: time(document.updated_at),
        }
    }
}

impl EventTypeIn {
    fn into_parts(self) -> (String, EventTypeUpdate) {
        let update = EventTypeUpdate {
            description: self.description,
            archived: self.archived,
            deprecated: self.deprecated,
            schemas: self.schemas,
            feature_flag: self.feature_flag,
        };
        (self.name.into(), update)
    }
}

impl From<EventTypeUpdate> for items::EventType {
    fn from(body: EventTypeUpdate) -> items::EventType {
        items::EventType {
            description: body.description.into(),
            archived: body.archived,
            deprecated: body.deprecated,
            schemas: body.schemas,
            feature_flag: body.feature_flag.map(Into::into),
        }
    }
}

impl EventTypePatch {
    fn write(self, item: &mut items::EventType) {
        if let Some(description) = self.description {
            item.description = description.into();
        }
        item.archived = self.archived.unwrap_or(item.archived);
        item.deprecated = self.deprecated.unwrap_or(item.deprecated);
        item.schemas = self.schemas.or(item.schemas.take());
        item.feature_flag = self.feature_flag.or(item.feature_flag.take());
    }
}

pub(crate) fn operations() -> Vec<Operation> {
    const ALL: &str = "/event-type";
    const ONE: &str = "/event-type/{event_type_name}";
    vec![
        Operation::new(Method::GET, ALL, "v1.event-type.list", "List event types", list)
            .pages()
            .flag(
                "include_archived",
                "Whether those are listed too that are not offered any more",
            )
            .flag("with_content", "Whether the schemas are there")
            .answers::<List<EventTypeOut>>(200),
        Operation::new(
            Method::POST,
            ALL,
            "v1.event-type.create",
            "Create an event type",
            create,
        )
        .needs(Need::Organisation)
        .takes::<EventTypeIn>()
        .answers::<EventTypeOut>(201),
        Operation::new(Method::GET, ONE, "v1.event-type.get", "Get an event type", get)
            .answers::<EventTypeOut>(200),
        Operation::new(
            Method::PUT,
            ONE,
            "v1.event-type.update",
            "Replace an event type",
            put,
        )
        .needs(Need::Organisation)
        .takes::<EventTypeUpdate>()
        .answers::<EventTypeOut>(200)
        .answers::<EventTypeOut>(201),
        Operation::new(
            Method::PATCH,
            ONE,
            "patch_event_type",
            "Change an event type",
            patch,
        )
        .needs(Need::Organisation)
        .takes::<EventTypePatch>()
        .answers::<EventTypeOut>(200),
        Operation::new(
            Method::DELETE,
            ONE,
            "v1.event-type.delete",
            "Archive an event type",
            delete,
        )
        .needs(Need::Organisation)
        .flag("expunge", "Whether it is deleted instead")
        .answers_nothing(204),
    ]
}

fn address(organisation: &str, name: &str) -> Address {
    Address {
        kind: Kind::EventType,
        scope: organisation.to_owned(),
        id: name.to_owned(),
    }
}

async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    mut query: Query,
) -> Result<Out<List<EventTypeOut>>, Refusal> {
    let part = query.part();
    let include_archived = query.flag("include_archived");
    let with_content = query.flag("with_content");
    query.finish()?;
    let is_shown = |item: &items::EventType| {
        (include_archived || !item.archived) && caller.is_shown(item.feature_flag.as_deref())
    };
    let found = shown(&api, &caller.organisation, &part, is_shown).await?;
    let data = found.into_iter().map(|read| {
        let out = EventTypeOut::from(read);
        match with_content {
            true => out,
            false => EventTypeOut { schemas: None, ..out },
        }
    });
    Ok(Out(List::new(&part, data.collect(), |out| out.name.clone())))
}

/// As many as asked for, and one more, of those that are shown.
async fn shown(
    api: &Api,
    organisation: &str,
    part: &Part,
    is_shown: impl Fn(&items::EventType) -> bool,
) -> Result<Vec<Read<items::EventType>>, Refusal> {
    let (mut part, wanted) = (part.clone(), part.limit + 1);
    let mut all = Vec::new();
    loop {
        let found: Vec<Read<items::EventType>> = api.page(Kind::EventType, organisation, &part).await?;
        let is_end = found.len() <= part.limit;
        part.behind = found.last().map(|read| read.document.address.id.clone());
        all.extend(found.into_iter().filter(|read| is_shown(&read.item)));
        if is_end || all.len() >= wanted {
            all.truncate(wanted);
            return Ok(all);
        }
    }
}

async fn create(
    State(api): State<Arc<Api>>,
    Organisation(organisation): Organisation,
    query: Query,
    Json(body): Json<EventTypeIn>,
) -> Result<(StatusCode, Out<EventTypeOut>), Refusal> {
    query.finish()?;
    let (name, update) = body.into_parts();
    let item: items::EventType = update.into();
    let added = api
        .insert(address(&organisation, &name), None, item.clone())
        .await;
    let read = match added {
        // An archived one is made anew.
        Err(CatalogError::IdTaken) => {
            let again =
                |_: &Address, _: &mut Option<String>, there: &mut items::EventType| match there.archived {
                    true => {
                        *there = item.clone();
                        Ok(())
                    }
                    false => Err(Refusal::Conflict("an event type with this name exists already")),
                };
            api.change(Kind::EventType, &organisation, &name, again).await?
        }
        added => added?,
    };
    Ok((StatusCode::CREATED, Out(read.into())))
}

async fn get(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(name): Path<String>,
    query: Query,
) -> Result<Out<EventTypeOut>, Refusal> {
    query.finish()?;
    let read: Read<items::EventType> = api.read(Kind::EventType, &caller.organisation, &name).await?;
    if !caller.is_shown(read.item.feature_flag.as_deref()) {
        return Err(Refusal::NotFound);
    }
    Ok(Out(read.into()))
}

async fn put(
    State(api): State<Arc<Api>>,
    Organisation(organisation): Organisation,
    Path(name): Path<String>,
    query: Query,
    Json(body): Json<EventTypeUpdate>,
) -> Result<(StatusCode, Out<EventTypeOut>), Refusal> {
    query.finish()?;
    let item: items::EventType = body.into();
    let changed = api.change(Kind::EventType, &organisation, &name, |_, _, there| {
        *there = item.clone();
        Ok(())
    });
    match changed.await {
        Err(Refusal::NotFound) => {
            let name = Uid::try_from(name)
                .map_err(|why| Refusal::field(["path", "event_type_name"], why, "value_error"))?;
            let added = api
                .insert(address(&organisation, &String::from(name)), None, item)
                .await?;
            Ok((StatusCode::CREATED, Out(added.into())))
        }
        changed => Ok((StatusCode::OK, Out(changed?.into()))),
    }
}

async fn patch(
    State(api): State<Arc<Api>>,
    Organisation(organisation): Organisation,
    Path(name): Path<String>,
    query: Query,
    Json(body): Json<EventTypePatch>,
) -> Result<Out<EventTypeOut>, Refusal> {
    query.finish()?;
    let changed = api.change(Kind::EventType, &organisation, &name, |_, _, item| {
        body.clone().write(item);
        Ok(())
    });
    Ok(Out(changed.await?.into()))
}

async fn delete(
    State(api): State<Arc<Api>>,
    Organisation(organisation): Organisation,
    Path(name): Path<String>,
    mut query: Query,
) -> Result<StatusCode, Refusal> {
    let expunge = query.flag("expunge");
    query.finish()?;
    if expunge {
        api.remove(Kind::EventType, &organisation, &name).await?;
    } else {
        let archive = |_: &Address, _: &mut Option<String>, item: &mut items::EventType| {
            item.archived = true;
            Ok(())
        };
        api.change(Kind::EventType, &organisation, &name, archive).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
