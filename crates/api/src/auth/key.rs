//! Static keys: `hlk_`, the id's digits, `_`, and 256 random bits. The store has their hashes alone; the follower keeps those in memory, so
//! that a key is known without asking the store, and a revocation is in force as soon as the follower hears of it.
//!
//! Keys are made, listed and revoked by [`carry_out`], for whoever may open the store.

use std::collections::BTreeSet;

use hooklane_store::catalog::{Address, Catalog, CatalogError, Direction, Document, Draft, Kind, Page};
use hooklane_store::items::{self, Key, StaticKey, UnreadableItem};
use hooklane_store::registry::Keys;
use hooklane_types::UnixMillis;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Caller;
use super::jwt::{TokenError, check_organisation};
use crate::state::Api;
use crate::text::time;

const PREFIX: &str = "hlk_";
const ID_PREFIX: &str = "key_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Most keys of an organisation: every process has them in memory.
const KEYS_MAX: usize = 1_000;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Makes a key.
    Create {
        /// Of which organisation.
        organisation: String,
        /// The only application that it is for, by id or uid; none for the whole organisation.
        application: Option<String>,
        /// What people call it.
        name: String,
        /// Until when it is valid; for ever, if there is none.
        until_ms: Option<i64>,
    },
    /// Lists the keys of an organisation.
    List {
        /// Which.
        organisation: String,
    },
    /// Ends a key.
    Revoke {
        /// Of which organisation.
        organisation: String,
        /// Which.
        id: String,
    },
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Done {
    /// A key was made. It is not shown again.
    Created {
        /// How it is listed, and revoked.
        id: String,
        /// What a client shows.
        key: String,
    },
    /// Those that there are, by their ids.
    Listed(Vec<Row>),
    /// A key was ended.
    Revoked,
}

/// A key in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The only application that it is for.
    pub application: Option<String>,
    /// When it was made, as RFC 3339.
    pub created_at: String,
    /// When it ends, as RFC 3339.
    pub until: Option<String>,
    /// That time is over.
    pub is_over: bool,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not an organisation's id.
    #[error(transparent)]
    Organisation(#[from] TokenError),
    /// A name that cannot be shown.
    #[error("a key's name has 1 to {NAME_BYTES_MAX} bytes and no control character")]
    Name,
    /// There is no such application.
    #[error("{organisation} has no application {application:?}: make it first, or name another")]
    NoApplication {
        /// Where it was looked for.
        organisation: String,
        /// What was named.
        application: String,
    },
    /// There is no such key.
    #[error("{organisation} has no key {id:?}: `hooklane key list` names those that there are")]
    NoKey {
        /// Where it was looked for.
        organisation: String,
        /// What was named.
        id: String,
    },
    /// A process keeps all keys in memory.
    #[error("an organisation has at most {KEYS_MAX} keys: revoke those that are over")]
    TooMany,
    /// The store.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// What is there is not ours.
    #[error(transparent)]
    Unreadable(#[from] UnreadableItem),
}

/// Carries a request out.
///
/// # Errors
/// See [`KeyError`].
pub async fn carry_out(catalog: &dyn Catalog, request: Request, now: UnixMillis) -> Result<Done, KeyError> {
    match request {
        Request::Create {
            organisation,
            application,
            name,
            until_ms,
        } => {
            let application = application.as_deref();
            create(catalog, &organisation, application, name, until_ms, now).await
        }
        Request::List { organisation } => {
            let keys = of_organisation(catalog, &organisation).await?;
            let rows = keys.into_iter().map(|(document, key)| row(document, key, now));
            Ok(Done::Listed(rows.collect()))
        }
        Request::Revoke { organisation, id } => {
            check_organisation(&organisation)?;
            let address = address(&organisation, &id);
            match (id.starts_with(ID_PREFIX), catalog.remove(&address, now).await) {
                (true, Ok(())) => Ok(Done::Revoked),
                (_, Err(error)) if error != CatalogError::NotFound => Err(error.into()),
                _ => Err(KeyError::NoKey { organisation, id }),
            }
        }
    }
}

impl Api {
    /// Carries a request out, and waits until it is in force here.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub async fn change_keys(&self, request: Request) -> Result<Done, KeyError> {
        let done = carry_out(&*self.catalog, request, self.now()).await?;
        let newest = *self.catalog.newest().borrow();
        self.in_force(newest).await;
        Ok(done)
    }
}

async fn create(
    catalog: &dyn Catalog,
    organisation: &str,
    application: Option<&str>,
    name: String,
    until_ms: Option<i64>,
    now: UnixMillis,
) -> Result<Done, KeyError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(KeyError::Name);
    }
    if of_organisation(catalog, organisation).await?.len() >= KEYS_MAX {
        return Err(KeyError::TooMany);
    }
    let application = match application {
        None => None,
        Some(named) => {
            let found = catalog.get(Kind::Application, organisation, named).await?;
            let missing = || KeyError::NoApplication {
                organisation: organisation.to_owned(),
                application: named.to_owned(),
            };
            Some(found.ok_or_else(missing)?.address.id)
        }
    };
    let digits = hex::encode(rand::random::<[u8; ID_BYTES]>());
    let key = format!(
        "{PREFIX}{digits}_{}",
        hex::encode(rand::random::<[u8; SECRET_BYTES]>())
    );
    let item = Key::Static(StaticKey {
        name,
        sha256: hash(&key),
        application,
        until_ms,
    });
    let id = format!("{ID_PREFIX}{digits}");
    let draft = Draft {
        address: address(organisation, &id),
        uid: None,
        content: items::write(&item),
    };
    catalog.insert(draft, now).await?;
    Ok(Done::Created { id, key })
}

