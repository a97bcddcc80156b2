//! Two files that belong together.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hooklane_sqlite::{Format, Stamp, Stamps, Step};
use rusqlite::Connection;

const FIRST: Format = Format {
    what: "a first file",
    file: "first.sqlite",
    application_id: 1,
    steps: &[Step {
        probes: Vec::new,
        statements: || Stamps::MIGRATION.to_owned(),
    }],
    schema: || Stamps::SCHEMA.to_owned(),
    probes: || vec![Stamps::PROBE.to_owned()],
    if_damaged: "",
};
const SECOND: Format = Format {
    what: "a second file",
    file: "second.sqlite",
    application_id: 2,
    steps: &[Step {
        probes: Vec::new,
        statements: || Stamp::SCHEMA.to_owned(),
    }],
    schema: || Stamp::SCHEMA.to_owned(),
    probes: || vec![Stamp::PROBE.to_owned()],
    if_damaged: "",
};

/// Of version 1, without anything in it.
fn unstamped(directory: &Path, format: &Format) -> Result<()> {
    let connection = Connection::open(format.path(directory))?;
    connection.execute_batch(&format!(
        "PRAGMA application_id = {}; PRAGMA user_version = 1; PRAGMA journal_mode = WAL; CREATE TABLE things (id INTEGER)",
        format.application_id
    ))?;
    Ok(())
}

fn fit(directory: &Path) -> Result<bool> {
    let stamps = Stamps::read(&FIRST.inspect(directory)?.context("a first file")?)?;
    let stamp = Stamp::read(&SECOND.inspect(directory)?.context("a second file")?)?;
    Ok(stamps.fit(&stamp))
}

/// What a start does; with `ends_half_way`, the process ends after the first file was written.
fn start(directory: &Path, ends_half_way: bool) -> Result<()> {
    let second = SECOND.inspect(directory)?;
    let found = second.as_ref().map(Stamp::read).transpose()?;
    let fresh = Stamps::renew(&mut FIRST.open(directory)?, found.as_ref())?;
    match (ends_half_way, second) {
        (true, _) => {}
        (false, Some(second)) => fresh.write(&mut second.open()?)?,
        (false, None) => drop(SECOND.make(directory, &fresh.statement())?),
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, format: &Format) -> Result<()> {
    fs::copy(format.path(from), format.path(to))?;
    Ok(())
}

#[test]
fn a_pair_fits_wherever_a_start_ended() -> Result<()> {
    // Goal: from nothing, from files without stamps, and from a pair; several starts that end between the two writes, too.
    for old in [false, true] {
        let directory = tempfile::tempdir()?;
        let directory = directory.path();
        if old {
            unstamped(directory, &FIRST)?;
            unstamped(directory, &SECOND)?;
            ensure!(fit(directory)?);
        } else {
            start(directory, true)?;
            ensure!(SECOND.inspect(directory)?.is_none());
            start(directory, false)?;
        }
        for ends_half_way in [false, true, true, false, true, false] {
            start(directory, ends_half_way)?;
            ensure!(fit(directory)?);
        }
    }
    Ok(())
}

#[test]
fn what_does_not_belong_together_does_not_fit() -> Result<()> {
    // Goal: another directory's; a second file of after a start beside a first one of before it; a new first file; one without a stamp beside
    // one that had its start. And the pair of one copy fits.
    let (one, other, before) = (tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?);
    let (one, other, before) = (one.path(), other.path(), before.path());
    start(one, false)?;
    start(other, false)?;
    copy(one, before, &FIRST)?;
    copy(one, before, &SECOND)?;
    start(one, false)?;
    ensure!(fit(one)? && fit(other)? && fit(before)?);

    let mixed = tempfile::tempdir()?;
    let mixed = mixed.path();
    copy(one, mixed, &FIRST)?;
    copy(other, mixed, &SECOND)?;
    ensure!(!fit(mixed)?, "another directory's");
    copy(before, mixed, &FIRST)?;
    copy(one, mixed, &SECOND)?;
    ensure!(!fit(mixed)?, "the second is of after a start");
    copy(one, mixed, &FIRST)?;
    copy(before, mixed, &SECOND)?;
    ensure!(fit(mixed)?, "an older second file costs nothing");

    fs::remove_file(FIRST.path(mixed))?;
    drop(FIRST.open(mixed)?);
    ensure!(!fit(mixed)?, "the first is new");
    fs::remove_file(SECOND.path(mixed))?;
    unstamped(mixed, &SECOND)?;
    ensure!(!fit(mixed)?, "the first is new, the second of version 1");
    copy(one, mixed, &FIRST)?;
    ensure!(!fit(mixed)?, "the second is of version 1");
    fs::remove_file(FIRST.path(mixed))?;
    unstamped(mixed, &FIRST)?;
    ensure!(fit(mixed)?);
    copy(one, mixed, &SECOND)?;
    ensure!(!fit(mixed)?, "the first is of version 1");
    Ok(())
}
