//! Rows in aligned columns. Widths follow from the first rows, so that a list of any length needs no memory.

use std::io::{self, Write};

/// Rows that are aligned together.
const ROWS_TOGETHER: usize = 50;
/// Longest cell, in characters.
const CELL_CHARS_MAX: usize = 48;
const GAP: &str = "  ";

/// A row as cells, in the order of the header.
pub trait Cells {
    /// What stands above.
    const HEADER: &'static [&'static str];
    /// The cells.
    fn cells(&self) -> Vec<String>;
}

/// A table that is written as its rows come.
pub struct Table<W> {
    out: W,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl<W: Write> Table<W> {
    /// A table with this header.
    pub fn new(out: W, header: &[&str]) -> Table<W> {
        let header: Vec<String> = header.iter().map(|&title| title.to_owned()).collect();
        Table {
            out,
            widths: vec![0; header.len()],
            rows: vec![header],
        }
    }

    /// Adds a row; writes when there are enough to align.
    pub fn add(&mut self, cells: Vec<String>) -> io::Result<()> {
        self.rows.push(cells.iter().map(|text| cell(text)).collect());
        if self.rows.len() >= ROWS_TOGETHER {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Writes what is there.
    pub fn flush(&mut self) -> io::Result<()> {
        for row in &self.rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in self.rows.drain(..) {
            let padded: Vec<String> = row
                .iter()
                .zip(&self.widths)
                .map(|(cell, &width)| format!("{cell:width$}"))
                .collect();
            writeln!(self.out, "{}", padded.join(GAP).trim_end())?;
        }
        self.out.flush()
    }
}

/// Text of others, safe for a terminal and of a bounded length.
pub fn cell(text: &str) -> String {
    let safe: String = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(CELL_CHARS_MAX + 1)
        .collect();
    if safe.chars().count() <= CELL_CHARS_MAX {
        return safe;
    }
    safe.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect()
}

/// A time span in its largest unit.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_text_of_others_cannot_move_the_cursor() {
        // Goal: escape sequences in a producer's header do nothing to the operator's terminal.
        let mut out = Vec::new();
        let mut table = Table::new(&mut out, &["ID", "DETAIL"]);
        table.add(vec!["a".into(), "x".into()]).unwrap();
        table.add(vec!["long\u{1b}[2J".into(), "y".repeat(100)]).unwrap();
        table.flush().unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ID        DETAIL");
        assert_eq!(lines[1], "a         x");
        assert!(
            lines[2].starts_with("long\u{fffd}[2J  yyy") && lines[2].ends_with("y…"),
            "{}",
            lines[2]
        );
        assert!(!text.contains('\u{1b}'));
    }
}
