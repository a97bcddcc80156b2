//! How an endpoint's requests are signed, and with which secrets.

use config::ValueKind;
use hooklane_signing::{Encoding, Hash, HeaderFamily, HmacFormat, Scheme, Secret, Signer};

use super::secret::{self, Fetch, SecretText};
use super::table::{Field, Table};

const SCHEMES: [(&str, Scheme); 4] = [
    ("standard", Scheme::Standard(HeaderFamily::Webhook)),
    ("standard-svix", Scheme::Standard(HeaderFamily::Svix)),
    ("github", Scheme::GitHub),
    ("stripe", Scheme::Stripe),
];
const HASHES: [(&str, Hash); 3] = [
    ("sha1", Hash::Sha1),
    ("sha256", Hash::Sha256),
    ("sha512", Hash::Sha512),
];
const ENCODINGS: [(&str, Encoding); 2] = [("hex", Encoding::Hex), ("base64", Encoding::Base64)];

/// What came of reading secrets and scheme.
pub enum SignerRead {
    /// A signer.
    Signer(Box<Signer>),
    /// Secrets stand elsewhere and were not fetched.
    Unfetched,
    /// There is a problem, and it is in the report.
    Problem,
}

/// Reads `signature`; Standard Webhooks where there is none. `None`: a problem.
pub fn scheme(table: &Table<'_>) -> Option<Scheme> {
    let Some(field) = table.field("signature") else {
        return Some(Scheme::Standard(HeaderFamily::Webhook));
    };
    match &field.value.kind {
        ValueKind::Table(_) => hmac(&field.table()?),
        _ => field.taken(field.one_of(&SCHEMES).map_err(|mut wrong| {
            wrong.remedy +=
                ", or `{ hmac = { header = \"x-signature\", hash = \"sha256\", encoding = \"hex\" } }`";
            wrong
        })),
    }
}

fn hmac(outer: &Table<'_>) -> Option<Scheme> {
    let Some(field) = outer.field("hmac") else {
        outer.missing(
            "hmac",
            "write `signature = { hmac = { header = \"x-signature\" } }`, or `signature = \"standard\"`",
        );
        return None;
    };
    let table = field.table()?;
    let header: Option<String> = table.read("header");
    if table.field("header").is_none() {
        table.missing(
            "header",
            "name the header that carries the signature, like `header = \"x-signature\"`",
        );
    }
    let hash = table.named_or("hash", &HASHES, Hash::Sha256);
    let encoding = table.named_or("encoding", &ENCODINGS, Encoding::Hex);
    let prefix = table.read_or("prefix", String::new());
    table.finish();
    match HmacFormat::new(header?, hash, encoding, prefix) {
        Ok(format) => Some(Scheme::Hmac(format)),
        Err(error) => {
            field.problem(error, "choose another header or prefix, for instance `header = \"x-signature\", prefix = \"sha256=\"`");
            None
        }
    }
}

/// Reads the secrets of an endpoint's table and makes the signer.
pub fn signer(table: &Table<'_>, scheme: Option<Scheme>, fetch: Fetch) -> SignerRead {
    let single = secret::read(table, "secret", fetch);
    let list = table.field("secrets");
    let (field, found) = match (single, list) {
        (Some(_), Some(list)) => {
            list.problem(
                "a list of secrets beside a single one",
                "move the single one into `secrets`",
            );
            return SignerRead::Problem;
        }
        (Some(given), None) => {
            if given.is_unfetched {
                return SignerRead::Unfetched;
            }
            (given.field, given.text.map(|text| vec![text]))
        }
        (None, Some(list)) => match from_list(&list, fetch) {
            Listed::Texts(texts) => (list, Some(texts)),
            Listed::Unfetched => return SignerRead::Unfetched,
            Listed::Problem => return SignerRead::Problem,
        },
        (None, None) => {
            table.missing("secret", "give `secret`, `secret_file` or `secret_env`, or several in `secrets`; `hooklane secret` makes one");
            return SignerRead::Problem;
        }
    };
    let (Some(texts), Some(scheme)) = (found, scheme) else {
        return SignerRead::Problem;
    };
    made(&field, scheme, &texts)
}

enum Listed {
    Texts(Vec<SecretText>),
    Unfetched,
    Problem,
}

fn from_list(list: &Field<'_>, fetch: Fetch) -> Listed {
    let Some(elements) = list.elements() else {
        return Listed::Problem;
    };
    let mut texts = Vec::with_capacity(elements.len());
    let mut is_unfetched = false;
    for element in &elements {
        if matches!(element.value.kind, ValueKind::String(_)) {
            texts.push(secret::text_of(element));
            continue;
        }
        let Some(table) = element.table() else {
            return Listed::Problem;
        };
        match secret::read(&table, "secret", fetch) {
            Some(given) if given.is_unfetched => is_unfetched = true,
            Some(given) => texts.push(given.text),
            None => {
                table.missing(
                    "secret",
                    "give `secret`, `secret_file` or `secret_env` in each entry",
                );
                texts.push(None);
            }
        }
        table.finish();
    }
    match texts.into_iter().collect::<Option<Vec<_>>>() {
        None => Listed::Problem,
        Some(_) if is_unfetched => Listed::Unfetched,
        Some(texts) => Listed::Texts(texts),
    }
}

fn made(field: &Field<'_>, scheme: Scheme, texts: &[SecretText]) -> SignerRead {
    let mut secrets = Vec::with_capacity(texts.len());
    for text in texts {
        let read = if scheme.takes_verbatim() {
            Secret::verbatim(text.expose())
        } else {
            Secret::parse(text.expose())
        };
        match read {
            Ok(secret) => secrets.push(secret),
            Err(error) => field.problem(
                error,
                "take one from `hooklane secret`, or the one that the receiver gave you, whole",
            ),
        }
    }
    if secrets.len() < texts.len() {
        return SignerRead::Problem;
    }
    match Signer::new(scheme, secrets) {
        Ok(signer) => SignerRead::Signer(Box::new(signer)),
        Err(error) => {
            field.problem(
                error,
                "give between 1 and 10 secrets of the kind that the signature needs",
            );
            SignerRead::Problem
        }
    }
}
