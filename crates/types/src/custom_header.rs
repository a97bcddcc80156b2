//! Headers that an operator adds to an endpoint's requests.

/// Longest name, in bytes.
pub const HEADER_NAME_BYTES_MAX: usize = 128;
/// Longest value, in bytes: common servers take 8 KiB of headers in all.
pub const HEADER_VALUE_BYTES_MAX: usize = 4096;

/// Names that Hooklane or its HTTP client sets, or that change what a request means to those on its way.
const RESERVED: [&str; 14] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Families of such names: signatures of either dialect, CloudEvents attributes, proxies' own.
const RESERVED_PREFIXES: [&str; 4] = ["ce-", "proxy-", "svix-", "webhook-"];

/// Why a header cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No header can be called so.
    #[error(
        "{name:?} is no header name: only letters, digits and !#$%&'*+-.^_`|~, at most {HEADER_NAME_BYTES_MAX}"
    )]
    Name {
        /// The name, or its beginning.
        name: String,
    },
    /// It has another meaning.
    #[error("header '{name}' is set by Hooklane or belongs to the connection")]
    Reserved {
        /// Its name, in lower case.
        name: String,
    },
    /// It carries the endpoint's signature.
    #[error("header '{name}' carries the signature")]
    Signature {
        /// Its name, in lower case.
        name: String,
    },
    /// The endpoint has authentication of its own.
    #[error("header 'authorization' is set by the endpoint's basic or bearer authentication")]
    Authorization,
    /// A value that can't be sent. It may be a secret, so it isn't shown.
    #[error(
        "the value of header '{name}' holds a character that no header may carry (visible ASCII and spaces within)"
    )]
    Value {
        /// Its name, in lower case.
        name: String,
    },
    /// A value over the bound.
    #[error("the value of header '{name}' is longer than {HEADER_VALUE_BYTES_MAX} bytes")]
    TooLong {
        /// Its name, in lower case.
        name: String,
    },
}

/// Checks a header that an operator wants to add, in any case. `signature_headers` are the signer's, in lower case;
/// `has_auth` says whether the endpoint has authentication.
///
/// # Errors
/// See [`HeaderError`].
pub fn check_header(
    name: &str,
    value: &str,
    signature_headers: &[String],
    has_auth: bool,
) -> Result<(), HeaderError> {
    // RFC 9110, 5.6.2: `token`.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !(1..=HEADER_NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(is_token) {
        return Err(HeaderError::Name {
            name: name.chars().take(HEADER_NAME_BYTES_MAX).collect(),
        });
    }
    let name = name.to_ascii_lowercase();
    if RESERVED.contains(&name.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(HeaderError::Reserved { name });
    }
    if signature_headers.contains(&name) {
        return Err(HeaderError::Signature { name });
    }
    if has_auth && name == "authorization" {
        return Err(HeaderError::Authorization);
    }
    if value.len() > HEADER_VALUE_BYTES_MAX {
        return Err(HeaderError::TooLong { name });
    }
    let is_visible = value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if !is_visible || value.starts_with(' ') || value.ends_with(' ') {
        return Err(HeaderError::Value { name });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str) -> Result<(), HeaderError> {
        check_header(name, value, &["x-signature".to_owned()], true)
    }

    #[test]
    fn takes_ordinary_headers() {
        for (name, value) in [
            ("X-Tenant", "acme, inc. (eu)"),
            ("accept", "*/*"),
            ("x-empty", ""),
        ] {
            assert_eq!(check(name, value), Ok(()));
        }
        assert_eq!(check_header("Authorization", "Custom abc", &[], false), Ok(()));
    }

    #[test]
    fn refuses_what_is_not_the_operators_to_set_in_any_case() {
        for name in [
            "Host",
            "Content-Length",
            "Content-Type",
            "Transfer-Encoding",
            "Connection",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Upgrade",
            "Proxy-Authorization",
            "Proxy-Connection",
            "Expect",
            "Webhook-Id",
            "webhook-anything",
            "svix-signature",
            "ce-id",
            "traceparent",
            "User-Agent",
        ] {
            assert!(
                matches!(check(name, "x"), Err(HeaderError::Reserved { .. })),
                "{name}"
            );
        }
        assert!(matches!(
            check("X-Signature", "x"),
            Err(HeaderError::Signature { .. })
        ));
        assert_eq!(check("AUTHORIZATION", "x"), Err(HeaderError::Authorization));
    }

    #[test]
    fn refuses_what_would_end_the_header_or_could_not_be_sent() {
        for value in [
            "a\r\nx: 1",
            "a\n",
            "a\r",
            "a\0",
            "a\tb",
            "\u{7f}",
            "é",
            " a",
            "a ",
        ] {
            assert!(
                matches!(check("x-a", value), Err(HeaderError::Value { .. })),
                "{value:?}"
            );
        }
        for name in ["", "x a", "x:", "x\r\n", "é", &"x".repeat(129)] {
            assert!(
                matches!(check(name, "x"), Err(HeaderError::Name { .. })),
                "{name:?}"
            );
        }
        assert!(matches!(
            check("x-a", &"x".repeat(4097)),
            Err(HeaderError::TooLong { .. })
        ));
    }

    #[test]
    fn an_error_does_not_show_the_value() {
        assert!(
            !check("x-token", "s3cret\n")
                .unwrap_err()
                .to_string()
                .contains("s3cret")
        );
    }
}
