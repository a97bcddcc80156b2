//! docs/ACCEPTANCE.md names what shows each promise. A name that leads nowhere would be a promise without a proof.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hooklane_testkit::python::workspace_root;

const FILE: &str = "docs/ACCEPTANCE.md";
/// Promises are told by their absence here: what stands in this section is said not to be shown.
const NOT_SHOWN: &str = "## Not shown yet";
/// Programs that need no file in the repository.
const PROGRAMS: [&str; 2] = ["hooklane", "cargo"];

/// The rows of all tables in front of the section of what is not shown: line number, and the cells.
fn rows(text: &str) -> Vec<(usize, Vec<String>)> {
    let shown = text
        .lines()
        .enumerate()
        .take_while(|(_, line)| *line != NOT_SHOWN);
    let rows = shown.filter(|(_, line)| line.starts_with('|') && !line.starts_with("|-"));
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
        inner.split(" | ").map(|cell| cell.trim().to_owned()).collect()
    };
    rows.map(|(index, line)| (index + 1, cells(line)))
        .filter(|(_, cells)| cells.last().is_none_or(|last| last != "shown by"))
        .collect()
}

/// What stands between backticks.
fn entries(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The names in the file's `on_both!(…)`, of which each is a test on either broker.
fn on_both(text: &str) -> BTreeSet<&str> {
    let list = text
        .split_once("\non_both!(")
        .and_then(|(_, rest)| rest.split_once(");"));
    let names = list.map_or("", |(names, _)| names).split(',');
    names.map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// Whether the file has a test of this name, as a function or by a list of a macro. `name::embedded` is a test on that broker alone.
fn has_test(root: &Path, file: &str, name: &str) -> Result<()> {
    let text = fs::read_to_string(root.join(file)).with_context(|| format!("{file} does not exist"))?;
    let broker = name.split_once("::");
    let (name, on) = broker.map_or((name, None), |(name, on)| (name, Some(on)));
    // A long line is broken in between.
    let takes_broker = ["", "\n    "].map(|gap| text.contains(&format!("fn {name}({gap}on: On")));
    let takes_broker = takes_broker.contains(&true);
    if takes_broker || on.is_some() {
        ensure!(
            takes_broker && on_both(&text).contains(name),
            "{file} does not run {name} on both brokers: its name belongs into on_both!(…)"
        );
        ensure!(
            on.is_none_or(|on| ["rabbitmq", "embedded"].contains(&on)),
            "there is no broker {on:?}"
        );
        return Ok(());
    }
    let is_listed = text.lines().any(|line| line.trim() == name);
    ensure!(
        text.contains(&format!("fn {name}(")) || is_listed,
        "{file} has no function {name}"
    );
    Ok(())
}

fn check(root: &Path, entry: &str) -> Result<()> {
    if let Some(command) = entry.strip_prefix("$ ") {
        let program = command.split_whitespace().next().context("an empty command")?;
        let exists = PROGRAMS.contains(&program) || root.join(program).is_file();
        ensure!(exists, "the program {program} does not exist");
        return Ok(());
    }
    if let Some((file, name)) = entry.split_once("::") {
        return has_test(root, file, name);
    }
    ensure!(root.join(entry).exists(), "{entry} does not exist");
    Ok(())
}

#[test]
fn every_promise_names_a_proof_that_exists() -> Result<()> {
    // Goal: no empty cell, no renamed test, no lost file. Method: each entry of each row is looked up in the tree.
    let root: PathBuf = workspace_root();
    let text = fs::read_to_string(root.join(FILE)).context(FILE)?;
    let rows = rows(&text);
    ensure!(
        rows.len() > 100,
        "only {} rows: the tables are not read as they should be",
        rows.len()
    );
    let mut problems = Vec::new();
    let mut promises = BTreeSet::new();
    for (line, cells) in &rows {
        let entries = entries(cells.last().context("a row has cells")?);
        if cells.len() < 2 || entries.is_empty() {
            problems.push(format!("{FILE}:{line}: no proof"));
        }
        if !promises.insert(&cells[0]) {
            problems.push(format!("{FILE}:{line}: this promise stands twice"));
        }
        let failed = entries.iter().filter_map(|entry| check(&root, entry).err());
        problems.extend(failed.map(|error| format!("{FILE}:{line}: {error:#}")));
    }
    ensure!(problems.is_empty(), "\n{}", problems.join("\n"));
    Ok(())
}

#[test]
fn a_wrong_entry_is_found() -> Result<()> {
    // Goal: the check above can fail: for a lost file, a lost function, a lost program and an empty cell.
    let root = workspace_root();
    let own = "tests/acceptance.rs::a_wrong_entry_is_found";
    for right in [
        own,
        "$ cargo test",
        "$ tests/run --broker 4.0",
        "tests/run",
        "crates/broker/tests/conformance.rs::one_queue_keeps_its_order",
        "tests/publishing.rs::http_payload_arrives_to_the_byte",
        "tests/publishing.rs::http_payload_arrives_to_the_byte::embedded",
    ] {
        check(&root, right)?;
    }
    for wrong in [
        "tests/none.rs::x",
        "tests/acceptance.rs::no_such_test",
        "$ tests/none --broker",
        "docs/NONE.md",
        "tests/publishing.rs::http_payload_arrives_to_the_byte::elsewhere",
        "tests/publishing.rs::the_node_snippet_publishes::embedded",
    ] {
        ensure!(check(&root, wrong).is_err(), "{wrong} was taken");
    }
    let listed = on_both("\non_both!(\n    a,\n    b,\n);\nasync fn c(on: On) {");
    ensure!(listed == BTreeSet::from(["a", "b"]), "{listed:?}");
    let text = format!("| promise | shown by |\n|---|---|\n| a | |\n| b | `x` |\n{NOT_SHOWN}\n| c | |\n");
    let rows = rows(&text);
    ensure!(rows.len() == 2 && entries(&rows[1].1[1]) == ["x"], "{rows:?}");
    ensure!(entries(rows[0].1.last().context("cells")?).is_empty());
    Ok(())
}
