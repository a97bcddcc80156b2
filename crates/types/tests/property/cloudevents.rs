//! The property of reading CloudEvents, for the tests and the fuzz target alike.

use hooklane_types::cloudevent::{
    HEADERS_BYTES_MAX, format_of, is_amqp_binary, read_amqp_binary, read_http_binary, read_structured,
};
use hooklane_types::{CloudEvent, EventType, HeaderValue, Properties};

/// The input stands for a body, and line by line for headers (`name: value`). Nothing panics, and what is read can be sent.
pub fn check(input: &[u8]) {
    let first_line = input.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let content_type = String::from_utf8_lossy(first_line);
    format_of(&content_type);
    if let Ok(event) = read_structured("application/cloudevents+json", input) {
        assert!(event.headers.is_empty());
        check_event(&event);
    }
    if let Ok(event) = read_structured(
        &content_type,
        br#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#,
    ) {
        check_event(&event);
    }
    check_binary(input, &content_type);
}

fn check_binary(input: &[u8], content_type: &str) {
    let headers: Vec<(String, &[u8])> = input
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((
                String::from_utf8_lossy(&line[..colon]).into_owned(),
                &line[colon + 1..],
            ))
        })
        .collect();
    let http = headers.iter().map(|(name, value)| (name.as_str(), *value));
    if let Ok(event) = read_http_binary(http, Some(content_type)) {
        check_event(&event);
    }
    let amqp = headers
        .iter()
        .map(|(name, value)| (name.replacen("ce-", "cloudEvents:", 1), header_value(value)));
    let properties = Properties {
        headers: amqp.collect(),
        ..Properties::default()
    };
    match read_amqp_binary(&properties) {
        Ok(event) => {
            assert!(is_amqp_binary(&properties));
            check_event(&event);
        }
        Err(error) => assert!(error.to_string().len() < 8192, "an error of any length: {error}"),
    }
}

/// Values of different types, by their first byte.
fn header_value(bytes: &[u8]) -> HeaderValue {
    match bytes.first() {
        Some(b'!') => HeaderValue::Bytes(bytes.to_vec()),
        Some(b'#') => HeaderValue::Timestamp(bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))),
        Some(b'$') => HeaderValue::Integer(bytes.len() as i64),
        _ => HeaderValue::Text(String::from_utf8_lossy(bytes).into_owned()),
    }
}

fn check_event(event: &CloudEvent) {
    assert!(EventType::parse(event.event_type.as_str()).is_ok());
    assert!(!event.source.is_empty());
    assert!(
        event
            .content_type
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte))
    );
    for (name, value) in &event.headers {
        let attribute = name.strip_prefix("ce-").expect("only attributes travel on");
        assert!(
            attribute
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        );
        assert!(value.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let bytes: usize = event
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    assert!(bytes <= HEADERS_BYTES_MAX);
}
