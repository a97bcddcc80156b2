//! What went wrong on a shelf, and what to do about it.

use anyhow::anyhow;
use hooklane_broker::ShelfError;
use hooklane_control::{ControlError, present};

use super::table;

/// Says it for a person. `queue` is the shelf's full name.
pub fn explain(error: ControlError, queue: &str) -> anyhow::Error {
    match error {
        ControlError::Shelf(ShelfError::Held(Some(holder))) => anyhow!(
            "{queue} is being read by `{}`: process {} of {} on {}, since {}; wait until it ends, or end it",
            table::cell(&holder.command),
            holder.pid,
            table::cell(&holder.user),
            table::cell(&holder.host),
            present::time(holder.since),
        ),
        ControlError::Shelf(ShelfError::Held(None)) => anyhow!(
            "{queue} is being read by somebody else, who can't be named: look for the owner of queue {queue}.lock"
        ),
        ControlError::Shelf(ShelfError::TooDeep { messages }) => anyhow!(
            "{queue} is too deep: {messages} messages had to be kept aside; replay or purge the oldest first (without a \
             filter nothing is kept aside)"
        ),
        ControlError::Shelf(ShelfError::Refused(reason)) => anyhow!(
            "the broker refused {queue}: {reason}; `hooklane topology` prints the queues and the rights that an operator needs"
        ),
        ControlError::Shelf(ShelfError::Unavailable(reason)) => {
            anyhow!("no connection to the broker: {reason}; `hooklane check` looks at it closely")
        }
        other => {
            anyhow::Error::new(other).context(format!("{queue} was not read to its end; nothing is lost"))
        }
    }
}
