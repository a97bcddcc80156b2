//! Which headers an operator may add to an endpoint's requests.

use super::value::Wrong;

/// Headers that HTTP needs for itself (RFC 9110, 7.6.1: hop by hop), or that Hooklane sets.
const RESERVED: [&str; 14] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Families of headers that carry an event's identity and signature.
const RESERVED_PREFIXES: [&str; 3] = ["webhook-", "svix-", "ce-"];
/// Longest value of a header, in bytes: half of what common servers allow for all headers of a request.
const VALUE_BYTES_MAX: usize = 4096;

/// Checks a header; the name in lower case. The value is never quoted: it may be a secret.
///
/// # Errors
/// What is wrong with it.
pub fn check(name: &str, value: &str, of_signature: &[String]) -> Result<(), Wrong> {
    let is_token = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    if !is_token {
        return Err(Wrong::new(
            "no name of a header (RFC 9110)",
            "use letters, digits and '-', like `x-source`",
        ));
    }
    let is_reserved = RESERVED.contains(&name)
        || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || of_signature.iter().any(|taken| taken == name);
    if is_reserved {
        return Err(Wrong::new(
            "a header that Hooklane or HTTP sets itself",
            "leave it out, or choose another name",
        ));
    }
    let is_sendable = value.len() <= VALUE_BYTES_MAX
        && value.trim() == value
        && value
            .bytes()
            .all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    if !is_sendable {
        return Err(Wrong::new(
            "the value cannot be sent",
            format!(
                "use printable ASCII without line breaks, at most {VALUE_BYTES_MAX} bytes, no space at either end"
            ),
        ));
    }
    Ok(())
}
