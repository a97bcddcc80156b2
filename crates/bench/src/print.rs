//! Rows on standard output.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

use crate::options::Format;
use crate::rows::{Goal, Judged, Row};

/// Writes rows as they come.
pub struct Printer {
    format: Format,
    /// What the last table was about.
    what: String,
}

impl Printer {
    /// In this format.
    pub fn new(format: Format) -> Printer {
        Printer {
            format,
            what: String::new(),
        }
    }

    /// One row; for people with a heading, where it is about something new.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn row(&mut self, row: &Row) -> anyhow::Result<()> {
        let mut text = String::new();
        match self.format {
            Format::Json => writeln!(text, "{}", serde_json::to_string(row)?)?,
            Format::Table => {
                if self.what != row.what {
                    self.what.clone_from(&row.what);
                    writeln!(text, "\n({}) {}", row.case, row.what)?;
                }
                text.push_str(&table_row(row));
            }
        }
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// A line for people.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&self, text: &str) -> anyhow::Result<()> {
        if self.format == Format::Table {
            writeln!(std::io::stdout(), "{text}")?;
        }
        Ok(())
    }
}

fn table_row(row: &Row) -> String {
    let mut text = format!(
        "  {:<42} {:>9} {}/s ({} to {})",
        row.who,
        thousands(row.rate.median),
        row.unit,
        thousands(row.rate.min),
        thousands(row.rate.max),
    );
    for judged in &row.judged {
        let _ = write!(text, "; {}", verdict(judged));
    }
    let mut details = Vec::new();
    if !row.cpu_us.is_empty() {
        details.push(format!("CPU µs: {}", names(&row.cpu_us)));
    }
    if !row.peak_mib.is_empty() {
        details.push(format!("peak MiB: {}", names(&row.peak_mib)));
    }
    if let Some(latency) = &row.latency {
        details.push(format!(
            "ms: p50 {:.1}, p99 {:.1}, max {:.1}",
            latency.p50_ms, latency.p99_ms, latency.max_ms
        ));
    }
    let _ = writeln!(text, "\n      {}", details.join("; "));
    text
}

fn verdict(judged: &Judged) -> String {
    let Judged { what, figure, goal } = judged;
    let mut text = format!("{figure:.2} {what}");
    if let Some(goal) = goal {
        let (sign, wanted) = match goal {
            Goal::AtLeast(least) => ("at least", least),
            Goal::AtMost(most) => ("at most", most),
        };
        let end = if goal.is_met(*figure) { "met" } else { "MISSED" };
        let _ = write!(text, " (goal: {sign} {wanted}, {end})");
    }
    text
}

fn names(figures: &BTreeMap<&'static str, f64>) -> String {
    let parts: Vec<String> = figures
        .iter()
        .map(|(name, figure)| format!("{name} {figure:.0}"))
        .collect();
    parts.join(", ")
}

/// `12345.6` as `12,346`.
fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(thousands(999.4), "999");
        assert_eq!(thousands(12_345.6), "12,346");
        assert_eq!(thousands(1_000_000.0), "1,000,000");
    }
}
