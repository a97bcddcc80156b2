//! The description of the API: OpenAPI 3.1, made from the table of operations and from the types that are read and written.

mod links;
mod page;

use std::collections::BTreeMap;

use axum::Router;
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use hooklane_types::id::PRODUCER_ID_BYTES_MAX;
use http::Method;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::answer::{HttpErrorOut, HttpValidationError, Refusal};
use crate::idempotency;
use crate::operation::{JSON, Need, Operation};
use crate::operations;

/// Where schemas stand.
const SCHEMAS: &str = "/components/schemas";
const UNPROCESSABLE: u16 = 422;

/// The page loads nothing, and nothing runs in it: it may stand in a browser beside a token.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

/// Serves the description, for programs and for people.
pub(crate) fn router() -> Router {
    let described = document();
    let json = served(described.to_string(), "application/json");
    let page = served(page::page(&described), "text/html; charset=utf-8");
    Router::new()
        .route("/api/v1/openapi.json", json.clone())
        .route("/api/v1/openapi.json/", json)
        .route("/docs", page)
}

fn served(body: String, kind: &'static str) -> MethodRouter {
    let body = Bytes::from(body);
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
    ];
    get(async move || (headers, body.clone())).fallback(async || Refusal::MethodNotAllowed)
}

/// The whole document.
pub(crate) fn document() -> Value {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut schemas = Schemas::new();
    let mut tags = Vec::new();
    for (tag, operations) in operations::groups() {
        tags.push(json!({"name": tag}));
        for operation in operations {
            let described = describe(tag, &operation, &mut schemas);
            let methods = paths.entry(format!("/api/v1{}", operation.path)).or_default();
            methods.insert(operation.method.as_str().to_ascii_lowercase(), described);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Hooklane",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The management API of Hooklane. Paths, fields and answers are those of Svix's API, so that its client libraries \
                work. A field of a body or a query that is not described is refused by its name.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas.into_map(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A JSON Web Token of `hooklane token`, or a static key of `hooklane key create`",
                },
            },
        },
    })
}

/// What is read and what is written are described each in its own way.
struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Schemas {
    fn new() -> Schemas {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = SCHEMAS.into();
                settings.meta_schema = None;
            })
        };
        Schemas {
            read: settings().for_deserialize().into_generator(),
            written: settings().for_serialize().into_generator(),
        }
    }

    fn into_map(mut self) -> Map<String, Value> {
        let mut all = self.read.take_definitions(true);
        all.extend(self.written.take_definitions(true));
        all
    }
}

fn describe(tag: &str, operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [tag],
        "parameters": parameters(operation),
        "responses": responses(operation, schemas),
    });
    match operation.need {
        Need::Nothing | Need::Token => {}
        Need::Organisation => described["description"] = json!("Needs a token of the organisation."),
        Need::Operator => {
            described["description"] = json!("Needs a token of the organisation that runs Hooklane.");
        }
    }
    if operation.need != Need::Nothing {
        described["security"] = json!([{"bearer": []}]);
    }
    if let Some(body) = operation.body {
        let schema = body(&mut schemas.read);
        described["requestBody"] = json!({"required": true, "content": content(JSON, &schema)});
    }
    described
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let named = |name: &str| {
        json!({
            "name": name,
            "in": "path",
            "required": true,
            "description": match name.strip_suffix("_id") {
                Some("app" | "endpoint") => "The id, or the uid",
                Some(_) => "The id",
                None => "The name",
            },
            "schema": {"type": "string"},
        })
    };
    let mut parameters: Vec<Value> = links::names(operation.path).map(named).collect();
    for field in &operation.query {
        parameters.push(json!({
            "name": field.name,
            "in": "query",
            "description": field.about,
            "schema": field.schema,
        }));
    }
    if operation.method == Method::POST {
        // Publishing makes the key the event's id.
        let most = match operation.is_elsewhere() {
            true => PRODUCER_ID_BYTES_MAX,
            false => idempotency::KEY_BYTES_MAX,
        };
        parameters.push(json!({
            "name": idempotency::HEADER,
            "in": "header",
            "description": "The same key again: the same answer, and nothing is carried out again",
            "schema": {"type": "string", "minLength": 1, "maxLength": most},
        }));
    }
    parameters
}

