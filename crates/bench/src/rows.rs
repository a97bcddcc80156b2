//! What was measured: runs, and the rows of medians made of them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::histogram::Quantiles;

/// One run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Per second.
    pub rate: f64,
    /// CPU microseconds per unit, by process.
    pub cpu_us: BTreeMap<&'static str, f64>,
    /// Peak memory in MiB, by process.
    pub peak_mib: BTreeMap<&'static str, f64>,
    /// Latency.
    pub latency: Option<Quantiles>,
}

/// A figure over all runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; of an even number the mean of the two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// None of no figures.
    pub fn of(mut figures: Vec<f64>) -> Option<Spread> {
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median = match figures.len() % 2 {
            1 => figures[middle],
            _ => f64::midpoint(figures[middle - 1], figures[middle]),
        };
        Some(Spread { median, min, max })
    }
}

/// What a ratio should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

impl Goal {
    /// Whether a figure reaches it, as it is shown: with two digits behind the point.
    pub fn is_met(self, figure: f64) -> bool {
        let figure = (figure * 100.0).round() / 100.0;
        match self {
            Goal::AtLeast(least) => figure >= least,
            Goal::AtMost(most) => figure <= most,
        }
    }
}

/// A figure beside its goal.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// What the figure is, like "of the bare loop".
    pub what: &'static str,
    /// The figure.
    pub figure: f64,
    /// What it should be, where anything is promised.
    pub goal: Option<Goal>,
}

/// One row: something that was measured in all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The case's letter.
    pub case: char,
    /// What was measured.
    pub what: String,
    /// What did it.
    pub who: String,
    /// What is counted per second.
    pub unit: &'static str,
    /// Per second.
    pub rate: Spread,
    /// CPU microseconds per unit, by process: medians.
    pub cpu_us: BTreeMap<&'static str, f64>,
    /// Peak memory in MiB, by process: the most.
    pub peak_mib: BTreeMap<&'static str, f64>,
    /// Latency: medians.
    pub latency: Option<Quantiles>,
    /// What is said about it.
    pub judged: Vec<Judged>,
}

impl Row {
    /// The row of these runs, of which there must be one.
    pub fn new(
        case: char,
        what: impl Into<String>,
        who: impl Into<String>,
        unit: &'static str,
        runs: &[Run],
    ) -> Row {
        let rates = runs.iter().map(|run| run.rate).collect();
        Row {
            case,
            what: what.into(),
            who: who.into(),
            unit,
            rate: Spread::of(rates).expect("a row is made of one run at least"),
            cpu_us: by_name(runs, |run| &run.cpu_us, |spread| spread.median),
            peak_mib: by_name(runs, |run| &run.peak_mib, |spread| spread.max),
            latency: latency(runs),
            judged: Vec::new(),
        }
    }

    /// Adds its rate beside another's.
    pub fn beside(mut self, base: &Row, what: &'static str, goal: Option<Goal>) -> Row {
        let figure = self.rate.median / base.rate.median;
        self.judged.push(Judged { what, figure, goal });
        self
    }

    /// Adds a figure.
    pub fn judge(mut self, what: &'static str, figure: f64, goal: Option<Goal>) -> Row {
        self.judged.push(Judged { what, figure, goal });
        self
    }
}

fn by_name(
    runs: &[Run],
    of: impl Fn(&Run) -> &BTreeMap<&'static str, f64>,
    pick: impl Fn(Spread) -> f64,
) -> BTreeMap<&'static str, f64> {
    let names = runs.iter().flat_map(|run| of(run).keys().copied());
    let mut by_name = BTreeMap::new();
    for name in names {
        let figures = runs.iter().filter_map(|run| of(run).get(name).copied()).collect();
        if let Some(spread) = Spread::of(figures) {
            by_name.insert(name, pick(spread));
        }
    }
    by_name
}

fn latency(runs: &[Run]) -> Option<Quantiles> {
    let median = |of: fn(&Quantiles) -> f64| {
        let figures = runs.iter().filter_map(|run| run.latency.as_ref().map(of));
        Spread::of(figures.collect()).map(|spread| spread.median)
    };
    Some(Quantiles {
        p50_ms: median(|found| found.p50_ms)?,
        p99_ms: median(|found| found.p99_ms)?,
        max_ms: median(|found| found.max_ms)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_medians_and_says_how_it_stands_beside_another() {
        let run = |rate: f64| Run {
            rate,
            cpu_us: BTreeMap::from([("loop", rate / 10.0)]),
            ..Run::default()
        };
        let base = Row::new(
            'b',
            "draining",
            "bare loop",
            "deliveries",
            &[run(100.0), run(300.0), run(200.0)],
        );
        assert_eq!(
            base.rate,
            Spread {
                median: 200.0,
                min: 100.0,
                max: 300.0
            }
        );
        assert_eq!(base.cpu_us["loop"], 20.0);
        let ours = Row::new(
            'b',
            "draining",
            "hooklane",
            "deliveries",
            &[run(170.0), run(190.0)],
        )
        .beside(&base, "of the bare loop", Some(Goal::AtLeast(0.9)));
        assert_eq!(ours.judged[0].figure, 0.9);
        assert!(Goal::AtLeast(0.9).is_met(0.9) && !Goal::AtMost(0.89).is_met(0.9));
    }
}
