//! What processes had to drop of the history, as each says of itself: kept to be told whoever asks. Soft state.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use hooklane_types::control::RecordsDropped;

/// Most processes that are remembered: of more, those that dropped something last. They go with the first part of a status answer.
const PROCESSES_MAX: usize = 64;
/// Longest name of a process that is remembered.
const NAME_BYTES_MAX: usize = 256;

/// The newest of each process.
#[derive(Default)]
pub(crate) struct Drops(Mutex<BTreeMap<String, RecordsDropped>>);

impl Drops {
    /// What a process says. Its counters begin anew with it.
    pub(crate) fn hear(&self, told: RecordsDropped) {
        if told.pod.len() > NAME_BYTES_MAX {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(told.pod.clone(), told);
        if known.len() > PROCESSES_MAX
            && let Some(oldest) = known.values().min_by_key(|told| told.last_at)
        {
            let oldest = oldest.pod.clone();
            known.remove(&oldest);
        }
    }

    pub(crate) fn all(&self) -> Vec<RecordsDropped> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use hooklane_types::UnixMillis;

    use super::*;

    #[test]
    fn the_newest_of_each_process_is_kept_and_their_number_is_bounded() {
        let told = |pod: String, contents| RecordsDropped {
            pod,
            since: UnixMillis(0),
            contents,
            records: 0,
            last_at: UnixMillis(contents as i64),
        };
        let drops = Drops::default();
        for n in 0..2 * PROCESSES_MAX as u64 {
            drops.hear(told(format!("pod-{n}"), n));
            drops.hear(told(format!("pod-{n}"), n + 1));
        }
        drops.hear(told("x".repeat(NAME_BYTES_MAX + 1), 1_000));
        let all = drops.all();
        assert_eq!(all.len(), PROCESSES_MAX);
        assert!(all.iter().all(|told| told.contents > PROCESSES_MAX as u64));
    }
}
