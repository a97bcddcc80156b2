//! The events: 1 KiB of JSON that says when it was published.

use crate::clock::now_us;

/// Size of a payload in bytes.
pub const PAYLOAD_BYTES: usize = 1024;

const HEAD: &str = r#"{"at":""#;
const DIGITS: usize = 17;

/// A payload that is published now.
pub fn now() -> String {
    let mut text = String::with_capacity(PAYLOAD_BYTES);
    text.push_str(HEAD);
    text.push_str(&format!("{:0width$}", now_us(), width = DIGITS));
    text.push_str(r#"","fill":""#);
    while text.len() < PAYLOAD_BYTES - 2 {
        text.push('x');
    }
    text.push_str("\"}");
    text
}

/// When a payload was published, in microseconds; none if it is not one of these.
pub fn published_us(body: &[u8]) -> Option<u64> {
    let digits = body.strip_prefix(HEAD.as_bytes())?.get(..DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The producer's id of the event with this number, in the load of a publisher that began then: no load before had it, or whatever remembers ids would
/// take its events for repeats.
pub fn id(begun_us: u64, number: u64) -> String {
    format!("n{begun_us}-{number}")
}

/// The type of the event with this number, when there are so many types: each in its turn.
pub fn event_type(number: u64, types: u64) -> String {
    format!("bench.t{}", number % types.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_one_kibibyte_of_json_and_says_when_it_was_published() {
        let before = now_us();
        let text = now();
        assert_eq!(text.len(), PAYLOAD_BYTES);
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        let at = published_us(text.as_bytes()).expect("it says when");
        assert!((before..=now_us()).contains(&at));
        assert_eq!(published_us(b"{}"), None);
    }
}
