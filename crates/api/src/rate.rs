//! `throttleRate`, and `rateLimit`, which is what older clients call it.

use hooklane_types::ThrottleRate;
use serde::Deserialize;

use crate::answer::Refusal;
use crate::patch::Field;
use crate::text::described;

/// Most messages a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Rate(ThrottleRate);

described!(Rate: {
    "type": "integer",
    "minimum": 1,
    "maximum": u16::MAX,
    "description": "Most attempts a second, retries too",
});

impl From<Rate> for ThrottleRate {
    fn from(rate: Rate) -> ThrottleRate {
        rate.0
    }
}

/// The one that a body gives under either name.
///
/// # Errors
/// When it gives two.
pub(crate) fn one(throttle_rate: Option<Rate>, rate_limit: Option<Rate>) -> Result<Option<Rate>, Refusal> {
    match (throttle_rate, rate_limit) {
        (Some(one), Some(other)) if one != other => Err(two()),
        (throttle_rate, rate_limit) => Ok(throttle_rate.or(rate_limit)),
    }
}

/// The one that a PATCH gives under either name.
///
/// # Errors
/// When it gives two; that it is taken away counts as one.
pub(crate) fn one_field(throttle_rate: Field<Rate>, rate_limit: Field<Rate>) -> Result<Field<Rate>, Refusal> {
    match (throttle_rate, rate_limit) {
        (Field::Missing, given) | (given, Field::Missing) => Ok(given),
        (one, other) if one == other => Ok(one),
        _ => Err(two()),
    }
}

fn two() -> Refusal {
    let msg = "throttleRate and rateLimit are the same: keep one of them";
    Refusal::field(["body", "rateLimit"], msg, "value_error")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u64) -> Rate {
        Rate(ThrottleRate::try_from(per_second).unwrap())
    }

    #[test]
    fn both_names_mean_one_rate() {
        for (throttle_rate, rate_limit, expected) in [
            (None, None, Ok(None)),
            (Some(rate(5)), None, Ok(Some(rate(5)))),
            (None, Some(rate(5)), Ok(Some(rate(5)))),
            (Some(rate(5)), Some(rate(5)), Ok(Some(rate(5)))),
            (Some(rate(5)), Some(rate(6)), Err(two())),
        ] {
            assert_eq!(one(throttle_rate, rate_limit), expected);
        }
        let given = |per_second| Field::Given(rate(per_second));
        for (throttle_rate, rate_limit, expected) in [
            (Field::Missing, Field::Missing, Ok(Field::Missing)),
            (Field::Null, Field::Missing, Ok(Field::Null)),
            (Field::Missing, given(5), Ok(given(5))),
            (given(5), given(5), Ok(given(5))),
            (Field::Null, given(5), Err(two())),
        ] {
            assert_eq!(one_field(throttle_rate, rate_limit), expected);
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_in_words() {
        for json in ["0", "-1", "65536", "1.5", "\"5\"", "true"] {
            assert!(serde_json::from_str::<Rate>(json).is_err(), "{json}");
        }
        let error = serde_json::from_str::<Rate>("0").unwrap_err().to_string();
        assert!(error.contains("disable the endpoint"), "{error}");
    }
}
