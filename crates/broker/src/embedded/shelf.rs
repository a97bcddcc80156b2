//! Shelves: read page by page, with nothing taken off but what is removed.

use std::collections::VecDeque;

use async_trait::async_trait;
use hooklane_types::RawMessage;
use tokio::sync::oneshot;

use super::engine::index;
use super::engine::ops::{Ask, Asks, OpenedShelf, Remove};
use crate::shelf::{Handle, Holder, Shelf, ShelfError, ShelfName, Shelved};

/// Every message has its number for good, so there is nothing to tell batches apart by.
const BATCH: usize = 0;

pub(crate) async fn open(asks: Asks, shelf: ShelfName, holder: Holder) -> Result<Box<dyn Shelf>, ShelfError> {
    let queue = index(shelf.queue());
    let opened = ask(&asks, "opening the shelf", |reply| Ask::OpenShelf {
        queue,
        holder,
        reply,
    })
    .await?;
    Ok(Box::new(EmbeddedShelf {
        asks,
        queue,
        opened,
        read: 0,
        page: VecDeque::new(),
        closed: false,
    }))
}

async fn ask<T>(
    asks: &Asks,
    doing: &'static str,
    ask: impl FnOnce(oneshot::Sender<Result<T, ShelfError>>) -> Ask,
) -> Result<T, ShelfError> {
    let lost = || ShelfError::Lost {
        doing,
        reason: "the embedded broker has ended".to_owned(),
    };
    let (reply, answer) = oneshot::channel();
    asks.send(ask(reply)).map_err(|_| lost())?;
    answer.await.map_err(|_| lost())?
}

struct EmbeddedShelf {
    asks: Asks,
    queue: usize,
    opened: OpenedShelf,
    /// The last message of the last page.
    read: u64,
    page: VecDeque<(u64, RawMessage)>,
    closed: bool,
}

#[async_trait]
impl Shelf for EmbeddedShelf {
    fn total(&self) -> u64 {
        self.opened.total
    }

    async fn next(&mut self) -> Result<Option<Shelved>, ShelfError> {
        if self.page.is_empty() {
            let (queue, after, until) = (self.queue, self.read, self.opened.last);
            let page = ask(&self.asks, "reading the shelf", |reply| Ask::ReadShelf {
                queue,
                after,
                until,
                reply,
            });
            // Whoever gives up before it has come reads it again.
            self.page = page.await?.into();
            self.read = self.page.back().map_or(after, |(seq, _)| *seq);
        }
        Ok(self.page.pop_front().map(|(seq, message)| Shelved {
            message,
            handle: Handle {
                batch: BATCH,
                tag: seq,
            },
        }))
    }

    async fn remove(&mut self, handle: Handle) -> Result<(), ShelfError> {
        let (queue, seq) = (self.queue, handle.tag);
        ask(&self.asks, "removing a message", |reply| {
            Ask::Remove(Remove { queue, seq, reply })
        })
        .await
    }

    async fn close(mut self: Box<Self>) -> Result<(), ShelfError> {
        self.closed = true;
        let (done, answer) = oneshot::channel();
        let close = Ask::CloseShelf {
            queue: self.queue,
            shelf: self.opened.shelf,
            done: Some(done),
        };
        // An engine that has ended holds no shelf.
        if self.asks.send(close).is_ok() {
            let _ = answer.await;
        }
        Ok(())
    }
}

impl Drop for EmbeddedShelf {
    fn drop(&mut self) {
        if !self.closed {
            let _ = self.asks.send(Ask::CloseShelf {
                queue: self.queue,
                shelf: self.opened.shelf,
                done: None,
            });
        }
    }
}
