//! From a request to the broker's confirm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hooklane_broker::{BrokerError, Destination, Outgoing, RecordWriter, SharedBroker};
use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::content_type::CONTENT_TYPE_DEFAULT;
use hooklane_types::traceparent::is_valid;
use hooklane_types::{ApplicationId, Event, EventId, Internal, ProducerId, Registry, UnixMillis};
use http::header::{CONTENT_TYPE, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Request, StatusCode};
use tokio::sync::watch;

use crate::access::ReadToken;
use crate::answer::Refusal;
use crate::body::{Bodies, Limits, holding};
use crate::cloudevents;
use crate::form::{self, Form};
use crate::ids::{Confirmed, Ids, Named};
use crate::line::Line;
use crate::message::{self, Message, problem};
use crate::settings::IngestSettings;

/// The Svix API's header for retries: the same key again is the same event.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// In place of a payload that was not asked for, or that is no JSON.
const NO_CONTENT: &[u8] = b"{}";

/// What all requests share.
pub(crate) struct Ingest {
    pub(crate) settings: IngestSettings,
    pub(crate) broker: SharedBroker,
    pub(crate) records: RecordWriter,
    pub(crate) ids: Ids,
    /// Whether the last event was refused: then no event is recorded before it is accepted.
    pub(crate) is_refused: AtomicBool,
    pub(crate) registry: watch::Receiver<Arc<Registry>>,
    pub(crate) is_current: watch::Receiver<bool>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) bodies: Bodies,
    pub(crate) read_token: Option<ReadToken>,
    /// It listens on loopback.
    pub(crate) is_local: bool,
}

impl Ingest {
    /// Publishes one event and answers 202 once it is durable. What becomes known on the way is noted on the line.
    pub(crate) async fn publish(
        &self,
        application: &str,
        request: Request<Body>,
        line: &mut Line,
    ) -> Result<Response, Refusal> {
        let (head, body) = request.into_parts();
        let application = self.admit(application, &head, line)?;
        let form = form::of(&head.headers)?;
        line.way = form.way();
        let with_content = with_content(head.uri.query())?;
        let limits = Limits {
            bytes_max: self.settings.body_bytes_max,
            timeout: self.settings.body_timeout,
        };
        let (body, held) = self.bodies.read(body, limits).await?;
        let read_at = Instant::now();
        let (mut event, named) = read(form, application, &head.headers, body)?;
        line.read(&event);
        let mut is_again = false;
        if let Some(named) = named
            && let Some(published) = self.ids.find(&event).await
        {
            if !named.is_again(&published) {
                return Err(Refusal::EventIdUsed);
            }
            event.accepted_at = published.accepted_at;
            is_again = true;
        }

        let shown = if with_content && form == Form::Message {
            &event.payload[..]
        } else {
            NO_CONTENT
        };
        let answer = message::answer(&event, shown);
        if is_again {
            // Its publisher did not hear the answer.
            line.is_again = true;
            return Ok(accepted(holding(answer, held)));
        }
        let confirmed = named.map(|named| Confirmed::of(&event, named));
        // The event's own body goes before the wait: the envelope holds a copy.
        let envelope = Internal::Event(event).encode();
        self.accept(envelope).await.map_err(Refusal::Broker)?;
        self.metrics
            .observe(Metric::PublishSeconds, &[], read_at.elapsed().as_secs_f64());
        // Never before the confirm: an id that is known belongs to an event that was accepted.
        if let Some(confirmed) = confirmed {
            self.ids.keep(confirmed).await;
        }
        Ok(accepted(holding(answer, held)))
    }

    /// Publishes an event, and its record: one wait for both confirms. While events are refused, which may go on for long, the record comes after:
    /// else the history would fill with events that nobody has accepted.
    async fn accept(&self, envelope: Bytes) -> Result<(), BrokerError> {
        let publish = self.broker.publish(
            Destination::IngestedEvents,
            Outgoing::internal(envelope.clone()),
            self.settings.publish_timeout,
        );
        let (published, recorded) = if self.is_refused.load(Ordering::Relaxed) {
            match publish.await {
                Ok(()) => (Ok(()), self.records.content(envelope).await),
                refused => (refused, Ok(())),
            }
        } else {
            tokio::join!(publish, self.records.content(envelope))
        };
        self.is_refused.store(published.is_err(), Ordering::Relaxed);
        published.and(recorded)
    }

