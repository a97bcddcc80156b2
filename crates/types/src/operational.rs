//! Operational webhooks: what the platform itself is told of its customers' endpoints. Types and fields are those of the Svix API.

use serde::Serialize;

use crate::event::Event;
use crate::filter::EventType;
use crate::id::{ApplicationId, AttemptId, EndpointId, EventId, ProducerId};
use crate::time::UnixMillis;

/// From this failed attempt on an event is told to be failing.
pub const FAILING_ATTEMPT: u32 = 4;
/// In place of a CloudEvents source, so that no producer's id is taken for one of these. No source holds a line break.
const SOURCE: &str = "\noperational";

/// What is told. A closed set.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", content = "data")]
pub enum News {
    /// An endpoint was created.
    #[serde(rename = "endpoint.created")]
    EndpointCreated(EndpointNews),
    /// An endpoint was changed.
    #[serde(rename = "endpoint.updated")]
    EndpointUpdated(EndpointNews),
    /// An endpoint was deleted.
    #[serde(rename = "endpoint.deleted")]
    EndpointDeleted(EndpointNews),
    /// An endpoint was disabled, because nothing but failure came from it.
    #[serde(rename = "endpoint.disabled")]
    EndpointDisabled(EndpointNews),
    /// An event's [`FAILING_ATTEMPT`]th attempt at an endpoint failed.
    #[serde(rename = "message.attempt.failing")]
    AttemptFailing(AttemptNews),
    /// An event was given up at an endpoint.
    #[serde(rename = "message.attempt.exhausted")]
    AttemptExhausted(AttemptNews),
    /// An event that was told to be failing arrived.
    #[serde(rename = "message.attempt.recovered")]
    AttemptRecovered(AttemptNews),
}

/// Which endpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointNews {
    /// Its application.
    pub app_id: ApplicationId,
    /// The application's other name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_uid: Option<String>,
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// Its other name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_uid: Option<String>,
    /// Since when there was nothing but failure, where that is why it is told; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_since: Option<String>,
}

/// Which event, at which endpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptNews {
    /// The event's application.
    pub app_id: ApplicationId,
    /// The application's other name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_uid: Option<String>,
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// The latest attempt.
    pub last_attempt: LastAttempt,
    /// The producer's id of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msg_event_id: Option<String>,
    /// The event.
    pub msg_id: EventId,
}

/// An attempt, in short.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastAttempt {
    /// Its id.
    pub id: AttemptId,
    /// The HTTP status; 0 where none came.
    pub response_status_code: u16,
    /// When it began; RFC 3339.
    pub timestamp: String,
}

impl News {
    /// Its type.
    pub fn name(&self) -> &'static str {
        match self {
            News::EndpointCreated(_) => "endpoint.created",
            News::EndpointUpdated(_) => "endpoint.updated",
            News::EndpointDeleted(_) => "endpoint.deleted",
            News::EndpointDisabled(_) => "endpoint.disabled",
            News::AttemptFailing(_) => "message.attempt.failing",
            News::AttemptExhausted(_) => "message.attempt.exhausted",
            News::AttemptRecovered(_) => "message.attempt.recovered",
        }
    }

    /// The event for this application. `key` says what it is about: the same news twice are the same event, which receivers know by its id.
    ///
    /// # Panics
    /// Never: names of types are types, and keys are made of ids.
    pub fn event(&self, to: &ApplicationId, key: &str, now: UnixMillis) -> Event {
        let producer_id = ProducerId::parse(&format!("{}.{key}", self.name())).expect("an id and a dot");
        Event {
            id: EventId::derived(to, Some(SOURCE), &producer_id),
            producer_id: Some(producer_id),
            application: to.clone(),
            event_type: EventType::parse(self.name()).expect("a type of ours"),
            channels: Vec::new(),
            accepted_at: now,
            content_type: crate::content_type::CONTENT_TYPE_DEFAULT.to_owned(),
            traceparent: None,
            headers: Vec::new(),
            payload: serde_json::to_vec(self)
                .expect("texts and numbers serialise")
                .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_events_of_the_svix_api_and_the_same_ones_twice() {
        // Goal: the body has the fields of the API; the id follows from what it is about, and from to whom it is told.
        let news = News::AttemptExhausted(AttemptNews {
            app_id: ApplicationId::parse("app_1").unwrap(),
            app_uid: None,
            endpoint_id: EndpointId::parse("ep_1").unwrap(),
            last_attempt: LastAttempt {
                id: AttemptId::parse("atmpt_1").unwrap(),
                response_status_code: 500,
                timestamp: UnixMillis(1_700_000_000_123).rfc3339(),
            },
            msg_event_id: Some("order-1".to_owned()),
            msg_id: EventId::parse("msg_1").unwrap(),
        });
        let to = ApplicationId::parse("ops").unwrap();
        let event = news.event(&to, "atmpt_1", UnixMillis(1));
        assert_eq!(
            event.payload,
            concat!(
                r#"{"type":"message.attempt.exhausted","data":{"appId":"app_1","endpointId":"ep_1","lastAttempt":{"id":"atmpt_1","#,
                r#""responseStatusCode":500,"timestamp":"2023-11-14T22:13:20.123Z"},"msgEventId":"order-1","msgId":"msg_1"}}"#
            )
        );
        assert_eq!(event.event_type.as_str(), "message.attempt.exhausted");
        assert_eq!(event.id, news.event(&to, "atmpt_1", UnixMillis(2)).id);
        assert_ne!(event.id, news.event(&to, "atmpt_2", UnixMillis(1)).id);
        let elsewhere = ApplicationId::parse("other").unwrap();
        assert_ne!(event.id, news.event(&elsewhere, "atmpt_1", UnixMillis(1)).id);
    }
}
