//! What must hold for any text that a stranger puts into the headers. Shared by the property test of this crate and by
//! the fuzz target `signature_header`, so that both say the same.

use hooklane_signing::{
    Encoding, Hash, HeaderFamily, HmacFormat, SIGNATURE_HEADER_BYTES_MAX, Scheme, Secret, Signer,
    TOLERANCE_S, Verifier, VerifyError,
};

const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const NOW_S: i64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;

/// Panics if the text gets a request accepted that nobody signed, or stops one that somebody did.
pub fn check(text: &str) {
    check_standard(text);
    check_hmac(Encoding::Hex, text);
    check_hmac(Encoding::Base64, text);
    check_github(text);
    check_stripe(text);
    check_secret(text);
}

fn secrets() -> Vec<Secret> {
    let symmetric = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("published test secret");
    vec![symmetric, Secret::ed25519_from_seed([7; 32])]
}

fn check_standard(text: &str) {
    let scheme = Scheme::Standard(HeaderFamily::Webhook);
    let signer = Signer::new(scheme.clone(), secrets()).expect("two secrets that fit");
    let verifier = Verifier::new(scheme, secrets()).expect("two secrets that fit");
    let genuine = signer.sign(ID, NOW_S, BODY)[2].1.clone();
    let timestamp = NOW_S.to_string();
    let verify = |id: &str, timestamp: &str, signatures: &str| {
        let header = |name: &str| match name {
            "webhook-id" => Some(id),
            "webhook-timestamp" => Some(timestamp),
            "webhook-signature" => Some(signatures),
            _ => None,
        };
        verifier.verify(header, BODY, NOW_S, TOLERANCE_S)
    };

    if verify(ID, &timestamp, text).is_ok() {
        let seen = &text.as_bytes()[..text.len().min(SIGNATURE_HEADER_BYTES_MAX)];
        let holds = |one: &str| {
            seen.split(|byte| *byte == b' ')
                .any(|part| part == one.as_bytes())
        };
        assert!(
            genuine.split(' ').any(holds),
            "accepted without a genuine signature: {text:?}"
        );
    }
    let followed = format!("{genuine} {text}");
    assert_eq!(
        verify(ID, &timestamp, &followed),
        Ok(()),
        "a genuine signature was lost before {text:?}"
    );

    assert!(
        text == ID || verify(text, &timestamp, &genuine).is_err(),
        "accepted with the id {text:?}"
    );
    assert!(
        text == timestamp || verify(ID, text, &genuine).is_err(),
        "accepted with the time {text:?}"
    );
}

fn check_hmac(encoding: Encoding, text: &str) {
    let format = HmacFormat::new("x-signature", Hash::Sha256, encoding, "").expect("plain format");
    let scheme = Scheme::Hmac(format);
    let secret = || vec![Secret::verbatim("mysecret").expect("not empty")];
    let signer = Signer::new(scheme.clone(), secret()).expect("one secret that fits");
    let verifier = Verifier::new(scheme, secret()).expect("one secret that fits");
    let genuine = signer.sign(ID, NOW_S, BODY)[0].1.clone();
    let expected = if text == genuine {
        Ok(())
    } else {
        Err(VerifyError::NoMatch)
    };
    assert_eq!(
        verifier.verify(|_| Some(text), BODY, NOW_S, TOLERANCE_S),
        expected,
        "{text:?}"
    );
}

fn verbatim() -> Vec<Secret> {
    vec![Secret::verbatim("mysecret").expect("not empty")]
}

fn check_github(text: &str) {
    let signer = Signer::new(Scheme::GitHub, verbatim()).expect("one secret that fits");
    let verifier = Verifier::new(Scheme::GitHub, verbatim()).expect("one secret that fits");
    let genuine = signer.sign(ID, NOW_S, BODY)[0].1.clone();
    let accepted = verifier.verify(|_| Some(text), BODY, NOW_S, TOLERANCE_S).is_ok();
    assert_eq!(accepted, text == genuine, "{text:?}");
}

fn check_stripe(text: &str) {
    let signer = Signer::new(Scheme::Stripe, verbatim()).expect("one secret that fits");
    let verifier = Verifier::new(Scheme::Stripe, verbatim()).expect("one secret that fits");
    let genuine = signer.sign(ID, NOW_S, BODY)[0].1.clone();
    let (time, mac) = genuine.split_once(',').expect("a time and a signature");
    let verify = |value: &str| verifier.verify(|_| Some(value), BODY, NOW_S, TOLERANCE_S);
    let is_genuine = text.split(',').any(|part| part == time) && text.split(',').any(|part| part == mac);
    assert!(
        verify(text).is_err() || is_genuine,
        "accepted without a genuine signature: {text:?}"
    );
    // A second time would be one too many; nothing else that follows a genuine signature takes it away.
    if !text.split(',').any(|part| part.starts_with("t=")) {
        assert_eq!(verify(&format!("{genuine},{text}")), Ok(()), "{text:?}");
    }
}

/// Configuration is no stranger, but the parser is the same kind of code.
fn check_secret(text: &str) {
    for prefix in ["", "whsec_", "whsk_", "whpk_"] {
        let text = format!("{prefix}{text}");
        if let Ok(secret) = Secret::parse(&text) {
            let again = Secret::parse(&secret.expose()).expect("what was exposed can be read");
            assert!(secret == again, "a secret changed by being written and read");
        }
    }
}
