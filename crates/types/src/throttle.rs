//! How many messages a second an endpoint, or all endpoints of an application together, get at most.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

/// What is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a rate is 1 to {} messages a second: with none at all, disable the endpoint",
    u16::MAX
)]
pub struct ThrottleRateError;

/// Attempts a second that may begin, from 1 to 65535: the range of Svix's `throttleRate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u16")]
pub struct ThrottleRate(NonZeroU16);

impl ThrottleRate {
    /// The rate, as a number.
    pub fn per_second(self) -> u16 {
        self.0.get()
    }
}

impl TryFrom<u64> for ThrottleRate {
    type Error = ThrottleRateError;

    fn try_from(per_second: u64) -> Result<ThrottleRate, ThrottleRateError> {
        let per_second = u16::try_from(per_second).map_err(|_| ThrottleRateError)?;
        NonZeroU16::new(per_second)
            .map(ThrottleRate)
            .ok_or(ThrottleRateError)
    }
}

impl From<ThrottleRate> for u16 {
    fn from(rate: ThrottleRate) -> u16 {
        rate.per_second()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_sixteen_bits_and_is_not_zero() {
        for (per_second, is_right) in [(0, false), (1, true), (65_535, true), (65_536, false)] {
            assert_eq!(
                ThrottleRate::try_from(per_second).is_ok(),
                is_right,
                "{per_second}"
            );
        }
        let rate: ThrottleRate = serde_json::from_str("7").unwrap();
        assert_eq!(serde_json::to_string(&rate).unwrap(), "7");
        assert!(serde_json::from_str::<ThrottleRate>("0").is_err());
        assert!(serde_json::from_str::<ThrottleRate>("-1").is_err());
    }
}
