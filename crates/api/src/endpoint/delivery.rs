//! `hooklane` in an endpoint's body: what Svix's API has no field for. Missing, it stays as it is, in a PUT too: a client that does not know
//! it must not change in which format requests are signed.

use hooklane_signing::SECRETS_MAX;
use hooklane_store::items::{self, EndpointSecrets, Retry, Signature, signer};
use hooklane_types::UnixMillis;
use hooklane_types::retry::RETRIES_MAX;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answer::{Problem, Refusal};
use crate::patch::Field;
use crate::text::described;

/// What Svix's API has no field for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "HooklaneIn", deny_unknown_fields)]
pub(super) struct DeliveryIn {
    /// When failed attempts are repeated; `null`: as Standard Webhooks advises.
    #[serde(default)]
    retry: Field<RetryIn>,
    /// In which format requests are signed; `null`: `standard-svix`.
    #[serde(default)]
    signature: Field<SignatureIn>,
}

/// As it is.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "HooklaneOut")]
pub(super) struct DeliveryOut {
    #[schemars(with = "Option<RetryIn>")]
    retry: Option<Retry>,
    #[schemars(with = "SignatureIn")]
    signature: Signature,
}

/// A schedule that there can be.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Retry")]
pub(super) struct RetryIn(Retry);

described!(RetryIn: {
    "type": "object",
    "description": "A list of delays in seconds, or a formula: attempts in all (10), the first delay (5), the factor of each later one (2), the \
        longest (86400). jitter: the largest share of a delay that is added at random (0.1).",
    "additionalProperties": false,
    "properties": {
        "delays": {"type": "array", "maxItems": RETRIES_MAX, "items": {"type": "integer", "minimum": 0, "maximum": 604_800}},
        "attempts": {"type": "integer", "minimum": 1, "maximum": RETRIES_MAX + 1},
        "first": {"type": "integer", "minimum": 0, "maximum": 604_800},
        "factor": {"type": "number", "minimum": 1, "maximum": 100},
        "max": {"type": "integer", "minimum": 0, "maximum": 604_800},
        "jitter": {"type": "number", "minimum": 0, "maximum": 1},
    },
});

impl TryFrom<Retry> for RetryIn {
    type Error = String;

    fn try_from(retry: Retry) -> Result<RetryIn, String> {
        retry.policy().map(|_| RetryIn(retry))
    }
}

impl From<RetryIn> for Retry {
    fn from(retry: RetryIn) -> Retry {
        retry.0
    }
}

/// A format whose header can be sent.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Signature")]
pub(super) struct SignatureIn(Signature);

described!(SignatureIn: {
    "oneOf": [
        {"type": "string", "enum": ["standard-svix", "standard", "github", "stripe"]},
        {
            "type": "object",
            "additionalProperties": false,
            "required": ["hmac"],
            "properties": {"hmac": {
                "type": "object",
                "additionalProperties": false,
                "required": ["header"],
                "properties": {
                    "header": {"type": "string", "pattern": r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$"},
                    "hash": {"type": "string", "enum": ["sha1", "sha256", "sha512"]},
                    "encoding": {"type": "string", "enum": ["hex", "base64"]},
                    "prefix": {"type": "string", "maxLength": 64},
                },
            }},
        },
    ],
});

impl TryFrom<Signature> for SignatureIn {
    type Error = String;

    fn try_from(signature: Signature) -> Result<SignatureIn, String> {
        signature.scheme().map(|_| SignatureIn(signature))
    }
}

impl From<SignatureIn> for Signature {
    fn from(signature: SignatureIn) -> Signature {
        signature.0
    }
}

impl From<&items::Endpoint> for DeliveryOut {
    fn from(item: &items::Endpoint) -> DeliveryOut {
        DeliveryOut {
            retry: item.retry.clone(),
            signature: item.signature.clone(),
        }
    }
}

impl DeliveryIn {
    /// Everything as it is where nothing is said.
    pub(super) fn reset() -> DeliveryIn {
        DeliveryIn {
            retry: Field::Null,
            signature: Field::Null,
        }
    }

    pub(super) fn write(self, item: &mut items::Endpoint) {
        item.retry = self.retry.or(item.retry.take());
        let there = std::mem::take(&mut item.signature);
        item.signature = self.signature.or(Some(there)).unwrap_or_default();
    }
}

/// That the secrets and the headers of an endpoint go with the format of its signature.
pub(super) fn check(
    item: &items::Endpoint,
    secrets: &EndpointSecrets,
    now: UnixMillis,
) -> Result<(), Refusal> {
    let wrong = |msg: String| Problem::new(["body", "hooklane", "signature"], msg, "value_error");
    let scheme = item.signature.scheme().map_err(Refusal::Broken)?;
    let names = scheme.header_names();
    let mut problems = Vec::new();
    if let Err(why) = signer(scheme, secrets, now) {
        let remedy = format!(
            "give another secret, or rotate it first without a grace time (at most {SECRETS_MAX} sign at once)"
        );
        problems.push(wrong(format!(
            "the secrets that are valid do not fit this format ({why}): {remedy}"
        )));
    }
    for name in names.iter().filter(|name| secrets.headers.contains_key(*name)) {
        problems.push(wrong(format!(
            "the endpoint has a header {name:?} of its own, which this format sets: take it away first"
        )));
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Refusal::Invalid(problems)),
    }
}
