//! Messages that the pipeline could not handle: on the shelf `faults`, with their original as it was.

use hooklane_types::message::DETAIL_BYTES_MAX;
use hooklane_types::{Fault, FaultReason, Original, UnixMillis};

use crate::intake::Refusal;

/// The fault of a message that was refused.
pub(crate) fn fault(refusal: Refusal, original: Original, at: UnixMillis) -> Fault {
    Fault {
        reason: refusal.reason,
        detail: cut(refusal.detail),
        at,
        original,
    }
}

/// The refusal of a message at which the pipeline panicked.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Refusal {
    Refusal::new(
        FaultReason::Poison,
        format!("the pipeline panicked: {}", panic_text(panic)),
    )
}

/// A panic's text, where it has one.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

fn cut(mut detail: String) -> String {
    if detail.len() > DETAIL_BYTES_MAX {
        let end = (0..=DETAIL_BYTES_MAX)
            .rev()
            .find(|at| detail.is_char_boundary(*at))
            .unwrap_or(0);
        detail.truncate(end);
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_bounded_and_stays_text() {
        // Goal: no more than the bound, cut between characters.
        let text = cut("ü".repeat(DETAIL_BYTES_MAX));
        assert!(text.len() <= DETAIL_BYTES_MAX && text.len() > DETAIL_BYTES_MAX - 2);
        assert_eq!(cut("short".to_owned()), "short");
    }

    #[test]
    fn a_panic_is_told_by_its_text() {
        // Goal: both kinds of payload that `panic!` makes are read.
        assert!(panicked(&"static").detail.ends_with("static"));
        assert!(panicked(&"owned".to_owned()).detail.ends_with("owned"));
        assert_eq!(panicked(&5_u8).reason, FaultReason::Poison);
    }
}
