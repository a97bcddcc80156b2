//! Events and endpoints for unit tests.

use std::time::Duration;

use bytes::Bytes;
use hooklane_signing::{HeaderFamily, Scheme, Secret, Signer};
use hooklane_types::{
    ApplicationId, Endpoint, EndpointId, Event, EventId, EventType, ProducerId, RetryPolicy, TlsFiles,
    TypePattern, UnixMillis,
};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) fn endpoint(id: &str, url: &str) -> Endpoint {
    let secret = Secret::parse(SECRET).unwrap();
    Endpoint {
        id: EndpointId::parse(id).unwrap(),
        application: ApplicationId::parse("app_a").unwrap(),
        url: url.parse().unwrap(),
        event_types: vec![TypePattern::Any],
        channels: Vec::new(),
        signer: Signer::new(Scheme::Standard(HeaderFamily::Webhook), vec![secret]).unwrap(),
        headers: Vec::new(),
        timeout: Duration::from_secs(15),
        auth: None,
        tls: TlsFiles::default(),
        max_in_flight: 4,
        throttle_rate: None,
        disabled: false,
        retry: RetryPolicy::standard(),
    }
}

pub(crate) fn event() -> Event {
    let application = ApplicationId::parse("app_a").unwrap();
    let producer_id = ProducerId::parse("order-1").unwrap();
    Event {
        id: EventId::derived(&application, None, &producer_id),
        producer_id: Some(producer_id),
        application,
        event_type: EventType::parse("invoice.paid").unwrap(),
        channels: Vec::new(),
        accepted_at: UnixMillis(1_700_000_000_000),
        content_type: "application/json".to_owned(),
        traceparent: None,
        headers: Vec::new(),
        payload: Bytes::from_static(b"{}"),
    }
}
