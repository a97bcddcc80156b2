//! One `[[endpoint]]`.

use std::time::Duration;

use hooklane_signing::Scheme;
use hooklane_types::endpoint::ClientCertificate;
use hooklane_types::{ApplicationId, Endpoint, EndpointId, HttpAuth, TlsFiles, TypePattern};
use url::Url;

use super::header;
use super::retry;
use super::secret::{self, Fetch};
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
    let headers = headers(&table, scheme.as_ref());
    let signer = signature::signer(&table, scheme, around.fetch);
    let timeout = table.duration("timeout", around.timeout, TIMEOUT_MIN..=TIMEOUT_MAX);
    let auth = auth(&table, &headers, around.fetch);
    let tls = tls(&table);
    let max_in_flight = table.number("max_in_flight", around.in_flight_max, 1..=IN_FLIGHT_MAX);
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
    let (wrong, remedy) = if !matches!(url.scheme(), "http" | "https") {
        (
            "not an http or https URL",
            "write a URL that begins with https://",
        )
    } else if url.host().is_none() {
        ("has no host", "write the host behind https://")
    } else if !url.username().is_empty() || url.password().is_some() {
        (
            "holds a user name or password",
            "take them out of the URL and write `basic_auth = { username = …, password_file = … }`",
        )
    } else if url.fragment().is_some() {
        (
            "has a fragment, which is never sent",
            "leave out what follows the #",
        )
    } else if https_only && url.scheme() == "http" {
        (
            "is http, but only https is allowed",
            "use https, or allow http for all endpoints with `https_only = false` in [egress]",
        )
    } else {
        return Some(url);
    };
    field.problem(wrong, remedy);
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

fn headers(table: &Table<'_>, scheme: Option<&Scheme>) -> Vec<(String, String)> {
    let Some(inner) = table.field("headers").and_then(|field| field.table()) else {
        return Vec::new();
    };
    let of_signature = scheme.map(Scheme::header_names).unwrap_or_default();
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, field) in inner.free_fields() {
        let Some(value) = field.read::<String>() else {
            continue;
        };
        let name = name.to_ascii_lowercase();
        if let Err(wrong) = header::check(&name, &value, &of_signature) {
            field.problem(wrong.wrong, wrong.remedy);
        } else if headers.iter().any(|(earlier, _)| *earlier == name) {
            field.problem(
                "given twice; upper and lower case are the same in headers",
                "keep one of them",
            );
        } else {
            headers.push((name, value));
        }
    }
    headers
}

fn auth(table: &Table<'_>, headers: &[(String, String)], fetch: Fetch) -> Option<HttpAuth> {
    let basic = table.field("basic_auth");
    let bearer = secret::read(table, "bearer_token", fetch);
    let has_header = headers.iter().any(|(name, _)| name == "authorization");
    let ways = [basic.is_some(), bearer.is_some(), has_header];
    if ways.iter().filter(|way| **way).count() > 1 {
        let field = basic.or(bearer.map(|given| given.field))?;
        field.problem(
            "several values for the header `authorization`",
            "keep one of `basic_auth`, `bearer_token` and the header",
        );
        return None;
    }
    if let Some(given) = bearer {
        let token = given.text?.expose().to_owned();
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            given.field.problem(
                "the token holds a space, a control character or a letter outside of ASCII",
                "give the token as it was issued",
            );
            return None;
        }
        return Some(HttpAuth::Bearer { token });
    }
    let inner = basic?.table()?;
    let username: Option<String> = inner.read("username");
    if inner.field("username").is_none() {
        inner.missing(
            "username",
            "write `basic_auth = { username = \"…\", password_file = \"…\" }`",
        );
    }
    let password = secret::read(&inner, "password", fetch);
    if password.is_none() {
        inner.missing("password", "give `password`, `password_file` or `password_env`");
    }
    if username.as_ref().is_some_and(|name| name.contains(':')) {
        inner.problem(
            "username",
            "holds a colon, which ends a user name (RFC 7617)",
            "take a name without one",
        );
        return None;
    }
    inner.finish();
    Some(HttpAuth::Basic {
        username: username?,
        password: password?.text?.expose().to_owned(),
    })
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
