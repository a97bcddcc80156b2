//! Properties over arbitrary secrets, bodies and headers.

use std::collections::HashMap;

use hooklane_signing::{
    Encoding, Hash, HeaderFamily, HmacFormat, Scheme, Secret, Signer, TOLERANCE_S, Verifier, VerifyError,
};
use proptest::prelude::*;
use proptest::sample::Index;

#[path = "property/signature_header.rs"]
mod signature_header;

type Headers = HashMap<String, String>;

fn verify(verifier: &Verifier, headers: &Headers, body: &[u8], now_s: i64) -> Result<(), VerifyError> {
    verifier.verify(
        |name| headers.get(name).map(String::as_str),
        body,
        now_s,
        TOLERANCE_S,
    )
}

fn sign(signer: &Signer, id: &str, timestamp_s: i64, body: &[u8]) -> Headers {
    signer
        .sign(id, timestamp_s, body)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Flips one bit of an ASCII text below the eighth, so that it stays a text.
fn flip_text(text: &str, place: Index, bit: u8) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let place = place.index(bytes.len());
    bytes[place] ^= 1 << bit;
    String::from_utf8(bytes).expect("ASCII stays ASCII")
}

fn symmetric() -> impl Strategy<Value = Secret> {
    prop::collection::vec(any::<u8>(), 1..=64)
        .prop_map(|key| Secret::symmetric_from_bytes(&key).expect("1..=64"))
}

fn standard_case() -> impl Strategy<Value = (Scheme, Secret)> {
    let family = prop_oneof![Just(HeaderFamily::Webhook), Just(HeaderFamily::Svix)];
    let secret = prop_oneof![symmetric(), any::<[u8; 32]>().prop_map(Secret::ed25519_from_seed)];
    (family.prop_map(Scheme::Standard), secret)
}

fn hmac_case() -> impl Strategy<Value = (Scheme, Secret)> {
    let hash = prop_oneof![Just(Hash::Sha1), Just(Hash::Sha256), Just(Hash::Sha512)];
    let encoding = prop_oneof![Just(Encoding::Hex), Just(Encoding::Base64)];
    let format = (
        "[A-Za-z][A-Za-z0-9-]{0,20}-sig",
        hash,
        encoding,
        "([!-~][ -~]{0,10})?",
    )
        .prop_map(|(header, hash, encoding, prefix)| {
            HmacFormat::new(header, hash, encoding, prefix).expect("valid")
        });
    let secret = prop_oneof![symmetric(), verbatim()];
    (format.prop_map(Scheme::Hmac), secret)
}

fn verbatim() -> impl Strategy<Value = Secret> {
    "\\PC{1,40}".prop_map(|text| Secret::verbatim(&text).expect("not empty"))
}

fn named_case() -> impl Strategy<Value = (Scheme, Secret)> {
    (
        prop_oneof![Just(Scheme::GitHub), Just(Scheme::Stripe)],
        verbatim(),
    )
}

fn any_case() -> impl Strategy<Value = (Scheme, Secret)> {
    prop_oneof![standard_case(), hmac_case(), named_case()]
}

fn id() -> impl Strategy<Value = String> {
    "msg_[A-Za-z0-9]{1,27}"
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..300)
}

/// Up to the last time with 18 digits.
fn timestamp_s() -> impl Strategy<Value = i64> {
    prop_oneof![0..4_000_000_000_i64, 0..=999_999_999_999_999_999_i64]
}

