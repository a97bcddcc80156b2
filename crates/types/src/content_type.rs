//! What may stand in `content-type`: text from producers that ends in a header.

/// Longest content type, in bytes: AMQP's bound for a short string.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;
/// What a payload is when its producer doesn't say.
pub const CONTENT_TYPE_DEFAULT: &str = "application/json";

/// Why a text is not taken as a content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentTypeError {
    /// Nothing there.
    #[error("a content type is empty")]
    Empty,
    /// Too long.
    #[error("a content type is longer than {CONTENT_TYPE_BYTES_MAX} bytes")]
    TooLong,
    /// Not to be sent in a header.
    #[error("a content type may hold only visible ASCII characters and spaces; found {found:?}")]
    Alphabet {
        /// The first offending character.
        found: char,
    },
}

/// Checks that the text can be sent as a content type. Whether it names a known type is between producer and endpoint.
///
/// # Errors
/// See [`ContentTypeError`].
pub fn check_content_type(text: &str) -> Result<(), ContentTypeError> {
    if text.is_empty() {
        return Err(ContentTypeError::Empty);
    }
    if text.len() > CONTENT_TYPE_BYTES_MAX {
        return Err(ContentTypeError::TooLong);
    }
    let is_fit = |c: char| c.is_ascii_graphic() || c == ' ';
    match text.chars().find(|c| !is_fit(*c)) {
        Some(found) => Err(ContentTypeError::Alphabet { found }),
        None if text.starts_with(' ') || text.ends_with(' ') => {
            Err(ContentTypeError::Alphabet { found: ' ' })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_can_stand_in_a_header_and_nothing_else() {
        for good in [CONTENT_TYPE_DEFAULT, "text/plain; charset=\"utf-8\"", "x"] {
            assert_eq!(check_content_type(good), Ok(()));
        }
        for bad in [
            "",
            " a/b",
            "a/b ",
            "a\r\nx: 1",
            "a\tb",
            "ä/b",
            "a\0",
            &"a".repeat(256),
        ] {
            assert!(check_content_type(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
