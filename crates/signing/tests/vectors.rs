//! Published vectors: of the Standard Webhooks libraries, of GitHub and its libraries, and plain HMACs.

use hooklane_signing::{
    Encoding, Hash, HeaderFamily, HmacFormat, Scheme, Secret, Signer, TOLERANCE_S, Verifier, VerifyError,
};

struct Vector {
    secret: &'static str,
    id: &'static str,
    timestamp_s: i64,
    body: &'static str,
    signature: &'static str,
}

const FIRST: Vector = Vector {
    secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
    timestamp_s: 1_614_265_330,
    body: r#"{"test": 2432232314}"#,
    signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
};

const PUBLISHED: [Vector; 6] = [
    FIRST,
    Vector {
        secret: "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        id: "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        timestamp_s: 1_649_367_553,
        body: r#"{"email":"test@example.com","username":"test_user"}"#,
        signature: "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    },
    Vector {
        secret: "whsec_plJ3nmyCDGBKInavdOK15jsl",
        id: "msg_loFOjxBNrRLzqYUf",
        timestamp_s: 1_731_705_121,
        body: r#"{"event_type":"ping","data":{"success":true}}"#,
        signature: "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
    },
    Vector {
        secret: SIGNING_KEY,
        signature: ED25519_SIGNATURE,
        ..FIRST
    },
    // Unpadded, with bits set that no byte uses: the secrets of the Python library's tests. Signatures by Python's hmac.
    Vector {
        secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        signature: "v1,LVOXivKoo4FWasi/IaHvzhE/u+7/cu2AME+zS/nXqzk=",
        ..FIRST
    },
    Vector {
        secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBr",
        signature: "v1,yK2tMbA6BHPrMEJ1lLv7UlJJbgFoqGenJkiajZ29evg=",
        ..FIRST
    },
];

const SIGNING_KEY: &str =
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
const PUBLIC_KEY: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
const ED25519_SIGNATURE: &str =
    "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";

const STANDARD: Scheme = Scheme::Standard(HeaderFamily::Webhook);

fn secret(text: &str) -> Secret {
    Secret::parse(text).expect("published secret")
}

fn verify_first(secret_text: &str, signatures: &str) -> Result<(), VerifyError> {
    let verifier = Verifier::new(STANDARD, vec![secret(secret_text)]).expect("fits");
    let timestamp = FIRST.timestamp_s.to_string();
    let header = |name: &str| match name {
        "webhook-id" => Some(FIRST.id),
        "webhook-timestamp" => Some(timestamp.as_str()),
        "webhook-signature" => Some(signatures),
        _ => None,
    };
    verifier.verify(header, FIRST.body.as_bytes(), FIRST.timestamp_s, TOLERANCE_S)
}

#[test]
fn signs_the_published_vectors_of_standard_webhooks() {
    // Goal: byte for byte what the libraries of Standard Webhooks and Svix produce, under both families of names.
    for vector in &PUBLISHED {
        for (family, prefix) in [(HeaderFamily::Webhook, "webhook"), (HeaderFamily::Svix, "svix")] {
            let signer = Signer::new(Scheme::Standard(family), vec![secret(vector.secret)]).expect("fits");
            let headers = signer.sign(vector.id, vector.timestamp_s, vector.body.as_bytes());
            let (id, timestamp, signature) = (
                format!("{prefix}-id"),
                format!("{prefix}-timestamp"),
                format!("{prefix}-signature"),
            );
            let expected = [
                (id.as_str(), vector.id.to_owned()),
                (timestamp.as_str(), vector.timestamp_s.to_string()),
                (signature.as_str(), vector.signature.to_owned()),
            ];
            assert_eq!(headers, expected);
        }
    }
}

#[test]
fn verifies_the_published_vectors_of_standard_webhooks() {
    // Goal: what the libraries sign is accepted, and the signature of every other vector is not.
    for (index, vector) in PUBLISHED.iter().enumerate() {
        let verifier = Verifier::new(STANDARD, vec![secret(vector.secret)]).expect("fits");
        for (other_index, other) in PUBLISHED.iter().enumerate() {
            let timestamp = vector.timestamp_s.to_string();
            let header = |name: &str| match name {
                "webhook-id" => Some(vector.id),
                "webhook-timestamp" => Some(timestamp.as_str()),
                "webhook-signature" => Some(other.signature),
                _ => None,
            };
            let result = verifier.verify(header, vector.body.as_bytes(), vector.timestamp_s, TOLERANCE_S);
            let expected = if index == other_index {
                Ok(())
            } else {
                Err(VerifyError::NoMatch)
            };
            assert_eq!(
                result, expected,
                "vector {index} with the signature of {other_index}"
            );
        }
    }
}

#[test]
fn refuses_the_published_bad_signatures() {
    // Goal: the libraries' own counter-examples, one of which differs from the good one in two bits.
    for bad in [
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=",
        "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=",
        "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    ] {
        assert_eq!(
            verify_first(FIRST.secret, bad),
            Err(VerifyError::NoMatch),
            "{bad}"
        );
    }
}

#[test]
fn verifies_ed25519_with_the_public_key_alone() {
    // Goal: a receiver needs only whpk_, which the signing key yields.
    assert_eq!(verify_first(PUBLIC_KEY, ED25519_SIGNATURE), Ok(()));
    assert_eq!(
        verify_first(PUBLIC_KEY, FIRST.signature),
        Err(VerifyError::NoMatch)
    );
    assert_eq!(secret(SIGNING_KEY).public_key(), Some(secret(PUBLIC_KEY)));
}

#[test]
fn signs_with_hmac_and_ed25519_in_one_header() {
    // Goal: the mixed header that the libraries accept, in the order of the secrets.
    let signer = Signer::new(STANDARD, vec![secret(SIGNING_KEY), secret(FIRST.secret)]).expect("fits");
    let headers = signer.sign(FIRST.id, FIRST.timestamp_s, FIRST.body.as_bytes());
    let mixed = format!("{ED25519_SIGNATURE} {}", FIRST.signature);
    assert_eq!(headers[2].1, mixed);
    assert_eq!(verify_first(PUBLIC_KEY, &mixed), Ok(()));
    assert_eq!(verify_first(FIRST.secret, &mixed), Ok(()));
}

/// Signs, compares, verifies, and refuses the next body, for one plain HMAC.
fn check_hmac(format: HmacFormat, secret: Secret, body: &str, value: &str) {
    let scheme = Scheme::Hmac(format.clone());
    let signer = Signer::new(scheme.clone(), vec![secret.clone()]).expect("fits");
    assert_eq!(
        signer.sign("msg_1", 1, body.as_bytes()),
        [(format.header(), value.to_owned())]
    );
    let verifier = Verifier::new(scheme, vec![secret]).expect("fits");
    let header = |name: &str| (name == format.header()).then_some(value);
    assert_eq!(verifier.verify(header, body.as_bytes(), 0, 0), Ok(()));
    let longer = format!("{body} ");
    assert_eq!(
        verifier.verify(header, longer.as_bytes(), 0, 0),
        Err(VerifyError::NoMatch)
    );
}

fn verbatim(text: &str) -> Secret {
    Secret::verbatim(text).expect("not empty")
}

#[test]
fn signs_and_verifies_as_github_does() {
    // Goal: the vectors of GitHub's documentation and of octokit, in both of its headers.
    let sha256 =
        HmacFormat::new("X-Hub-Signature-256", Hash::Sha256, Encoding::Hex, "sha256=").expect("valid");
    let sha1 = HmacFormat::new("X-Hub-Signature", Hash::Sha1, Encoding::Hex, "sha1=").expect("valid");
    let documented = || verbatim("It's a Secret to Everybody");
    for (format, secret, body, value) in [
        (
            &sha256,
            documented(),
            "Hello, World!",
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        ),
        (
            &sha1,
            documented(),
            "Hello, World!",
            "sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59",
        ),
        (
            &sha256,
            verbatim("mysecret"),
            r#"{"foo":"bar"}"#,
            "sha256=4864d2759938a15468b5df9ade20bf161da9b4f737ea61794142f3484236bda3",
        ),
        (
            &sha256,
            verbatim("secret"),
            "data",
            "sha256=1b2c16b75bd2a870c114153ccda5bcfca63314bc722fa160d690de133ccbb9db",
        ),
    ] {
        check_hmac(format.clone(), secret, body, value);
    }
}

#[test]
fn signs_a_bare_hex_hmac_over_the_body_in_any_header() {
    // Goal: the plainest format, hex HMAC-SHA256 over the body without a prefix (vector: Convoy's).
    let format = HmacFormat::new("X-My-Signature", Hash::Sha256, Encoding::Hex, "").expect("valid");
    check_hmac(
        format,
        verbatim("convoy-webhook-secret"),
        r#"{"event":"charge.success","amount":1000,"currency":"NGN"}"#,
        "244449b7f48cbc2709060c9dcdc2b3aa47a78f540430579015c579fb12defbb4",
    );
}

#[test]
fn hmac_takes_a_verbatim_text_as_it_stands_and_decodes_whsec() {
    // Goal: the same text gives two keys, by how it was read. Values by Python's hmac, SHA-512 in base64.
    let format = || HmacFormat::new("x-signature", Hash::Sha512, Encoding::Base64, "v0=").expect("valid");
    check_hmac(
        format(),
        verbatim(FIRST.secret),
        FIRST.body,
        "v0=Kbc18waUu1fHZ7CX/JhABimboKE2QL84cN9sNthlV1pcyToeUFxEVuDUCXQODPxtIgm9AXsj2RHOLXBWGM24Tw==",
    );
    check_hmac(
        format(),
        secret(FIRST.secret),
        FIRST.body,
        "v0=ZYBLoZRnYvI+8URePyOkh9bTSQXFvDD/Jc8/Tftb6XBrn648p0jmk0cfQlWQwsjRmiYSHfNgijhK7gi+ngUX4A==",
    );
}

/// The signature headers of a scheme over a body, as a signer of these verbatim secrets sets them.
fn signed(scheme: Scheme, secrets: &[&str], timestamp_s: i64, body: &str) -> Vec<(String, String)> {
    let secrets = secrets.iter().map(|text| verbatim(text)).collect();
    let signer = Signer::new(scheme, secrets).expect("fits");
    let headers = signer.sign("msg_1", timestamp_s, body.as_bytes());
    headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn verified(
    scheme: Scheme,
    secret: &str,
    headers: &[(&str, &str)],
    body: &str,
    now_s: i64,
) -> Result<(), VerifyError> {
    let verifier = Verifier::new(scheme, vec![verbatim(secret)]).expect("fits");
    let header = |name: &str| {
        let found = headers.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| *value)
    };
    verifier.verify(header, body.as_bytes(), now_s, TOLERANCE_S)
}

#[test]
fn the_github_scheme_sets_both_signatures_and_trusts_the_stronger_alone() {
    // Goal: GitHub's documented vector under both of its names; a request that carries only SHA-1, or a wrong SHA-256 beside a
    // right SHA-1, is not accepted.
    let (secret, body) = ("It's a Secret to Everybody", "Hello, World!");
    let sha256 = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let sha1 = "sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59";
    let expected = [("x-hub-signature-256", sha256), ("x-hub-signature", sha1)];
    let headers = signed(Scheme::GitHub, &[secret, "older"], 1, body);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(headers, expected, "the first secret signs");
    let verify = |headers: &[(&str, &str)]| verified(Scheme::GitHub, secret, headers, body, 0);
    assert_eq!(verify(&expected), Ok(()));
    assert_eq!(verify(&expected[..1]), Ok(()));
    let missing = VerifyError::MissingHeader("x-hub-signature-256".to_owned());
    assert_eq!(verify(&expected[1..]), Err(missing));
    for wrong in [sha256.to_uppercase().as_str(), &sha256[7..], sha1, "sha256="] {
        let headers = [("x-hub-signature-256", wrong), ("x-hub-signature", sha1)];
        assert_eq!(verify(&headers), Err(VerifyError::NoMatch), "{wrong}");
    }
}

#[test]
fn the_github_scheme_describes_the_event_by_type_and_guid() {
    // Goal: the GUID is the one that anybody computes by RFC 9562, here by Python's
    // uuid.uuid5(uuid.NAMESPACE_URL, "hooklane:event:msg_p5jXN8AQM9LWM0D4loKWxJek").
    let signer = Signer::new(Scheme::GitHub, vec![verbatim("s")]).expect("fits");
    let described = signer.describe("msg_p5jXN8AQM9LWM0D4loKWxJek", "invoice.paid");
    let expected = [
        ("x-github-event", "invoice.paid".to_owned()),
        (
            "x-github-delivery",
            "cbdf753a-4fb4-5d5c-b6f3-d7fa29678725".to_owned(),
        ),
    ];
    assert_eq!(described, expected);
    assert_ne!(signer.describe("msg_2", "invoice.paid")[1], described[1]);
}

const STRIPE_V1: &str = "c89214b5b5da833daed6f0b8c5bb6bd58cea9022bd80ccc78230f3942d632925";
const STRIPE_TIME_S: i64 = 1_700_000_000;
const STRIPE_BODY: &str = r#"{"id":"evt_1"}"#;

fn verify_stripe(value: &str, late_s: i64) -> Result<(), VerifyError> {
    let headers = [("stripe-signature", value)];
    verified(
        Scheme::Stripe,
        "whsec_test",
        &headers,
        STRIPE_BODY,
        STRIPE_TIME_S + late_s,
    )
}

#[test]
fn signs_and_verifies_as_stripe_does() {
    // Goal: the value that Stripe's own library accepts, with its secret taken as it stands; the time is signed and bounded.
    let headers = signed(Scheme::Stripe, &["whsec_test"], STRIPE_TIME_S, STRIPE_BODY);
    let value = format!("t={STRIPE_TIME_S},v1={STRIPE_V1}");
    assert_eq!(headers, [("stripe-signature".to_owned(), value.clone())]);
    assert_eq!(verify_stripe(&value, 300), Ok(()));
    assert_eq!(verify_stripe(&value, 301), Err(VerifyError::TooOld));
    assert_eq!(verify_stripe(&value, -301), Err(VerifyError::TooNew));
    let later = format!("t={},v1={STRIPE_V1}", STRIPE_TIME_S + 1);
    assert_eq!(verify_stripe(&later, 0), Err(VerifyError::NoMatch));
}

#[test]
fn a_stripe_header_may_list_several_signatures_and_other_versions() {
    // Goal: during a rotation all secrets sign, and a receiver with either accepts; v0 and what is unknown do not count.
    let headers = signed(Scheme::Stripe, &["new", "whsec_test"], STRIPE_TIME_S, STRIPE_BODY);
    let value = &headers[0].1;
    assert_eq!(value.matches(",v1=").count(), 2);
    assert!(value.ends_with(STRIPE_V1), "{value}");
    assert_eq!(verify_stripe(value, 0), Ok(()));
    let t = STRIPE_TIME_S;
    let other = "0".repeat(64);
    for good in [
        format!("v1={other},t={t},v0=x,,v1={STRIPE_V1}"),
        format!("t={t},v1=x,v1={STRIPE_V1}"),
    ] {
        assert_eq!(verify_stripe(&good, 0), Ok(()), "{good}");
    }
    for (bad, error) in [
        (format!("t={t},v0={STRIPE_V1}"), VerifyError::NoMatch),
        (format!("t={t}"), VerifyError::NoMatch),
        (
            format!("t={t},v1={}", STRIPE_V1.to_uppercase()),
            VerifyError::NoMatch,
        ),
        (format!("v1={STRIPE_V1}"), VerifyError::MalformedTimestamp),
        (
            format!("t={t},t={t},v1={STRIPE_V1}"),
            VerifyError::MalformedTimestamp,
        ),
        (format!("t=+{t},v1={STRIPE_V1}"), VerifyError::MalformedTimestamp),
        (
            format!("t={t}{},v1={STRIPE_V1}", ",v1=".repeat(3000)),
            VerifyError::NoMatch,
        ),
    ] {
        assert_eq!(verify_stripe(&bad, 0), Err(error), "{bad}");
    }
}

#[test]
fn at_most_32_signatures_of_a_stripe_header_are_compared() {
    // Goal: a stranger cannot make a verifier compare without end. Method: the right one as the 32nd, and as the 33rd.
    let wrong = format!(",v1={}", "0".repeat(64));
    for (before, expected) in [(31, Ok(())), (32, Err(VerifyError::NoMatch))] {
        let value = format!("t={STRIPE_TIME_S}{},v1={STRIPE_V1}", wrong.repeat(before));
        assert_eq!(verify_stripe(&value, 0), expected);
    }
}

#[test]
fn github_and_stripe_take_verbatim_secrets_only() {
    // Goal: a decoded whsec_ key is not the one that Stripe's or GitHub's libraries would compute with.
    for scheme in [Scheme::GitHub, Scheme::Stripe] {
        assert!(scheme.takes_verbatim());
        let error = Signer::new(scheme.clone(), vec![secret(FIRST.secret)]).expect_err("refused");
        assert!(error.to_string().contains("verbatim"), "{error}");
        Verifier::new(scheme, vec![verbatim("a"), secret(FIRST.secret)]).expect_err("refused");
    }
}
