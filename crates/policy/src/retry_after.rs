//! What a `Retry-After` header asks for (RFC 9110, 10.2.3).

use std::time::{Duration, UNIX_EPOCH};

use hooklane_types::UnixMillis;

/// The longest wait that an endpoint can ask for, unless the operator sets another.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// No HTTP date is longer, the obsolete forms included (`Wednesday, 09-Nov-94 08:49:37 GMT` has 34 bytes).
const DATE_BYTES_MAX: usize = 40;

/// The wait that the header's value asks for, at most `max`: whole seconds, or an HTTP date in any of its three forms.
/// A date in the past asks for no wait. None when the value is neither.
pub fn parse(text: &str, now: UnixMillis, max: Duration) -> Option<Duration> {
    let text = text.trim_matches([' ', '\t']);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only digits: what doesn't fit into the number is too large, not wrong.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(max));
    }
    if text.len() > DATE_BYTES_MAX {
        return None;
    }
    let since_epoch = httpdate::parse_http_date(text)
        .ok()?
        .duration_since(UNIX_EPOCH)
        .ok()?;
    let at = UnixMillis(0).plus(since_epoch);
    Some(at.since(now).min(max))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, RFC 9110's own example.
    const EXAMPLE: UnixMillis = UnixMillis(784_111_777_000);

    fn seconds(text: &str, now: UnixMillis) -> Option<u64> {
        parse(text, now, RETRY_AFTER_MAX).map(|wait| wait.as_secs())
    }

    #[test]
    fn reads_seconds() {
        assert_eq!(seconds("0", EXAMPLE), Some(0));
        assert_eq!(seconds(" 120\t", EXAMPLE), Some(120));
        assert_eq!(seconds("007", EXAMPLE), Some(7));
    }

    #[test]
    fn reads_all_three_forms_of_an_http_date() {
        let minute_before = UnixMillis(EXAMPLE.0 - 60_000);
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(seconds(date, minute_before), Some(60), "{date}");
        }
    }

    #[test]
    fn a_date_in_the_past_asks_for_no_wait() {
        assert_eq!(
            seconds("Sun, 06 Nov 1994 08:49:37 GMT", UnixMillis(EXAMPLE.0 + 1)),
            Some(0)
        );
    }

    #[test]
    fn a_wait_of_any_size_is_bounded() {
        let max = RETRY_AFTER_MAX.as_secs();
        for huge in [
            "86401",
            "18446744073709551615",
            "18446744073709551616",
            &"9".repeat(5000),
        ] {
            assert_eq!(seconds(huge, EXAMPLE), Some(max));
        }
        assert_eq!(seconds("Fri, 31 Dec 9999 23:59:59 GMT", EXAMPLE), Some(max));
        assert_eq!(
            parse("9", EXAMPLE, Duration::from_secs(3)),
            Some(Duration::from_secs(3))
        );
    }

    #[test]
    fn what_is_neither_seconds_nor_a_date_is_none() {
        for bad in [
            "",
            " ",
            "-1",
            "+1",
            "1.5",
            "1 2",
            "soon",
            "0x10",
            "１２",
            "1s",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(seconds(bad, EXAMPLE), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_date_that_the_httpdate_crate_writes_is_waited_for_exactly(ahead_s in 0u64..86_400) {
            let at = UNIX_EPOCH + Duration::from_secs(EXAMPLE.0 as u64 / 1000 + ahead_s);
            prop_assert_eq!(seconds(&httpdate::fmt_http_date(at), EXAMPLE), Some(ahead_s));
        }
    }
}
