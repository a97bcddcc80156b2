//! Whose events a publisher may publish.

use std::sync::Arc;

use http::HeaderMap;

use crate::answer::Refusal;
use crate::publish::Ingest;

/// What a request's token says, as whoever knows tokens reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// There is none.
    Nothing,
    /// It speaks for this organisation.
    Organisation(String),
    /// It speaks for somebody who may not publish.
    Other,
    /// It is not known; one that is newer than what is known here is not either.
    Unknown,
    /// It is not valid.
    Wrong,
}

/// Reads tokens.
pub type ReadToken = Arc<dyn Fn(&HeaderMap) -> Shown + Send + Sync>;

impl Ingest {
    /// The organisation that the request speaks for; none where it needs none. `is_current` says whether a token that is not known is none.
    pub(crate) fn speaker(&self, headers: &HeaderMap, is_current: bool) -> Result<Option<String>, Refusal> {
        if let Some(token) = &self.settings.token
            && token.is_shown_by(headers)
        {
            return Ok(None);
        }
        let shown = self
            .read_token
            .as_ref()
            .map_or(Shown::Nothing, |read| read(headers));
        match shown {
            Shown::Organisation(organisation) => Ok(Some(organisation)),
            // Without any token set, only who is on this machine reaches it.
            Shown::Nothing if self.settings.token.is_none() && self.is_local => Ok(None),
            Shown::Other => Err(Refusal::Forbidden),
            Shown::Unknown if !is_current => Err(Refusal::NotKnownYet),
            Shown::Nothing | Shown::Unknown | Shown::Wrong => Err(Refusal::Unauthorized),
        }
    }
}