    /// Who asks, and for whom.
    fn admit(&self, application: &str, head: &Parts, line: &mut Line) -> Result<ApplicationId, Refusal> {
        // Before anything is looked up: what is not found once this was true is not there.
        let is_current = *self.is_current.borrow();
        let speaker = self.speaker(&head.headers, is_current)?;
        let unknown = || Refusal::UnknownApplication {
            application: application.chars().take(64).collect(),
        };
        let name = ApplicationId::parse(application).map_err(|_| unknown())?;
        let registry = self.registry.borrow();
        let id = match speaker {
            Some(organisation) => registry.resolve_in(&organisation, &name),
            None => registry.resolve(&name),
        };
        let id = id.ok_or_else(|| match is_current {
            true => unknown(),
            false => Refusal::NotKnownYet,
        })?;
        line.application = Some(id.clone());
        Ok(id.clone())
    }
}

/// Reads the body in its form and gives the event its id; whether its `eventId` is one that is used once.
fn read(
    form: Form,
    application: ApplicationId,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<(Event, Option<Named>), Refusal> {
    let accepted_at = now();
    let mut named = None;
    let mut event = match form {
        Form::Message => {
            let key = idempotency_key(headers)?;
            let message = message::parse(&body)?;
            named = message
                .event_id
                .is_some()
                .then(|| Named::new(key.as_ref(), &body));
            of_message(message, key, application, accepted_at)
        }
        Form::CloudEventBinary => cloudevents::binary(application, headers, body, accepted_at)?,
        Form::CloudEventStructured => cloudevents::structured(application, headers, body, accepted_at)?,
    };
    // The request's own header is newer than an extension that the event has carried from its source.
    if let Some(traceparent) = traceparent(headers) {
        event.traceparent = Some(traceparent);
    }
    Ok((event, named))
}

/// The event of a message. Its own `eventId` says which event it is; without one, the key of the request does.
fn of_message(
    message: Message,
    key: Option<ProducerId>,
    application: ApplicationId,
    accepted_at: UnixMillis,
) -> Event {
    let id = match (&message.event_id, &key) {
        (Some(producer_id), _) => EventId::derived(&application, None, producer_id),
        (None, Some(key)) => EventId::of_idempotency_key(&application, key),
        (None, None) => EventId::fresh(accepted_at, rand::random()),
    };
    Event {
        id,
        producer_id: message.event_id.or(key),
        application,
        event_type: message.event_type,
        channels: message.channels,
        accepted_at,
        content_type: CONTENT_TYPE_DEFAULT.to_owned(),
        traceparent: None,
        headers: Vec::new(),
        payload: message.payload,
    }
}

/// The request's idempotency key. Two of them, or one that is empty, too long or no text, are refused: a publisher relies on it.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<ProducerId>, Refusal> {
    let wrong = |msg: &str| Refusal::Invalid(vec![problem(&["header", IDEMPOTENCY_KEY], msg, "value_error")]);
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(wrong("this header is given twice"));
    }
    let text = value.to_str().map_err(|_| wrong("the key must be ASCII"))?;
    ProducerId::parse(text)
        .map(Some)
        .map_err(|error| wrong(&error.to_string()))
}

/// The request's `traceparent`, if it has exactly one that is valid: the receiver of another would have to drop it.
fn traceparent(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all("traceparent").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    value
        .to_str()
        .ok()
        .filter(|text| is_valid(text))
        .map(str::to_owned)
}

fn accepted(body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_DEFAULT));
    response
}

/// The API's `with_content`: whether the answer repeats the payload.
fn with_content(query: Option<&str>) -> Result<bool, Refusal> {
    let Some(query) = query else {
        return Ok(true);
    };
    let mut with_content = true;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if name == "with_content" {
            with_content = match value.as_ref() {
                "true" => true,
                "false" => false,
                _ => {
                    let wrong = problem(
                        &["query", "with_content"],
                        "must be true or false",
                        "type_error.bool",
                    );
                    return Err(Refusal::Invalid(vec![wrong]));
                }
            };
        }
    }
    Ok(with_content)
}

/// The wall clock, read once for each event.
fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_content_is_read_as_the_api_says() {
        assert!(with_content(None).unwrap());
        assert!(with_content(Some("a=b")).unwrap());
        assert!(with_content(Some("with_content=true")).unwrap());
        assert!(!with_content(Some("x=1&with_content=false")).unwrap());
        for wrong in ["with_content=", "with_content=0", "with_content"] {
            assert!(
                matches!(with_content(Some(wrong)), Err(Refusal::Invalid(_))),
                "{wrong}"
            );
        }
    }
}
