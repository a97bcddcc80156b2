//! For whom a request speaks.

mod jwt;
pub mod key;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use hooklane_store::catalog::{Document, Kind};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use sha2::{Digest, Sha256};

pub use jwt::{Algorithm, TokenError, Tokens, is_organisation};

use crate::answer::Refusal;
use crate::state::Api;

const SCHEME: &str = "bearer";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The organisation.
    pub(crate) organisation: String,
    /// The only application that it speaks for, by its id; none for the whole organisation.
    pub(crate) application: Option<String>,
    /// Event types with these flags are shown to it.
    pub(crate) feature_flags: BTreeSet<String>,
}

impl Caller {
    /// Whether what has this flag is shown to it.
    pub(crate) fn is_shown(&self, feature_flag: Option<&str>) -> bool {
        self.application.is_none() || feature_flag.is_none_or(|flag| self.feature_flags.contains(flag))
    }

    /// The application with this id or uid, if it speaks for it. Another's does not exist.
    pub(crate) async fn application(&self, api: &Api, id_or_uid: &str) -> Result<Document, Refusal> {
        let found = api
            .catalog
            .get(Kind::Application, &self.organisation, id_or_uid)
            .await?;
        let found = found.ok_or(Refusal::NotFound)?;
        match &self.application {
            Some(own) if *own != found.address.id => Err(Refusal::NotFound),
            _ => Ok(found),
        }
    }
}

/// Who asks, of a request whose token was looked at; none when that is not taken.
#[derive(Clone)]
pub(crate) struct Spoken(pub(crate) Option<Caller>);

/// A caller that speaks for the whole organisation. Found out before a body is read.
pub(crate) struct Organisation(pub(crate) String);

impl From<Organisation> for Caller {
    fn from(Organisation(organisation): Organisation) -> Caller {
        Caller {
            organisation,
            application: None,
            feature_flags: BTreeSet::new(),
        }
    }
}

impl FromRequestParts<Arc<Api>> for Organisation {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Organisation, Refusal> {
        let caller = Caller::from_request_parts(parts, api).await?;
        match caller.application {
            None => Ok(Organisation(caller.organisation)),
            Some(_) => Err(Refusal::Forbidden),
        }
    }
}

/// What a request's token says, for whoever serves other paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// There is none.
    None,
    /// It speaks for this organisation.
    Organisation(String),
    /// It speaks for one application.
    Application,
    /// It is a key that is not known.
    Unknown,
    /// It is not taken.
    Refused,
}

impl Api {
    /// For whom the token of a request with these headers speaks; none when there is none, or it is not taken.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let token = bearer(headers)?;
        match key::is_one(token) {
            true => key::caller(&self.keys.borrow(), token, self.now()),
            false => {
                let caller = self.tokens.caller(token, self.now())?;
                (!self.keys.borrow().is_ended(&ended_id(token))).then_some(caller)
            }
        }
    }

    /// A key that is newer than what is known here is not known either.
    fn not_taken(&self, headers: &HeaderMap) -> Refusal {
        match *self.is_current.borrow() {
            false if self.is_unknown_key(headers) => {
                Refusal::Unavailable("a key is not known here, and may be newer than what is".to_owned())
            }
            _ => Refusal::Unauthorized,
        }
    }

    fn is_unknown_key(&self, headers: &HeaderMap) -> bool {
        bearer(headers).is_some_and(|token| key::is_unknown(&self.keys.borrow(), token))
    }

    /// What the token of a request with these headers says.
    pub fn access(&self, headers: &HeaderMap) -> Access {
        if !headers.contains_key(AUTHORIZATION) {
            return Access::None;
        }
        match self.caller(headers) {
            None if self.is_unknown_key(headers) => Access::Unknown,
            None => Access::Refused,
            Some(Caller {
                application: Some(_), ..
            }) => Access::Application,
            Some(Caller { organisation, .. }) => Access::Organisation(organisation),
        }
    }
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Caller, Refusal> {
        // The token was looked at when the request came in.
        match parts.extensions.get::<Spoken>() {
            Some(Spoken(caller)) => caller.clone(),
            None => api.caller(&parts.headers),
        }
        .ok_or_else(|| api.not_taken(&parts.headers))
    }
}

/// What stands in the store for a token that was ended before its time.
pub(crate) fn ended_id(token: &str) -> String {
    format!("end_{}", hex::encode(Sha256::digest(token)))
}

/// The token of the request. Two `Authorization` headers are none.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim())
}
