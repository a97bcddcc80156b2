//! What comes of a POST.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use hooklane_types::FailureKind;

/// What came of one attempt.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The answer, or why there was none.
    pub result: Result<Response, Failure>,
    /// From the call to the end of the attempt, the body included.
    pub duration: Duration,
    /// The address connected to (through a proxy: the one that the proxy was told), where it came to that.
    pub remote: Option<SocketAddr>,
}

/// An answer: a status came.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// `Retry-After` as it came.
    pub retry_after: Option<String>,
    /// The beginning of the body, at most `answer_bytes_max`, as it came: nothing is decoded.
    pub body: Bytes,
    /// Whether the body was longer than what was kept, or did not end in time.
    pub body_cut: bool,
    /// The version of HTTP that was spoken.
    pub version: http::Version,
}

/// Why no status came.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The kind: a metric's label.
    pub kind: FailureKind,
    /// In words, for a person: one line, at most 512 bytes, without paths, query strings, credentials and secrets.
    pub detail: String,
}

/// Longest detail, in bytes: it goes into logs and attempt histories.
const DETAIL_BYTES_MAX: usize = 512;

impl Failure {
    pub(crate) fn new(kind: FailureKind, detail: impl Into<String>) -> Failure {
        let mut detail: String = detail.into();
        // Texts of certificates are chosen by the peer: they may not break a line or a terminal.
        if detail.chars().any(char::is_control) {
            detail = detail
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
        }
        if detail.len() > DETAIL_BYTES_MAX {
            detail.truncate(boundary_before(&detail, DETAIL_BYTES_MAX));
        }
        Failure { kind, detail }
    }
}

/// The last character boundary at or before `index` (`str::floor_char_boundary` is newer than the Rust version that
/// the workspace promises).
fn boundary_before(text: &str, index: usize) -> usize {
    (0..=index)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_one_short_line_whatever_the_peer_wrote() {
        let failure = Failure::new(FailureKind::Tls, format!("a\r\n\u{1b}[31m{}", "ü".repeat(600)));
        assert!(failure.detail.len() <= DETAIL_BYTES_MAX);
        assert!(!failure.detail.chars().any(char::is_control));
        assert!(failure.detail.ends_with('ü'));
    }
}
