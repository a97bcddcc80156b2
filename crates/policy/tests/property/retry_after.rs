//! The property of reading `Retry-After`, for the tests and the fuzz target alike.

use std::time::Duration;

use hooklane_policy::retry_after::{RETRY_AFTER_MAX, parse};
use hooklane_types::UnixMillis;

/// Tue, 14 Nov 2023 22:13:20 GMT.
const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// Any text is read without panic and within the bound; digits are the seconds that they say; time that passes makes no
/// wait longer.
pub fn check(text: &str) {
    let wait = parse(text, NOW, RETRY_AFTER_MAX);
    assert!(wait.is_none_or(|wait| wait <= RETRY_AFTER_MAX));
    if let Ok(seconds) = text.parse::<u32>()
        && !text.starts_with('+')
    {
        assert_eq!(
            wait,
            Some(Duration::from_secs(seconds.into()).min(RETRY_AFTER_MAX))
        );
    }
    let later = parse(text, UnixMillis(NOW.0 + 5_000), RETRY_AFTER_MAX);
    assert_eq!(later.is_some(), wait.is_some());
    assert!(later <= wait);
    assert_eq!(parse(text, NOW, Duration::ZERO).is_some(), wait.is_some());
}
