//! The borders of verification: time, missing and doubled headers, rotation, and the bounds on a header.

use hooklane_signing::{
    HeaderFamily, SIGNATURE_HEADER_BYTES_MAX, SIGNATURES_MAX, Scheme, Secret, Signer, TOLERANCE_S, Verifier,
    VerifyError,
};

const ID: &str = "msg_1";
const SIGNED_S: i64 = 1_700_000_000;
const BODY: &[u8] = b"{}";
const STANDARD: Scheme = Scheme::Standard(HeaderFamily::Webhook);
/// Well-formed, and made with no secret of these tests.
const FOREIGN: &str = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=";

fn secret(name: &str) -> Secret {
    Secret::symmetric_from_bytes(name.as_bytes()).expect("not empty")
}

fn signature(secrets: &[&str]) -> String {
    let secrets = secrets.iter().map(|name| secret(name)).collect();
    Signer::new(STANDARD, secrets)
        .expect("fits")
        .sign(ID, SIGNED_S, BODY)[2]
        .1
        .clone()
}

fn verify_at(
    headers: &[(&str, &str)],
    family: HeaderFamily,
    now_s: i64,
    tolerance_s: u64,
) -> Result<(), VerifyError> {
    let verifier = Verifier::new(Scheme::Standard(family), vec![secret("new")]).expect("fits");
    let header = |name: &str| {
        headers
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    };
    verifier.verify(header, BODY, now_s, tolerance_s)
}

fn verify_list(list: &str) -> Result<(), VerifyError> {
    let headers = [
        ("webhook-id", ID),
        ("webhook-timestamp", "1700000000"),
        ("webhook-signature", list),
    ];
    verify_at(&headers, HeaderFamily::Webhook, SIGNED_S, TOLERANCE_S)
}

#[test]
fn tolerance_ends_exactly_at_its_border() {
    // Goal: 300 s late or early still passes, 301 s does not, and each side has its own error.
    let good = signature(&["new"]);
    let headers = [
        ("webhook-id", ID),
        ("webhook-timestamp", "1700000000"),
        ("webhook-signature", good.as_str()),
    ];
    let at = |now_s, tolerance_s| verify_at(&headers, HeaderFamily::Webhook, now_s, tolerance_s);
    assert_eq!(at(SIGNED_S + 300, TOLERANCE_S), Ok(()));
    assert_eq!(at(SIGNED_S + 301, TOLERANCE_S), Err(VerifyError::TooOld));
    assert_eq!(at(SIGNED_S - 300, TOLERANCE_S), Ok(()));
    assert_eq!(at(SIGNED_S - 301, TOLERANCE_S), Err(VerifyError::TooNew));
    assert_eq!(at(SIGNED_S, 0), Ok(()));
    assert_eq!(at(SIGNED_S + 1, 0), Err(VerifyError::TooOld));
    assert_eq!(at(SIGNED_S - 1, 0), Err(VerifyError::TooNew));
}

#[test]
fn malformed_timestamps_are_named() {
    // Goal: only digits are a time; signs, spaces, fractions and overlong numbers are not.
    let good = signature(&["new"]);
    for text in [
        "",
        " 1700000000",
        "+1700000000",
        "-1",
        "1700000000.0",
        "1e9",
        "now",
        "9999999999999999999",
        "١",
    ] {
        let headers = [
            ("webhook-id", ID),
            ("webhook-timestamp", text),
            ("webhook-signature", good.as_str()),
        ];
        let result = verify_at(&headers, HeaderFamily::Webhook, SIGNED_S, TOLERANCE_S);
        assert_eq!(result, Err(VerifyError::MalformedTimestamp), "{text:?}");
    }
}

#[test]
fn an_id_that_could_shift_bytes_is_refused() {
    // Goal: the content "a.1700000000.1700000000.{}" splits in two ways, and a stranger may not choose.
    let signer = Signer::new(STANDARD, vec![secret("new")]).expect("fits");
    let signed = signer.sign("a", SIGNED_S, b"1700000000.{}")[2].1.clone();
    let shifted = [
        ("webhook-id", "a.1700000000"),
        ("webhook-timestamp", "1700000000"),
        ("webhook-signature", signed.as_str()),
    ];
    let result = verify_at(&shifted, HeaderFamily::Webhook, SIGNED_S, TOLERANCE_S);
    assert_eq!(result, Err(VerifyError::MalformedId));
    let long = "a".repeat(1025);
    for id in ["", long.as_str()] {
        let headers = [
            ("webhook-id", id),
            ("webhook-timestamp", "1700000000"),
            ("webhook-signature", FOREIGN),
        ];
        let result = verify_at(&headers, HeaderFamily::Webhook, SIGNED_S, TOLERANCE_S);
        assert_eq!(result, Err(VerifyError::MalformedId));
    }
}

