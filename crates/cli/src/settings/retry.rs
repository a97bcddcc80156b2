//! When failed attempts are repeated: a formula or a list.

use std::time::Duration;

use config::ValueKind;
use hooklane_types::{RetryPolicy, RetryPolicyError};

use super::table::{Field, Table};

const ATTEMPTS_DEFAULT: u32 = 10;
const FIRST_DEFAULT: Duration = Duration::from_secs(5);
const FACTOR_DEFAULT: f64 = 2.0;
const MAX_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// Share of a delay that is added at random: receivers that failed together are not all tried again at once.
const JITTER_DEFAULT: f64 = 0.1;

/// Reads `retry` of a table; the schedule of Standard Webhooks where there is none.
pub fn read(table: &Table<'_>) -> RetryPolicy {
    table
        .field("retry")
        .and_then(|field| read_field(&field))
        .unwrap_or_else(RetryPolicy::standard)
}

fn read_field(field: &Field<'_>) -> Option<RetryPolicy> {
    match &field.value.kind {
        ValueKind::Array(_) => made(field, RetryPolicy::list(delays(field)?, JITTER_DEFAULT)),
        ValueKind::Table(_) => from_table(field),
        _ => {
            field.problem(
                "neither a formula nor a list of delays",
                "write `retry = { attempts = 3, first = \"1s\", factor = 2, max = \"1m\", jitter = 0.2 }` or `retry = [\"5s\", \"1m\"]`",
            );
            None
        }
    }
}

fn from_table(field: &Field<'_>) -> Option<RetryPolicy> {
    let table = field.table()?;
    let jitter = table.read_or("jitter", JITTER_DEFAULT);
    let list = table.field("delays");
    let formula = ["attempts", "first", "factor", "max"].map(|key| table.field(key).is_some());
    let attempts = table.read_or("attempts", ATTEMPTS_DEFAULT);
    let first = table.read_or("first", FIRST_DEFAULT);
    let factor = table.read_or("factor", FACTOR_DEFAULT);
    let max = table.read_or("max", MAX_DEFAULT);
    table.finish();
    match list {
        Some(list) if formula.contains(&true) => {
            list.problem(
                "a list of delays beside a formula",
                "keep `delays`, or `attempts`, `first`, `factor` and `max`",
            );
            None
        }
        Some(list) => made(field, RetryPolicy::list(delays(&list)?, jitter)),
        None => made(
            field,
            RetryPolicy::exponential(attempts, first, factor, max, jitter),
        ),
    }
}

fn delays(field: &Field<'_>) -> Option<Vec<Duration>> {
    let elements: Vec<Option<Duration>> = field.elements()?.iter().map(Field::read).collect();
    elements.into_iter().collect()
}

fn made(field: &Field<'_>, result: Result<RetryPolicy, RetryPolicyError>) -> Option<RetryPolicy> {
    let error = match result {
        Ok(policy) => return Some(policy),
        Err(error) => error,
    };
    let remedy = match error {
        RetryPolicyError::NoAttempt => "write `attempts = 1` for a single attempt without retries",
        RetryPolicyError::TooMany { .. } => "take fewer attempts with longer delays between them",
        RetryPolicyError::TooLong { .. } => "take a shorter delay",
        RetryPolicyError::Factor => "write for instance `factor = 2`",
        RetryPolicyError::Jitter => "write for instance `jitter = 0.2`: up to a fifth is added at random",
    };
    field.problem(error, remedy);
    None
}
