//! From an error of hyper to the kind of failure. By types all the way down, never by text.

use std::error::Error;
use std::io;

use hooklane_types::FailureKind;
use hyper_util::client::legacy;

use crate::answer::Failure;
use crate::connect_error::ConnectError;

/// Why no status came.
pub(crate) fn classify(error: &legacy::Error) -> Failure {
    let mut found: Option<Failure> = None;
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    // The innermost verdict is the most exact: hyper says "connection error", below it stands a TLS alert.
    while let Some(cause) = next {
        if let Some(failure) = judge(cause) {
            found = Some(failure);
        }
        next = inner(cause);
    }
    found.unwrap_or_else(|| Failure::new(FailureKind::Configuration, "the request cannot be sent"))
}

/// What stands below an error. An I/O error that wraps another does not name it as its source.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        // Our own error says all there is to say; its source is in its text.
        None if error.is::<ConnectError>() => None,
        None => error.source(),
    }
}

fn judge(error: &(dyn Error + 'static)) -> Option<Failure> {
    if let Some(error) = error.downcast_ref::<ConnectError>() {
        return Some(Failure::new(error.kind(), error.to_string()));
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(Failure::new(
            FailureKind::Tls,
            format!("TLS after the handshake: {error}"),
        ));
    }
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        return Some(http2(error));
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return http1(error);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return Some(broken(error));
    }
    None
}

fn http1(error: &hyper::Error) -> Option<Failure> {
    if error.is_user() {
        return Some(Failure::new(
            FailureKind::Configuration,
            format!("the request cannot be sent: {error}"),
        ));
    }
    if error.is_parse() {
        return Some(Failure::new(
            FailureKind::Protocol,
            format!("the answer is not HTTP: {error}"),
        ));
    }
    if error.is_incomplete_message()
        || error.is_closed()
        || error.is_canceled()
        || error.is_body_write_aborted()
    {
        return Some(Failure::new(
            FailureKind::Closed,
            "the connection was closed before a status",
        ));
    }
    if error.is_timeout() {
        return Some(Failure::new(
            FailureKind::Closed,
            "the connection no longer answers",
        ));
    }
    // An I/O or HTTP/2 error stands below.
    None
}

fn http2(error: &h2::Error) -> Failure {
    if let Some(error) = error.get_io() {
        return broken(error);
    }
    // What the other side ends is closed; what our side had to end, for it broke the rules, was not HTTP.
    let is_ours = (error.is_reset() || error.is_go_away()) && !error.is_remote();
    let kind = if is_ours {
        FailureKind::Protocol
    } else {
        FailureKind::Closed
    };
    Failure::new(kind, format!("HTTP/2 ended before a status: {error}"))
}

fn broken(error: &io::Error) -> Failure {
    // A socket never says "invalid data": that is rustls, about what came or about an alert (one about our certificate
    // comes only after the handshake). h2 keeps an I/O error's kind and text alone, so the type cannot be asked.
    let is_tls = error.kind() == io::ErrorKind::InvalidData;
    let kind = if is_tls {
        FailureKind::Tls
    } else {
        FailureKind::Closed
    };
    Failure::new(kind, format!("the connection broke before a status: {error}"))
}
