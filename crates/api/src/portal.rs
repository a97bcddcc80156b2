//! `/auth`: tokens for the platform's own users, each for one application.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hooklane_store::catalog::{Address, Catalog, CatalogError, Direction, Draft, Kind, Page};
use hooklane_store::items::{self, Key};
use hooklane_types::UnixMillis;
use http::header::HOST;
use http::{HeaderMap, Method, StatusCode, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::Refusal;
use crate::application::{self, ApplicationIn};
use crate::auth::{Caller, Organisation, bearer, ended_id, key};
use crate::body::Json;
use crate::operation::{Need, Operation};
use crate::path::Path;
use crate::query::Query;
use crate::state::Api;
use crate::text::{NotHonoured, Uid, described};

/// How long a token is valid, in seconds: at least an hour, a week unless asked for otherwise, and at most.
const EXPIRY_S_MIN: u32 = 3600;
const EXPIRY_S_MAX: u32 = 7 * 24 * 3600;
/// Most feature flags of a token: it has to fit into a header.
const FLAGS_MAX: usize = 100;
/// A token that ends by itself is over for every clock by then.
const LEEWAY_MS: i64 = 120_000;
/// Ended tokens that are forgotten at once, because they are over.
const FORGOTTEN_TOGETHER: usize = 100;

/// Where users of the platform are sent.
#[derive(Clone, Debug, Default)]
pub struct Portal {
    /// The platform's own page; none for the description of the API.
    pub url: Option<url::Url>,
    /// This process serves HTTPS.
    pub is_tls: bool,
}

/// For whom a token is made.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AppPortalAccessIn", deny_unknown_fields)]
struct AccessIn {
    /// Made, if there is none that is called as the path says. Its uid is what the path says then.
    #[serde(default)]
    application: Option<ApplicationIn>,
    /// Event types with these flags are shown to it.
    #[serde(default)]
    feature_flags: Flags,
    /// How long the token is valid, in seconds.
    #[serde(default)]
    expiry: Option<Expiry>,
    #[serde(default, rename = "readOnly")]
    _read_only: NotHonoured,
    #[serde(default, rename = "capabilities")]
    _capabilities: NotHonoured,
    #[serde(default, rename = "sessionId")]
    _session_id: NotHonoured,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u32")]
struct Expiry(u32);

described!(Expiry: {"type": "integer", "minimum": EXPIRY_S_MIN, "maximum": EXPIRY_S_MAX});

impl TryFrom<u32> for Expiry {
    type Error = String;

    fn try_from(seconds: u32) -> Result<Expiry, String> {
        match (EXPIRY_S_MIN..=EXPIRY_S_MAX).contains(&seconds) {
            true => Ok(Expiry(seconds)),
            false => Err(format!("this is a number from {EXPIRY_S_MIN} to {EXPIRY_S_MAX}")),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Option<Vec<Uid>>")]
struct Flags(BTreeSet<String>);

described!(Flags: {
    "type": ["array", "null"], "maxItems": FLAGS_MAX, "uniqueItems": true,
    "items": {"type": "string", "minLength": 1, "maxLength": 256, "pattern": r"^[a-zA-Z0-9\-_.]+$"},
});

impl TryFrom<Option<Vec<Uid>>> for Flags {
    type Error = String;

    fn try_from(flags: Option<Vec<Uid>>) -> Result<Flags, String> {
        let given = flags.unwrap_or_default();
        let count = given.len();
        let flags: BTreeSet<String> = given.into_iter().map(String::from).collect();
        match (flags.len() == count, count <= FLAGS_MAX) {
            (false, _) => Err("a flag is given twice".to_owned()),
            (_, false) => Err(format!("this has at most {FLAGS_MAX} items")),
            _ => Ok(Flags(flags)),
        }
    }
}

/// A token, and where to go with it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AppPortalAccessOut")]
struct AccessOut {
    /// The platform's page, or the description of the API, with the token behind `#key=`.
    url: String,
    token: String,
}

pub(crate) fn operations() -> Vec<Operation> {
    const ACCESS: &str = "/auth/app-portal-access/{app_id}";
    vec![
        Operation::new(
            Method::POST,
            ACCESS,
            "v1.authentication.app-portal-access",
            "Make a token for an application",
            access,
        )
        .needs(Need::Organisation)
        .takes::<AccessIn>()
        .answers::<AccessOut>(200),
        Operation::new(
            Method::POST,
            "/auth/logout",
            "logout_api_v1_auth_logout__post",
            "End the token of this request",
            logout,
        )
        .answers_nothing(204),
    ]
}

async fn access(
    State(api): State<Arc<Api>>,
    Organisation(organisation): Organisation,
    Path(name): Path<String>,
    query: Query,
    uri: Uri,
    headers: HeaderMap,
    Json(body): Json<AccessIn>,
) -> Result<Out<AccessOut>, Refusal> {
    query.finish()?;
    let found = api.catalog.get(Kind::Application, &organisation, &name).await?;
    let application = match (found, body.application) {
        (Some(found), _) => found.address.id,
        (None, None) => return Err(Refusal::NotFound),
        (None, Some(fresh)) => application::named(&api, &organisation, name, fresh).await?,
    };
    let now = api.now();
    let Expiry(expiry_s) = body.expiry.unwrap_or(Expiry(EXPIRY_S_MAX));
    let ends_at = UnixMillis(now.0 + i64::from(expiry_s) * 1000);
    let made = api.tokens.make_with_flags(
        &organisation,
        Some(&application),
        &body.feature_flags.0,
        now,
        ends_at,
    );
    let token = made.map_err(|error| Refusal::Rule {
        code: "no_tokens",
        detail: error.to_string(),
    })?;
    let key = json!({"appId": application, "token": token}).to_string();
    let mut url = api.portal.page(&uri, &headers);
    url.push_str("#key=");
    url.push_str(&STANDARD.encode(key));
    Ok(Out(AccessOut { url, token }))
}

impl Portal {
    /// Without a page of the platform's own: the description, at the address that was asked.
    fn page(&self, uri: &Uri, headers: &HeaderMap) -> String {
        if let Some(url) = &self.url {
            return url.to_string();
        }
        let of_header = || headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = uri
            .authority()
            .map(|authority| authority.as_str())
            .or_else(of_header);
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}/docs", host.unwrap_or("127.0.0.1"))
    }
}

async fn logout(
    State(api): State<Arc<Api>>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    query.finish()?;
    let token = bearer(&headers).ok_or(Refusal::Unauthorized)?;
    let refused = |detail: &str| Refusal::Rule {
        code: "not_an_app_token",
        detail: detail.to_owned(),
    };
    if key::is_one(token) {
        return Err(refused("a static key is ended by `hooklane key revoke`"));
    }
    if caller.application.is_none() {
        return Err(refused("only the token of an application can be ended"));
    }
    let now = api.now();
    let ends_at = api.tokens.ends_at(token).unwrap_or(UnixMillis(i64::MAX));
    let until_ms = ends_at.0.saturating_add(LEEWAY_MS);
    let draft = Draft {
        address: address(&caller.organisation, ended_id(token)),
        uid: None,
        content: items::write(&Key::Ended { until_ms }),
    };
    forget(&*api.catalog, &caller.organisation, now).await?;
    match api.catalog.insert(draft, now).await {
        Ok(document) => api.in_force(document.revision).await,
        // Ended twice at once.
        Err(CatalogError::IdTaken) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Forgets tokens that are over by themselves now.
async fn forget(catalog: &dyn Catalog, organisation: &str, now: UnixMillis) -> Result<(), Refusal> {
    let page = Page {
        behind: None,
        direction: Direction::Ascending,
        limit: FORGOTTEN_TOGETHER,
    };
    for document in catalog.list(Kind::Key, organisation, &page).await? {
        if matches!(items::read(&document), Ok(Key::Ended { until_ms }) if until_ms <= now.0) {
            match catalog.remove(&document.address, now).await {
                Ok(()) | Err(CatalogError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn address(organisation: &str, id: String) -> Address {
    Address {
        kind: Kind::Key,
        scope: organisation.to_owned(),
        id,
    }
}
