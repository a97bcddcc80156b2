//! Part of a shelf. What lies there has no number: others take from it between two parts, and whatever is behind moves up.

use std::ops::ControlFlow;

use hooklane_types::UnixMillis;

use crate::entry::Entry;
use crate::error::ControlError;
use crate::filter::{Facts, Filter};
use crate::shelf::{Ended, Reader};

/// Most messages that a part looks at behind its place: a filter that lets little through does not hold the shelf for long.
const LOOKED_AT_MAX: u64 = 20_000;
/// Letters of several dispatchers lie there in nearly the order of their times.
const OUT_OF_ORDER_MAX_MS: i64 = 5_000;

/// Where a part ended: at this message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// How many lay in front of it.
    pub index: u64,
    /// Since when it lay there.
    pub at: Option<UnixMillis>,
    /// Its own id.
    pub id: String,
}

/// Part of a shelf.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<R> {
    /// What the filter let through, oldest first.
    pub rows: Vec<R>,
    /// Where the next part begins; none of an empty shelf.
    pub last: Option<Place>,
    /// Whether that was everything.
    pub done: bool,
}

impl Reader<'_> {
    /// What lies behind a place, at most `limit` rows. Where the message of the place was taken off meanwhile, it goes on with what came to the shelf
    /// at its time or later; some of that may have been shown before.
    ///
    /// # Errors
    /// When the shelf cannot be read.
    pub async fn page<E: Entry>(
        &self,
        filter: &Filter<E::Reason>,
        behind: Option<Place>,
        limit: usize,
    ) -> Result<Page<E::Row>, ControlError> {
        let mut pager = Pager::new(behind, limit);
        let everything = Filter::default();
        let scanned = self
            .scan::<E>(&everything, |entry| {
                let facts = entry.facts();
                let row = filter.matches(&facts, self.now).then(|| entry.row(self.now));
                Ok(pager.offer(&facts, row))
            })
            .await?;
        pager.page.done &= scanned.ended != Ended::Stopped;
        Ok(pager.page)
    }
}

struct Pager<R> {
    behind: Option<Place>,
    limit: usize,
    page: Page<R>,
    index: u64,
    looked_at: u64,
}

impl<R> Pager<R> {
    fn new(behind: Option<Place>, limit: usize) -> Pager<R> {
        Pager {
            page: Page {
                rows: Vec::new(),
                last: behind.clone(),
                done: true,
            },
            behind,
            limit,
            index: 0,
            looked_at: 0,
        }
    }

    /// Takes the shelf's next message; `row` shows it, if the filter lets it through.
    fn offer<T>(&mut self, facts: &Facts<T>, row: Option<R>) -> ControlFlow<()> {
        let index = self.index;
        self.index += 1;
        // Whatever is taken off, nothing moves back: behind its old number the place is not found any more.
        let may_be_behind = self.behind.as_ref().is_some_and(|place| index <= place.index);
        if let Some(place) = self.behind.as_ref().filter(|_| may_be_behind) {
            if place.id == *id(facts) {
                self.page.rows.clear();
                self.page.done = true;
                self.looked_at = 0;
                self.page.last = Some(here(index, facts));
                return ControlFlow::Continue(());
            }
            if is_before(facts.at, place.at) {
                return ControlFlow::Continue(());
            }
        }
        if self.page.rows.len() >= self.limit || self.looked_at >= LOOKED_AT_MAX {
            self.page.done = false;
            return match may_be_behind {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            };
        }
        self.looked_at += 1;
        self.page.rows.extend(row);
        self.page.last = Some(here(index, facts));
        ControlFlow::Continue(())
    }
}

fn id<T>(facts: &Facts<T>) -> &String {
    facts.own_id.as_ref().unwrap_or(&facts.id)
}

fn here<T>(index: u64, facts: &Facts<T>) -> Place {
    Place {
        index,
        at: facts.at,
        id: id(facts).clone(),
    }
}

/// Surely; where a time is not known, nothing is sure.
fn is_before(at: Option<UnixMillis>, place: Option<UnixMillis>) -> bool {
    match (at, place) {
        (Some(at), Some(place)) => at.0.saturating_add(OUT_OF_ORDER_MAX_MS) < place.0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What lies there: names and, in seconds, times.
    type Lying = Vec<(&'static str, i64)>;

    fn page(shelf: &Lying, behind: Option<Place>, limit: usize) -> Page<&'static str> {
        let mut pager = Pager::new(behind, limit);
        for (name, at_s) in shelf {
            let facts = Facts::<()> {
                id: "msg_1".to_owned(),
                own_id: Some((*name).to_owned()),
                application: None,
                endpoint: None,
                event_type: None,
                reason: None,
                at: Some(UnixMillis(at_s * 1_000)),
            };
            let row = (!name.starts_with("other")).then_some(*name);
            if pager.offer(&facts, row).is_break() {
                break;
            }
        }
        pager.page
    }

    /// All pages of this size.
    fn walk(shelf: &Lying, limit: usize) -> Vec<&'static str> {
        let (mut all, mut behind) = (Vec::new(), None);
        loop {
            let found = page(shelf, behind, limit);
            all.extend(found.rows);
            if found.done {
                return all;
            }
            behind = found.last;
        }
    }

    #[test]
    fn pages_of_any_size_show_each_message_once_also_those_that_share_a_name() {
        let shelf = vec![
            ("a", 1),
            ("b", 2),
            ("a", 3),
            ("other", 3),
            ("a", 3),
            ("c", 3),
            ("other", 9),
        ];
        for limit in 1..=7 {
            assert_eq!(walk(&shelf, limit), ["a", "b", "a", "a", "c"], "{limit}");
        }
        assert_eq!(page(&Vec::new(), None, 5).last, None);
    }

    #[test]
    fn what_others_took_off_hides_nothing_that_was_not_shown() {
        // Goal: every pair of a page's end and of what is taken off before the next. Method: times far enough apart to be told apart.
        let names = ["a", "b", "c", "d", "e", "f"];
        let shelf: Lying = (0..)
            .step_by(100)
            .zip(names)
            .map(|(at, name)| (name, at))
            .collect();
        for limit in 1..names.len() {
            for taken in 0_u32..64 {
                let first = page(&shelf, None, limit);
                let left: Lying = shelf
                    .iter()
                    .enumerate()
                    .filter(|(bit, _)| taken & (1 << bit) == 0)
                    .map(|(_, lying)| *lying)
                    .collect();
                let second = page(&left, first.last, names.len());
                let wanted: Vec<&str> = left
                    .iter()
                    .map(|(name, _)| *name)
                    .filter(|name| !first.rows.contains(name))
                    .collect();
                assert_eq!(second.rows, wanted, "{limit} {taken:b}");
            }
        }
    }

    #[test]
    fn a_filter_that_lets_nothing_through_ends_a_page_early() {
        let mut shelf: Lying = vec![("other", 1); usize::try_from(LOOKED_AT_MAX).unwrap()];
        shelf.push(("a", 1));
        let first = page(&shelf, None, 5);
        assert!(first.rows.is_empty() && !first.done);
        let second = page(&shelf, first.last, 5);
        assert!(second.rows == ["a"] && second.done);
    }
}
