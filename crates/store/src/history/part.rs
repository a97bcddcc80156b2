//! A batch is written in parts.

use super::Record;

/// Most records of one transaction: who asks or writes meanwhile waits for it.
const TRANSACTION_RECORDS_MAX: usize = 500;
/// A transaction ends with the record that makes its payloads and bodies so long: the log holds all of it.
const TRANSACTION_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How many records are the next transaction; at least one.
pub(crate) fn part_of(records: &[Record]) -> usize {
    let mut bytes = 0;
    let fits = records.iter().take(TRANSACTION_RECORDS_MAX).take_while(|record| {
        let had = bytes;
        bytes += match record {
            Record::Event(event) => event.payload.len(),
            Record::Attempt(attempt) => attempt.answer.len(),
            Record::Settled(_) => 0,
        };
        had < TRANSACTION_BYTES_MAX
    });
    fits.count()
}
