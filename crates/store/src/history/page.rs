//! A part of a list in the order of time.

use hooklane_types::UnixMillis;

use crate::catalog::Direction;

/// Most rows of a page.
pub const PAGE_ROWS_MAX: usize = 1_000;
/// Most rows that are looked at for a page: where a filter leaves few, the page ends there, and says where to go on.
pub const SCAN_ROWS_MAX: usize = 500;
/// A page ends with the row that makes it so large: payloads and answers' bodies may be long.
pub const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Behind every id of ours, in the order of bytes.
const LAST: &str = "~";

/// A place in a list. Lists are in the order of time, then of ids as bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The time by which the list is ordered.
    pub at: UnixMillis,
    /// The id by which it is ordered where times are the same.
    pub id: String,
}

impl Position {
    /// As a text that [`Position::parse`] reads: the time in milliseconds, `.`, the id.
    pub fn to_text(&self) -> String {
        format!("{}.{}", self.at.0, self.id)
    }

    /// Reads what [`Position::to_text`] wrote.
    pub fn parse(text: &str) -> Option<Position> {
        let (at, id) = text.split_once('.')?;
        let at = UnixMillis(at.parse().ok()?);
        let is_of_an_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let id = id.bytes().all(is_of_an_id).then(|| id.to_owned())?;
        Some(Position { at, id })
    }
}

/// Which part, and in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What comes behind this place, in this direction. Whether there is, or was, anything at it does not matter.
    pub behind: Option<Position>,
    /// The oldest or the newest first.
    pub direction: Direction,
    /// At most so many; 1 and [`PAGE_ROWS_MAX`] bound it.
    pub limit: usize,
}

impl Page {
    /// At most so many rows.
    pub fn limit(&self) -> usize {
        self.limit.clamp(1, PAGE_ROWS_MAX)
    }

    /// Between which places, themselves not included, the page lies, when it is of what comes after and before these times, themselves not
    /// included.
    pub fn bounds(&self, after: Option<UnixMillis>, before: Option<UnixMillis>) -> (Position, Position) {
        let place = |at: UnixMillis, id: &str| Position {
            at,
            id: id.to_owned(),
        };
        let low = place(after.unwrap_or(UnixMillis(i64::MIN)), LAST);
        let high = place(before.unwrap_or(UnixMillis(i64::MAX)), "");
        match (&self.behind, self.direction) {
            (None, _) => (low, high),
            (Some(behind), Direction::Ascending) => (low.max(behind.clone()), high),
            (Some(behind), Direction::Descending) => (low, high.min(behind.clone())),
        }
    }
}

/// A page's rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice<T> {
    /// In the page's order.
    pub rows: Vec<T>,
    /// Behind which place there may be more, in the page's direction; none at the end of the list. Rows may be few, or none, all the same:
    /// see [`SCAN_ROWS_MAX`] and [`PAGE_BYTES_MAX`].
    pub more: Option<Position>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is() {
        for (at, id) in [
            (0, "ep.1"),
            (1_700_000_000_000, "msg_h4y"),
            (i64::MIN, ""),
            (i64::MAX, "-_."),
        ] {
            let place = Position {
                at: UnixMillis(at),
                id: id.to_owned(),
            };
            assert_eq!(Position::parse(&place.to_text()), Some(place));
        }
        for bad in [
            "",
            ".",
            "1",
            "x.msg_1",
            "1.msg_1\0",
            "1.~",
            "1.a b",
            "99999999999999999999.a",
            "1.\u{e9}",
        ] {
            assert_eq!(Position::parse(bad), None, "{bad:?}");
        }
    }
}
