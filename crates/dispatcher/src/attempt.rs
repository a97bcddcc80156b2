//! One attempt: the request, the POST, what came of it.

use std::time::Duration;

use bytes::Bytes;
use hooklane_egress::{Answer, Client, Request};
use hooklane_policy::retry_after::{self, RETRY_AFTER_MAX};
use hooklane_types::{AttemptOutcome, Endpoint, Event, UnixMillis};

const WEBHOOK_ID: &str = "webhook-id";
const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
const SVIX_ID: &str = "svix-id";

/// What came of an attempt, and what its log line says beside.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) outcome: AttemptOutcome,
    pub(crate) duration: Duration,
    /// The failure in words; none where a status came.
    pub(crate) detail: Option<String>,
    /// The answer's body, or its beginning.
    pub(crate) answer: Bytes,
}

/// Makes the attempt. Takes no longer than the endpoint's timeout.
pub(crate) async fn make(client: &Client, endpoint: &Endpoint, event: &Event, now: UnixMillis) -> Finding {
    finding(client.post(request(endpoint, event, now)).await, now)
}

fn finding(answer: Answer, begun: UnixMillis) -> Finding {
    let (outcome, detail, body) = match answer.result {
        Ok(response) => {
            let answered = begun.plus(answer.duration);
            let retry_after = response
                .retry_after
                .and_then(|text| retry_after::parse(&text, answered, RETRY_AFTER_MAX))
                .map(|delay| delay.as_millis() as u64);
            (
                AttemptOutcome::Status {
                    code: response.status,
                    retry_after_ms: retry_after,
                },
                None,
                response.body,
            )
        }
        Err(failure) => (
            AttemptOutcome::Failed(failure.kind),
            Some(failure.detail),
            Bytes::new(),
        ),
    };
    Finding {
        outcome,
        duration: answer.duration,
        detail,
        answer: body,
    }
}

/// The request of one attempt at `now`, signed with the secrets of today.
fn request(endpoint: &Endpoint, event: &Event, now: UnixMillis) -> Request {
    Request {
        url: endpoint.url.clone(),
        headers: headers(endpoint, event, now),
        body: event.payload.clone(),
        timeout: endpoint.timeout,
        tls: endpoint.tls.clone(),
        auth: endpoint.auth.clone(),
    }
}

fn headers(endpoint: &Endpoint, event: &Event, now: UnixMillis) -> Vec<(String, String)> {
    let mut headers = Vec::with_capacity(8 + event.headers.len() + endpoint.headers.len());
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
    add("content-type", event.content_type.clone());
    let signature = endpoint
        .signer
        .sign(event.id.as_str(), now.seconds(), &event.payload);
    let identified = signature
        .iter()
        .any(|(name, _)| matches!(*name, WEBHOOK_ID | SVIX_ID));
    for (name, value) in signature {
        add(name, value);
    }
    for (name, value) in endpoint
        .signer
        .describe(event.id.as_str(), event.event_type.as_str())
    {
        add(name, value);
    }
    if !identified {
        // These formats sign no id, and some no time; the receiver still needs the id to process each event once.
        add(WEBHOOK_ID, event.id.as_str().to_owned());
        add(WEBHOOK_TIMESTAMP, now.seconds().to_string());
    }
    if let Some(traceparent) = &event.traceparent {
        add("traceparent", traceparent.clone());
    }
    headers.extend(event.headers.iter().cloned());
    for (name, value) in &endpoint.headers {
        // The event's own headers are part of what was published; a configured one of the same name steps back.
        if !headers.iter().any(|(taken, _)| taken == name) {
            headers.push((name.clone(), value.clone()));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use hooklane_signing::{Encoding, Hash, HmacFormat, Scheme, Secret, Signer};

    use super::*;
    use crate::fixtures;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_999);

    fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let mut found = headers
            .iter()
            .filter(|(found, _)| found == name)
            .map(|(_, value)| value.as_str());
        let first = found.next();
        assert_eq!(found.next(), None, "{name} stands twice");
        first
    }

    #[test]
    fn a_request_carries_id_time_signature_and_what_was_published() {
        // Goal: all headers of the contract, each once; the time is that of the attempt in whole seconds.
        let mut event = fixtures::event();
        event.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        event.headers = vec![("ce-type".to_owned(), "invoice.paid".to_owned())];
        let mut endpoint = fixtures::endpoint("ep_1", "http://127.0.0.1:1/");
        endpoint.headers = vec![
            ("x-own".to_owned(), "1".to_owned()),
            ("ce-type".to_owned(), "configured".to_owned()),
        ];
        let headers = headers(&endpoint, &event, NOW);
        assert_eq!(value(&headers, "webhook-id"), Some(event.id.as_str()));
        assert_eq!(value(&headers, "webhook-timestamp"), Some("1700000000"));
        assert!(value(&headers, "webhook-signature").is_some_and(|text| text.starts_with("v1,")));
        assert_eq!(value(&headers, "content-type"), Some("application/json"));
        assert_eq!(value(&headers, "traceparent"), event.traceparent.as_deref());
        assert_eq!(value(&headers, "ce-type"), Some("invoice.paid"));
        assert_eq!(value(&headers, "x-own"), Some("1"));
    }

    #[test]
    fn a_plain_hmac_request_still_says_which_event_it_is() {
        // Goal: webhook-id and webhook-timestamp stand beside the configured signature header.
        let format = HmacFormat::new("x-signature", Hash::Sha256, Encoding::Hex, "").unwrap();
        let mut endpoint = fixtures::endpoint("ep_1", "http://127.0.0.1:1/");
        endpoint.signer =
            Signer::new(Scheme::Hmac(format), vec![Secret::verbatim("secret").unwrap()]).unwrap();
        let event = fixtures::event();
        let headers = headers(&endpoint, &event, NOW);
        assert!(value(&headers, "x-signature").is_some());
        assert_eq!(value(&headers, "webhook-id"), Some(event.id.as_str()));
        assert_eq!(value(&headers, "webhook-timestamp"), Some("1700000000"));
    }

    #[test]
    fn formats_of_others_carry_their_own_headers_and_ours() {
        // Goal: GitHub's four and Stripe's one, each once, and webhook-id beside them.
        let event = fixtures::event();
        for (scheme, names) in [
            (
                Scheme::GitHub,
                vec![
                    "x-hub-signature-256",
                    "x-hub-signature",
                    "x-github-event",
                    "x-github-delivery",
                ],
            ),
            (Scheme::Stripe, vec!["stripe-signature"]),
        ] {
            let mut endpoint = fixtures::endpoint("ep_1", "http://127.0.0.1:1/");
            endpoint.signer = Signer::new(scheme, vec![Secret::verbatim("secret").unwrap()]).unwrap();
            let headers = headers(&endpoint, &event, NOW);
            for name in names {
                assert!(value(&headers, name).is_some(), "{name}");
            }
            assert_eq!(value(&headers, "webhook-id"), Some(event.id.as_str()));
        }
    }
}
