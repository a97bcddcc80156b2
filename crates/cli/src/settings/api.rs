//! `[api]`: the management API of `hooklane serve`.

use hooklane_api::{Algorithm, Tokens};
use hooklane_store::vault::Vault;
use url::Url;

use super::secret::{self, Fetch, SecretText};
use super::table::Table;

/// The organisation of whoever names none: the one that Svix's server takes too, so that its tokens fit.
const ORGANISATION_DEFAULT: &str = "org_23rb8YdGqMT0qIzpgGwdXfHirMu";

/// Whose tokens are taken, and what secrets are sealed with.
#[derive(Clone, Debug)]
pub struct ApiSection {
    /// The organisation that speaks where none is named.
    pub organisation: String,
    /// How tokens are signed.
    pub algorithm: Algorithm,
    /// The secret, or the public key, of tokens; none where one is kept in the data directory.
    pub jwt_secret: Option<SecretText>,
    /// Where users of the platform are sent; none for the description of the API.
    pub portal_url: Option<Url>,
    /// What seals the secrets of endpoints; none where one is kept in the data directory.
    pub encryption_key: Option<SecretText>,
    /// What sealed them before.
    pub encryption_key_before: Option<SecretText>,
}

/// Reads the section to its end.
pub fn read(table: Table<'_>, fetch: Fetch) -> ApiSection {
    let organisation = organisation(&table);
    let algorithm = table.named_or(
        "jwt_algorithm",
        &Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm)),
        Algorithm::Hs256,
    );
    let jwt_secret = checked(&table, "jwt_secret", fetch, |text| {
        Tokens::new(algorithm, text)
            .map(drop)
            .map_err(|error| error.to_string())
    });
    let key = |text: &str| Vault::new([text]).map(drop).map_err(|error| error.to_string());
    let encryption_key = checked(&table, "encryption_key", fetch, key);
    let encryption_key_before = checked(&table, "encryption_key_before", fetch, key);
    let portal_url = portal_url(&table);
    table.finish();
    ApiSection {
        organisation,
        algorithm,
        jwt_secret,
        portal_url,
        encryption_key,
        encryption_key_before,
    }
}

fn portal_url(table: &Table<'_>) -> Option<Url> {
    let field = table.field("portal_url")?;
    let url: Url = field.read()?;
    if matches!(url.scheme(), "http" | "https") && url.fragment().is_none() {
        return Some(url);
    }
    let remedy = "write the address of a page, without '#': the token is put behind it";
    field.problem(format!("{url} is no address of a web page"), remedy);
    None
}

fn organisation(table: &Table<'_>) -> String {
    let given: Option<String> = table.read("organisation");
    let given = given.unwrap_or_else(|| ORGANISATION_DEFAULT.to_owned());
    if !hooklane_api::is_organisation(&given) {
        table.problem(
            "organisation",
            format!("{given:?} is no organisation's id"),
            "write org_ and letters or digits, like `organisation = \"org_acme\"`",
        );
    }
    given
}

/// A secret that has to fit its use.
fn checked(
    table: &Table<'_>,
    stem: &str,
    fetch: Fetch,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<SecretText> {
    let given = secret::read(table, stem, fetch)?;
    let text = given.text?;
    match check(text.expose()) {
        Ok(()) => Some(text),
        Err(wrong) => {
            let remedy = "make another one, or leave it out: then one is kept in the data directory";
            given.field.problem(wrong, remedy);
            None
        }
    }
}
