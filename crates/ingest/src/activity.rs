//! What happens on a connection, and when that is too little: slow headers, idle connections, requests without end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Version;

use crate::settings::IngestSettings;

/// Deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// First byte of a request to the end of its headers; connect to the first request.
    pub(crate) header: Duration,
    /// Between requests.
    pub(crate) idle: Duration,
    /// End of the headers to the last byte of the answer; where that is streamed, from piece to piece.
    pub(crate) request: Duration,
}

impl Deadlines {
    pub(crate) fn new(settings: &IngestSettings) -> Deadlines {
        Deadlines {
            header: settings.header_timeout,
            idle: settings.idle_timeout,
            request: settings.request_timeout(),
        }
    }
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Keep,
    /// It did nothing for long: end it politely.
    Idle,
    /// It is too slow: end it. Why, for the log.
    Slow(&'static str),
}

/// What one connection does.
pub(crate) struct Activity {
    now: Mutex<State>,
    lingers: AtomicBool,
}

struct State {
    /// Requests whose answers were not sent yet, by number.
    requests: BTreeMap<u64, Instant>,
    next: u64,
    /// When the last request ended, or the connection began.
    quiet_since: Instant,
    /// When the first byte of the next request came.
    header_since: Option<Instant>,
    /// HTTP/2: bytes are not always a request's.
    multiplexed: bool,
}

impl Activity {
    pub(crate) fn new(now: Instant) -> Arc<Activity> {
        let state = State {
            requests: BTreeMap::new(),
            next: 0,
            quiet_since: now,
            header_since: None,
            multiplexed: false,
        };
        Arc::new(Activity {
            now: Mutex::new(state),
            lingers: AtomicBool::new(false),
        })
    }

    /// A request's headers are complete.
    pub(crate) fn begin(self: &Arc<Activity>, version: Version, now: Instant) -> InFlight {
        let mut state = self.state();
        state.multiplexed = version == Version::HTTP_2;
        state.header_since = None;
        let number = state.next;
        state.next += 1;
        state.requests.insert(number, now);
        drop(state);
        InFlight {
            activity: self.clone(),
            number,
        }
    }

    pub(crate) fn bytes_came(&self) {
        let mut state = self.state();
        if state.requests.is_empty() && state.header_since.is_none() {
            state.header_since = Some(Instant::now());
        }
    }

    /// The last answer is a refusal: what is still being sent should be read before the connection ends.
    pub(crate) fn linger(&self) {
        self.lingers.store(true, Ordering::Relaxed);
    }

    pub(crate) fn lingers(&self) -> bool {
        self.lingers.load(Ordering::Relaxed)
    }

    /// Judges the connection at a time.
    pub(crate) fn verdict(&self, now: Instant, deadlines: Deadlines) -> Verdict {
        let state = self.state();
        let over = |since: Instant, deadline: Duration| now.saturating_duration_since(since) > deadline;
        if let Some(oldest) = state.requests.values().min() {
            return match over(*oldest, deadlines.request) {
                true => Verdict::Slow("a request took too long"),
                false => Verdict::Keep,
            };
        }
        if state.next == 0 && over(state.quiet_since, deadlines.header) {
            return Verdict::Slow("no request came in time");
        }
        match state.header_since {
            Some(since) if !state.multiplexed && over(since, deadlines.header) => {
                Verdict::Slow("the headers of a request did not come in time")
            }
            _ if over(state.quiet_since, deadlines.idle) => Verdict::Idle,
            _ => Verdict::Keep,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if it did, times would still be times.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in flight, until its answer was handed to the socket.
pub(crate) struct InFlight {
    activity: Arc<Activity>,
    number: u64,
}

impl InFlight {
    /// Its answer goes on: from now on it has its time again. An answer of one piece never does.
    pub(crate) fn goes_on(&self, now: Instant) {
        self.activity.state().requests.insert(self.number, now);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.requests.remove(&self.number);
        state.quiet_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines {
        header: Duration::from_secs(10),
        idle: Duration::from_secs(100),
        request: Duration::from_secs(50),
    };

    fn after(activity: &Activity, start: Instant, seconds: u64) -> Verdict {
        activity.verdict(start + Duration::from_secs(seconds), DEADLINES)
    }

    #[test]
    fn a_connection_without_a_request_ends_at_the_header_deadline_even_when_it_sends_bytes() {
        let start = Instant::now();
        let activity = Activity::new(start);
        activity.bytes_came();
        assert_eq!(after(&activity, start, 9), Verdict::Keep);
        assert!(matches!(after(&activity, start, 12), Verdict::Slow(_)));
    }

    #[test]
    fn between_requests_silence_is_allowed_for_long_and_half_a_header_is_not() {
        let start = Instant::now();
        let activity = Activity::new(start);
        drop(activity.begin(Version::HTTP_11, start));
        assert_eq!(after(&activity, start, 90), Verdict::Keep);
        assert_eq!(after(&activity, start, 110), Verdict::Idle);
        activity.bytes_came();
        assert_eq!(after(&activity, start, 9), Verdict::Keep);
        assert!(matches!(after(&activity, start, 12), Verdict::Slow(_)));
    }

    #[test]
    fn a_ping_of_http_2_is_no_half_header() {
        let start = Instant::now();
        let activity = Activity::new(start);
        drop(activity.begin(Version::HTTP_2, start));
        activity.bytes_came();
        assert_eq!(after(&activity, start, 90), Verdict::Keep);
        assert_eq!(after(&activity, start, 110), Verdict::Idle);
    }

    #[test]
    fn the_oldest_request_decides_whatever_others_do() {
        let start = Instant::now();
        let activity = Activity::new(start);
        let _stuck = activity.begin(Version::HTTP_2, start);
        let young = activity.begin(Version::HTTP_2, start + Duration::from_secs(40));
        assert_eq!(after(&activity, start, 49), Verdict::Keep);
        drop(young);
        assert!(matches!(after(&activity, start, 51), Verdict::Slow(_)));
    }

    #[test]
    fn an_answer_that_is_streamed_has_its_time_from_piece_to_piece() {
        let start = Instant::now();
        let activity = Activity::new(start);
        let streamed = activity.begin(Version::HTTP_11, start);
        streamed.goes_on(start + Duration::from_secs(40));
        assert_eq!(after(&activity, start, 89), Verdict::Keep);
        assert!(matches!(after(&activity, start, 91), Verdict::Slow(_)));
    }
}
