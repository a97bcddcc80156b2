//! How a message lies in the file, beside its body, which is kept as it is.

use bytes::Bytes;
use hooklane_types::{HeaderValue, Properties, RawMessage};
use serde::{Deserialize, Serialize};

use crate::port::{BrokerError, Queue, UNREADABLE_HEADER};
use crate::topology::{DELIVERIES_KEY, Exchange, Names};

/// AMQP's limit of a short string: what is taken here can be moved to RabbitMQ.
const SHORT_BYTES_MAX: usize = 255;
/// As on RabbitMQ.
const PROPERTIES_BYTES_MAX: usize = 100 * 1024;

/// By which way a message came: the number stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Exchange `ingest`.
    Ingest = 0,
    /// Exchange `events`, in external form: the only one with a head.
    Producer = 1,
    /// Exchange `internal`.
    Internal = 2,
    /// The delay ladder.
    Ladder = 3,
}

impl Way {
    fn read(number: i64) -> Option<Way> {
        [Way::Ingest, Way::Producer, Way::Internal, Way::Ladder]
            .into_iter()
            .find(|way| *way as i64 == number)
    }
}

/// What a producer wrote beside the body.
#[derive(Serialize, Deserialize)]
struct Head {
    routing_key: String,
    properties: Properties,
}

/// The head of a producer's message, for the file.
///
/// # Errors
/// `Refused`, where RabbitMQ would not take it either.
pub(crate) fn head(routing_key: String, properties: Properties) -> Result<Vec<u8>, BrokerError> {
    if let Some(user) = &properties.user_id {
        return Err(BrokerError::Refused(format!(
            "user_id {user:?}: the embedded broker knows no accounts that could speak for it"
        )));
    }
    // As on RabbitMQ: these mean nothing to Hooklane.
    let properties = Properties {
        expiration: None,
        priority: None,
        reply_to: None,
        ..properties
    };
    let short = |what: &str, text: &str| match text.len() <= SHORT_BYTES_MAX {
        true => Ok(()),
        false => Err(BrokerError::Refused(format!(
            "{what} has {} bytes; a broker takes at most {SHORT_BYTES_MAX}",
            text.len()
        ))),
    };
    short("the routing key", &routing_key)?;
    for (what, text) in [
        ("content_type", &properties.content_type),
        ("content_encoding", &properties.content_encoding),
        ("message_id", &properties.message_id),
        ("correlation_id", &properties.correlation_id),
        ("type", &properties.kind),
        ("app_id", &properties.app_id),
    ] {
        short(what, text.as_deref().unwrap_or_default())?;
    }
    for (name, _) in &properties.headers {
        short("a header's name", name)?;
    }
    let head = Head {
        routing_key,
        properties,
    };
    let head = postcard::to_stdvec(&head)
        .map_err(|error| BrokerError::Refused(format!("the properties cannot be kept: {error}")))?;
    if head.len() > PROPERTIES_BYTES_MAX {
        return Err(BrokerError::Refused(format!(
            "the properties are over {PROPERTIES_BYTES_MAX} bytes"
        )));
    }
    Ok(head)
}

/// The message as a consumer gets it.
pub(crate) fn message(names: &Names, queue: Queue, way: i64, head: Option<&[u8]>, body: Bytes) -> RawMessage {
    let internal = |exchange, key: &str| RawMessage {
        exchange: names.exchange(exchange),
        routing_key: key.to_owned(),
        properties: Properties::default(),
        body: body.clone(),
    };
    match Way::read(way) {
        Some(Way::Ingest) => internal(Exchange::Ingest, queue.name()),
        Some(Way::Internal) => internal(Exchange::Internal, queue.name()),
        Some(Way::Ladder) => internal(Exchange::Lanes, DELIVERIES_KEY),
        Some(Way::Producer) | None => {
            let head = head.map(postcard::from_bytes::<Head>);
            let head = match head {
                Some(Ok(head)) if Way::read(way).is_some() => head,
                _ => Head {
                    routing_key: String::new(),
                    properties: unreadable("the queue's file has no readable properties of this message"),
                },
            };
            RawMessage {
                routing_key: head.routing_key,
                properties: head.properties,
                ..internal(Exchange::Events, "")
            }
        }
    }
}

fn unreadable(why: &str) -> Properties {
    Properties {
        headers: vec![(UNREADABLE_HEADER.to_owned(), HeaderValue::Text(why.to_owned()))],
        ..Properties::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("acme").expect("a valid prefix")
    }

    #[test]
    fn a_producers_properties_are_kept_and_those_that_mean_nothing_are_not() {
        let properties = Properties {
            message_id: Some("a".into()),
            expiration: Some("1".into()),
            priority: Some(9),
            headers: vec![("x".into(), HeaderValue::Bytes(vec![0, 255]))],
            ..Properties::default()
        };
        let head = head("a.b".into(), properties.clone()).expect("it fits");
        let found = message(
            &names(),
            Queue::Events,
            Way::Producer as i64,
            Some(&head),
            Bytes::new(),
        );
        assert_eq!(
            (found.exchange.as_str(), found.routing_key.as_str()),
            ("acme.events", "a.b")
        );
        let expected = Properties {
            expiration: None,
            priority: None,
            ..properties
        };
        assert_eq!(found.properties, expected);
    }

    #[test]
    fn what_rabbitmq_would_refuse_is_refused_too() {
        let long = "x".repeat(256);
        let id = Properties {
            message_id: Some(long.clone()),
            ..Properties::default()
        };
        let user = Properties {
            user_id: Some("guest".into()),
            ..Properties::default()
        };
        let large = Properties {
            headers: vec![("x".into(), HeaderValue::Bytes(vec![0; 101 * 1024]))],
            ..Properties::default()
        };
        for refused in [
            head(long, Properties::default()),
            head(String::new(), id),
            head(String::new(), user),
            head(String::new(), large),
        ] {
            assert!(matches!(refused, Err(BrokerError::Refused(_))));
        }
    }

    #[test]
    fn a_head_that_cannot_be_read_says_so_and_the_body_is_kept() {
        for (way, head) in [(1, Some(&b"\xff"[..])), (1, None), (77, None)] {
            let body = Bytes::from_static(b"body");
            let found = message(&names(), Queue::Events, way, head, body.clone());
            assert!(found.properties.header(UNREADABLE_HEADER).is_some());
            assert_eq!((found.exchange.as_str(), found.body), ("acme.events", body));
        }
    }
}
