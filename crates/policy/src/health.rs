//! Whether an endpoint is sick: an attempt has been in flight for over a second, and nothing has succeeded since it began.
//!
//! A sick endpoint gets nothing new on the fast path, so that it cannot hold more of a dispatcher than it already does.

use std::collections::BTreeMap;

/// From this age on, an attempt in flight speaks against its endpoint, in milliseconds.
pub const SICK_AFTER_MS: u64 = 1_000;

/// One attempt in flight. To be given back to [`Health::end`] however the attempt ends: what is never ended looks like
/// an attempt that hangs.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an attempt that is never ended makes its endpoint sick for ever"]
pub struct AttemptToken(u64);

/// The attempts of one endpoint that speak against it. Holds at most one entry per attempt in flight.
///
/// All times are milliseconds of one monotonic clock, from any zero.
#[derive(Debug, Default)]
pub struct Health {
    next: u64,
    /// When each attempt in flight began, without those that saw a success since: a success speaks for all that were in
    /// flight with it, for good.
    suspicious: BTreeMap<u64, u64>,
    /// The beginning of the oldest of them, at hand because it is asked for at every delivery.
    oldest_ms: Option<u64>,
}

impl Health {
    /// No attempts yet.
    pub fn new() -> Health {
        Health::default()
    }

    /// An attempt begins.
    pub fn begin(&mut self, now_ms: u64) -> AttemptToken {
        let token = self.next;
        self.next += 1;
        self.suspicious.insert(token, now_ms);
        self.oldest_ms.get_or_insert(now_ms);
        AttemptToken(token)
    }

    /// An attempt ended, with a 2xx or without.
    pub fn end(&mut self, token: AttemptToken, success: bool) {
        if success {
            self.suspicious.clear();
        } else {
            self.suspicious.remove(&token.0);
        }
        self.oldest_ms = self.suspicious.first_key_value().map(|(_, began_ms)| *began_ms);
    }

    /// The endpoint is another place now: what hangs at the old one says nothing about it. Attempts in flight still end.
    pub fn forget(&mut self) {
        self.suspicious.clear();
        self.oldest_ms = None;
    }

    /// Whether the endpoint is sick. Takes the same time however many attempts are in flight.
    pub fn is_sick(&self, now_ms: u64) -> bool {
        self.sick_since(now_ms).is_some()
    }

    /// When the attempt began that makes the endpoint sick; none while it is well. With the attempt's timeout added, this
    /// is when the endpoint can be well again at the latest, unless other attempts hang too.
    pub fn sick_since(&self, now_ms: u64) -> Option<u64> {
        self.oldest_ms
            .filter(|began_ms| now_ms.saturating_sub(*began_ms) > SICK_AFTER_MS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_sick_once_an_attempt_hangs_for_over_a_second() {
        let mut health = Health::new();
        assert!(!health.is_sick(u64::MAX));
        let hanging = health.begin(5_000);
        assert!(!health.is_sick(6_000));
        assert!(health.is_sick(6_001));
        assert_eq!(health.sick_since(6_001), Some(5_000));
        health.end(hanging, false);
        assert!(!health.is_sick(60_000));
    }

    #[test]
    fn a_success_speaks_for_all_that_were_in_flight() {
        let mut health = Health::new();
        let hanging = health.begin(0);
        let quick = health.begin(500);
        assert!(health.is_sick(1_500));
        health.end(quick, true);
        assert!(!health.is_sick(100_000));
        let later = health.begin(2_000);
        assert!(health.is_sick(3_001), "what began after the success counts again");
        health.end(hanging, false);
        assert_eq!(health.sick_since(3_001), Some(2_000));
        health.end(later, false);
    }

    #[test]
    fn quick_failures_do_not_make_it_well() {
        let mut health = Health::new();
        let _hanging = health.begin(0);
        for now_ms in 1..2_000 {
            let refused = health.begin(now_ms);
            health.end(refused, false);
        }
        assert!(health.is_sick(2_000));
        assert_eq!(
            health.suspicious.len(),
            1,
            "nothing is kept of attempts that ended"
        );
    }

    #[test]
    fn what_hung_at_another_place_says_nothing() {
        let mut health = Health::new();
        let old = health.begin(0);
        health.forget();
        assert!(!health.is_sick(10_000));
        let new = health.begin(10_000);
        health.end(old, false);
        assert_eq!(health.sick_since(12_000), Some(10_000));
        health.end(new, true);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_makes_nobody_sick() {
        let mut health = Health::new();
        let _hanging = health.begin(10_000);
        assert!(!health.is_sick(10_000));
        assert!(!health.is_sick(0));
    }

    proptest! {
        /// Goal: the quick bookkeeping says the same as the definition, over any history.
        #[test]
        fn agrees_with_its_definition(steps in proptest::collection::vec((0u64..700, 0usize..4, any::<prop::sample::Index>()), 1..200)) {
            let mut health = Health::new();
            let mut now = 0u64;
            let mut order = 0u64;
            // (token, began at, sequence number of its beginning)
            let mut in_flight: Vec<(AttemptToken, u64, u64)> = Vec::new();
            let mut last_success = None;
            for (passed, action, which) in steps {
                now += passed;
                order += 1;
                if action < 2 || in_flight.is_empty() {
                    in_flight.push((health.begin(now), now, order));
                } else {
                    let (token, _, _) = in_flight.remove(which.index(in_flight.len()));
                    health.end(token, action == 3);
                    if action == 3 {
                        last_success = Some(order);
                    }
                }
                let sick = in_flight.iter().any(|(_, began, number)| {
                    now - began > SICK_AFTER_MS && last_success.is_none_or(|success| success < *number)
                });
                prop_assert_eq!(health.is_sick(now), sick);
                prop_assert!(health.suspicious.len() <= in_flight.len());
            }
        }
    }
}
