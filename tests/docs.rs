//! docs/ARCHITECTURE.md and docs/TOPOLOGY.md against the code: what they name is there, and what is there they name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hooklane_testkit::process::hooklane;
use hooklane_testkit::python::workspace_root;
use serde_json::Value;

/// Who may import whom: a crate imports crates of lower levels only. `signing`, `telemetry` and `sqlite` import none of ours.
const LEVELS: [&[&str]; 6] = [
    &["signing", "telemetry", "sqlite"],
    &["types", "receiver"],
    &["policy"],
    &["broker", "store", "egress"],
    &["ingest", "dispatcher", "control", "api", "bench"],
    &["cli"],
];
/// Never shipped: only tests import it.
const TESTKIT: &str = "testkit";

fn document(name: &str) -> Result<String> {
    fs::read_to_string(workspace_root().join("docs").join(name)).with_context(|| name.to_owned())
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Cells of the rows of a table, without its header.
fn table<'a>(text: &'a str, header: &str) -> Result<Vec<Vec<&'a str>>> {
    let (_, rows) = text
        .split_once(header)
        .with_context(|| format!("no table {header}"))?;
    let rows = rows.lines().skip(2).take_while(|line| line.starts_with('|'));
    Ok(rows
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect())
}

/// Whether the code has the item or module that a path like `policy::retry::decide` names.
fn exists(root: &Path, path: &str) -> Result<()> {
    let mut parts = path.split("::").peekable();
    let name = parts.next().context("a path has a crate")?;
    let mut dir = root.join("crates").join(name).join("src");
    let mut file: PathBuf = dir.join("lib.rs");
    while let Some(part) = parts.next() {
        let module = [dir.join(format!("{part}.rs")), dir.join(part).join("mod.rs")];
        if let Some(found) = module.iter().find(|file| file.exists()) {
            (file, dir) = (found.clone(), dir.join(part));
            continue;
        }
        let text = fs::read_to_string(&file).with_context(|| path.to_owned())?;
        let is_item = ["fn", "struct", "enum", "trait", "const", "impl"]
            .iter()
            .any(|kind| {
                let start = format!("{kind} {part}");
                text.match_indices(&start).any(|(at, _)| {
                    let after = text[at + start.len()..].chars().next();
                    after.is_none_or(|c| !c.is_alphanumeric() && c != '_')
                })
            });
        ensure!(
            is_item && parts.peek().is_none(),
            "{path}: {} has no {part}",
            file.display()
        );
    }
    ensure!(file.exists(), "{path}: there is no crate {name}");
    Ok(())
}

fn crates(root: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(root.join("crates"))?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

#[test]
fn the_walk_of_one_event_names_code_that_exists() -> Result<()> {
    // Goal: whoever follows docs/ARCHITECTURE.md finds what it names. Method: every path of a crate is looked up; a wrong one is found.
    let root = workspace_root();
    let text = document("ARCHITECTURE.md")?;
    let crates = crates(&root)?;
    let is_path = |quoted: &&str| {
        let head = quoted.split("::").next().unwrap_or_default();
        quoted.contains("::") && head.chars().all(char::is_lowercase)
    };
    let paths: BTreeSet<_> = quoted(&text).filter(is_path).collect();
    ensure!(paths.len() > 12, "only {paths:?} are read");
    for path in paths {
        exists(&root, path)?;
    }
    let listed: BTreeSet<_> = table(&text, "| crate | holds | never holds |")?
        .iter()
        .filter_map(|row| quoted(row[0]).next().map(str::to_owned))
        .collect();
    ensure!(
        listed == crates,
        "crates in the document: {listed:?}, in the tree: {crates:?}"
    );
    for wrong in [
        "nothing::at_all",
        "policy::nothing",
        "policy::retry::nothing",
        "policy::retry::decide::more",
    ] {
        ensure!(exists(&root, wrong).is_err(), "{wrong} was taken");
    }
    Ok(())
}

#[test]
fn crates_import_in_one_direction() -> Result<()> {
    // Goal: the arrows of docs/ARCHITECTURE.md. Method: what each crate's Cargo.toml says, tests and demo aside.
    let root = workspace_root();
    let level = |name: &str| LEVELS.iter().position(|level| level.contains(&name));
    for name in crates(&root)?.iter().filter(|name| *name != TESTKIT) {
        let own = level(name).with_context(|| format!("crate {name} has no level"))?;
        let manifest = fs::read_to_string(root.join("crates").join(name).join("Cargo.toml"))?;
        let shipped = manifest
            .split("\n[")
            .find(|section| section.starts_with("dependencies]"));
        let imported = shipped.unwrap_or_default().lines().filter_map(|line| {
            let line = line.strip_prefix("hooklane-")?;
            line.split(['.', ' ', '=']).next()
        });
        for other in imported {
            ensure!(
                level(other).is_some_and(|other| other < own),
                "{name} imports {other}"
            );
        }
    }
    Ok(())
}

/// `hooklane topology` as data, with the default prefix.
async fn printed() -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let command = hooklane()?.args(["topology", "--format", "json"]).cwd(dir.path());
    Ok(serde_json::from_str(
        &command.run_ok(std::time::Duration::from_secs(30)).await?,
    )?)
}

