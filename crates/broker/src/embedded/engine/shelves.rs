//! Shelves as the engine sees them: who reads one, and a page at a time. Looking changes nothing.

use std::collections::{HashMap, HashSet};

use tokio::sync::oneshot;

use super::ops::OpenedShelf;
use super::{Engine, ReadShelf};
use crate::embedded::store::Trouble;
use crate::shelf::{Holder, ShelfError};

/// Most that one look brings: confirms wait meanwhile.
const PAGE_MESSAGES_MAX: usize = 128;
const PAGE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Who reads which shelf.
#[derive(Default)]
pub(super) struct Holders {
    open: HashMap<usize, (u64, Holder)>,
    next: u64,
}

impl Holders {
    /// Frees it, if it is still this one.
    pub(super) fn close(&mut self, queue: usize, shelf: u64) {
        if self.open.get(&queue).is_some_and(|(found, _)| *found == shelf) {
            self.open.remove(&queue);
        }
    }
}

impl Engine {
    pub(super) fn open_shelf(
        &mut self,
        queue: usize,
        holder: Holder,
        reply: oneshot::Sender<Result<OpenedShelf, ShelfError>>,
    ) {
        if let Some((_, found)) = self.shelves.open.get(&queue) {
            let _ = reply.send(Err(ShelfError::Held(Some(found.clone()))));
            return;
        }
        let shelf = self.shelves.next;
        let opened = OpenedShelf {
            shelf,
            total: self.queues[queue].ready(),
            last: self.next_seq - 1,
        };
        // Whoever asked and is gone would hold it for ever.
        if reply.send(Ok(opened)).is_ok() {
            self.shelves.next += 1;
            self.shelves.open.insert(queue, (shelf, holder));
        }
    }

    pub(super) fn read_shelf(&self, read: ReadShelf) -> Result<(), Trouble> {
        let id = read.queue;
        let consumers = self.consumers.values().filter(|consumer| consumer.queue == id);
        // Those in hand are not on the shelf, as little as those that are done and could not be deleted yet.
        let mut away: HashSet<u64> = consumers
            .flat_map(|consumer| consumer.unacked.keys().copied())
            .collect();
        away.extend(&self.queues[id].finished);
        let (mut page, mut bytes, mut after) = (Vec::new(), 0, read.after);
        while page.len() < PAGE_MESSAGES_MAX && bytes < PAGE_BYTES_MAX {
            let Some(stored) = self.store.next(id, after)? else {
                break;
            };
            if stored.seq > read.until {
                break;
            }
            after = stored.seq;
            if !away.contains(&stored.seq) {
                bytes += stored.bytes;
                page.push((stored.seq, stored.message));
            }
        }
        let _ = read.reply.send(Ok(page));
        Ok(())
    }
}
