//! Where events go, and with which secrets.

use std::collections::BTreeMap;
use std::fmt;

use hooklane_signing::{SECRETS_MAX, Scheme, Secret, Signer};
use hooklane_types::{ApplicationId, Channel, EndpointId, EventType, ThrottleRate, TypePattern, UnixMillis};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Retry, Signature};
use crate::vault::{Vault, VaultError};

/// Most old secrets that are valid beside the current one.
pub const OLD_SECRETS_MAX: usize = SECRETS_MAX - 1;

/// An endpoint. Its id and uid are the document's, its application the document's scope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where to POST.
    pub url: Url,
    /// What people call it.
    #[serde(default)]
    pub description: String,
    /// Its deliveries wait.
    #[serde(default)]
    pub disabled: bool,
    /// Wanted event types; all, if there are none here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_types: Option<Vec<EventType>>,
    /// Wanted channels; all, if there are none here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<Channel>>,
    /// The platform's own notes.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Most attempts a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle_rate: Option<ThrottleRate>,
    /// When failed attempts are repeated; as Standard Webhooks advises, if this is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// In which format requests are signed.
    #[serde(default, skip_serializing_if = "Signature::is_default")]
    pub signature: Signature,
    /// [`EndpointSecrets`], sealed for this endpoint's id.
    pub sealed: String,
}

/// What nobody may read at rest. `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSecrets {
    /// The signing secret, as text: `whsec_…` or `whsk_…`.
    pub current: String,
    /// Those before it that still sign as well, oldest first.
    #[serde(default)]
    pub old: Vec<OldSecret>,
    /// Headers to add, by lower-case name: a value may be a key of the receiver's.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// A secret that was replaced.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldSecret {
    /// As text.
    pub text: String,
    /// Until when it signs.
    pub until_ms: i64,
}

impl EndpointSecrets {
    /// Seals them for the endpoint with this id.
    pub fn seal(&self, vault: &Vault, id: &str) -> String {
        vault.seal(id, &super::write(self))
    }

    /// Opens what [`EndpointSecrets::seal`] sealed.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub fn open(vault: &Vault, id: &str, sealed: &str) -> Result<EndpointSecrets, VaultError> {
        let text = vault.open(id, sealed)?;
        serde_json::from_str(&text).map_err(|_| VaultError::Damaged)
    }

    /// Those that sign at this time, the current one first.
    pub fn valid(&self, now: UnixMillis) -> impl Iterator<Item = &str> {
        let old = self.old.iter().rev().filter(move |old| old.until_ms > now.0);
        std::iter::once(self.current.as_str()).chain(old.map(|old| old.text.as_str()))
    }

    /// When the next of them ends.
    pub fn next_end(&self, now: UnixMillis) -> Option<UnixMillis> {
        let ends = self
            .old
            .iter()
            .map(|old| old.until_ms)
            .filter(|until| *until > now.0);
        ends.min().map(UnixMillis)
    }
}

impl fmt::Debug for EndpointSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().collect();
        f.debug_struct("EndpointSecrets")
            .field("old", &self.old.len())
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// As dispatchers serve it, with the secrets that sign at this time.
    ///
    /// # Errors
    /// In words, when its id or its secrets cannot be used; the API lets none in.
    pub fn serve(
        &self,
        id: &str,
        application: ApplicationId,
        secrets: &EndpointSecrets,
        now: UnixMillis,
    ) -> Result<hooklane_types::Endpoint, String> {
        let id = EndpointId::parse(id).map_err(|error| error.to_string())?;
        let signer = signer(self.signature.scheme()?, secrets, now)?;
        let mut endpoint = hooklane_types::Endpoint::new(id, application, self.url.clone(), signer);
        if let Some(wanted) = &self.event_types {
            endpoint.event_types = wanted.iter().cloned().map(TypePattern::Exact).collect();
        }
        endpoint.channels = self.channels.clone().unwrap_or_default();
        endpoint.headers = secrets.headers.clone().into_iter().collect();
        endpoint.throttle_rate = self.throttle_rate;
        endpoint.disabled = self.disabled;
        if let Some(retry) = &self.retry {
            endpoint.retry = retry.policy()?;
        }
        Ok(endpoint)
    }
}

