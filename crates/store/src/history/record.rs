//! What became of what was to be recorded.

use super::check::Problem;

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// What cannot be kept, whoever tries, in the order of the batch.
    pub refused: Vec<Refused>,
    /// Records of events that were forgotten already.
    pub forgotten: usize,
    /// Terminal outcomes of deliveries that have another one, which stays.
    pub late_outcomes: usize,
}

impl Recorded {
    /// What became of the next part of the batch.
    pub fn add(&mut self, part: Recorded) {
        self.refused.extend(part.refused);
        self.forgotten += part.forgotten;
        self.late_outcomes += part.late_outcomes;
    }
}

/// A record that cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the batch.
    pub index: usize,
    /// Why.
    pub problem: Problem,
}
