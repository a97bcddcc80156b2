//! `…/secret`: the signing secret, and its rotation.

use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use hooklane_store::items::{OLD_SECRETS_MAX, OldSecret, Signature};
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fields::SecretText;
use crate::answer::Refusal;
use crate::auth::Caller;
use crate::body::Json;
use crate::operation::Operation;
use crate::path::Path;
use crate::query::Query;
use crate::state::Api;
use crate::text::{described, time};

/// How long an old secret signs beside the new one, in seconds, unless asked for otherwise, and at most.
const GRACE_S_DEFAULT: u32 = 24 * 3600;
const GRACE_S_MAX: u32 = 7 * 24 * 3600;

/// `EndpointSecretRotateIn`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
#[schemars(rename = "EndpointSecretRotateIn")]
pub(crate) struct RotateIn {
    #[serde(default)]
    key: Option<SecretText>,
    #[serde(default)]
    grace_period_seconds: Option<Grace>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u32")]
struct Grace(u32);

described!(Grace: {"type": "integer", "minimum": 0, "maximum": GRACE_S_MAX});

impl TryFrom<u32> for Grace {
    type Error = String;

    fn try_from(seconds: u32) -> Result<Grace, String> {
        match seconds <= GRACE_S_MAX {
            true => Ok(Grace(seconds)),
            false => Err(format!("this is at most {GRACE_S_MAX} seconds")),
        }
    }
}

/// `EndpointSecretOut`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EndpointSecretOut")]
pub(crate) struct SecretOut {
    key: String,
}

/// The secret that an endpoint gets: the one that is given, checked for its format, or a fresh one, which goes with all of them.
pub(super) fn current(
    given: Option<SecretText>,
    signature: &Signature,
    field: &str,
) -> Result<String, Refusal> {
    let scheme = signature.scheme().map_err(Refusal::Broken)?;
    let checked = given.unwrap_or_else(SecretText::fresh).checked(&scheme);
    checked.map_err(|why| Refusal::field(["body", field], why, "value_error"))
}

pub(super) fn operations() -> Vec<Operation> {
    const PATH: &str = "/app/{app_id}/endpoint/{endpoint_id}/secret";
    const ROTATE: &str = "/app/{app_id}/endpoint/{endpoint_id}/secret/rotate";
    vec![
        Operation::new(
            Method::GET,
            PATH,
            "v1.endpoint.get-secret",
            "Get an endpoint's secret",
            get,
        )
        .answers::<SecretOut>(200),
        Operation::new(
            Method::POST,
            ROTATE,
            "v1.endpoint.rotate-secret",
            "Replace an endpoint's secret",
            rotate,
        )
        .takes::<RotateIn>()
        .answers::<SecretOut>(200),
    ]
}

async fn get(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, endpoint)): Path<(String, String)>,
    query: Query,
) -> Result<Out<SecretOut>, Refusal> {
    query.finish()?;
    let application = caller.application(&api, &application).await?;
    let read = api.endpoint(&application, &endpoint).await?;
    let secrets = api.open(&read.document.address, &read.item)?;
    Ok(Out(SecretOut { key: secrets.current }))
}

async fn rotate(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, endpoint)): Path<(String, String)>,
    query: Query,
    Json(body): Json<RotateIn>,
) -> Result<Out<SecretOut>, Refusal> {
    query.finish()?;
    let application = caller.application(&api, &application).await?;
    let now = api.now();
    let grace_s = body
        .grace_period_seconds
        .map_or(GRACE_S_DEFAULT, |Grace(seconds)| seconds);
    // The same one, should others be faster and this be done again.
    let fresh = body.key.clone().unwrap_or_else(SecretText::fresh);
    let mut key = String::new();
    let changed = api.change_secrets(&application, &endpoint, |item, secrets| {
        key = current(Some(fresh.clone()), &item.signature, "key")?;
        let replaced = OldSecret {
            text: std::mem::replace(&mut secrets.current, key.clone()),
            until_ms: now.0 + i64::from(grace_s) * 1000,
        };
        secrets.old.retain(|old| old.until_ms > now.0);
        if grace_s > 0 {
            secrets.old.push(replaced);
        }
        secrets.old.sort_by_key(|old| old.until_ms);
        match secrets.old.first() {
            Some(first) if secrets.old.len() > OLD_SECRETS_MAX => Err(Refusal::Rule {
                code: "limit_reached",
                detail: format!(
                    "at most {OLD_SECRETS_MAX} old secrets are valid at once; the next one ends at {}",
                    time(hooklane_types::UnixMillis(first.until_ms))
                ),
            }),
            _ => Ok(()),
        }
    });
    changed.await?;
    // The API's description says 204 without a body. Newer clients read the new secret from the answer, and older ones read nothing.
    Ok(Out(SecretOut { key }))
}
