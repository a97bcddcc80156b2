//! JSON Web Tokens (RFC 7519), as Svix's server makes them: `sub` is the organisation (`org_…`), or an application (`app_…`) with its
//! organisation in `org`. So tokens made for it with the same secret are taken here.

use std::collections::BTreeSet;

use hooklane_types::UnixMillis;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::Caller;

/// Clocks of two machines may differ by so much.
const LEEWAY_S: u64 = 60;
const ORGANISATION_PREFIX: &str = "org_";
const APPLICATION_PREFIX: &str = "app_";
const ID_CHARS_MAX: usize = 256;
const JTI_BYTES: usize = 16;
const ISSUER: &str = "hooklane";

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256; the key is a secret.
    Hs256,
    /// HMAC with SHA-384; the key is a secret.
    Hs384,
    /// HMAC with SHA-512; the key is a secret.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256; the key is a public key in PEM.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384; the key is a public key in PEM.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512; the key is a public key in PEM.
    Rs512,
    /// Ed25519; the key is a public key in PEM.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 7] = [
        Algorithm::Hs256,
        Algorithm::Hs384,
        Algorithm::Hs512,
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::EdDsa,
    ];

    /// Its name (RFC 7518, RFC 8037).
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Hs384 => "HS384",
            Algorithm::Hs512 => "HS512",
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    fn is_hmac(self) -> bool {
        matches!(self, Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512)
    }

    fn of_jwt(self) -> jsonwebtoken::Algorithm {
        match self {
            Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::Hs384 => jsonwebtoken::Algorithm::HS384,
            Algorithm::Hs512 => jsonwebtoken::Algorithm::HS512,
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Rs384 => jsonwebtoken::Algorithm::RS384,
            Algorithm::Rs512 => jsonwebtoken::Algorithm::RS512,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// Why a key cannot be used, or a token cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// A secret that can be guessed.
    #[error(
        "the secret has {bytes} bytes; at least {SECRET_BYTES_MIN} are needed (`openssl rand -base64 32` makes one)"
    )]
    TooShort {
        /// How many it has.
        bytes: usize,
    },
    /// Not a public key in PEM.
    #[error("{algorithm} needs a public key in PEM")]
    NoPublicKey {
        /// Its name.
        algorithm: &'static str,
    },
    /// Only the holder of the private key can.
    #[error("tokens of {algorithm} are made by whoever has the private key")]
    VerifiesOnly {
        /// Its name.
        algorithm: &'static str,
    },
    /// An id of another kind.
    #[error("{id:?} is no {what}: it begins with '{prefix}', and letters and digits follow")]
    Id {
        /// What was given.
        id: String,
        /// What it should be.
        what: &'static str,
        /// How it begins.
        prefix: &'static str,
    },
}

/// Least bytes of a secret.
pub const SECRET_BYTES_MIN: usize = 16;

/// Whose tokens are taken.
pub struct Tokens {
    algorithm: Algorithm,
    key: DecodingKey,
    /// None where only others can make tokens.
    signing_key: Option<EncodingKey>,
    validation: Validation,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    org: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    /// No two tokens are the same: one can be ended alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(default, rename = "featureFlags", skip_serializing_if = "BTreeSet::is_empty")]
    feature_flags: BTreeSet<String>,
}

