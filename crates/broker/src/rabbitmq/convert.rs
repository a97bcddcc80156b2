//! AMQP messages to ours and back.

use bytes::Bytes;
use hooklane_types::{HeaderValue, Properties, RawMessage};
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};

use crate::port::BrokerError;

/// RabbitMQ ends the connection, not the channel, on properties of 128 KiB.
const PROPERTIES_BYTES_MAX: usize = 100 * 1024;
/// A quorum queue's count of earlier deliveries.
const DELIVERY_COUNT: &str = "x-delivery-count";
const PERSISTENT: u8 = 2;
const TRANSIENT: u8 = 1;

/// Headers that never travel on. `x-death` of another queue makes RabbitMQ 3.10 drop the message as a cycle, and the copies
/// that `CC` and `BCC` ask for were made when the message was first published.
fn stays_behind(header: &str) -> bool {
    ["CC", "BCC", "x-death", DELIVERY_COUNT].contains(&header)
        || header.starts_with("x-first-death-")
        || header.starts_with("x-last-death-")
}

/// A short string of AMQP: at most 255 bytes.
pub(crate) fn short(what: &str, text: &str) -> Result<ShortString, BrokerError> {
    ShortString::try_new(text)
        .map_err(|_| BrokerError::Refused(format!("{what} has {} bytes; AMQP takes at most 255", text.len())))
}

/// Properties of a fresh internal message.
pub(crate) fn internal(persistent: bool) -> BasicProperties {
    BasicProperties::default().with_delivery_mode(if persistent { PERSISTENT } else { TRANSIENT })
}

/// Properties of a message as a foreign producer would publish it, as `user`.
pub(crate) fn outgoing(from: &Properties, user: &str) -> Result<BasicProperties, BrokerError> {
    let mut to = internal(true);
    let text = |what, from: &Option<String>| from.as_deref().map(|text| short(what, text)).transpose();
    if let Some(content_type) = text("content_type", &from.content_type)? {
        to = to.with_content_type(content_type);
    }
    if let Some(encoding) = text("content_encoding", &from.content_encoding)? {
        to = to.with_content_encoding(encoding);
    }
    if let Some(id) = text("message_id", &from.message_id)? {
        to = to.with_message_id(id);
    }
    if let Some(id) = text("correlation_id", &from.correlation_id)? {
        to = to.with_correlation_id(id);
    }
    if let Some(kind) = text("type", &from.kind)? {
        to = to.with_type(kind);
    }
    if let Some(app_id) = text("app_id", &from.app_id)? {
        to = to.with_app_id(app_id);
    }
    if let Some(seconds) = from.timestamp_s {
        to = to.with_timestamp(seconds);
    }
    // `expiration`, `priority` and `reply_to` mean nothing to Hooklane, and the first would lose the message. A foreign
    // `user_id` would end the channel.
    match from.user_id.as_deref() {
        Some(name) if name == user => to = to.with_user_id(short("user_id", name)?),
        Some(name) => {
            return Err(BrokerError::Refused(format!(
                "user_id {name:?} is not the broker account {user:?}"
            )));
        }
        None => {}
    }
    let headers: Vec<_> = from
        .headers
        .iter()
        .filter(|(name, _)| !stays_behind(name))
        .collect();
    if !headers.is_empty() {
        let mut table = FieldTable::default();
        for (name, header) in headers {
            table.insert(short("a header's name", name)?, value(header)?);
        }
        if table_bytes(&table) > PROPERTIES_BYTES_MAX {
            return Err(BrokerError::Refused(format!(
                "the headers are over {PROPERTIES_BYTES_MAX} bytes"
            )));
        }
        to = to.with_headers(table);
    }
    Ok(to)
}

fn value(from: &HeaderValue) -> Result<AMQPValue, BrokerError> {
    Ok(match from {
        HeaderValue::Text(text) => AMQPValue::LongString(LongString::from(text.as_str())),
        HeaderValue::Bytes(bytes) => AMQPValue::ByteArray(bytes.as_slice().into()),
        HeaderValue::Integer(integer) => AMQPValue::LongLongInt(*integer),
        HeaderValue::Float(float) => AMQPValue::Double(*float),
        HeaderValue::Bool(truth) => AMQPValue::Boolean(*truth),
        HeaderValue::Timestamp(seconds) => AMQPValue::Timestamp(*seconds),
        HeaderValue::List(list) => {
            let mut array = FieldArray::default();
            for item in list {
                array.push(value(item)?);
            }
            AMQPValue::FieldArray(array)
        }
        HeaderValue::Table(entries) => {
            let mut table = FieldTable::default();
            for (name, entry) in entries {
                table.insert(short("a header's name", name)?, value(entry)?);
            }
            AMQPValue::FieldTable(table)
        }
        HeaderValue::Void => AMQPValue::Void,
    })
}

