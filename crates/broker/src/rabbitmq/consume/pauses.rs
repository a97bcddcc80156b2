//! Pauses between subscriptions that fail.

use std::time::Duration;

use tokio::time::Instant;

/// Pauses before subscribing again after a failure; doubled after each.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// After that long without trouble the next pause is the shortest again.
const CALM: Duration = Duration::from_secs(60);

/// Growing pauses between subscriptions that fail one after the other.
#[derive(Default)]
pub(super) struct Pauses {
    last: Option<(Instant, Duration)>,
}

impl Pauses {
    pub(super) fn next(&mut self) -> Duration {
        let now = Instant::now();
        let pause = match self.last {
            Some((at, last)) if now.duration_since(at) < CALM => (last * 2).min(PAUSE_MAX),
            _ => PAUSE_MIN,
        };
        self.last = Some((now, pause));
        pause
    }
}
