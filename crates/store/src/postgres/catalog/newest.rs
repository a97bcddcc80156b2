//! The newest revision that is known, by three ways that overtake each other: own changes, notifications, and looking.

use tokio::sync::watch;

use crate::catalog::Revision;

pub(super) struct Newest(watch::Sender<Revision>);

impl Newest {
    pub(super) fn new() -> Newest {
        Newest(watch::Sender::new(Revision::NONE))
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.0.subscribe()
    }

    pub(super) fn get(&self) -> Revision {
        *self.0.borrow()
    }

    /// There is this revision; perhaps a newer one is known already.
    pub(super) fn raise(&self, revision: Revision) {
        self.set_if(revision, |known| revision > known);
    }

    /// This one was found in the table by a look that began when `before` was known. Less than that means that the store was put back from a
    /// copy.
    pub(super) fn found(&self, revision: Revision, before: Revision) {
        self.set_if(revision, |known| revision > known || known == before);
    }

    fn set_if(&self, revision: Revision, is_right: impl Fn(Revision) -> bool) {
        self.0.send_if_modified(|known| {
            let is_right = *known != revision && is_right(*known);
            if is_right {
                *known = revision;
            }
            is_right
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_only_falls_when_a_look_finds_less_than_was_known_before_it() {
        let newest = Newest::new();
        let mut seen = newest.subscribe();
        newest.raise(Revision(5));
        newest.raise(Revision(3));
        assert_eq!(newest.get(), Revision(5));
        newest.found(Revision(4), Revision(3));
        assert_eq!(newest.get(), Revision(5), "a change overtook the look");
        newest.found(Revision(2), Revision(5));
        assert_eq!(newest.get(), Revision(2), "put back from a copy");
        seen.mark_unchanged();
        newest.found(Revision(2), Revision(2));
        assert!(!seen.has_changed().unwrap(), "woken for nothing");
    }
}
