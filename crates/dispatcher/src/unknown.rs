//! Applications that no registry knows yet: their messages wait a little, for whoever made the application may be quicker
//! than the registry. Without memory, a producer with a wrong application would hold every place of the process for that
//! time with each of its messages.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hooklane_types::ApplicationId;

/// How long an application may be unknown before its message is a fault.
const WAIT_MS: u64 = 2_000;
/// How long it then counts as unknown without another wait, unless the registry changes.
const REMEMBER_MS: u64 = 10_000;
/// Most applications remembered; past it all are forgotten, which only costs them another wait.
const APPLICATIONS_MAX: usize = 10_000;

/// When each unknown application was asked for first.
#[derive(Default)]
pub(crate) struct Unknown {
    first_ms: Mutex<HashMap<ApplicationId, u64>>,
}

impl Unknown {
    /// How long a message of this application may still wait; zero means that it is a fault now.
    pub(crate) fn patience(&self, application: &ApplicationId, now_ms: u64) -> Duration {
        let mut first_ms = self.lock();
        if first_ms.len() >= APPLICATIONS_MAX && !first_ms.contains_key(application) {
            first_ms.clear();
        }
        let first = first_ms.entry(application.clone()).or_insert(now_ms);
        if now_ms.saturating_sub(*first) > WAIT_MS + REMEMBER_MS {
            *first = now_ms;
        }
        Duration::from_millis((*first + WAIT_MS).saturating_sub(now_ms))
    }

    /// The registry changed: whatever was unknown may be known.
    pub(crate) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ApplicationId, u64>> {
        // A map of times is whole after any panic.
        self.first_ms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wait_serves_all_messages_of_an_unknown_application() {
        // Goal: two seconds from the first message on, then none for a while, then again.
        let unknown = Unknown::default();
        let application = ApplicationId::parse("app_x").unwrap();
        let patience_ms = |now_ms| unknown.patience(&application, now_ms).as_millis();
        assert_eq!(patience_ms(100), 2_000);
        assert_eq!(patience_ms(1_100), 1_000);
        assert_eq!(patience_ms(2_100), 0);
        assert_eq!(patience_ms(12_100), 0);
        assert_eq!(patience_ms(12_101), 2_000);
        unknown.forget();
        assert_eq!(patience_ms(14_500), 2_000);
    }
}
