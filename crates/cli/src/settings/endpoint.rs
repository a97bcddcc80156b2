//! One `[[endpoint]]`.

use std::time::Duration;

use hooklane_signing::Scheme;
use hooklane_types::endpoint::{ClientCertificate, UrlError, check_url};
use hooklane_types::{
    ApplicationId, Endpoint, EndpointId, HeaderError, HttpAuth, TlsFiles, TypePattern, check_header,
};
use url::Url;

use super::retry;
use super::secret::{self, Fetch, Given};
use super::signature::{self, SignerRead};
use super::table::Table;

/// Shortest and longest deadline of an attempt.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// See [`TIMEOUT_MIN`]. RabbitMQ gives a message to somebody else after 30 min without an ack.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(10 * 60);
/// Most attempts at once that may be allowed for one endpoint.
pub const IN_FLIGHT_MAX: u32 = 10_000;

/// What endpoints take from elsewhere in the settings.
pub struct Surroundings {
    /// Where no application is named.
    pub application: ApplicationId,
    /// Where no timeout is set.
    pub timeout: Duration,
    /// Where no `max_in_flight` is set.
    pub in_flight_max: u32,
    /// Whether `http` URLs are refused.
    pub https_only: bool,
    /// Whether secrets outside of the file are fetched.
    pub fetch: Fetch,
}

/// An endpoint as far as it could be read.
pub struct EndpointRead {
    /// Its id, where that is right.
    pub id: Option<EndpointId>,
    /// Its application.
    pub application: ApplicationId,
    /// The endpoint; none when it has a problem, or its secrets were not fetched.
    pub endpoint: Option<Endpoint>,
}

/// Reads the table to its end.
pub fn read(table: Table<'_>, around: &Surroundings) -> EndpointRead {
    let id: Option<EndpointId> = table.read("id");
    if table.field("id").is_none() {
        table.missing(
            "id",
            "give it a name that is never used for another one, like `id = \"acme-orders\"`",
        );
    }
    let application = table.read_or("application", around.application.clone());
    let url = url(&table, around.https_only);
    let event_types = event_types(&table);
    let channels = table.list("channels").unwrap_or_default();
    let scheme = signature::scheme(&table);
    let (auth, has_auth) = auth(&table, around.fetch);
    let headers = headers(&table, scheme.as_ref(), has_auth);
    let signer = signature::signer(&table, scheme, around.fetch);
    let timeout = table.duration("timeout", around.timeout, TIMEOUT_MIN..=TIMEOUT_MAX);
    let tls = tls(&table);
    let max_in_flight = table.number("max_in_flight", around.in_flight_max, 1..=IN_FLIGHT_MAX);
    let throttle_rate = table.read("throttle_rate");
    let disabled = table.read_or("disabled", false);
    let retry = retry::read(&table);
    table.finish();
    let endpoint = match (id.clone(), url, event_types, signer) {
        (Some(id), Some(url), Some(event_types), SignerRead::Signer(signer)) => Some(Endpoint {
            id,
            application: application.clone(),
            url,
            event_types,
            channels,
            signer: *signer,
            headers,
            timeout,
            auth,
            tls,
            max_in_flight,
            throttle_rate,
            disabled,
            retry,
        }),
        _ => None,
    };
    EndpointRead {
        id,
        application,
        endpoint,
    }
}

fn url(table: &Table<'_>, https_only: bool) -> Option<Url> {
    let Some(field) = table.field("url") else {
        table.missing(
            "url",
            "say where to POST, like `url = \"https://example.com/hooks\"`",
        );
        return None;
    };
    let url: Url = field.read()?;
    let Err(error) = check_url(&url, https_only) else {
        return Some(url);
    };
    let remedy = match error {
        UrlError::Scheme => "write a URL that begins with https://",
        UrlError::Host => "write the host behind https://",
        UrlError::Credentials => {
            "take them out of the URL and write `basic_auth = { username = …, password_file = … }`"
        }
        UrlError::Fragment => "leave out what follows the #",
        UrlError::Plain => "use https, or allow http for all endpoints with `https_only = false` in [egress]",
    };
    field.problem(error, remedy);
    None
}