/// A delivered message, and how often it was delivered before.
pub(crate) fn incoming(delivery: Delivery) -> (RawMessage, u64) {
    // On a first delivery 3.10 passes on whatever a producer wrote into the header.
    let delivery_count = if delivery.redelivered {
        delivery_count(&delivery.properties)
    } else {
        0
    };
    let message = RawMessage {
        exchange: delivery.exchange.into(),
        routing_key: delivery.routing_key.into(),
        properties: properties(&delivery.properties),
        body: Bytes::from(delivery.data),
    };
    (message, delivery_count)
}

fn delivery_count(properties: &BasicProperties) -> u64 {
    let count = properties
        .headers()
        .as_ref()
        .and_then(|table| table.inner().get(DELIVERY_COUNT))
        .map(header);
    match count {
        Some(HeaderValue::Integer(count)) => u64::try_from(count).unwrap_or(0),
        _ => 0,
    }
}

/// A message's properties, as they came.
pub(crate) fn properties(from: &BasicProperties) -> Properties {
    let text = |property: &Option<ShortString>| property.as_ref().map(|text| text.as_str().to_owned());
    Properties {
        content_type: text(from.content_type()),
        content_encoding: text(from.content_encoding()),
        message_id: text(from.message_id()),
        correlation_id: text(from.correlation_id()),
        reply_to: text(from.reply_to()),
        expiration: text(from.expiration()),
        kind: text(from.kind()),
        user_id: text(from.user_id()),
        app_id: text(from.app_id()),
        timestamp_s: *from.timestamp(),
        priority: *from.priority(),
        headers: from.headers().as_ref().map(table).unwrap_or_default(),
    }
}

fn table(from: &FieldTable) -> Vec<(String, HeaderValue)> {
    from.into_iter()
        .map(|(name, value)| (name.as_str().to_owned(), header(value)))
        .collect()
}

fn header(from: &AMQPValue) -> HeaderValue {
    match from {
        AMQPValue::Boolean(truth) => HeaderValue::Bool(*truth),
        AMQPValue::ShortShortInt(integer) => HeaderValue::Integer((*integer).into()),
        AMQPValue::ShortShortUInt(integer) => HeaderValue::Integer((*integer).into()),
        AMQPValue::ShortInt(integer) => HeaderValue::Integer((*integer).into()),
        AMQPValue::ShortUInt(integer) => HeaderValue::Integer((*integer).into()),
        AMQPValue::LongInt(integer) => HeaderValue::Integer((*integer).into()),
        AMQPValue::LongUInt(integer) => HeaderValue::Integer((*integer).into()),
        AMQPValue::LongLongInt(integer) => HeaderValue::Integer(*integer),
        AMQPValue::Float(float) => HeaderValue::Float((*float).into()),
        AMQPValue::Double(float) => HeaderValue::Float(*float),
        AMQPValue::DecimalValue(decimal) => {
            HeaderValue::Float(f64::from(decimal.value) / 10f64.powi(decimal.scale.into()))
        }
        AMQPValue::ShortString(text) => HeaderValue::Text(text.as_str().to_owned()),
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => HeaderValue::Text(text.to_owned()),
            Err(_) => HeaderValue::Bytes(text.as_bytes().to_vec()),
        },
        AMQPValue::FieldArray(array) => HeaderValue::List(array.as_slice().iter().map(header).collect()),
        AMQPValue::Timestamp(seconds) => HeaderValue::Timestamp(*seconds),
        AMQPValue::FieldTable(entries) => HeaderValue::Table(table(entries)),
        AMQPValue::ByteArray(bytes) => HeaderValue::Bytes(bytes.as_slice().to_vec()),
        AMQPValue::Void => HeaderValue::Void,
    }
}

/// About how much memory a delivery holds.
pub(crate) fn delivery_bytes(delivery: &Delivery) -> u64 {
    /// A delivery's own fields, and those of its properties that AMQP bounds to 255 bytes each.
    const FIXED_BYTES: usize = 1024;
    let headers = delivery.properties.headers().as_ref().map_or(0, table_bytes);
    (FIXED_BYTES + headers + delivery.data.capacity()) as u64
}

