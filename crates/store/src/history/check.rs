//! What no store keeps, so that every store keeps the same.

use std::borrow::Cow;

use hooklane_types::UnixMillis;

use hooklane_types::record::{Attempt, Decision, Record, Settled};

/// 2020-01-01: nothing of ours is older. A machine without a clock says 1970.
pub const TIME_MIN: UnixMillis = UnixMillis(1_577_836_800_000);
/// 2200-01-01.
pub const TIME_MAX: UnixMillis = UnixMillis(7_258_118_400_000);
/// How far a time may lie ahead of the recorder's clock; one that lies further is taken for that. A day: clocks differ, and a list in which
/// tomorrow stands first for a year is of no use.
pub const FUTURE_MAX_MS: i64 = 24 * 3600 * 1000;

/// Why a record cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No clock of ours says so.
    #[error("{field} is {} ms since 1970, which is no time of this system: set the clock of the machine that wrote it", .at.0)]
    Time {
        /// Which.
        field: &'static str,
        /// What it says.
        at: UnixMillis,
    },
    /// A text that PostgreSQL does not take.
    #[error("{field} holds a NUL")]
    Nul {
        /// Which.
        field: &'static str,
    },
    /// The store refuses the row, in its words.
    #[error("the store refuses it: {0}")]
    Row(String),
}

/// The record as it is kept: the times of what has happened are at most [`FUTURE_MAX_MS`] after `now`. What is planned may lie further ahead, up to
/// [`TIME_MAX`].
///
/// # Errors
/// [`Problem::Time`], [`Problem::Nul`].
pub fn checked(record: &Record, now: UnixMillis) -> Result<Cow<'_, Record>, Problem> {
    let latest = UnixMillis(now.0.saturating_add(FUTURE_MAX_MS)).max(TIME_MIN);
    let (_, _, accepted_at) = record.event();
    let mut is_late = is_late("accepted_at", accepted_at, latest)?;
    match record {
        Record::Event(event) => {
            let producer_id = event.producer_id.as_ref().map_or("", |id| id.as_str());
            no_nul("the producer's id", producer_id)?;
            no_nul("content_type", &event.content_type)?;
            no_nul("traceparent", event.traceparent.as_deref().unwrap_or_default())?;
            for (name, value) in &event.headers {
                no_nul("a header", name)?;
                no_nul("a header", value)?;
            }
        }
        Record::Attempt(attempt) => {
            is_late |= self::is_late("at", attempt.at, latest)?;
            if let Decision::Again(at) = attempt.decision {
                self::is_late("the next attempt's time", at, TIME_MAX)?;
            }
            no_nul("url", &attempt.url)?;
        }
        Record::Settled(settled) => is_late |= self::is_late("at", settled.at, latest)?,
    }
    if !is_late {
        return Ok(Cow::Borrowed(record));
    }
    let mut record = record.clone();
    match &mut record {
        Record::Event(event) => event.accepted_at = event.accepted_at.min(latest),
        Record::Attempt(Attempt { delivery, at, .. }) | Record::Settled(Settled { delivery, at, .. }) => {
            delivery.event.accepted_at = delivery.event.accepted_at.min(latest);
            *at = (*at).min(latest);
        }
    }
    Ok(Cow::Owned(record))
}

fn is_late(field: &'static str, at: UnixMillis, latest: UnixMillis) -> Result<bool, Problem> {
    match (TIME_MIN..=TIME_MAX).contains(&at) {
        true => Ok(at > latest),
        false => Err(Problem::Time { field, at }),
    }
}

fn no_nul(field: &'static str, text: &str) -> Result<(), Problem> {
    match text.contains('\0') {
        true => Err(Problem::Nul { field }),
        false => Ok(()),
    }
}
