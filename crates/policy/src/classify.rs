//! Under which label an outcome is counted: a closed set, whatever endpoints answer.

use hooklane_types::AttemptOutcome;

/// The label of an outcome: the class of its status (`1xx` to `5xx`, `other` for what HTTP doesn't know), or the name of
/// the failure.
pub fn label(outcome: &AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Status { code, .. } => match code {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            500..=599 => "5xx",
            _ => "other",
        },
        AttemptOutcome::Failed(kind) => kind.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hooklane_types::FailureKind;

    #[test]
    fn every_status_and_failure_has_a_label_of_a_closed_set() {
        let status = |code| {
            label(&AttemptOutcome::Status {
                code,
                retry_after_ms: None,
            })
        };
        assert_eq!(
            [100, 200, 299, 301, 410, 429, 500, 599].map(status),
            ["1xx", "2xx", "2xx", "3xx", "4xx", "4xx", "5xx", "5xx"]
        );
        assert_eq!([0, 99, 600, u16::MAX].map(status), ["other"; 4]);
        assert_eq!(label(&AttemptOutcome::Failed(FailureKind::Timeout)), "timeout");
    }
}