fn event_types(table: &Table<'_>) -> Option<Vec<TypePattern>> {
    match table.list("event_types") {
        None if table.field("event_types").is_none() => Some(vec![TypePattern::Any]),
        Some(patterns) if patterns.is_empty() => {
            table.problem(
                "event_types",
                "names no event type",
                "write the wanted types, or leave the key out to get all",
            );
            None
        }
        patterns => patterns,
    }
}

fn headers(table: &Table<'_>, scheme: Option<&Scheme>, has_auth: bool) -> Vec<(String, String)> {
    let Some(inner) = table.field("headers").and_then(|field| field.table()) else {
        return Vec::new();
    };
    let of_signature = scheme.map(Scheme::header_names).unwrap_or_default();
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, field) in inner.free_fields() {
        let Some(value) = field.read::<String>() else {
            continue;
        };
        let lower = name.to_ascii_lowercase();
        if let Err(error) = check_header(name, &value, &of_signature, has_auth) {
            field.problem(&error, header_remedy(&error));
        } else if headers.iter().any(|(earlier, _)| *earlier == lower) {
            field.problem(
                "given twice; upper and lower case are the same in headers",
                "keep one of them",
            );
        } else {
            headers.push((lower, value));
        }
    }
    headers
}

fn header_remedy(error: &HeaderError) -> &'static str {
    match error {
        HeaderError::Name { .. } => "use letters, digits and '-', like `x-source`",
        HeaderError::Reserved { .. } | HeaderError::Signature { .. } => {
            "leave it out, or choose another name"
        }
        HeaderError::Authorization => "keep one of `basic_auth`, `bearer_token` and the header",
        HeaderError::Value { .. } => "use printable ASCII without line breaks, and no space at either end",
        HeaderError::TooLong { .. } => "make it shorter",
    }
}

/// The endpoint's authentication, and whether one was asked for: a wrong one is a problem already.
fn auth(table: &Table<'_>, fetch: Fetch) -> (Option<HttpAuth>, bool) {
    let basic = table.field("basic_auth");
    let bearer = secret::read(table, "bearer_token", fetch);
    match (basic, bearer) {
        (None, None) => (None, false),
        (Some(field), None) => (field.table().and_then(|inner| basic_auth(inner, fetch)), true),
        (None, Some(given)) => (bearer_auth(given), true),
        (Some(field), Some(given)) => {
            let remedy = "keep one of `basic_auth`, `bearer_token` and the header";
            given
                .field
                .problem("basic and bearer authentication at once", remedy);
            // Read all the same, so that its own mistakes are in the report too.
            field.table().and_then(|inner| basic_auth(inner, fetch));
            (None, true)
        }
    }
}

fn bearer_auth(given: Given<'_>) -> Option<HttpAuth> {
    let token = given.text?.expose().to_owned();
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        given.field.problem(
            "the token holds a space, a control character or a letter outside of ASCII",
            "give the token as it was issued",
        );
        return None;
    }
    Some(HttpAuth::Bearer { token })
}

fn basic_auth(table: Table<'_>, fetch: Fetch) -> Option<HttpAuth> {
    let username: Option<String> = table.read("username");
    if table.field("username").is_none() {
        table.missing(
            "username",
            "write `basic_auth = { username = \"…\", password_file = \"…\" }`",
        );
    }
    let password = secret::read(&table, "password", fetch);
    if password.is_none() {
        table.missing("password", "give `password`, `password_file` or `password_env`");
    }
    let has_colon = username.as_ref().is_some_and(|name| name.contains(':'));
    if has_colon {
        table.problem(
            "username",
            "holds a colon, which ends a user name (RFC 7617)",
            "take a name without one",
        );
    }
    table.finish();
    let username = username.filter(|_| !has_colon)?;
    let password = password?.text?.expose().to_owned();
    Some(HttpAuth::Basic { username, password })
}

fn tls(table: &Table<'_>) -> TlsFiles {
    let ca = table.file_path("ca_file");
    let certificate = table.file_path("client_certificate");
    let key = table.file_path("client_key");
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
        (Some(_), None) => {
            table.problem(
                "client_certificate",
                "has no key",
                "name the key's file in `client_key`",
            );
            None
        }
        (None, Some(_)) => {
            table.problem(
                "client_key",
                "has no certificate",
                "name the certificate's file in `client_certificate`",
            );
            None
        }
        (None, None) => None,
    };
    TlsFiles { ca, client }
}
