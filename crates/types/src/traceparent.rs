//! W3C Trace Context: what is passed on must be valid, so that junk doesn't travel.
//!
//! Source: [Trace Context](https://www.w3.org/TR/trace-context/#traceparent-header), level 1, sections 3.2 and 3.3.

/// `version(2)-trace(32)-parent(16)-flags(2)`: the whole of version 00, and the beginning of later ones.
const VERSION_00_BYTES: usize = 55;
/// Later versions may append fields; no more than this is passed on.
pub const TRACEPARENT_BYTES_MAX: usize = 256;

/// Whether the text is a `traceparent` to pass on: of version 00, or of a later one whose beginning is the same.
pub fn is_valid(text: &str) -> bool {
    let bytes = text.as_bytes();
    if !(VERSION_00_BYTES..=TRACEPARENT_BYTES_MAX).contains(&bytes.len())
        || !bytes.iter().all(u8::is_ascii_graphic)
    {
        return false;
    }
    let (version, trace, parent, flags) = (&bytes[..2], &bytes[3..35], &bytes[36..52], &bytes[53..55]);
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
    let has_dashes = [bytes[2], bytes[35], bytes[52]] == [b'-'; 3];
    let ends_well = match bytes.get(VERSION_00_BYTES) {
        None => true,
        Some(next) => version != b"00" && *next == b'-',
    };
    let has_fields = [version, trace, parent, flags].into_iter().all(is_hex);
    has_dashes && ends_well && has_fields && version != b"ff" && !is_zero(trace) && !is_zero(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn takes_version_00_and_later_ones_with_more_fields() {
        assert!(is_valid(GOOD));
        assert!(is_valid(&format!("01{}", &GOOD[2..])));
        assert!(is_valid(&format!("01{}-later", &GOOD[2..])));
    }

    #[test]
    fn refuses_everything_else() {
        let rest = &GOOD[2..];
        let bad = [
            String::new(),
            GOOD[1..].to_owned(),
            format!("{GOOD}-x"),
            format!("{GOOD} "),
            format!("ff{rest}"),
            format!("01{rest}x"),
            format!("01{rest}-a b"),
            format!("01{rest}-{}", "a".repeat(300)),
            GOOD.to_uppercase(),
            GOOD.replace('-', "_"),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            "é".repeat(28),
        ];
        for text in bad {
            assert!(!is_valid(&text), "{text}");
        }
    }
}