fn responses(operation: &Operation, schemas: &mut Schemas) -> Map<String, Value> {
    let mut responses = Map::new();
    for answer in &operation.answers {
        let mut response = json!({"description": words(answer.status)});
        if let Some(schema) = answer.schema {
            response["content"] = content(answer.media_type, &schema(&mut schemas.written));
            let links = links::behind(operation);
            if !links.is_empty() {
                response["links"] = Value::Object(links);
            }
        }
        responses.insert(answer.status.to_string(), response);
    }
    for status in refusals(operation) {
        let schema = match status {
            UNPROCESSABLE => schemas.written.subschema_for::<HttpValidationError>(),
            _ => schemas.written.subschema_for::<HttpErrorOut>(),
        };
        let response = json!({"description": words(status), "content": content(JSON, &schema)});
        responses.insert(status.to_string(), response);
    }
    responses
}

/// The refusals that follow from what an operation is, and those that it names.
fn refusals(operation: &Operation) -> Vec<u16> {
    let mut statuses = operation.refusals.clone();
    if operation.need != Need::Nothing {
        // The store may be away, and an unknown field of the query is refused.
        statuses.extend([401, UNPROCESSABLE, 500, 503]);
    }
    if matches!(operation.need, Need::Organisation | Need::Operator) {
        statuses.push(403);
    }
    if operation.path.contains('{') {
        statuses.push(404);
    }
    if operation.body.is_some() {
        statuses.extend([400, 408, 413]);
    }
    // Taken already, changed at the same time, or a key that was used for something else.
    if operation.method != Method::GET {
        statuses.push(409);
    }
    // The idempotency key stands for the body, which is read.
    if operation.method == Method::POST {
        statuses.extend([400, 408, 413]);
    }
    statuses.sort_unstable();
    statuses.dedup();
    statuses
}

fn content(media_type: &str, schema: &Schema) -> Value {
    json!({media_type: {"schema": schema}})
}

fn words(status: u16) -> &'static str {
    let status = http::StatusCode::from_u16(status).ok();
    status
        .and_then(|status| status.canonical_reason())
        .unwrap_or("As it says")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_schema_that_is_named_is_there_and_every_operation_has_its_own_name() {
        let document = document();
        let mut named = BTreeSet::new();
        let mut all = vec![&document];
        while let Some(value) = all.pop() {
            match value {
                Value::Object(members) => {
                    if let Some(name) = members.get("$ref").and_then(Value::as_str) {
                        named.insert(name.trim_start_matches('#').to_owned());
                    }
                    all.extend(members.values());
                }
                Value::Array(items) => all.extend(items),
                _ => {}
            }
        }
        assert!(named.len() > 10, "{named:?}");
        for name in named {
            assert!(document.pointer(&name).is_some(), "{name}");
        }
        let ids: BTreeSet<&str> = operations::all().map(|operation| operation.id).collect();
        assert_eq!(ids.len(), operations::all().count());
    }

    #[test]
    fn bodies_are_described_as_they_are_read() {
        let document = document();
        let schema = |name: &str| &document["components"]["schemas"][name];
        let endpoint = schema("EndpointIn");
        assert_eq!(endpoint["required"], json!(["url"]));
        assert_eq!(endpoint["additionalProperties"], false);
        let rate = &endpoint["properties"]["throttleRate"];
        assert_eq!(
            (&rate["type"], &rate["minimum"]),
            (&json!(["integer", "null"]), &json!(1))
        );
        assert!(schema("EndpointUpdate")["properties"].get("secret").is_none());
        // What a PATCH may not take away, it does not describe as null.
        let patch = &schema("EndpointPatch")["properties"];
        assert_eq!(patch["disabled"]["type"], "boolean");
        assert_eq!(patch["uid"]["type"], json!(["string", "null"]));
    }
}