impl Tokens {
    /// Takes tokens that were signed with this secret, or with the private half of this public key.
    ///
    /// # Errors
    /// [`TokenError::TooShort`] and [`TokenError::NoPublicKey`].
    pub fn new(algorithm: Algorithm, key: &str) -> Result<Tokens, TokenError> {
        let no_public_key = |_| TokenError::NoPublicKey {
            algorithm: algorithm.name(),
        };
        let (key, signing_key) = if algorithm.is_hmac() {
            if key.len() < SECRET_BYTES_MIN {
                return Err(TokenError::TooShort { bytes: key.len() });
            }
            let key = key.as_bytes();
            (DecodingKey::from_secret(key), Some(EncodingKey::from_secret(key)))
        } else if algorithm == Algorithm::EdDsa {
            (
                DecodingKey::from_ed_pem(key.as_bytes()).map_err(no_public_key)?,
                None,
            )
        } else {
            (
                DecodingKey::from_rsa_pem(key.as_bytes()).map_err(no_public_key)?,
                None,
            )
        };
        // The one algorithm, whatever the token says: `none` and others are not tried.
        let mut validation = Validation::new(algorithm.of_jwt());
        validation.required_spec_claims.clear();
        // Our clock is asked, below.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Ok(Tokens {
            algorithm,
            key,
            signing_key,
            validation,
        })
    }

    fn claims(&self, token: &str) -> Option<Claims> {
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation);
        Some(decoded.ok()?.claims)
    }

    /// When a token that is taken ends; none for one that never does.
    pub(crate) fn ends_at(&self, token: &str) -> Option<UnixMillis> {
        let exp = i64::try_from(self.claims(token)?.exp?).ok()?;
        Some(UnixMillis(exp.saturating_mul(1000)))
    }

    /// For whom a token speaks; none when it is not taken.
    pub(crate) fn caller(&self, token: &str, now: UnixMillis) -> Option<Caller> {
        let claims = self.claims(token)?;
        let now_s = u64::try_from(now.0 / 1000).unwrap_or(0);
        let is_over = claims
            .exp
            .is_some_and(|exp| exp.saturating_add(LEEWAY_S) <= now_s);
        let is_early = claims.nbf.is_some_and(|nbf| nbf > now_s.saturating_add(LEEWAY_S));
        if is_over || is_early {
            return None;
        }
        match claims.org {
            None => is_id(&claims.sub, ORGANISATION_PREFIX).then_some(Caller {
                organisation: claims.sub,
                application: None,
                feature_flags: BTreeSet::new(),
            }),
            Some(organisation) => {
                let is_right =
                    is_id(&organisation, ORGANISATION_PREFIX) && is_id(&claims.sub, APPLICATION_PREFIX);
                is_right.then_some(Caller {
                    organisation,
                    application: Some(claims.sub),
                    feature_flags: claims.feature_flags,
                })
            }
        }
    }

    /// A token for an organisation, or for one application of it, that ends at a time.
    ///
    /// # Errors
    /// [`TokenError::VerifiesOnly`] and [`TokenError::Id`].
    pub fn make(
        &self,
        organisation: &str,
        application: Option<&str>,
        now: UnixMillis,
        ends_at: UnixMillis,
    ) -> Result<String, TokenError> {
        self.make_with_flags(organisation, application, &BTreeSet::new(), now, ends_at)
    }

    /// As [`Tokens::make`], with flags of event types that are shown to an application.
    pub(crate) fn make_with_flags(
        &self,
        organisation: &str,
        application: Option<&str>,
        feature_flags: &BTreeSet<String>,
        now: UnixMillis,
        ends_at: UnixMillis,
    ) -> Result<String, TokenError> {
        let verifies_only = || TokenError::VerifiesOnly {
            algorithm: self.algorithm.name(),
        };
        let signing_key = self.signing_key.as_ref().ok_or_else(verifies_only)?;
        check_organisation(organisation)?;
        if let Some(application) = application {
            check_id(application, "application's id", APPLICATION_PREFIX)?;
        }
        let seconds = |time: UnixMillis| u64::try_from(time.0 / 1000).unwrap_or(0);
        let claims = Claims {
            sub: application.unwrap_or(organisation).to_owned(),
            org: application.map(|_| organisation.to_owned()),
            exp: Some(seconds(ends_at)),
            nbf: None,
            iat: Some(seconds(now)),
            iss: Some(ISSUER.to_owned()),
            jti: Some(hex::encode(rand::random::<[u8; JTI_BYTES]>())),
            feature_flags: feature_flags.clone(),
        };
        let header = Header::new(self.algorithm.of_jwt());
        jsonwebtoken::encode(&header, &claims, signing_key).map_err(|_| verifies_only())
    }
}

/// Whether a text is an organisation's id.
pub fn is_organisation(text: &str) -> bool {
    is_id(text, ORGANISATION_PREFIX)
}

/// Whether a text is an organisation's id, in words.
pub(super) fn check_organisation(id: &str) -> Result<(), TokenError> {
    check_id(id, "organisation's id", ORGANISATION_PREFIX)
}

fn check_id(id: &str, what: &'static str, prefix: &'static str) -> Result<(), TokenError> {
    match is_id(id, prefix) {
        true => Ok(()),
        false => Err(TokenError::Id {
            id: id.to_owned(),
            what,
            prefix,
        }),
    }
}

