//! What has changed, read in one statement's moment and handed on in pieces: a hundred thousand endpoints are never in memory at once.

use rusqlite::{Connection, params};
use tokio::sync::mpsc;

use super::SqliteCatalog;
use super::sql::{self, COLUMNS};
use crate::catalog::{CatalogError, Change, Revision};

/// Changes handed on together.
const PIECE: usize = 256;
/// Pieces that wait to be told.
const PIECES_WAITING: usize = 4;

pub(super) async fn tell(
    catalog: &SqliteCatalog,
    after: Revision,
    tell: &mut (dyn FnMut(Change) + Send),
) -> Result<Revision, CatalogError> {
    let (pieces, mut told) = mpsc::channel(PIECES_WAITING);
    let reading = catalog.call(move |connection| {
        // Dropped unchanged: it only holds the moment still.
        let moment = connection.transaction().map_err(sql::unavailable)?;
        read(&moment, after, pieces)
    });
    let telling = async {
        while let Some(piece) = told.recv().await {
            Vec::into_iter(piece).for_each(&mut *tell);
        }
    };
    let (revision, ()) = tokio::join!(reading, telling);
    revision
}

fn read(
    connection: &Connection,
    after: Revision,
    pieces: mpsc::Sender<Vec<Change>>,
) -> Result<Revision, CatalogError> {
    let sql = "SELECT revision, forgotten FROM catalog";
    let state = sql::query(connection, sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (newest, forgotten): (u64, u64) = state.unwrap_or_default();
    let is_known = after > Revision::NONE && after.0 >= forgotten && after.0 <= newest;
    let mut out = Pieces {
        pieces,
        piece: Vec::with_capacity(PIECE),
    };
    let after = match is_known {
        true => after,
        false => {
            out.push(Change::Everything)?;
            Revision::NONE
        }
    };
    let mut read = || -> Result<(), rusqlite::Error> {
        if is_known {
            let sql = "SELECT kind, scope, id FROM removals WHERE revision > ?1 ORDER BY revision";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![sql::signed(after)])?;
            while let Some(row) = rows.next()? {
                if out.push(Change::Removed(sql::address(row)?)).is_err() {
                    return Ok(());
                }
            }
        }
        let sql = format!("SELECT {COLUMNS} FROM documents WHERE revision > ?1 ORDER BY revision");
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![sql::signed(after)])?;
        while let Some(row) = rows.next()? {
            if out.push(Change::Put(sql::document(row)?)).is_err() {
                return Ok(());
            }
        }
        Ok(())
    };
    read().map_err(sql::unavailable)?;
    out.flush()?;
    Ok(Revision(newest))
}

struct Pieces {
    pieces: mpsc::Sender<Vec<Change>>,
    piece: Vec<Change>,
}

impl Pieces {
    fn push(&mut self, change: Change) -> Result<(), CatalogError> {
        self.piece.push(change);
        match self.piece.len() < PIECE {
            true => Ok(()),
            false => self.flush(),
        }
    }

    fn flush(&mut self) -> Result<(), CatalogError> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        // Nobody listens any more: nobody wants the rest.
        let gone = |_| CatalogError::Unavailable("the reader is gone".to_owned());
        self.pieces.blocking_send(piece).map_err(gone)
    }
}
