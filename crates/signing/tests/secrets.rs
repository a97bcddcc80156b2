//! What is a secret and what is none; what fits a scheme; and that none of it shows a key.

use hooklane_signing::{
    Encoding, FormatError, Hash, HeaderFamily, HmacFormat, SECRET_TEXT_BYTES_MAX, SECRETS_MAX, Scheme,
    Secret, SecretError, SecretKind, Signer, SignerError, Verifier, is_signable_id,
};

const SIGNING_KEY: &str =
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
const PUBLIC_KEY: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
const SYMMETRIC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const STANDARD: Scheme = Scheme::Standard(HeaderFamily::Webhook);

fn hmac() -> Scheme {
    Scheme::Hmac(HmacFormat::new("x-signature", Hash::Sha256, Encoding::Hex, "").expect("valid"))
}

fn of_every_kind() -> [Secret; 4] {
    let parse = |text| Secret::parse(text).expect("valid");
    [
        parse(SYMMETRIC),
        parse(SIGNING_KEY),
        parse(PUBLIC_KEY),
        Secret::verbatim(SYMMETRIC).expect("valid"),
    ]
}

#[test]
fn text_survives_reading_and_exposing() {
    // Goal: each kind is known by its prefix, and is written as it was read; missing padding is added.
    let kinds = [
        SecretKind::Symmetric,
        SecretKind::Ed25519,
        SecretKind::Ed25519Public,
        SecretKind::Verbatim,
    ];
    let texts = [SYMMETRIC, SIGNING_KEY, PUBLIC_KEY, SYMMETRIC];
    for ((secret, kind), text) in of_every_kind().iter().zip(kinds).zip(texts) {
        assert_eq!((secret.kind(), secret.expose().as_str()), (kind, text));
    }
    let unpadded = Secret::parse("whsec_YQ").expect("padding is optional");
    assert_eq!(unpadded.expose(), "whsec_YQ==");
    assert_eq!(unpadded, Secret::symmetric_from_bytes(b"a").expect("valid"));
    let signing = Secret::parse(SIGNING_KEY.trim_end_matches('=')).expect("padding is optional");
    assert_eq!(signing.expose(), SIGNING_KEY);
}

#[test]
fn a_seed_gives_the_key_of_its_text() {
    // Goal: RFC 8032, 7.1, test 1: seed and public key.
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let seed: [u8; 32] = hex::decode(seed).expect("hex").try_into().expect("32 bytes");
    let shown = Secret::ed25519_from_seed(seed)
        .public_key()
        .expect("has one")
        .expose();
    use base64::Engine;
    let expected = base64::engine::general_purpose::STANDARD.encode(hex::decode(public).expect("hex"));
    assert_eq!(shown, format!("whpk_{expected}"));
}

#[test]
fn what_is_no_secret_is_told_why() {
    // Goal: one error per rule, and never the text in it.
    let length = |kind, expected, found| SecretError::WrongLength {
        kind,
        expected,
        found,
    };
    let long = format!("whsec_{}", "A".repeat(SECRET_TEXT_BYTES_MAX));
    let disagreeing = format!("{}AAAA==", &SIGNING_KEY[..SIGNING_KEY.len() - 6]);
    for (text, expected) in [
        ("", SecretError::Empty),
        ("whsec_", SecretError::Empty),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SecretError::UnknownPrefix),
        (
            "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            SecretError::UnknownPrefix,
        ),
        ("whsec_MfKQ9r8G\n", SecretError::NotBase64),
        ("whsec_MfKQ9r8GA", SecretError::NotBase64),
        ("whsec_-_-_", SecretError::NotBase64),
        ("whsk_YWJj", length(SecretKind::Ed25519, 64, 3)),
        ("whpk_YWJj", length(SecretKind::Ed25519Public, 32, 3)),
        // The neutral point, which verifies anything, and a number that is no point.
        (
            "whpk_AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            SecretError::UnusablePublicKey,
        ),
        (
            "whpk_AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            SecretError::UnusablePublicKey,
        ),
        (long.as_str(), SecretError::TooLong),
        (disagreeing.as_str(), SecretError::KeysDisagree),
    ] {
        assert_eq!(Secret::parse(text).err(), Some(expected), "{text:?}");
    }
    assert_eq!(Secret::verbatim("").err(), Some(SecretError::Empty));
    assert_eq!(Secret::symmetric_from_bytes(&[]).err(), Some(SecretError::Empty));
    assert_eq!(
        Secret::symmetric_from_bytes(&[1; 4000]).err(),
        Some(SecretError::TooLong)
    );
}

#[test]
fn equal_only_with_the_same_kind_and_key() {
    // Goal: every kind equals itself and none of the others, though two of these share their text.
    for (index, one) in of_every_kind().iter().enumerate() {
        for (other_index, other) in of_every_kind().iter().enumerate() {
            assert_eq!(one == other, index == other_index);
        }
    }
    let with = |bytes: &[u8]| Secret::symmetric_from_bytes(bytes).expect("valid");
    assert!(with(b"ab") != with(b"ac") && with(b"ab") != with(b"abc"));
}