/// All steps of the ladder are one row.
fn with_steps_as_one(name: &str) -> String {
    match name.strip_prefix("hooklane.delay.") {
        Some(_) => "hooklane.delay.<ms>".to_owned(),
        None => name.to_owned(),
    }
}

fn of<'a>(printed: &'a Value, what: &str) -> Result<&'a Vec<Value>> {
    printed[what]
        .as_array()
        .with_context(|| format!("no {what} in {printed}"))
}

#[tokio::test]
async fn the_documented_topology_is_the_printed_one() -> Result<()> {
    // Goal: docs/TOPOLOGY.md lists every exchange with its type, and every queue, and no other; what it says of all queues holds.
    let (text, printed) = (document("TOPOLOGY.md")?, printed().await?);
    let exchanges = of(&printed, "exchanges")?.iter().map(|exchange| {
        let name = exchange["name"].as_str().unwrap_or_default();
        (
            with_steps_as_one(name),
            exchange["type"].as_str().unwrap_or_default(),
        )
    });
    let exchanges: BTreeMap<_, _> = exchanges.collect();
    let rows = table(&text, "| exchange | type | who writes | leads to |")?;
    let documented: BTreeMap<_, _> = rows
        .iter()
        .flat_map(|row| quoted(row[0]).map(|name| (name.to_owned(), row[1])))
        .collect();
    ensure!(
        documented == exchanges,
        "documented: {documented:?}\nprinted: {exchanges:?}"
    );
    let queues = of(&printed, "queues")?;
    let names: BTreeSet<_> = queues
        .iter()
        .map(|queue| with_steps_as_one(queue["name"].as_str().unwrap_or_default()))
        .collect();
    let rows = table(&text, "| queue | holds | bound |")?;
    let documented: BTreeSet<_> = rows
        .iter()
        .flat_map(|row| quoted(row[0]).map(str::to_owned))
        .collect();
    ensure!(
        documented == names,
        "documented: {documented:?}\nprinted: {names:?}"
    );
    for queue in queues {
        let arguments = &queue["arguments"];
        let is_shelf =
            ["hooklane.dead", "hooklane.faults"].contains(&queue["name"].as_str().unwrap_or_default());
        let limit: u64 = if is_shelf { 1_000_000_000_000 } else { 1_000_000 };
        ensure!(
            arguments["x-queue-type"] == "quorum" && arguments["x-delivery-limit"] == limit,
            "{queue} is not what the document says of all queues"
        );
    }
    let steps = queues
        .iter()
        .filter(|queue| !queue["arguments"]["x-message-ttl"].is_null())
        .count();
    ensure!(
        text.contains(&format!("{steps} steps from 100 ms to 24 h")),
        "{steps} steps"
    );
    Ok(())
}

#[tokio::test]
async fn the_documented_rights_are_the_printed_ones() -> Result<()> {
    // Goal: whoever copies the rights from docs/TOPOLOGY.md gives each role what it needs, and no more.
    let (text, printed) = (document("TOPOLOGY.md")?, printed().await?);
    let (_, rights) = text.split_once("\n## Rights\n").context("a section on rights")?;
    let block = rights.split("```").nth(1).context("a block of rights")?;
    let documented: BTreeMap<_, _> = block
        .lines()
        .filter_map(|line| {
            let mut parts = line.split('\'');
            let role = parts.next()?.trim();
            let patterns: Vec<_> = parts.step_by(2).collect();
            (patterns.len() == 3).then_some((role, patterns))
        })
        .collect();
    let printed = printed["rights"].as_object().context("rights")?;
    let printed: BTreeMap<_, Vec<_>> = printed
        .iter()
        .map(|(role, rights)| {
            let patterns =
                ["configure", "write", "read"].map(|kind| rights[kind].as_str().unwrap_or_default());
            (role.as_str(), patterns.to_vec())
        })
        .collect();
    ensure!(
        documented == printed,
        "documented: {documented:?}\nprinted: {printed:?}"
    );
    Ok(())
}