proptest! {
    #[test]
    fn what_was_signed_verifies_with_any_live_secret(
        (scheme, secret) in any_case(),
        id in id(), at in timestamp_s(), body in prop::collection::vec(any::<u8>(), 0..300),
        late in -300_i64..=300,
    ) {
        // Goal: round trip for every scheme, with the verifier in the middle of a rotation.
        let signer = Signer::new(scheme.clone(), vec![secret.clone()]).expect("fits");
        let headers = sign(&signer, &id, at, &body);
        let described = signer.describe(&id, "a.b");
        let mut set: Vec<String> = headers.keys().cloned().collect();
        set.extend(described.into_iter().map(|(name, _)| name.to_owned()));
        let mut named = signer.header_names();
        set.sort();
        named.sort();
        prop_assert_eq!(set, named);

        let text = "another secret, of another length than others";
        let other = if scheme.takes_verbatim() {
            Secret::verbatim(text)
        } else {
            Secret::symmetric_from_bytes(text.as_bytes())
        };
        let other = other.expect("valid");
        let both = Verifier::new(scheme.clone(), vec![other.clone(), secret]).expect("fits");
        prop_assert_eq!(verify(&both, &headers, &body, at + late), Ok(()));
        let only_other = Verifier::new(scheme, vec![other]).expect("fits");
        prop_assert_eq!(verify(&only_other, &headers, &body, at), Err(VerifyError::NoMatch));
    }

    #[test]
    fn a_flipped_bit_of_the_body_fails(
        (scheme, secret) in any_case(),
        id in id(), at in timestamp_s(), body in body(), place in any::<Index>(), bit in 0..8_u8,
    ) {
        // Goal: every bit of the body is signed, in every scheme.
        let signer = Signer::new(scheme.clone(), vec![secret.clone()]).expect("fits");
        let verifier = Verifier::new(scheme, vec![secret]).expect("fits");
        let headers = sign(&signer, &id, at, &body);
        let mut forged = body.clone();
        forged[place.index(body.len())] ^= 1 << bit;
        prop_assert_eq!(verify(&verifier, &headers, &forged, at), Err(VerifyError::NoMatch));
        prop_assert_eq!(verify(&verifier, &headers, &body, at), Ok(()));
    }

    #[test]
    fn a_flipped_bit_of_any_signing_header_fails(
        (scheme, secret) in any_case(),
        id in id(), at in timestamp_s(), body in body(), which in any::<Index>(), place in any::<Index>(), bit in 0..7_u8,
    ) {
        // Goal: id, time and signature each have exactly one text that verifies.
        let signer = Signer::new(scheme.clone(), vec![secret.clone()]).expect("fits");
        let verifier = Verifier::new(scheme, vec![secret]).expect("fits");
        let mut headers = sign(&signer, &id, at, &body);
        // Of GitHub's headers only the one with SHA-256 decides.
        let mut names: Vec<String> = signer.header_names();
        names.retain(|name| headers.contains_key(name) && name != "x-hub-signature");
        let name = &names[which.index(names.len())];
        let flipped = flip_text(&headers[name], place, bit);
        headers.insert(name.clone(), flipped);
        prop_assert!(verify(&verifier, &headers, &body, at).is_err(), "{} {}", name, headers[name]);
    }

    #[test]
    fn arbitrary_header_text_neither_panics_nor_passes(text in "\\PC*") {
        // Goal: the property of the fuzz target, on texts of any characters.
        signature_header::check(&text);
    }

    #[test]
    fn texts_like_signature_headers_neither_panic_nor_pass(
        text in "((v1|v1a|v2|V1|)(,|)[A-Za-z0-9+/]{0,90}={0,3} {0,2}){0,40}",
    ) {
        // Goal: the same, on texts that get further into the parser.
        signature_header::check(&text);
    }

    #[test]
    fn now_and_tolerance_may_be_anything(timestamp in "-?[0-9]{0,25}", now in any::<i64>(), tolerance in any::<u64>()) {
        // Goal: no overflow in the arithmetic of time, whatever the clock says.
        let secret = Secret::symmetric_from_bytes(b"key").expect("valid");
        let verifier = Verifier::new(Scheme::Standard(HeaderFamily::Webhook), vec![secret]).expect("fits");
        let header = |name: &str| if name == "webhook-timestamp" { Some(timestamp.as_str()) } else { Some("x") };
        prop_assert!(verifier.verify(header, b"", now, tolerance).is_err());
    }
}
