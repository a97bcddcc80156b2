//! The three places that name every key agree: the reader, docs/CONFIG.md, and the file that `hooklane init` writes.

use std::collections::BTreeSet;

use super::{Problem, Role, Sources, read};

fn read_all(text: &str) -> (Option<super::Loaded>, Vec<Problem>, BTreeSet<String>) {
    read(&Sources::default(), Role::Check, text.to_owned())
}

#[test]
fn the_file_that_init_writes_loads_and_shows_every_key() {
    let text = crate::commands::init_text();
    assert!(!text.contains("@SECRET@"));
    let (loaded, problems, _) = read_all(&text);
    assert_eq!(problems, []);
    assert!(loaded.unwrap().settings.broker.url.is_none());
    // Every key that is known in a section stands in the file, in force or behind a #.
    for key in known_keys() {
        let last = key.rsplit('.').next().unwrap();
        assert!(text.contains(last), "{key} is not shown");
    }
}

/// Keys whose line is an example, and the level, whose default depends on the command.
const WITHOUT_DEFAULT: [&str; 13] = [
    "operational_application",
    "file_bytes_max",
    "url",
    "snapshot",
    "ca_file",
    "proxy",
    "portal_url",
    "operational_application",
    "pod",
    "id",
    "broker_users",
    "throttle_rate",
    "level",
];

/// Goal: what the file shows as defaults can be written as it stands, and changes nothing. Each commented line is taken on its own.
#[test]
fn every_commented_line_of_init_is_right_when_the_comment_is_taken_away() {
    let text = crate::commands::init_text();
    let lines: Vec<&str> = text.lines().collect();
    let as_it_is = format!("{:?}", read_all(&text).0.expect("it loads").settings);
    let mut tried = 0;
    for (at, line) in lines.iter().enumerate() {
        let is_key = line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase());
        if !is_key {
            continue;
        }
        let mut changed = lines.clone();
        // A key of a commented table comes with the lines above it, the table's head the first.
        let block = lines[..at]
            .iter()
            .rposition(|line| !line.starts_with('#'))
            .map_or(0, |before| before + 1);
        let head = (block..at).find(|line| lines[*line].starts_with("#[["));
        for line in head.unwrap_or(at)..=at {
            changed[line] = &lines[line][1..];
        }
        let (loaded, found, _) = read_all(&changed.join("\n"));
        let unexpected: Vec<_> = found
            .iter()
            .filter(|problem| !is_for_want_of_surroundings(problem))
            .collect();
        assert!(unexpected.is_empty(), "{line}: {unexpected:#?}");
        let key = line[1..].split(' ').next().unwrap_or_default();
        if found.is_empty() && !WITHOUT_DEFAULT.contains(&key) {
            let with = format!("{:?}", loaded.expect("it has no problem").settings);
            assert_eq!(with, as_it_is, "{line} is not the default");
        }
        tried += 1;
    }
    assert!(tried > 50, "only {tried} lines were tried");
}

/// A line alone may lack its pair, its file or its id; and `…` stands for what only the operator knows.
fn is_for_want_of_surroundings(problem: &Problem) -> bool {
    const WANTING: [&str; 9] = [
        "at least 16 are needed",
        "a key is base64 of 32 bytes",
        "has no key",
        "has no certificate",
        "belong together",
        "cannot be read",
        "given twice",
        "beside a single one",
        "visible ASCII",
    ];
    WANTING.iter().any(|wrong| problem.wrong.contains(wrong))
}

/// Every key that the reader knows: the ones in a free table (headers) have no fixed names.
fn known_keys() -> BTreeSet<String> {
    let text = "[[application]]\nid = \"x\"\n[[endpoint]]\nsignature = { hmac = {} }\nretry = {}\nbasic_auth = {}\nsecrets = [{}]\nheaders = {}\n";
    read_all(text).2
}

/// Goal: docs/CONFIG.md names every key that the reader knows, and no other.
#[test]
fn the_documented_keys_are_the_known_keys() {
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/CONFIG.md")).unwrap();
    let documented: BTreeSet<String> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(key, _)| key.to_owned())
        .collect();
    let sections = [
        "application",
        "endpoint",
        "broker",
        "ingest",
        "dispatcher",
        "egress",
        "embedded",
        "store",
        "api",
        "log",
    ];
    let known: BTreeSet<String> = known_keys()
        .into_iter()
        .filter(|key| !sections.contains(&key.as_str()))
        .collect();
    let missing: Vec<_> = known.difference(&documented).collect();
    let surplus: Vec<_> = documented.difference(&known).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing: {missing:?}, unknown: {surplus:?}"
    );
}
