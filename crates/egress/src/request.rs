//! The request, and its way into hyper's form.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hooklane_types::{FailureKind, HttpAuth, TlsFiles};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Uri};
use http_body_util::Full;
use url::Url;

use crate::answer::Failure;

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("Hooklane/", env!("CARGO_PKG_VERSION")));
const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");

/// Headers that say where a request goes, where it ends and what becomes of its connection: they follow from URL, body
/// and version, and nobody else sets them.
const OURS: [HeaderName; 9] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// One POST.
pub struct Request {
    /// Where to. `http` or `https`, without user info; a fragment is not sent.
    pub url: Url,
    /// Headers, in any case of letters. `user-agent` and `accept` are added where they are missing.
    pub headers: Vec<(String, String)>,
    /// The body, sent as it is.
    pub body: Bytes,
    /// One deadline over resolving, connecting, TLS, sending, status and body.
    pub timeout: Duration,
    /// CA and client certificate of the endpoint.
    pub tls: TlsFiles,
    /// HTTP authentication towards the endpoint.
    pub auth: Option<HttpAuth>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Paths, query strings and headers may hold secrets.
        f.debug_struct("Request")
            .field("host", &self.url.host_str())
            .field("body_bytes", &self.body.len())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// hyper's form of a request.
pub(crate) fn build(
    url: &Url,
    headers: Vec<(String, String)>,
    auth: Option<&HttpAuth>,
    body: Bytes,
) -> Result<http::Request<Full<Bytes>>, Failure> {
    let mut request = http::Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri(url)?;
    *request.headers_mut() = header_map(headers, auth)?;
    Ok(request)
}

fn uri(url: &Url) -> Result<Uri, Failure> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("the URL holds user info"));
    }
    Uri::try_from(url.as_str()).map_err(|_| refused("the URL cannot be sent in HTTP"))
}

fn header_map(headers: Vec<(String, String)>, auth: Option<&HttpAuth>) -> Result<HeaderMap, Failure> {
    let mut map = HeaderMap::with_capacity(headers.len() + 3);
    for (name, value) in headers {
        let Ok(key) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(refused("a header's name is none of HTTP"));
        };
        if OURS.contains(&key) {
            return Err(refused(format!("header {key} is not for an endpoint to set")));
        }
        // Takes the string over without copying it.
        let value = HeaderValue::from_maybe_shared(Bytes::from(value))
            .map_err(|_| refused(format!("the value of header {key} is none of HTTP")))?;
        map.append(key, value);
    }
    map.entry(header::USER_AGENT).or_insert(USER_AGENT);
    map.entry(header::ACCEPT).or_insert(ANYTHING);
    if let Some(auth) = auth {
        map.insert(header::AUTHORIZATION, authorization(auth)?);
    }
    Ok(map)
}

fn authorization(auth: &HttpAuth) -> Result<HeaderValue, Failure> {
    let text = match auth {
        HttpAuth::Basic { username, password } => {
            format!(
                "Basic {}",
                BASE64_STANDARD.encode(format!("{username}:{password}"))
            )
        }
        HttpAuth::Bearer { token } => format!("Bearer {token}"),
    };
    let mut value = HeaderValue::from_maybe_shared(Bytes::from(text))
        .map_err(|_| refused("the bearer token cannot stand in a header"))?;
    // HTTP/2 then keeps it out of the compression tables, and `Debug` redacts it.
    value.set_sensitive(true);
    Ok(value)
}

fn refused(detail: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Configuration, detail)
}
