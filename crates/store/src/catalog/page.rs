//! A part of a list.

/// Most documents of a page.
pub const PAGE_MAX: usize = 1_000;

/// In which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The smallest id first; of ids that carry their time, the oldest.
    Ascending,
    /// The largest id first.
    Descending,
}

/// Which part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What comes behind this id, in this direction. Whether there is, or was, such an id does not matter.
    pub behind: Option<String>,
    /// In which order.
    pub direction: Direction,
    /// At most so many; [`PAGE_MAX`] bounds it.
    pub limit: usize,
}
