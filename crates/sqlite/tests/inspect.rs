//! A look that changes nothing.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hooklane_sqlite::{FileError, Format, Step};

const FORMAT: Format = Format {
    what: "a test's file",
    file: "odd name?#%.sqlite",
    application_id: 0x7e57,
    steps: &[Step {
        probes: Vec::new,
        statements: String::new,
    }],
    schema: || "CREATE TABLE things (id INTEGER PRIMARY KEY, body BLOB);".to_owned(),
    probes: || vec!["SELECT id, body FROM things".to_owned()],
    if_damaged: "throw {} away",
};

fn contents(directory: &Path) -> Result<Vec<(std::ffi::OsString, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        found.push((entry.file_name(), fs::read(entry.path())?));
    }
    found.sort();
    Ok(found)
}

fn inspected(directory: &Path) -> Result<Result<Option<u64>, FileError>> {
    let before = contents(directory)?;
    let found = FORMAT
        .inspect(directory)
        .map(|found| found.map(|found| found.bytes()));
    ensure!(contents(directory)? == before, "it was changed: {found:?}");
    Ok(found)
}

#[test]
fn whatever_is_there_stays_as_it_is() -> Result<()> {
    // Goal: nothing, a whole file, one with a log that a killed process left, a damaged one, a newer one, and somebody's notes.
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    ensure!(inspected(directory)??.is_none());
    let connection = FORMAT.open(directory)?;
    connection.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
        INSERT INTO things SELECT i, randomblob(3000) FROM n",
    )?;
    let killed = tempfile::tempdir()?;
    for path in [FORMAT.path(directory), FORMAT.log(directory)] {
        let name = path.file_name().context("a name")?;
        fs::copy(&path, killed.path().join(name))?;
    }
    drop(connection);
    ensure!(inspected(directory)?? > Some(600_000));
    ensure!(fs::metadata(FORMAT.log(killed.path()))?.len() > 600_000);
    ensure!(inspected(killed.path())?? > Some(600_000));

    let path = FORMAT.path(directory);
    let whole = fs::read(&path)?;
    let mut damaged = whole.clone();
    let middle = whole.len() / 2 / 4096 * 4096;
    damaged[middle..middle + 4096].fill(0xa5);
    fs::write(&path, damaged)?;
    let error = inspected(directory)?.err().context("damaged")?;
    ensure!(matches!(error, FileError::Corrupt { .. }), "{error}");
    ensure!(
        error
            .to_string()
            .contains(&format!("throw {} away", path.display())),
        "{error}"
    );
    fs::write(&path, &whole[..whole.len() / 2])?;
    let error = inspected(directory)?.err().context("cut off")?;
    ensure!(matches!(error, FileError::Corrupt { .. }), "{error}");

    let newer = Format { steps: &[], ..FORMAT };
    fs::write(&path, &whole)?;
    let error = newer.inspect(directory).err().context("newer")?;
    ensure!(
        matches!(
            error,
            FileError::Newer {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    fs::write(&path, "my notes")?;
    let error = inspected(directory)?.err().context("foreign")?;
    ensure!(error.to_string().contains("is not a test's file"), "{error}");
    Ok(())
}