fn is_id(text: &str, prefix: &str) -> bool {
    let rest = text.strip_prefix(prefix).unwrap_or_default();
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !rest.is_empty() && text.len() <= ID_CHARS_MAX && rest.chars().all(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "x2ZFnTFkpqcVzJR4KX8LLQm0Ao4tLhEj";
    /// Made by PyJWT: `jwt.encode({"iat": 1700000000, "exp": 2015360000, "nbf": 1700000000, "iss": "svix-server", "sub":
    /// "org_23rb8YdGqMT0qIzpgGwdXfHirMu"}, SECRET, "HS256")`, the claims of `svix-server jwt generate`.
    const OF_SVIX: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpYXQiOjE3MDAwMDAwMDAsImV4cCI6MjAxNTM2MDAwMCwibmJmIjoxNzAwMDAwMDAwLCJpc3MiOiJzdml4LXNlcnZlciIsInN1YiI6Im9yZ18yM3JiOFlkR3FNVDBxSXpwZ0d3ZFhmSGlyTXUifQ.-E2Fjuy-Hk8vtSDmLDgeu3s40tF3-7whROm8U75X1Qk";
    const ED25519_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\n-----END PUBLIC KEY-----\n";
    /// By PyJWT as well, with the private half.
    const OF_ED25519: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJpYXQiOjE3MDAwMDAwMDAsImV4cCI6MjAxNTM2MDAwMCwibmJmIjoxNzAwMDAwMDAwLCJpc3MiOiJzdml4LXNlcnZlciIsInN1YiI6Im9yZ18yM3JiOFlkR3FNVDBxSXpwZ0d3ZFhmSGlyTXUifQ.1yQC50aD7W6R9bMAecjwv0yAyyy8nGcemWgiDPy9yGrBBBkGZhfCO3KKpv5n6sE1O7KN-TPKsBCAgbpRhTPTBw";

    fn tokens() -> Tokens {
        Tokens::new(Algorithm::Hs256, SECRET).unwrap()
    }

    fn at(seconds: i64) -> UnixMillis {
        UnixMillis(seconds * 1000)
    }

    #[test]
    fn tokens_made_for_svix_are_taken() {
        let caller = tokens().caller(OF_SVIX, at(1_800_000_000)).unwrap();
        assert_eq!(caller.organisation, "org_23rb8YdGqMT0qIzpgGwdXfHirMu");
        assert_eq!(caller.application, None);
        assert_eq!(tokens().caller(OF_SVIX, at(2_015_360_060)), None, "over");
        assert_eq!(tokens().caller(OF_SVIX, at(1_699_999_900)), None, "not yet");
        let verifier = Tokens::new(Algorithm::EdDsa, ED25519_PUBLIC).unwrap();
        assert!(verifier.caller(OF_ED25519, at(1_800_000_000)).is_some());
        assert!(verifier.make("org_a", None, at(0), at(1)).is_err());
    }

    #[test]
    fn a_token_speaks_for_an_organisation_or_an_application() {
        let tokens = tokens();
        let token = tokens.make("org_a", Some("app_1"), at(100), at(200)).unwrap();
        let caller = tokens.caller(&token, at(150)).unwrap();
        assert_eq!(
            (caller.organisation.as_str(), caller.application.as_deref()),
            ("org_a", Some("app_1"))
        );
        for (organisation, application) in [
            ("a", None),
            ("org_", None),
            ("org_a b", None),
            ("org_a", Some("ep_1")),
        ] {
            assert!(
                tokens.make(organisation, application, at(0), at(1)).is_err(),
                "{organisation}"
            );
        }
    }

    #[test]
    fn no_other_signature_is_taken() {
        // Goal: another secret, another algorithm with the same secret, none at all, and the public key taken for a secret.
        let now = at(150);
        let token = |algorithm, secret| {
            let tokens = Tokens::new(algorithm, secret).unwrap();
            tokens.make("org_a", None, at(100), at(200)).unwrap()
        };
        let right = token(Algorithm::Hs256, SECRET);
        assert!(tokens().caller(&right, now).is_some());
        assert!(
            tokens()
                .caller(&token(Algorithm::Hs256, "another secret of 24 bytes"), now)
                .is_none()
        );
        assert!(tokens().caller(&token(Algorithm::Hs512, SECRET), now).is_none());
        let claims = right.split('.').nth(1).unwrap();
        // {"alg":"none","typ":"JWT"}
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
        assert!(tokens().caller(&unsigned, now).is_none());
        let verifier = Tokens::new(Algorithm::EdDsa, ED25519_PUBLIC).unwrap();
        assert!(
            verifier
                .caller(&token(Algorithm::Hs256, ED25519_PUBLIC), now)
                .is_none()
        );
        for broken in ["", ".", "..", "a.b.c", &right[..right.len() - 1], SECRET] {
            assert!(tokens().caller(broken, now).is_none(), "{broken:?}");
        }
    }

    #[test]
    fn keys_that_cannot_work_are_refused() {
        assert!(matches!(
            Tokens::new(Algorithm::Hs256, "short"),
            Err(TokenError::TooShort { .. })
        ));
        assert!(matches!(
            Tokens::new(Algorithm::Rs256, SECRET),
            Err(TokenError::NoPublicKey { .. })
        ));
    }
}
