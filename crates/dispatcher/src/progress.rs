//! How far a delivery has come: what its messages carry from attempt to attempt.

use hooklane_policy::throttle::Visitor;
use hooklane_types::{AttemptSummary, Delivery, EndpointId, Event, UnixMillis};

/// How far a delivery has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    pub(crate) target: u16,
    pub(crate) run: u32,
    pub(crate) attempts_made: u32,
    pub(crate) parks: u32,
    pub(crate) deadline: Option<UnixMillis>,
    pub(crate) history: Vec<AttemptSummary>,
}

impl Progress {
    /// Whether it was here before, and waited.
    pub(crate) fn visitor(&self) -> Visitor {
        if self.parks > 0 || self.attempts_made > 0 {
            Visitor::Back
        } else {
            Visitor::New
        }
    }

    /// Its deadline, by which it goes from now on. Every run counts from its own beginning, the first one from acceptance: so a
    /// longer schedule, or a rate limit, that came since gives the first run longer.
    pub(crate) fn reckon(
        &mut self,
        event: &Event,
        now: UnixMillis,
        deadline: impl Fn(UnixMillis) -> UnixMillis,
    ) -> UnixMillis {
        let reckoned = match (self.run, self.deadline) {
            (0, None) => deadline(event.accepted_at),
            // One that a `Retry-After` moved may be later.
            (0, Some(before)) => before.max(deadline(event.accepted_at)),
            (_, None) => deadline(now),
            (_, Some(before)) => before,
        };
        self.deadline = Some(reckoned);
        reckoned
    }

    /// The delivery, to be published.
    pub(crate) fn delivery(self, event: &Event, endpoint: EndpointId) -> Delivery {
        Delivery {
            event: event.clone(),
            endpoints: vec![endpoint],
            target: self.target,
            run: self.run,
            attempts_made: self.attempts_made,
            parks: self.parks,
            remaining_ms: 0,
            deadline: self.deadline,
            history: self.history,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fixtures;

    const NOW: UnixMillis = UnixMillis(1_700_000_100_000);

    #[test]
    fn a_longer_schedule_that_came_since_moves_the_deadline_of_the_first_run() {
        // Goal: what waits is not expired by the schedule of before; a replay keeps what it had; no deadline comes nearer.
        let event = fixtures::event();
        let lives_s = |seconds| move |begun: UnixMillis| begun.plus(Duration::from_secs(seconds));
        let mut progress = Progress::default();
        let first = progress.reckon(&event, NOW, lives_s(60));
        assert_eq!(first, event.accepted_at.plus(Duration::from_secs(60)));
        let longer = progress.reckon(&event, NOW, lives_s(90));
        assert_eq!(longer, event.accepted_at.plus(Duration::from_secs(90)));
        assert_eq!(progress.reckon(&event, NOW, lives_s(30)), longer);
        let mut replay = Progress {
            run: 1,
            ..Progress::default()
        };
        let begun = replay.reckon(&event, NOW, lives_s(60));
        assert_eq!(begun, NOW.plus(Duration::from_secs(60)));
        assert_eq!(
            replay.reckon(&event, NOW.plus(Duration::from_secs(5)), lives_s(90)),
            begun
        );
        assert_eq!(replay.deadline, Some(begun));
    }
}
