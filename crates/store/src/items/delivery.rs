//! How an endpoint is delivered to, beyond what Svix's API knows: when failed attempts are repeated, and in which format requests are signed.

use std::time::Duration;

use hooklane_signing::{Encoding, Hash, HeaderFamily, HmacFormat, Scheme};
use hooklane_types::RetryPolicy;
use serde::{Deserialize, Serialize};

const ATTEMPTS_DEFAULT: u32 = 10;
const FIRST_S_DEFAULT: u32 = 5;
const FACTOR_DEFAULT: f64 = 2.0;
const MAX_S_DEFAULT: u32 = 24 * 3600;
const JITTER_DEFAULT: f64 = 0.1;

/// When failed attempts are repeated: a list of delays, or a formula. As it was given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// A delay in front of each retry, in seconds. No formula beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delays: Option<Vec<u32>>,
    /// How many attempts there are in all; ten, unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The first delay, in seconds; five, unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u32>,
    /// How much longer each later delay is; twice, unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// The longest delay, in seconds; a day, unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// The largest share of a delay that is added at random, from 0 to 1; a tenth, unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
}

impl Retry {
    /// The policy.
    ///
    /// # Errors
    /// In words, when there can be none like that.
    pub fn policy(&self) -> Result<RetryPolicy, String> {
        let seconds = |given: u32| Duration::from_secs(given.into());
        let jitter = self.jitter.unwrap_or(JITTER_DEFAULT);
        let has_formula =
            self.attempts.is_some() || self.first.is_some() || self.factor.is_some() || self.max.is_some();
        let made = match &self.delays {
            Some(_) if has_formula => {
                return Err("keep delays, or attempts, first, factor and max".to_owned());
            }
            Some(delays) => RetryPolicy::list(delays.iter().copied().map(seconds).collect(), jitter),
            None => RetryPolicy::exponential(
                self.attempts.unwrap_or(ATTEMPTS_DEFAULT),
                seconds(self.first.unwrap_or(FIRST_S_DEFAULT)),
                self.factor.unwrap_or(FACTOR_DEFAULT),
                seconds(self.max.unwrap_or(MAX_S_DEFAULT)),
                jitter,
            ),
        };
        made.map_err(|error| error.to_string())
    }
}

/// In which format requests are signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signature {
    /// Standard Webhooks, in the headers that Svix's libraries read: `svix-id`, `svix-timestamp`, `svix-signature`.
    #[default]
    StandardSvix,
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    Standard,
    /// As GitHub: `X-Hub-Signature-256`, `X-Hub-Signature`, `X-GitHub-Event`, `X-GitHub-Delivery`.
    Github,
    /// As Stripe: `Stripe-Signature`.
    Stripe,
    /// An HMAC over the body in one header.
    Hmac(Hmac),
}

/// Where and how an HMAC stands: `{header}: {prefix}{HMAC}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hmac {
    /// The header's name.
    pub header: String,
    /// The hash function.
    #[serde(default)]
    pub hash: HashName,
    /// How the bytes are written.
    #[serde(default)]
    pub encoding: EncodingName,
    /// What stands in front of them, like `sha256=`.
    #[serde(default)]
    pub prefix: String,
}

/// A hash function, by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashName {
    /// For receivers that know nothing else.
    Sha1,
    /// The usual one.
    #[default]
    Sha256,
    /// For receivers that ask for it.
    Sha512,
}

/// How bytes are written, by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncodingName {
    /// In hexadecimal, lower case.
    #[default]
    Hex,
    /// RFC 4648, with padding.
    Base64,
}

impl Signature {
    /// Whether it is the one of an endpoint that says nothing about it.
    pub fn is_default(&self) -> bool {
        *self == Signature::default()
    }

    /// The scheme.
    ///
    /// # Errors
    /// In words, when a header of that name cannot be sent.
    pub fn scheme(&self) -> Result<Scheme, String> {
        Ok(match self {
            Signature::StandardSvix => Scheme::Standard(HeaderFamily::Svix),
            Signature::Standard => Scheme::Standard(HeaderFamily::Webhook),
            Signature::Github => Scheme::GitHub,
            Signature::Stripe => Scheme::Stripe,
            Signature::Hmac(hmac) => {
                let hash = match hmac.hash {
                    HashName::Sha1 => Hash::Sha1,
                    HashName::Sha256 => Hash::Sha256,
                    HashName::Sha512 => Hash::Sha512,
                };
                let encoding = match hmac.encoding {
                    EncodingName::Hex => Encoding::Hex,
                    EncodingName::Base64 => Encoding::Base64,
                };
                let format = HmacFormat::new(&hmac.header, hash, encoding, &hmac.prefix);
                Scheme::Hmac(format.map_err(|error| error.to_string())?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_the_names_of_the_settings() {
        for (json, header) in [
            (r#""standard-svix""#, "svix-id"),
            (r#""standard""#, "webhook-id"),
            (r#""github""#, "x-hub-signature-256"),
            (r#""stripe""#, "stripe-signature"),
            (r#"{"hmac":{"header":"X-Signature"}}"#, "x-signature"),
        ] {
            let read: Signature = serde_json::from_str(json).unwrap();
            assert_eq!(read.scheme().unwrap().header_names()[0], header);
        }
        let reserved: Signature = serde_json::from_str(r#"{"hmac":{"header":"host"}}"#).unwrap();
        assert!(reserved.scheme().is_err());
    }

    #[test]
    fn a_schedule_is_a_list_or_a_formula() {
        let policy = |json: &str| serde_json::from_str::<Retry>(json).unwrap().policy();
        let list = policy(r#"{"delays": [1, 60], "jitter": 0}"#).unwrap();
        assert_eq!(
            (list.attempts(), list.delay_after(2)),
            (3, Some(Duration::from_secs(60)))
        );
        let formula = policy(r#"{"attempts": 4, "first": 2, "factor": 3, "max": 10}"#).unwrap();
        assert_eq!(formula.delay_after(3), Some(Duration::from_secs(10)));
        assert_eq!(policy(r#"{"delays": []}"#).unwrap().attempts(), 1);
        for wrong in [
            r#"{"delays": [1], "attempts": 2}"#,
            r#"{"attempts": 0}"#,
            r#"{"attempts": 100}"#,
            r#"{"factor": 0.5}"#,
            r#"{"jitter": 2}"#,
            r#"{"delays": [604801]}"#,
        ] {
            assert!(policy(wrong).is_err(), "{wrong}");
        }
    }
}
