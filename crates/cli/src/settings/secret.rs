//! Secrets: exactly one source for each, and never shown.

use std::fmt;
use std::path::Path;

use super::table::{Field, Table};

/// Longest secret file: more than this is the wrong file.
const SECRET_FILE_BYTES_MAX: u64 = 16 * 1024;

/// The text of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a text.
    pub fn new(text: String) -> SecretText {
        SecretText(text)
    }

    /// The text. Whoever calls this is responsible for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

/// Whether secrets that stand outside of the settings file (`…_file`, `…_env`) are fetched: only by the role that needs them,
/// so that no other pod must be given them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// They are; one that is not there is a problem.
    Yes,
    /// They are not.
    No,
}

/// A secret that was given, with the place that named it.
pub struct Given<'a> {
    /// The key that gave it.
    pub field: Field<'a>,
    /// Its text; none when it was not fetched, or is a problem already.
    pub text: Option<SecretText>,
    /// It was left where it is, by [`Fetch::No`].
    pub is_unfetched: bool,
}

/// Reads `stem`, `stem_file` or `stem_env`. Where a stronger source (the environment, a flag) gives one, weaker ones yield;
/// two from the same source are a problem.
pub fn read<'a>(table: &Table<'a>, stem: &str, fetch: Fetch) -> Option<Given<'a>> {
    read_as(table, stem, fetch, text_of)
}

/// Like [`read`], where the value of `stem` itself has a form of its own.
pub fn read_as<'a>(
    table: &Table<'a>,
    stem: &str,
    fetch: Fetch,
    in_place: impl FnOnce(&Field<'a>) -> Option<SecretText>,
) -> Option<Given<'a>> {
    let keys = [stem.to_owned(), format!("{stem}_file"), format!("{stem}_env")];
    let found: Vec<(usize, Field<'a>)> = keys
        .iter()
        .enumerate()
        .filter_map(|(way, key)| Some((way, table.field(key)?)))
        .collect();
    let strongest = found.iter().map(|(_, field)| field.rank()).max()?;
    let mut found = found.into_iter().filter(|(_, field)| field.rank() == strongest);
    let (way, field) = found.next()?;
    if let Some((second, _)) = found.next() {
        field.problem(
            format!("given twice, as `{}` and as `{}`", keys[way], keys[second]),
            format!("keep one of `{}`", keys.join("`, `")),
        );
        return Some(Given {
            field,
            text: None,
            is_unfetched: false,
        });
    }
    let is_unfetched = way != 0 && fetch == Fetch::No;
    let text = match way {
        _ if is_unfetched => None,
        0 => in_place(&field),
        1 => field.file_path().and_then(|path| from_file(&field, &path)),
        _ => field
            .read::<String>()
            .and_then(|name| from_variable(table, &field, &name)),
    };
    Some(Given {
        field,
        text,
        is_unfetched,
    })
}

/// A secret written in place. An empty one is a problem.
pub fn text_of(field: &Field<'_>) -> Option<SecretText> {
    let text: String = field.read()?;
    if text.is_empty() {
        field.problem(
            "the secret is empty",
            "write one, for instance from `hooklane secret`",
        );
        return None;
    }
    Some(SecretText(text))
}

fn from_file(field: &Field<'_>, path: &Path) -> Option<SecretText> {
    let remedy = "name a file that holds nothing but the secret and that hooklane may read";
    match read_secret_file(path) {
        Ok(text) if text.is_empty() => {
            field.problem(format!("{} is empty", path.display()), remedy);
            None
        }
        Ok(text) => Some(SecretText(text)),
        Err(error) => {
            field.problem(format!("{} cannot be read: {error}", path.display()), remedy);
            None
        }
    }
}

/// The text of a secret's file without the line end that editors add.
///
/// # Errors
/// When it can't be read, or is too long to be one.
pub fn read_secret_file(path: &Path) -> std::io::Result<String> {
    if std::fs::metadata(path)?.len() > SECRET_FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "it has more than {SECRET_FILE_BYTES_MAX} bytes"
        )));
    }
    let text = std::fs::read_to_string(path)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn from_variable(table: &Table<'_>, field: &Field<'_>, name: &str) -> Option<SecretText> {
    match table.load().variable(name) {
        Some(text) if !text.is_empty() => Some(SecretText(text.to_owned())),
        _ => {
            let shown = if looks_like_variable(name) {
                name
            } else {
                "named here"
            };
            field.problem(
                format!("the variable {shown} is not set, or empty"),
                "set it in hooklane's environment, or name another; the key takes the name, not the secret",
            );
            None
        }
    }
}

/// Somebody may have written the secret itself where its variable's name belongs: then it is not shown.
fn looks_like_variable(name: &str) -> bool {
    name.len() <= 64
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}
