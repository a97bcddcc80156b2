//! The static bearer token.

use std::fmt;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const SCHEME: &str = "bearer";

/// The token that publishers must show. Only its SHA-256 is kept, so that it cannot be printed, and so that comparing
/// takes the same time whatever its length.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// Takes a token.
    ///
    /// # Errors
    /// When it is empty or could not stand in a header: only visible ASCII without spaces can.
    pub fn new(text: &str) -> Result<Token, TokenError> {
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Alphabet);
        }
        Ok(Token(Sha256::digest(text).into()))
    }

    /// Whether the request shows this token. Two `Authorization` headers are none.
    pub(crate) fn is_shown_by(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let Some((scheme, shown)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
            return false;
        };
        let shown: [u8; 32] = Sha256::digest(shown.trim()).into();
        scheme.eq_ignore_ascii_case(SCHEME) && bool::from(self.0.ct_eq(&shown))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing there.
    #[error("the token is empty")]
    Empty,
    /// It could not be sent.
    #[error("the token may hold only visible ASCII characters without spaces")]
    Alphabet,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        Token::new("s3cret.token").unwrap().is_shown_by(&headers)
    }

    #[test]
    fn only_the_right_token_passes() {
        assert!(shown(&["Bearer s3cret.token"]));
        assert!(shown(&["bearer  s3cret.token"]));
        for wrong in [
            "Bearer s3cret.toke",
            "Bearer s3cret.token2",
            "Bearer ",
            "Bearer",
            "Basic s3cret.token",
            "s3cret.token",
            "",
        ] {
            assert!(!shown(&[wrong]), "{wrong:?}");
        }
        assert!(!shown(&[]));
        assert!(!shown(&["Bearer s3cret.token", "Bearer s3cret.token"]));
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused_and_none_is_printed() {
        assert_eq!(Token::new("").unwrap_err(), TokenError::Empty);
        for bad in ["a b", "a\n", "ä"] {
            assert_eq!(Token::new(bad).unwrap_err(), TokenError::Alphabet);
        }
        assert!(!format!("{:?}", Token::new("s3cret").unwrap()).contains("s3cret"));
    }
}
