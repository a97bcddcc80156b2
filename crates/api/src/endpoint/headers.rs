//! `…/headers`: what is added to an endpoint's requests. Values of headers that carry credentials are never given back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use hooklane_signing::{HeaderFamily, Scheme};
use hooklane_types::check_header;
use hooklane_types::custom_header::HEADER_VALUE_BYTES_MAX;
use http::{Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::delivery;
use crate::answer::{Problem, Refusal};
use crate::auth::Caller;
use crate::body::Json;
use crate::operation::Operation;
use crate::path::Path;
use crate::query::Query;
use crate::state::Api;

/// Most headers of an endpoint: common servers take 100 in all.
const HEADERS_MAX: usize = 50;
/// Names whose values are credentials, as Svix's server lists them.
const SENSITIVE: [&str; 6] = [
    "authorization",
    "cookie",
    "x-api-key",
    "x-auth-token",
    "x-access-token",
    "proxy-authorization",
];

/// `EndpointHeadersIn`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(rename = "EndpointHeadersIn")]
pub(crate) struct HeadersIn {
    #[schemars(schema_with = "described")]
    headers: BTreeMap<String, String>,
}

/// `EndpointHeadersPatchIn`: `null` takes a header away.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(rename = "EndpointHeadersPatchIn")]
pub(crate) struct HeadersPatch {
    #[schemars(schema_with = "described_with_null")]
    headers: BTreeMap<String, Option<String>>,
}

/// `EndpointHeadersOut`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "EndpointHeadersOut")]
pub(crate) struct HeadersOut {
    headers: BTreeMap<String, String>,
    sensitive: BTreeSet<String>,
}

pub(super) fn operations() -> Vec<Operation> {
    const PATH: &str = "/app/{app_id}/endpoint/{endpoint_id}/headers";
    vec![
        Operation::new(
            Method::GET,
            PATH,
            "v1.endpoint.get-headers",
            "Get an endpoint's headers",
            get,
        )
        .answers::<HeadersOut>(200),
        Operation::new(
            Method::PUT,
            PATH,
            "v1.endpoint.update-headers",
            "Replace an endpoint's headers",
            put,
        )
        .takes::<HeadersIn>()
        .answers_nothing(204),
        Operation::new(
            Method::PATCH,
            PATH,
            "v1.endpoint.patch-headers",
            "Change an endpoint's headers",
            patch,
        )
        .takes::<HeadersPatch>()
        .answers_nothing(204),
    ]
}

async fn get(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, endpoint)): Path<(String, String)>,
    query: Query,
) -> Result<Out<HeadersOut>, Refusal> {
    query.finish()?;
    let application = caller.application(&api, &application).await?;
    let read = api.endpoint(&application, &endpoint).await?;
    let all = api.open(&read.document.address, &read.item)?.headers;
    let (sensitive, headers): (BTreeMap<_, _>, BTreeMap<_, _>) = all
        .into_iter()
        .partition(|(name, _)| SENSITIVE.contains(&name.as_str()));
    Ok(Out(HeadersOut {
        headers,
        sensitive: sensitive.into_keys().collect(),
    }))
}

async fn put(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, endpoint)): Path<(String, String)>,
    query: Query,
    Json(body): Json<HeadersIn>,
) -> Result<StatusCode, Refusal> {
    query.finish()?;
    let application = caller.application(&api, &application).await?;
    let given = body.headers.into_iter().map(|(name, value)| (name, Some(value)));
    let given = checked(given.collect())?;
    let changed = api.change_secrets(&application, &endpoint, |item, secrets| {
        secrets.headers.clear();
        apply(&mut secrets.headers, &given)?;
        delivery::check(item, secrets, api.now())
    });
    changed.await.map(|()| StatusCode::NO_CONTENT)
}

async fn patch(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, endpoint)): Path<(String, String)>,
    query: Query,
    Json(body): Json<HeadersPatch>,
) -> Result<StatusCode, Refusal> {
    query.finish()?;
    let application = caller.application(&api, &application).await?;
    let given = checked(body.headers)?;
    let changed = api.change_secrets(&application, &endpoint, |item, secrets| {
        apply(&mut secrets.headers, &given)?;
        delivery::check(item, secrets, api.now())
    });
    changed.await.map(|()| StatusCode::NO_CONTENT)
}

fn described(_: &mut SchemaGenerator) -> Schema {
    described_as(json!("string"))
}

fn described_with_null(_: &mut SchemaGenerator) -> Schema {
    described_as(json!(["string", "null"]))
}

/// By their names (RFC 9110, `token`).
fn described_as(kind: Value) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": HEADERS_MAX,
        "propertyNames": {"pattern": r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$"},
        "additionalProperties": {
            "type": kind,
            "maxLength": HEADER_VALUE_BYTES_MAX,
            "pattern": r"^([!-~]([ -~]*[!-~])?)?$",
        },
    })
}

type Given = BTreeMap<String, Option<String>>;

/// By lower-case names; each that cannot be sent is a problem.
fn checked(given: Given) -> Result<Given, Refusal> {
    let of_signature = [HeaderFamily::Svix, HeaderFamily::Webhook]
        .map(|family| Scheme::Standard(family).header_names())
        .concat();
    let mut problems = Vec::new();
    let mut headers = Given::new();
    for (name, value) in given {
        // Whatever stands behind a name that is taken away.
        let text = value.as_deref().unwrap_or("x");
        if let Err(error) = check_header(&name, text, &of_signature, false) {
            problems.push(Problem::new(
                ["body", "headers", &name],
                error.to_string(),
                "value_error",
            ));
        } else if headers.insert(name.to_ascii_lowercase(), value).is_some() {
            let msg = "given twice; upper and lower case are the same in headers";
            problems.push(Problem::new(["body", "headers", &name], msg, "value_error"));
        }
    }
    match problems.is_empty() {
        true => Ok(headers),
        false => Err(Refusal::Invalid(problems)),
    }
}

fn apply(headers: &mut BTreeMap<String, String>, given: &Given) -> Result<(), Refusal> {
    for (name, value) in given {
        match value {
            Some(value) => headers.insert(name.clone(), value.clone()),
            None => headers.remove(name),
        };
    }
    match headers.len() <= HEADERS_MAX {
        true => Ok(()),
        false => {
            let msg = format!("an endpoint has at most {HEADERS_MAX} headers");
            Err(Refusal::field(["body", "headers"], msg, "value_error"))
        }
    }
}
