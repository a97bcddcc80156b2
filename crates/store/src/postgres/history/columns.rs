//! What is written to a table, by its columns: rows that are new are copied into it, others change what is there.
//!
//! Nobody else writes meanwhile, so that a row which was not found is new. To copy it costs the server half of an insertion that looks for it once more.

use std::fmt::Display;
use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use deadpool_postgres::Transaction;
use futures_util::SinkExt;
use tokio_postgres::types::{IsNull, ToSql, Type};

use super::days::Days;
use super::rows::wrong;
use crate::postgres::error::Fault;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// A value's length where there is none.
const NULL: i32 = -1;
/// What stands in place of a row's number of values behind the last one.
const END: i16 = -1;

/// A value of one type.
pub(super) trait Cell: ToSql + Send + Sync {
    const TYPE: Type;
}

impl Cell for bool {
    const TYPE: Type = Type::BOOL;
}

impl Cell for i16 {
    const TYPE: Type = Type::INT2;
}

impl Cell for i32 {
    const TYPE: Type = Type::INT4;
}

impl Cell for i64 {
    const TYPE: Type = Type::INT8;
}

impl Cell for &str {
    const TYPE: Type = Type::TEXT;
}

impl Cell for String {
    const TYPE: Type = Type::TEXT;
}

impl Cell for &[u8] {
    const TYPE: Type = Type::BYTEA;
}

impl<T: Cell> Cell for Option<T> {
    const TYPE: Type = T::TYPE;
}

trait Column: Send + Sync {
    fn of(&self) -> Type;
    fn row(&self, at: usize) -> &(dyn ToSql + Sync);
    fn array(&self) -> &(dyn ToSql + Sync);
}

impl<T: Cell> Column for Vec<T> {
    fn of(&self) -> Type {
        T::TYPE
    }

    fn row(&self, at: usize) -> &(dyn ToSql + Sync) {
        &self[at]
    }

    fn array(&self) -> &(dyn ToSql + Sync) {
        self
    }
}

/// Rows of a table.
pub(super) struct Rows<'a> {
    table: &'static str,
    /// The columns of its primary key.
    key: &'static [&'static str],
    names: Vec<&'static str>,
    columns: Vec<Box<dyn Column + 'a>>,
    count: usize,
}

impl<'a> Rows<'a> {
    /// Without columns yet.
    pub(super) fn of(table: &'static str, key: &'static [&'static str], count: usize) -> Rows<'a> {
        Rows {
            table,
            key,
            names: Vec::new(),
            columns: Vec::new(),
            count,
        }
    }

    /// With a column: a value for each row.
    pub(super) fn with<T: Cell + 'a>(
        mut self,
        name: &'static str,
        values: impl IntoIterator<Item = T>,
    ) -> Rows<'a> {
        let values: Vec<T> = values.into_iter().collect();
        debug_assert_eq!(values.len(), self.count, "{name}");
        self.names.push(name);
        self.columns.push(Box::new(values));
        self
    }

    /// Adds rows that are not there, all of this day.
    pub(super) async fn copy(
        &self,
        transaction: &Transaction<'_>,
        days: &Days,
        day: i32,
    ) -> Result<(), Fault> {
        let partition = days.partition(self.table, day);
        let sql = format!(
            "COPY {partition} ({}) FROM STDIN (FORMAT binary)",
            self.names.join(", ")
        );
        let sql = transaction.prepare_cached(&sql).await?;
        let rows = self.encode()?;
        let mut to = pin!(transaction.copy_in(&sql).await?);
        to.send(rows).await?;
        to.finish().await?;
        Ok(())
    }

    /// As `COPY` reads it: <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format". In one piece, where the client library sends
    /// one every few kilobytes, which costs as much as all the rest (measured).
    fn encode(&self) -> Result<Bytes, Fault> {
        let unfit = |why: &dyn Display| wrong(format!("a row that cannot be encoded: {why}"));
        let mut bytes = BytesMut::new();
        bytes.put_slice(SIGNATURE);
        // No flags, and no more header.
        bytes.put_u64(0);
        for at in 0..self.count {
            bytes.put_i16(self.columns.len() as i16);
            for column in &self.columns {
                let begin = bytes.len();
                bytes.put_i32(NULL);
                let written = column.row(at).to_sql_checked(&column.of(), &mut bytes);
                if let IsNull::No = written.map_err(|error| unfit(&error))? {
                    let length = i32::try_from(bytes.len() - begin - size_of::<i32>());
                    let length = length.map_err(|error| unfit(&error))?;
                    bytes[begin..][..size_of::<i32>()].copy_from_slice(&length.to_be_bytes());
                }
            }
        }
        bytes.put_i16(END);
        Ok(bytes.freeze())
    }

    /// Adds rows, or makes of those with their keys what they are. No statement looks a row up that it changes: an insertion finds what is there
    /// already along the primary key.
    pub(super) async fn put(&self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        if self.count == 0 {
            return Ok(());
        }
        let names = self.names.join(", ");
        let numbered = self.columns.iter().zip(1..);
        let arrays: Vec<String> = numbered
            .map(|(column, n)| format!("${n}::{}[]", column.of()))
            .collect();
        let others = self.names.iter().filter(|name| !self.key.contains(name));
        let changes: Vec<String> = others.map(|name| format!("{name} = excluded.{name}")).collect();
        let sql = format!(
            "INSERT INTO {} ({names}) SELECT {names} FROM unnest({}) AS k({names}) ON CONFLICT ({}) DO UPDATE SET {}",
            self.table,
            arrays.join(", "),
            self.key.join(", "),
            changes.join(", ")
        );
        let sql = transaction.prepare_cached(&sql).await?;
        let values: Vec<&(dyn ToSql + Sync)> = self.columns.iter().map(|column| column.array()).collect();
        transaction.execute(&sql, &values).await?;
        Ok(())
    }
}
