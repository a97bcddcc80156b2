//! Attempts as the API shows them.

use hooklane_store::history::{Decision, FoundAttempt, Status, Trigger};
use hooklane_types::AttemptOutcome;
use schemars::JsonSchema;
use serde::Serialize;

use crate::message::out::{MessageOut, Standing};
use crate::text::time;

/// In place of an answer's body that was taken away, as Svix's server says it.
const EXPUNGED: &str = "EXPUNGED";

/// An attempt.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageAttemptOut {
    id: String,
    msg_id: String,
    endpoint_id: String,
    url: String,
    /// The answer's body, or its beginning; where no answer came, why, in a word.
    response: String,
    /// 0 where no answer came.
    response_status_code: u16,
    response_duration_ms: u32,
    #[serde(flatten)]
    standing: Standing,
    /// 0 by its schedule, 1 by hand.
    trigger_type: u8,
    timestamp: String,
    /// Its message without the payload, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    msg: Option<MessageOut>,
}

impl MessageAttemptOut {
    /// An attempt, with its answer as far as that was read.
    pub(crate) fn of(found: &FoundAttempt, with_content: bool, msg: Option<MessageOut>) -> MessageAttemptOut {
        let attempt = &found.attempt;
        let (response_status_code, response) = match attempt.outcome {
            AttemptOutcome::Failed(kind) => (0, kind.name().to_owned()),
            AttemptOutcome::Status { code, .. } => (code, response(found, with_content)),
        };
        MessageAttemptOut {
            id: attempt.id.to_string(),
            msg_id: attempt.delivery.event.id.to_string(),
            endpoint_id: attempt.delivery.endpoint.to_string(),
            url: attempt.url.clone(),
            response,
            response_status_code,
            response_duration_ms: attempt.duration_ms,
            // An attempt that is over has delivered or failed, whatever comes next.
            standing: match attempt.decision {
                Decision::Delivered => Status::Delivered.into(),
                Decision::Again(_) | Decision::Dead(_) => Status::Dead.into(),
            },
            trigger_type: match attempt.trigger {
                Trigger::Schedule => 0,
                Trigger::Manual => 1,
            },
            timestamp: time(attempt.at),
            msg,
        }
    }
}

fn response(found: &FoundAttempt, with_content: bool) -> String {
    match (with_content, found.is_answer_expunged) {
        (false, _) => String::new(),
        (true, true) => EXPUNGED.to_owned(),
        (true, false) => String::from_utf8_lossy(&found.attempt.answer).into_owned(),
    }
}
