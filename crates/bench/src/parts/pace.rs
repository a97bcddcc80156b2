//! When the next event may be published.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A steady pace, or none.
pub struct Pace {
    per_second: Option<f64>,
    begun: Instant,
}

impl Pace {
    /// So many events a second from now on; without a number, as fast as it goes.
    pub fn new(per_second: Option<f64>) -> Pace {
        Pace {
            per_second,
            begun: Instant::now(),
        }
    }

    /// Waits until the event with this number, counted from 0, is due.
    pub async fn wait(&self, number: u64) {
        if let Some(per_second) = self.per_second {
            let due = Duration::from_secs_f64(number as f64 / per_second);
            sleep_until(self.begun + due).await;
        }
    }
}
