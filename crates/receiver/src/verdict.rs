use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use hooklane_signing::{TOLERANCE_S, Verifier, VerifyError};
use http::HeaderMap;

use crate::script::lock;

/// What a verifier said about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One of the secrets made the signature, over this body, lately.
    Valid,
    /// Why not.
    Invalid(VerifyError),
}

impl Verdict {
    /// Whether the signature is valid.
    pub fn is_valid(&self) -> bool {
        matches!(self, Verdict::Valid)
    }
}

/// The verifiers of all paths.
#[derive(Default)]
pub(crate) struct Verifiers {
    by_path: Mutex<HashMap<String, Arc<Verifier>>>,
    default: Mutex<Option<Arc<Verifier>>>,
}

impl Verifiers {
    pub(crate) fn set(&self, path: &str, verifier: Verifier) {
        lock(&self.by_path).insert(path.to_owned(), Arc::new(verifier));
    }

    pub(crate) fn set_default(&self, verifier: Verifier) {
        *lock(&self.default) = Some(Arc::new(verifier));
    }

    pub(crate) fn judge(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> Option<Verdict> {
        let of_path = lock(&self.by_path).get(path).cloned();
        let verifier = of_path.or_else(|| lock(&self.default).clone())?;
        // A clock before 1970 verifies nothing.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let header = |name: &str| headers.get(name)?.to_str().ok();
        Some(
            match verifier.verify(header, body, now.as_secs().cast_signed(), TOLERANCE_S) {
                Ok(()) => Verdict::Valid,
                Err(error) => Verdict::Invalid(error),
            },
        )
    }
}