async fn of_organisation(
    catalog: &dyn Catalog,
    organisation: &str,
) -> Result<Vec<(Document, StaticKey)>, KeyError> {
    check_organisation(organisation)?;
    // Behind this come the ids of keys, and before it those of tokens that were ended.
    let page = Page {
        behind: Some(ID_PREFIX.to_owned()),
        direction: Direction::Ascending,
        limit: KEYS_MAX,
    };
    let mut keys = Vec::new();
    for document in catalog.list(Kind::Key, organisation, &page).await? {
        if let Key::Static(key) = items::read(&document)? {
            keys.push((document, key));
        }
    }
    Ok(keys)
}

fn address(organisation: &str, id: &str) -> Address {
    Address {
        kind: Kind::Key,
        scope: organisation.to_owned(),
        id: id.to_owned(),
    }
}

fn row(document: Document, key: StaticKey, now: UnixMillis) -> Row {
    Row {
        id: document.address.id,
        name: key.name,
        application: key.application,
        created_at: time(document.created_at),
        until: key.until_ms.map(|until| time(UnixMillis(until))),
        is_over: key.until_ms.is_some_and(|until| until <= now.0),
    }
}

/// Whether a token is a static key, by its first characters. No JSON Web Token begins so.
pub(crate) fn is_one(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// For whom a static key speaks; none when it is not taken. What is compared is hashed, and takes the same time whatever is wrong.
pub(super) fn caller(keys: &Keys, token: &str, now: UnixMillis) -> Option<Caller> {
    let (digits, _) = token.strip_prefix(PREFIX)?.split_once('_')?;
    let (organisation, key) = keys.get(&format!("{ID_PREFIX}{digits}"))?;
    let is_right: bool = hash(token).as_bytes().ct_eq(key.sha256.as_bytes()).into();
    let is_over = key.until_ms.is_some_and(|until| until <= now.0);
    (is_right && !is_over).then(|| Caller {
        organisation: organisation.to_owned(),
        application: key.application.clone(),
        feature_flags: BTreeSet::new(),
    })
}

/// Whether a token may be a static key that is not known: one that is made elsewhere is not, until it is heard of.
pub(super) fn is_unknown(keys: &Keys, token: &str) -> bool {
    let parts = token.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
    parts.is_some_and(|(digits, _)| keys.get(&format!("{ID_PREFIX}{digits}")).is_none())
}

fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hooklane_store::registry::{Follower, Sources};
    use hooklane_store::sqlite::catalog::SqliteCatalog;
    use hooklane_store::vault::Vault;
    use hooklane_types::Registry;
    use tokio::sync::watch;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    async fn made(catalog: &dyn Catalog, until_ms: Option<i64>) -> String {
        let request = Request::Create {
            organisation: "org_a".to_owned(),
            application: None,
            name: "x".to_owned(),
            until_ms,
        };
        match carry_out(catalog, request, NOW).await.unwrap() {
            Done::Created { key, .. } => key,
            done => panic!("{done:?}"),
        }
    }

    #[tokio::test]
    async fn a_key_opens_until_its_time_and_only_whole() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Arc::new(SqliteCatalog::open(directory.path()).unwrap());
        let key = made(&*catalog, Some(NOW.0 + 1000)).await;
        let for_ever = made(&*catalog, None).await;
        let sources = Sources {
            catalog,
            vault: Arc::new(Vault::new([Vault::fresh_key().as_str()]).unwrap()),
            organisation: "org_a".to_owned(),
            base: watch::channel(Arc::new(Registry::default())).1,
            clock: || NOW,
        };
        let (_follower, followed) = Follower::load(sources).await.unwrap();
        let keys = followed.keys.borrow().clone();
        let opens = |key: &str, ms| caller(&keys, key, UnixMillis(NOW.0 + ms)).is_some();
        assert!(is_one(&key) && opens(&key, 999) && !opens(&key, 1000));
        assert!(opens(&for_ever, i64::MAX - NOW.0));
        let (id, secret) = key.rsplit_once('_').unwrap();
        let (other_id, other_secret) = for_ever.rsplit_once('_').unwrap();
        for wrong in [
            "hlk_".to_owned(),
            format!("{id}_"),
            id.to_owned(),
            format!("{id}_{}", secret.to_uppercase()),
            format!("{id}_{other_secret}"),
            format!("{other_id}_{secret}"),
            format!("{key}0"),
        ] {
            assert!(!opens(&wrong, 0), "{wrong}");
        }
        assert!(is_unknown(&keys, "hlk_0123456789abcdef_x"));
        for known in [key.as_str(), id, &format!("{id}_{other_secret}"), "x_y"] {
            assert!(!is_unknown(&keys, known), "{known}");
        }
    }
}