#[test]
fn each_missing_header_is_named() {
    // Goal: the error says which header, in the family that was asked for.
    let good = signature(&["new"]);
    let all = [
        ("webhook-id", ID),
        ("webhook-timestamp", "1700000000"),
        ("webhook-signature", good.as_str()),
    ];
    for missing in 0..all.len() {
        let headers: Vec<_> = all
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != missing)
            .map(|(_, header)| *header)
            .collect();
        let result = verify_at(&headers, HeaderFamily::Webhook, SIGNED_S, TOLERANCE_S);
        assert_eq!(result, Err(VerifyError::MissingHeader(all[missing].0.to_owned())));
    }
    let none = verify_at(&[], HeaderFamily::Svix, SIGNED_S, TOLERANCE_S);
    assert_eq!(none, Err(VerifyError::MissingHeader("svix-id".to_owned())));
}

#[test]
fn svix_reads_both_families_and_webhook_only_its_own() {
    // Goal: as the two libraries do; a mixture of both families is no set of headers.
    let good = signature(&["new"]);
    let webhook = [
        ("webhook-id", ID),
        ("webhook-timestamp", "1700000000"),
        ("webhook-signature", good.as_str()),
    ];
    let svix = [
        ("svix-id", ID),
        ("svix-timestamp", "1700000000"),
        ("svix-signature", good.as_str()),
    ];
    let mixture = [
        ("svix-id", ID),
        ("webhook-timestamp", "1700000000"),
        ("webhook-signature", good.as_str()),
    ];
    let verify = |headers: &[(&str, &str)], family| verify_at(headers, family, SIGNED_S, TOLERANCE_S);
    assert_eq!(verify(&svix, HeaderFamily::Svix), Ok(()));
    assert_eq!(verify(&webhook, HeaderFamily::Svix), Ok(()));
    assert_eq!(verify(&webhook, HeaderFamily::Webhook), Ok(()));
    let missing = |name: &str| Err(VerifyError::MissingHeader(name.to_owned()));
    assert_eq!(verify(&svix, HeaderFamily::Webhook), missing("webhook-id"));
    assert_eq!(verify(&mixture, HeaderFamily::Svix), missing("svix-timestamp"));
    assert_eq!(verify(&mixture, HeaderFamily::Webhook), missing("webhook-id"));
}

#[test]
fn rotation_serves_receivers_on_either_side_of_it() {
    // Goal: while both secrets are live, holders of the new and of the old one accept; afterwards only the new.
    let (both, old) = (signature(&["old", "new"]), signature(&["old"]));
    assert_eq!(both, format!("{old} {}", signature(&["new"])));
    assert_eq!(verify_list(&both), Ok(()));
    assert_eq!(verify_list(&old), Err(VerifyError::NoMatch));
}

#[test]
fn unknown_versions_and_malformed_parts_are_passed_over() {
    // Goal: a good signature counts whatever stands around it, and nothing else does.
    let good = signature(&["new"]);
    let bare = good.strip_prefix("v1,").expect("v1");
    for junk in [
        "v2,abc",
        "v1",
        "v1,",
        ",",
        "v1,====",
        "v1,\u{e9}",
        "v1a,AAAA",
        "  ",
        FOREIGN,
    ] {
        assert_eq!(verify_list(&format!("{junk} {good} {junk}")), Ok(()), "{junk:?}");
        assert_eq!(verify_list(junk), Err(VerifyError::NoMatch), "{junk:?}");
    }
    let unpadded = good.trim_end_matches('=');
    for close in [
        bare,
        unpadded,
        &format!("v1a,{bare}"),
        &format!("v2,{bare}"),
        &format!("V1,{bare}"),
        "",
    ] {
        assert_eq!(verify_list(close), Err(VerifyError::NoMatch), "{close:?}");
    }
    assert_eq!(verify_list(&format!("{good}\tv1,x")), Err(VerifyError::NoMatch));
}

#[test]
fn work_for_a_stranger_is_bounded() {
    // Goal: the 32nd signature still counts and the 33rd does not; what ends past 8 KiB does not either.
    let good = signature(&["new"]);
    let after = |count: usize| format!("{}{good}", format!("{FOREIGN} ").repeat(count));
    assert_eq!(verify_list(&after(SIGNATURES_MAX - 1)), Ok(()));
    assert_eq!(verify_list(&after(SIGNATURES_MAX)), Err(VerifyError::NoMatch));

    let padded = |bytes: usize| format!("{}{good}", " ".repeat(bytes - good.len()));
    assert_eq!(verify_list(&padded(SIGNATURE_HEADER_BYTES_MAX)), Ok(()));
    assert_eq!(
        verify_list(&padded(SIGNATURE_HEADER_BYTES_MAX + 1)),
        Err(VerifyError::NoMatch)
    );
}
