//! Reading a shelf: every message once, oldest first, and everything put back in order at the end.

use std::marker::PhantomData;
use std::ops::ControlFlow;

use hooklane_broker::topology::Names;
use hooklane_broker::{Handle, Holder, Shelf, Shelves};
use hooklane_types::UnixMillis;
use tokio_util::sync::CancellationToken;

use crate::entry::Entry;
use crate::error::ControlError;
use crate::filter::Filter;

/// Who reads, and how.
pub struct Reader<'a> {
    /// The broker's shelves.
    pub shelves: &'a dyn Shelves,
    /// The installation's names.
    pub names: &'a Names,
    /// Who is named to others that want to read.
    pub holder: Holder,
    /// The time from which ages are counted.
    pub now: UnixMillis,
    /// Ends the reading in order.
    pub stop: CancellationToken,
}

/// Why the reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was read.
    AtTheEnd,
    /// Nothing more was wanted.
    Enough,
    /// It was stopped.
    Stopped,
}

/// How far the reading came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Messages that lay there at the beginning.
    pub total: u64,
    /// Messages looked at.
    pub read: u64,
    /// Messages that the filter let through.
    pub matched: u64,
    /// Why it ended.
    pub ended: Ended,
}

/// An open shelf, read one message at a time. To be ended by `close`: dropped without it, nothing is lost, but messages may
/// change their order.
pub struct Look<'a, E: Entry> {
    reader: &'a Reader<'a>,
    filter: &'a Filter<E::Reason>,
    shelf: Box<dyn Shelf>,
    scanned: Scanned,
    of: PhantomData<fn() -> E>,
}

impl<E: Entry> Look<'_, E> {
    /// The next message that the filter lets through; none at the end, or when the reading was stopped.
    ///
    /// # Errors
    /// When the shelf cannot be read.
    pub async fn next(&mut self) -> Result<Option<E>, ControlError> {
        let next = self
            .reader
            .next_matching::<E>(self.shelf.as_mut(), self.filter, &mut self.scanned);
        Ok(next.await?.map(|(entry, _)| entry))
    }

    /// How far the reading came.
    pub fn scanned(&self) -> Scanned {
        self.scanned
    }

    /// Puts everything back in order, and frees the shelf.
    ///
    /// # Errors
    /// When the connection failed meanwhile: nothing is lost.
    pub async fn close(self) -> Result<Scanned, ControlError> {
        self.shelf.close().await?;
        Ok(self.scanned)
    }
}

impl Reader<'_> {
    /// Opens the shelf, to be read as far as the caller likes.
    ///
    /// # Errors
    /// When the shelf cannot be read.
    pub async fn look<'a, E: Entry>(
        &'a self,
        filter: &'a Filter<E::Reason>,
    ) -> Result<Look<'a, E>, ControlError> {
        let shelf = self.shelves.open(E::SHELF, self.holder.clone()).await?;
        Ok(Look {
            reader: self,
            filter,
            scanned: Scanned {
                total: shelf.total(),
                read: 0,
                matched: 0,
                ended: Ended::AtTheEnd,
            },
            shelf,
            of: PhantomData,
        })
    }

    /// Shows every message that the filter lets through, until `visit` has enough.
    ///
    /// # Errors
    /// When the shelf cannot be read, or `visit` fails.
    pub async fn scan<E: Entry>(
        &self,
        filter: &Filter<E::Reason>,
        mut visit: impl FnMut(&E) -> std::io::Result<ControlFlow<()>>,
    ) -> Result<Scanned, ControlError> {
        let mut look = self.look::<E>(filter).await?;
        let visited = async {
            while let Some(entry) = look.next().await? {
                if visit(&entry)?.is_break() {
                    look.scanned.ended = Ended::Enough;
                    break;
                }
            }
            Ok(())
        }
        .await;
        let closed = look.close().await;
        visited.and(closed)
    }

    /// Takes every message that the filter lets through, and that became one before [`Reader::now`], off the shelf for good; `progress` gets their number so far.
    ///
    /// # Errors
    /// When the shelf cannot be read.
    pub async fn purge<E: Entry>(
        &self,
        filter: &Filter<E::Reason>,
        mut progress: impl FnMut(&Scanned),
    ) -> Result<Scanned, ControlError> {
        let mut shelf = self.shelves.open(E::SHELF, self.holder.clone()).await?;
        let purged = self.purge_open::<E>(shelf.as_mut(), filter, &mut progress).await;
        let closed = shelf.close().await;
        let purged = purged?;
        closed?;
        Ok(purged)
    }

    async fn purge_open<E: Entry>(
        &self,
        shelf: &mut dyn Shelf,
        filter: &Filter<E::Reason>,
        progress: &mut impl FnMut(&Scanned),
    ) -> Result<Scanned, ControlError> {
        let mut scanned = Scanned {
            total: shelf.total(),
            read: 0,
            matched: 0,
            ended: Ended::AtTheEnd,
        };
        while let Some((entry, handle)) = self.next_matching::<E>(shelf, filter, &mut scanned).await? {
            // What came after the purge was asked for is not meant: nobody has seen it.
            if self.is_later(&entry) {
                scanned.matched -= 1;
                continue;
            }
            shelf.remove(handle).await?;
            progress(&scanned);
        }
        Ok(scanned)
    }

    /// Whether a message became one after [`Reader::now`]: a replay or a purge does not mean it.
    pub fn is_later<E: Entry>(&self, entry: &E) -> bool {
        entry.facts().at.is_some_and(|at| at > self.now)
    }

    /// The next message that is meant; `None` at the end, or when the reading was stopped.
    pub(crate) async fn next_matching<E: Entry>(
        &self,
        shelf: &mut dyn Shelf,
        filter: &Filter<E::Reason>,
        scanned: &mut Scanned,
    ) -> Result<Option<(E, Handle)>, ControlError> {
        loop {
            // Between two messages only: a read that is broken off could take a message out of turn.
            if self.stop.is_cancelled() {
                scanned.ended = Ended::Stopped;
                return Ok(None);
            }
            let Some(shelved) = shelf.next().await? else {
                return Ok(None);
            };
            scanned.read += 1;
            let entry = E::read(shelved.message, self.names);
            if filter.matches(&entry.facts(), self.now) {
                scanned.matched += 1;
                return Ok(Some((entry, shelved.handle)));
            }
        }
    }
}