/// What signs with the secrets that are valid at this time.
///
/// # Errors
/// In words, when a secret is none for this scheme.
pub fn signer(scheme: Scheme, secrets: &EndpointSecrets, now: UnixMillis) -> Result<Signer, String> {
    let read = match scheme.takes_verbatim() {
        true => Secret::verbatim,
        false => Secret::parse,
    };
    let texts: Result<Vec<Secret>, _> = secrets.valid(now).map(read).collect();
    let texts = texts.map_err(|error| error.to_string())?;
    Signer::new(scheme, texts).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OLDER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn secrets() -> EndpointSecrets {
        EndpointSecrets {
            current: NEW.to_owned(),
            old: vec![OldSecret {
                text: OLDER.to_owned(),
                until_ms: 2_000,
            }],
            headers: BTreeMap::from([("x-key".to_owned(), "s3cret".to_owned())]),
        }
    }

    fn endpoint() -> Endpoint {
        Endpoint {
            url: Url::parse("https://example.com/hook").unwrap(),
            description: String::new(),
            disabled: false,
            event_types: Some(vec![EventType::parse("a.b").unwrap()]),
            channels: None,
            metadata: BTreeMap::new(),
            throttle_rate: None,
            retry: None,
            signature: Signature::default(),
            sealed: "v1.x.y".to_owned(),
        }
    }

    #[test]
    fn an_old_secret_signs_until_its_time_and_not_longer() {
        let secrets = secrets();
        let valid = |ms| secrets.valid(UnixMillis(ms)).collect::<Vec<_>>();
        assert_eq!(valid(1_999), [NEW, OLDER]);
        assert_eq!(valid(2_000), [NEW]);
        assert_eq!(secrets.next_end(UnixMillis(0)), Some(UnixMillis(2_000)));
        assert_eq!(secrets.next_end(UnixMillis(2_000)), None);
    }

    #[test]
    fn secrets_open_for_their_endpoint_alone_and_do_not_show() {
        let vault = Vault::new([Vault::fresh_key().as_str()]).unwrap();
        let sealed = secrets().seal(&vault, "ep_1");
        assert_eq!(EndpointSecrets::open(&vault, "ep_1", &sealed).unwrap(), secrets());
        assert!(EndpointSecrets::open(&vault, "ep_2", &sealed).is_err());
        let shown = format!("{:?}", secrets());
        assert!(!shown.contains("whsec") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn it_is_served_as_it_says() {
        let application = ApplicationId::parse("app_1").unwrap();
        let served = endpoint()
            .serve("ep_1", application.clone(), &secrets(), UnixMillis(0))
            .unwrap();
        assert_eq!(served.event_types, [TypePattern::parse("a.b").unwrap()]);
        assert_eq!(served.headers, [("x-key".to_owned(), "s3cret".to_owned())]);
        let signed = served.signer.sign("msg_1", 1, b"{}");
        let signatures = signed.iter().find(|(name, _)| *name == "svix-signature").unwrap();
        assert_eq!(signatures.1.split(' ').count(), 2, "both secrets sign");
        let all = Endpoint {
            event_types: None,
            ..endpoint()
        };
        let served = all
            .serve("ep_1", application, &secrets(), UnixMillis(9_000))
            .unwrap();
        assert_eq!(served.event_types, [TypePattern::Any]);
    }

    #[test]
    fn documents_of_this_version_are_read_by_the_next() {
        // Goal: a field that is added has a default. The least that a document holds.
        let read: Endpoint =
            serde_json::from_str(r#"{"url":"https://example.com/","sealed":"v1.x.y"}"#).unwrap();
        assert!(!read.disabled && read.event_types.is_none() && read.metadata.is_empty());
    }
}
