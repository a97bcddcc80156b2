//! Messages that the pipeline could not handle: on the shelf `faults`, with their original as it was.

use hooklane_types::message::DETAIL_BYTES_MAX;
use hooklane_types::{Fault, FaultReason, Internal, Origin, Original, UnixMillis};

use crate::intake::Refusal;

/// Most bytes of a body that the shelf takes: RabbitMQ 4 refuses messages over 16 MiB, and a fault that cannot be published
/// would hold up everything. What an operator may set as the event limit is kept whole.
const BODY_BYTES_MAX: usize = crate::settings::EVENT_BYTES_LIMIT;

/// The fault of a message that was refused. A replayed one that is refused again shows what it showed before: the producer's
/// message, not our envelope around it.
pub(crate) fn fault(mut refusal: Refusal, mut original: Original, at: UnixMillis) -> Fault {
    // What killed processes or panicked is not read once more.
    if original.origin == Origin::Deliveries
        && refusal.reason != FaultReason::Poison
        && let Ok(Internal::Suspect(replayed)) = Internal::decode(original.message.body.clone())
        && matches!(replayed.original.origin, Origin::Events | Origin::Ordered)
    {
        original = replayed.original;
    }
    let body = &mut original.message.body;
    if body.len() > BODY_BYTES_MAX {
        let cut = format!(
            "only the first {BODY_BYTES_MAX} of {} bytes are kept; ",
            body.len()
        );
        refusal.detail.insert_str(0, &cut);
        body.truncate(BODY_BYTES_MAX);
    }
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
    fn only_a_body_that_no_broker_would_take_is_cut_and_the_fault_says_so() {
        // Goal: the largest event is kept whole; one byte more than the shelf takes is cut and told.
        let with = |bytes: usize| {
            let message = hooklane_types::RawMessage {
                exchange: String::new(),
                routing_key: String::new(),
                properties: hooklane_types::Properties::default(),
                body: vec![b'x'; bytes].into(),
            };
            let original = Original {
                origin: hooklane_types::Origin::Events,
                message,
            };
            fault(
                Refusal::new(FaultReason::TooLarge, "too large"),
                original,
                UnixMillis(0),
            )
        };
        let whole = with(BODY_BYTES_MAX);
        assert_eq!(
            (whole.original.message.body.len(), whole.detail.as_str()),
            (BODY_BYTES_MAX, "too large")
        );
        let cut = with(BODY_BYTES_MAX + 1);
        assert_eq!(cut.original.message.body.len(), BODY_BYTES_MAX);
        assert!(cut.detail.starts_with("only the first"), "{}", cut.detail);
    }

    #[test]
    fn a_replayed_fault_that_is_refused_again_shows_the_producers_message() {
        // Goal: an operator finds application and payload after any number of replays; poison is not read again.
        let message = |body| hooklane_types::RawMessage {
            body,
            ..Default::default()
        };
        let first = Original {
            origin: Origin::Events,
            message: message(bytes::Bytes::from_static(b"{}")),
        };
        let envelope = Internal::Suspect(hooklane_types::Suspect {
            original: first.clone(),
            deaths: 0,
            since: UnixMillis(1),
        });
        let replayed = Original {
            origin: Origin::Deliveries,
            message: message(envelope.encode()),
        };
        let again = |reason| fault(Refusal::new(reason, ""), replayed.clone(), UnixMillis(2)).original;
        assert_eq!(again(FaultReason::UnknownApplication), first);
        assert_eq!(again(FaultReason::Poison), replayed);
    }

    #[test]
    fn a_panic_is_told_by_its_text() {
        // Goal: both kinds of payload that `panic!` makes are read.
        assert!(panicked(&"static").detail.ends_with("static"));
        assert!(panicked(&"owned".to_owned()).detail.ends_with("owned"));
        assert_eq!(panicked(&5_u8).reason, FaultReason::Poison);
    }
}
