//! `traceparent`, kept only in the form that W3C Trace Context defines.

use http::HeaderMap;

const NAME: &str = "traceparent";
/// `vv-trace(32)-parent(16)-ff`, the whole of version 00 and the beginning of later ones.
const VERSION_00_BYTES: usize = 55;
/// Later versions may append fields; no more than this is passed on.
const BYTES_MAX: usize = 256;

/// The request's `traceparent`, if it has exactly one that is valid. Anything else is dropped, as the specification asks:
/// the receiver then starts a trace of its own.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(NAME).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let text = value.to_str().ok()?;
    is_valid(text).then(|| text.to_owned())
}

fn is_valid(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < VERSION_00_BYTES || bytes.len() > BYTES_MAX || !text.is_ascii() {
        return false;
    }
    let (version, trace, parent, flags) = (&bytes[..2], &bytes[3..35], &bytes[36..52], &bytes[53..55]);
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
    let dashes = [bytes[2], bytes[35], bytes[52]] == [b'-'; 3];
    let end = match bytes.get(VERSION_00_BYTES) {
        None => true,
        Some(next) => version != b"00" && *next == b'-',
    };
    let fields = [version, trace, parent, flags].into_iter().all(is_hex);
    dashes && end && fields && version != b"ff" && !is_zero(trace) && !is_zero(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn keeps_what_the_specification_calls_valid() {
        assert!(is_valid(GOOD));
        assert!(is_valid(&format!("01{}-later", &GOOD[2..])));
    }

    #[test]
    fn drops_everything_else() {
        let zero_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let zero_parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
        let upper = GOOD.to_uppercase();
        let forbidden = format!("ff{}", &GOOD[2..]);
        let longer = format!("{GOOD}-x");
        let joined = format!("01{}x", &GOOD[2..]);
        let huge = format!("01{}-{}", &GOOD[2..], "a".repeat(300));
        for bad in [
            "",
            "x",
            &GOOD[1..],
            &zero_trace,
            &zero_parent,
            &upper,
            &forbidden,
            &longer,
            &joined,
            &huge,
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn two_headers_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(NAME, GOOD.parse().unwrap());
        assert_eq!(traceparent(&headers).as_deref(), Some(GOOD));
        headers.append(NAME, GOOD.parse().unwrap());
        assert_eq!(traceparent(&headers), None);
    }
}
