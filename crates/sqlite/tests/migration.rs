//! Older files are brought up to date, or stay what they are.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hooklane_sqlite::{FileError, Format, Step};
use rusqlite::Connection;

const FORMAT: Format = Format {
    what: "a test's file",
    file: "test.sqlite",
    application_id: 0x7e57,
    steps: &[
        Step {
            probes: || vec!["SELECT id FROM things".to_owned()],
            statements: || "ALTER TABLE things ADD COLUMN body TEXT NOT NULL DEFAULT 'none';".to_owned(),
        },
        Step {
            probes: || vec!["SELECT id, body FROM things".to_owned()],
            statements: || {
                "CREATE TABLE sums (n INTEGER); INSERT INTO sums SELECT count(*) FROM things;".to_owned()
            },
        },
    ],
    schema: || {
        "CREATE TABLE things (id INTEGER PRIMARY KEY, body TEXT); CREATE TABLE sums (n INTEGER);".to_owned()
    },
    probes: || {
        vec![
            "SELECT id, body FROM things".to_owned(),
            "SELECT n FROM sums".to_owned(),
        ]
    },
    if_damaged: "throw {} away",
};
/// Its second step cannot be taken.
const FAILING: Format = Format {
    steps: &[
        FORMAT.steps[0],
        Step {
            statements: || {
                "CREATE TABLE sums (n INTEGER); DELETE FROM things; INSERT INTO nowhere VALUES (1);"
                    .to_owned()
            },
            ..FORMAT.steps[1]
        },
    ],
    ..FORMAT
};
/// Its second step does not make what the newest version has.
const FORGETFUL: Format = Format {
    steps: &[
        FORMAT.steps[0],
        Step {
            statements: || "DELETE FROM things;".to_owned(),
            ..FORMAT.steps[1]
        },
    ],
    ..FORMAT
};

/// As the first version wrote it, with three rows; with what was written last in its log, as a kill leaves it.
fn version_1(directory: &Path) -> Result<()> {
    let made = tempfile::tempdir()?;
    let connection = Connection::open(made.path().join(FORMAT.file))?;
    connection.execute_batch(
        "PRAGMA application_id = 32343; PRAGMA user_version = 1; CREATE TABLE things (id INTEGER PRIMARY KEY);
        PRAGMA journal_mode = WAL; INSERT INTO things VALUES (1), (2), (3);",
    )?;
    for path in [FORMAT.path(made.path()), FORMAT.log(made.path())] {
        fs::copy(&path, directory.join(path.file_name().context("a name")?))?;
    }
    Ok(())
}

fn contents(directory: &Path) -> Result<Vec<(std::ffi::OsString, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        found.push((entry.file_name(), fs::read(entry.path())?));
    }
    found.sort();
    Ok(found)
}

#[test]
fn an_older_file_takes_all_steps_and_keeps_what_it_holds() -> Result<()> {
    // Goal: from each older version; the look before changes nothing, and opened again it is simply there.
    for steps_taken in [0, 1] {
        let directory = tempfile::tempdir()?;
        let directory = directory.path();
        version_1(directory)?;
        if steps_taken == 1 {
            Format {
                steps: &FORMAT.steps[..1],
                probes: FORMAT.steps[1].probes,
                ..FORMAT
            }
            .open(directory)?;
        }
        let before = contents(directory)?;
        let found = FORMAT.inspect(directory)?.context("there is one")?;
        ensure!((found.version(), found.becomes()) == (steps_taken + 1, Some(3)));
        drop(found);
        ensure!(contents(directory)? == before, "a look changed it");
        for _ in 0..2 {
            let connection = FORMAT.open(directory)?;
            let sql = "SELECT group_concat(id || body), (SELECT n FROM sums) FROM things";
            let found: (String, u32) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            ensure!(found == ("1none,2none,3none".to_owned(), 3), "{found:?}");
        }
        let found = FORMAT.inspect(directory)?.context("there is one")?;
        ensure!((found.version(), found.becomes()) == (3, None));
    }
    Ok(())
}

#[test]
fn a_step_that_fails_leaves_the_old_file() -> Result<()> {
    // Goal: to the byte, log included; also where the steps do not lead to what the newest version has.
    for format in [FAILING, FORGETFUL] {
        let directory = tempfile::tempdir()?;
        let directory = directory.path();
        version_1(directory)?;
        let before = contents(directory)?;
        let error = format.open(directory).err().context("it was opened")?;
        ensure!(error.to_string().contains("cannot bring up to date"), "{error}");
        ensure!(contents(directory)? == before, "it was changed: {error}");
        let old = Format {
            steps: &[],
            probes: FORMAT.steps[0].probes,
            ..FORMAT
        };
        let connection = old.open(directory)?;
        let count: u32 = connection.query_row("SELECT count(*) FROM things", [], |row| row.get(0))?;
        ensure!(count == 3);
    }
    Ok(())
}

#[test]
fn an_older_file_is_judged_as_what_it_is() -> Result<()> {
    // Goal: one that says version 2 has to have version 2's tables; a damaged older one is refused before it is changed.
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    version_1(directory)?;
    Connection::open(FORMAT.path(directory))?.execute_batch("PRAGMA user_version = 2")?;
    let error = FORMAT.open(directory).err().context("foreign")?;
    ensure!(matches!(error, FileError::Foreign { .. }), "{error}");
    let connection = Connection::open(FORMAT.path(directory))?;
    connection.execute_batch(
        "PRAGMA user_version = 1;
        WITH RECURSIVE n (i) AS (SELECT 4 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO things SELECT i FROM n",
    )?;
    drop(connection);
    let path = FORMAT.path(directory);
    let mut bytes = fs::read(&path)?;
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&path, bytes)?;
    let before = contents(directory)?;
    let error = FORMAT.open(directory).err().context("damaged")?;
    ensure!(matches!(error, FileError::Corrupt { .. }), "{error}");
    ensure!(contents(directory)? == before, "it was changed");
    Ok(())
}