fn table_bytes(table: &FieldTable) -> usize {
    /// A node's share in the tree and two allocations.
    const ENTRY_BYTES: usize = 64;
    table
        .into_iter()
        .map(|(name, value)| ENTRY_BYTES + name.as_str().len() + value_bytes(value))
        .sum()
}

fn value_bytes(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::ShortString(text) => text.as_str().len(),
        AMQPValue::LongString(text) => text.len(),
        AMQPValue::ByteArray(bytes) => bytes.len(),
        AMQPValue::FieldArray(array) => array
            .as_slice()
            .iter()
            .map(|item| size_of::<AMQPValue>() + value_bytes(item))
            .sum(),
        AMQPValue::FieldTable(entries) => table_bytes(entries),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Properties {
        Properties {
            content_type: Some("application/json".into()),
            message_id: Some("order-7".into()),
            kind: Some("invoice.paid".into()),
            user_id: Some("shop".into()),
            timestamp_s: Some(1_700_000_000),
            headers: vec![
                ("application".into(), HeaderValue::Text("acme".into())),
                ("bytes".into(), HeaderValue::Bytes(vec![0xff, 0])),
                (
                    "list".into(),
                    HeaderValue::List(vec![HeaderValue::Integer(-1), HeaderValue::Void]),
                ),
                (
                    "table".into(),
                    HeaderValue::Table(vec![("deep".into(), HeaderValue::Bool(true))]),
                ),
            ],
            ..Properties::default()
        }
    }

    #[test]
    fn the_publish_contract_survives_the_way_to_amqp_and_back() {
        // Goal: what `hooklane publish` sends is what a dispatcher reads.
        let amqp = outgoing(&full(), "shop").expect("valid");
        assert_eq!(*amqp.delivery_mode(), Some(2));
        assert_eq!(properties(&amqp), full());
    }

    #[test]
    fn what_would_lose_or_copy_the_message_stays_behind() {
        // Goal: expiration deletes, x-death makes 3.10 drop, CC and BCC copy.
        let mut from = Properties {
            expiration: Some("1000".into()),
            ..Properties::default()
        };
        for name in [
            "x-death",
            "x-first-death-queue",
            "x-last-death-reason",
            "CC",
            "BCC",
            "x-delivery-count",
            "kept",
        ] {
            from.headers.push((name.into(), HeaderValue::Integer(1)));
        }
        let to = properties(&outgoing(&from, "guest").expect("valid"));
        assert_eq!(to.expiration, None);
        assert_eq!(to.headers, vec![("kept".to_owned(), HeaderValue::Integer(1))]);
    }

    #[test]
    fn what_the_broker_would_answer_by_closing_is_refused_here() {
        // Goal: one bad publish must not end the channel or connection that others share.
        let long = Properties {
            message_id: Some("x".repeat(256)),
            ..Properties::default()
        };
        let foreign = Properties {
            user_id: Some("other".into()),
            ..Properties::default()
        };
        let big = vec![("h".to_owned(), HeaderValue::Text("x".repeat(140_000)))];
        let big = Properties {
            headers: big,
            ..Properties::default()
        };
        for bad in [long, foreign, big] {
            assert!(matches!(outgoing(&bad, "guest"), Err(BrokerError::Refused(_))));
        }
    }

    #[test]
    fn delivery_count_is_read_whatever_integer_it_is() {
        // Goal: 3.10 and 4.x send different integer types.
        for count in [
            AMQPValue::LongLongInt(3),
            AMQPValue::LongUInt(3),
            AMQPValue::ShortShortUInt(3),
        ] {
            let mut headers = FieldTable::default();
            headers.insert("x-delivery-count".into(), count);
            assert_eq!(
                delivery_count(&BasicProperties::default().with_headers(headers)),
                3
            );
        }
        assert_eq!(delivery_count(&BasicProperties::default()), 0);
    }

    #[test]
    fn a_forged_delivery_count_on_a_first_delivery_means_nothing() {
        // Goal: no producer sends his messages among the suspects; what the broker gives out again it counts itself.
        let mut headers = FieldTable::default();
        headers.insert(DELIVERY_COUNT.into(), AMQPValue::LongLongInt(50));
        let delivery = |redelivered| {
            let mut delivery = Delivery::mock(1, "".into(), "a.b".into(), redelivered, Vec::new());
            delivery.properties = BasicProperties::default().with_headers(headers.clone());
            delivery
        };
        assert_eq!(incoming(delivery(false)).1, 0);
        assert_eq!(incoming(delivery(true)).1, 50);
    }
}
