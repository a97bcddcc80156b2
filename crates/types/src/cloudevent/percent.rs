//! How attribute values stand in HTTP headers (HTTP protocol binding 1.0.2, 3.1.3.2).

/// Everything but visible ASCII is percent-encoded, and so are `"` and `%`.
pub(super) fn encode(value: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%') {
            encoded.push(char::from(byte));
        } else {
            encoded.extend([
                '%',
                char::from(HEX[usize::from(byte >> 4)]),
                char::from(HEX[usize::from(byte & 15)]),
            ]);
        }
    }
    encoded
}

/// The value of a header: quotes are undone (older senders quote), then one round of percent-decoding. A `%` without two
/// hex digits behind it stands for itself. None when the outcome is not UTF-8.
pub(super) fn decode(header: &[u8]) -> Option<String> {
    let header = header.trim_ascii();
    let mut bytes = match header {
        [b'"', quoted @ .., b'"'] => unescape(quoted),
        plain => plain.to_vec(),
    };
    // In place: what is read lies never behind what is written.
    let (mut read, mut written) = (0, 0);
    while let Some(&byte) = bytes.get(read) {
        let decoded = (byte == b'%').then(|| hex_pair(&bytes[read + 1..])).flatten();
        bytes[written] = decoded.unwrap_or(byte);
        read += if decoded.is_some() { 3 } else { 1 };
        written += 1;
    }
    bytes.truncate(written);
    String::from_utf8(bytes).ok()
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = digit(*bytes.first()?)? * 16 + digit(*bytes.get(1)?)?;
    u8::try_from(value).ok()
}

/// Backslash escapes of a quoted string (RFC 9110, 5.6.4).
fn unescape(quoted: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        plain.push(if *byte == b'\\' {
            *bytes.next().unwrap_or(byte)
        } else {
            *byte
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn follows_the_examples_of_the_http_binding() {
        // 3.1.3.2: "Euro € 😀" is encoded like this.
        assert_eq!(encode("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(
            decode(b"Euro%20%E2%82%AC%20%F0%9F%98%80").as_deref(),
            Some("Euro € 😀")
        );
    }

    #[test]
    fn undoes_quotes_and_lower_case_hex_and_takes_raw_utf8() {
        assert_eq!(decode(br#""a \"b\" %e2%82%ac""#).as_deref(), Some("a \"b\" €"));
        assert_eq!(decode("raw €".as_bytes()).as_deref(), Some("raw €"));
        assert_eq!(
            decode(b"100% and %zz and %2").as_deref(),
            Some("100% and %zz and %2")
        );
        assert_eq!(decode(b"%2541").as_deref(), Some("%41"), "one round only");
        assert_eq!(decode(b"%ff"), None);
        assert_eq!(decode(b"\""), Some("\"".to_owned()));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_safe_in_a_header_and_decodes_to_itself(value: String) {
            let encoded = encode(&value);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(decode(encoded.as_bytes()), Some(value));
        }
    }
}
