//! docs/TELEMETRY.md and the enum are the same list.

use std::collections::BTreeSet;

use hooklane_telemetry::Metric;

const DOCUMENT: &str = include_str!("../../../docs/TELEMETRY.md");

#[test]
fn every_metric_is_documented_with_its_labels_and_none_besides() {
    // Goal: the written contract is the code's; method: compare the rows of the table, names and labels.
    let documented: BTreeSet<(String, Vec<String>)> = DOCUMENT
        .lines()
        .filter(|line| line.starts_with("| `hooklane_"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let labels = cells[3]
                .split(',')
                .map(|label| label.trim().trim_matches('`').to_owned());
            (
                cells[1].trim_matches('`').to_owned(),
                labels.filter(|label| !label.is_empty()).collect(),
            )
        })
        .collect();
    let coded: BTreeSet<(String, Vec<String>)> = Metric::ALL
        .iter()
        .map(|metric| {
            (
                metric.name().to_owned(),
                metric.labels().iter().map(|label| (*label).to_owned()).collect(),
            )
        })
        .collect();
    assert_eq!(documented, coded);
}
