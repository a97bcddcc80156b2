//! Stamps tie two files of a directory together, so that one of another directory, or of another copy, is noticed.
//!
//! The first file has two of them, the second one has one. At each start both get a fresh one, the first file first, which keeps the one that
//! was found in the second beside it. So whatever ends the process in between, the two fit: the second file's stamp is one of the first's. A
//! copy of the first file that was made before the last start fits only a second file of before that start too.

use rusqlite::{Connection, Row, ToSql, Transaction, types};

use crate::inspection::Inspection;

/// The version of either file's format since which it has stamps.
const SINCE: u32 = 2;

/// A random mark, or, in a file of a version before there were any, none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(Option<String>);

/// What stands in the first file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamps {
    /// That of the last start.
    current: Stamp,
    /// What the second file had then. The same as `current` where there was none.
    previous: Stamp,
}

impl Stamp {
    /// Statements that make the second file's table, without a stamp.
    pub const SCHEMA: &str = "CREATE TABLE stamp (id INTEGER PRIMARY KEY CHECK (id = 1), current TEXT);
        INSERT INTO stamp VALUES (1, NULL);";
    /// It can be prepared where the table is there.
    pub const PROBE: &str = "SELECT current FROM stamp";

    /// A fresh one.
    ///
    /// # Errors
    /// When SQLite has no memory.
    pub fn fresh() -> rusqlite::Result<Stamp> {
        let sql = "SELECT lower(hex(randomblob(16)))";
        Connection::open_in_memory()?.query_row(sql, [], |row| row.get(0).map(Some).map(Stamp))
    }

    /// That of a second file.
    ///
    /// # Errors
    /// Among others, when there is none where there must be one.
    pub fn read(found: &Inspection) -> rusqlite::Result<Stamp> {
        match found.version() < SINCE {
            true => Ok(Stamp(None)),
            false => found
                .connection()
                .query_row(Stamp::PROBE, [], |row| stamp(row, 0)),
        }
    }

    /// The statement that gives it to a second file that is being made.
    pub fn statement(&self) -> String {
        let value = self.0.as_ref().map_or("NULL".to_owned(), |text| {
            format!("'{}'", text.replace('\'', "''"))
        });
        format!("UPDATE stamp SET current = {value};")
    }

    /// Gives it to a second file; on disk when this ends.
    ///
    /// # Errors
    /// SQLite's: the file keeps the one that it has.
    pub fn write(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        durably(connection, |transaction| {
            transaction
                .execute("UPDATE stamp SET current = ?1", [self])
                .map(drop)
        })
    }
}

impl Stamps {
    /// Statements that make the first file's table, for a new file: no second one fits.
    pub const SCHEMA: &str =
        "CREATE TABLE stamps (id INTEGER PRIMARY KEY CHECK (id = 1), current TEXT, previous TEXT);
        INSERT INTO stamps VALUES (1, lower(hex(randomblob(16))), NULL);
        UPDATE stamps SET previous = current;";
    /// Statements that make it in a file that had none: a second one fits that had none either.
    pub const MIGRATION: &str =
        "CREATE TABLE stamps (id INTEGER PRIMARY KEY CHECK (id = 1), current TEXT, previous TEXT);
        INSERT INTO stamps VALUES (1, NULL, NULL);";
    /// It can be prepared where the table is there.
    pub const PROBE: &str = "SELECT current, previous FROM stamps";

    /// Those of a first file.
    ///
    /// # Errors
    /// Among others, when there are none where there must be some.
    pub fn read(found: &Inspection) -> rusqlite::Result<Stamps> {
        if found.version() < SINCE {
            let (current, previous) = (Stamp(None), Stamp(None));
            return Ok(Stamps { current, previous });
        }
        found.connection().query_row(Stamps::PROBE, [], |row| {
            let (current, previous) = (stamp(row, 0)?, stamp(row, 1)?);
            Ok(Stamps { current, previous })
        })
    }

    /// Whether a second file with this stamp belongs to it.
    pub fn fit(&self, second: &Stamp) -> bool {
        *second == self.current || *second == self.previous
    }

    /// Gives a fresh stamp to the first file, on disk when this ends; the second one is to get it next. `second` is what it has, where there
    /// is one.
    ///
    /// # Errors
    /// SQLite's: the file keeps those that it has.
    pub fn renew(connection: &mut Connection, second: Option<&Stamp>) -> rusqlite::Result<Stamp> {
        let fresh = Stamp::fresh()?;
        let previous = second.unwrap_or(&fresh);
        durably(connection, |transaction| {
            transaction
                .execute(
                    "UPDATE stamps SET current = ?1, previous = ?2",
                    [&fresh, previous],
                )
                .map(drop)
        })?;
        Ok(fresh)
    }
}

fn stamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Stamp> {
    row.get(column).map(Stamp)
}

impl ToSql for Stamp {
    fn to_sql(&self) -> rusqlite::Result<types::ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

/// One transaction that is on disk when this ends.
fn durably(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction()?;
    work(&transaction)?;
    transaction.commit()
}
