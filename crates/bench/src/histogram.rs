//! Latencies in buckets that are at most 1/16 wide.

use serde::{Deserialize, Serialize};

/// Buckets per doubling.
const STEPS: u64 = 16;
const BUCKETS: usize = 64 * STEPS as usize;

/// Counts of times in microseconds.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_us: u64,
}

/// What is told of many times, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half took no longer.
    pub p50_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Histogram {
    /// An empty one.
    pub fn new() -> Histogram {
        Histogram {
            counts: vec![0; BUCKETS],
            total: 0,
            max_us: 0,
        }
    }

    /// Adds one time.
    pub fn add(&mut self, us: u64) {
        self.counts[bucket(us)] += 1;
        self.total += 1;
        self.max_us = self.max_us.max(us);
    }

    /// None while it is empty.
    pub fn quantiles(&self) -> Option<Quantiles> {
        (self.total > 0).then(|| Quantiles {
            p50_ms: self.at(0.5),
            p99_ms: self.at(0.99),
            max_ms: self.max_us as f64 / 1000.0,
        })
    }

    fn at(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_us(index).min(self.max_us) as f64 / 1000.0;
            }
        }
        self.max_us as f64 / 1000.0
    }
}

fn bucket(us: u64) -> usize {
    if us < STEPS {
        return us as usize;
    }
    // Below the highest bit stand the bits that choose the step within the doubling.
    let doubling = u64::from(us.ilog2()) - u64::from(STEPS.ilog2());
    let step = (us >> doubling) - STEPS;
    ((doubling + 1) * STEPS + step) as usize
}

/// The longest time in a bucket.
fn upper_us(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let (doubling, step) = (index / STEPS - 1, index % STEPS);
    ((STEPS + step + 1) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_within_its_bucket_and_buckets_are_narrow() {
        for us in (0..2000).chain([65_535, 1_000_000, 3_600_000_000, u64::MAX / 2]) {
            let upper = upper_us(bucket(us));
            assert!(upper >= us && upper - us <= us / STEPS, "{us} in {upper}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_times() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantiles(), None);
        (1..=1000).for_each(|ms| histogram.add(ms * 1000));
        let found = histogram.quantiles().expect("it is not empty");
        assert!((500.0..=532.0).contains(&found.p50_ms), "{found:?}");
        assert!((990.0..=1000.0).contains(&found.p99_ms), "{found:?}");
        assert_eq!(found.max_ms, 1000.0);
    }
}