#[test]
fn debug_shows_no_key() {
    // Goal: neither a secret nor what is made of it prints one.
    for secret in of_every_kind() {
        assert_eq!(format!("{secret:?}"), "Secret(redacted)");
    }
    let secret = || vec![Secret::parse(SYMMETRIC).expect("valid")];
    let signer = format!("{:?}", Signer::new(STANDARD, secret()).expect("fits"));
    let verifier = format!("{:?}", Verifier::new(STANDARD, secret()).expect("fits"));
    assert_eq!(signer, "Signer { scheme: Standard(Webhook), .. }");
    assert_eq!(verifier, "Verifier { scheme: Standard(Webhook), .. }");
}

#[test]
fn only_secrets_that_fit_make_signers_and_verifiers() {
    // Goal: the table of the README, both sides, all kinds.
    let [symmetric, ed25519, public, verbatim] = of_every_kind();
    for (scheme, secret, signs, verifies) in [
        (STANDARD, &symmetric, true, true),
        (STANDARD, &ed25519, true, true),
        (STANDARD, &public, false, true),
        (STANDARD, &verbatim, false, false),
        (hmac(), &symmetric, true, true),
        (hmac(), &ed25519, false, false),
        (hmac(), &public, false, false),
        (hmac(), &verbatim, true, true),
    ] {
        assert_eq!(
            Signer::new(scheme.clone(), vec![secret.clone()]).is_ok(),
            signs,
            "{:?}",
            secret.kind()
        );
        assert_eq!(
            Verifier::new(scheme, vec![secret.clone()]).is_ok(),
            verifies,
            "{:?}",
            secret.kind()
        );
    }
    let error = Signer::new(STANDARD, vec![symmetric, public]).expect_err("a public key cannot sign");
    let message = "secret 2 is an ed25519 public key (whpk_), but Standard Webhooks signs with whsec_ and whsk_ secrets";
    assert_eq!(error.to_string(), message);
}

#[test]
fn the_number_of_secrets_is_bounded_on_both_sides() {
    // Goal: none and eleven are refused, one and ten are not.
    let secrets = |count| vec![Secret::parse(SYMMETRIC).expect("valid"); count];
    for scheme in [STANDARD, hmac()] {
        assert_eq!(
            Signer::new(scheme.clone(), vec![]).err(),
            Some(SignerError::NoSecrets)
        );
        assert_eq!(
            Verifier::new(scheme.clone(), vec![]).err(),
            Some(SignerError::NoSecrets)
        );
        let many = SignerError::TooManySecrets {
            found: SECRETS_MAX + 1,
        };
        assert_eq!(
            Signer::new(scheme.clone(), secrets(SECRETS_MAX + 1)).err(),
            Some(many.clone())
        );
        assert_eq!(
            Verifier::new(scheme.clone(), secrets(SECRETS_MAX + 1)).err(),
            Some(many)
        );
        assert!(Signer::new(scheme.clone(), secrets(SECRETS_MAX)).is_ok());
        assert!(Verifier::new(scheme, secrets(SECRETS_MAX)).is_ok());
    }
}

#[test]
fn hmac_signs_with_the_first_secret_only() {
    // Goal: a plain header has one signature; the order of the secrets decides whose.
    let secret = |text| Secret::verbatim(text).expect("valid");
    let both = Signer::new(hmac(), vec![secret("new"), secret("old")]).expect("fits");
    let new = Signer::new(hmac(), vec![secret("new")]).expect("fits");
    assert_eq!(both.sign("a", 1, b"body"), new.sign("a", 1, b"body"));
    assert_eq!(both.scheme(), &hmac());
    assert_eq!(both.header_names(), ["x-signature"]);
}

#[test]
fn formats_that_could_not_be_sent_do_not_exist() {
    // Goal: header names by RFC 9110, in lower case, with no other meaning; prefixes that arrive unchanged.
    let format = |header: &str, prefix: &str| HmacFormat::new(header, Hash::Sha256, Encoding::Hex, prefix);
    assert_eq!(format("X-Sig", "sha256=").expect("valid").header(), "x-sig");
    assert!(format("authorization", "HMAC ").is_ok());
    let long = "x".repeat(129);
    for header in ["", "x sig", "x:sig", "x\r\nsig", "x-sïg", long.as_str()] {
        assert_eq!(
            format(header, "").err(),
            Some(FormatError::HeaderName(header.to_owned()))
        );
    }
    for header in ["Host", "content-length", "Transfer-Encoding", "Webhook-Id"] {
        assert_eq!(
            format(header, "").err(),
            Some(FormatError::HeaderReserved(header.to_ascii_lowercase()))
        );
    }
    let long = "=".repeat(65);
    for prefix in [" v1=", "v1\n", "vé", long.as_str()] {
        assert_eq!(
            format("x-sig", prefix).err(),
            Some(FormatError::Prefix(prefix.to_owned()))
        );
    }
}

#[test]
fn signable_ids_are_what_header_and_content_can_hold() {
    // Goal: no dot, nothing that a header cannot carry, not empty.
    assert!(is_signable_id("msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"));
    for id in ["", "a.b", "a b", "a\r\n", "é"] {
        assert!(!is_signable_id(id), "{id:?}");
    }
}
