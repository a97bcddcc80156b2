//! A request's query.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use hooklane_store::catalog::{Direction, Page};
use hooklane_store::history::{self, Position};
use http::request::Parts;

use crate::answer::{Problem, Refusal};

/// Items of a page, unless asked for otherwise, and most of them.
const LIMIT_DEFAULT: usize = 50;
pub(crate) const LIMIT_MAX: usize = 250;
/// In front of an iterator that goes back.
const BACK: char = '-';

/// The query's fields. Each that is known is taken; [`Query::finish`] refuses what is left.
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    problems: Vec<Problem>,
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query, Infallible> {
        Ok(Query::of(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    pub(crate) fn of(text: &str) -> Query {
        Query {
            pairs: form_urlencoded::parse(text.as_bytes()).into_owned().collect(),
            problems: Vec::new(),
        }
    }

    /// A field that may stand once.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let mut found = self
            .pairs
            .extract_if(.., |(pair, _)| pair == name)
            .map(|(_, value)| value);
        let first = found.next();
        if found.count() > 0 {
            self.add(name, "this field is given twice");
        }
        first
    }

    /// A field that may stand more than once.
    pub(crate) fn take_all(&mut self, name: &str) -> Vec<String> {
        let found = self.pairs.extract_if(.., |(pair, _)| pair == name);
        found.map(|(_, value)| value).collect()
    }

    /// A field that is true or false; false where it is missing.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// A field that is true or false.
    pub(crate) fn flag_or(&mut self, name: &str, missing: bool) -> bool {
        match self.take(name).as_deref() {
            None => missing,
            Some("false") => false,
            Some("true") => true,
            Some(_) => {
                self.add(name, "this is true or false");
                missing
            }
        }
    }

    /// `limit`, `iterator` and `order`.
    pub(crate) fn part(&mut self) -> Part {
        let limit = self.limit();
        let order = match self.take("order").as_deref() {
            None | Some("ascending") => Direction::Ascending,
            Some("descending") => Direction::Descending,
            Some(_) => {
                self.add("order", "the order is ascending or descending");
                Direction::Ascending
            }
        };
        let (behind, is_back) = self.iterator();
        Part {
            limit,
            order,
            behind,
            is_back,
        }
    }

    /// `limit` and `iterator`, of a list in the order of time.
    pub(crate) fn places(&mut self, order: Direction) -> Places {
        let limit = self.limit();
        let (iterator, is_back) = self.iterator();
        let behind = iterator.as_deref().and_then(Position::parse);
        if iterator.is_some() && behind.is_none() {
            self.add("iterator", "this is no iterator of this list");
        }
        Places {
            limit,
            order,
            behind,
            is_back,
        }
    }

    /// `limit` and `iterator`, of a list that goes forward only.
    pub(crate) fn forward(&mut self) -> (usize, Option<String>) {
        (self.limit(), self.take("iterator"))
    }

    fn limit(&mut self) -> usize {
        match self.take("limit").map(|text| text.parse()) {
            None => LIMIT_DEFAULT,
            Some(Ok(limit @ 1..=LIMIT_MAX)) => limit,
            Some(_) => {
                self.add("limit", &format!("the limit is a number from 1 to {LIMIT_MAX}"));
                LIMIT_DEFAULT
            }
        }
    }

    /// What is behind, or in front, and whether it is that.
    fn iterator(&mut self) -> (Option<String>, bool) {
        let iterator = self.take("iterator");
        match iterator.as_deref().map(|text| (text, text.strip_prefix(BACK))) {
            None => (None, false),
            Some((_, Some(behind))) => (Some(behind.to_owned()), true),
            Some((behind, None)) => (Some(behind.to_owned()), false),
        }
    }

    /// Refuses what is wrong, and what nobody has taken.
    pub(crate) fn finish(mut self) -> Result<(), Refusal> {
        for (name, _) in std::mem::take(&mut self.pairs) {
            self.add(&name, "unknown field");
        }
        match self.problems.is_empty() {
            true => Ok(()),
            false => Err(Refusal::Invalid(self.problems)),
        }
    }

    pub(crate) fn add(&mut self, name: &str, msg: &str) {
        self.problems
            .push(Problem::new(["query", name], msg, "value_error"));
    }
}

/// Which part of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) limit: usize,
    pub(crate) order: Direction,
    /// The iterator of an earlier answer.
    pub(crate) behind: Option<String>,
    /// What is asked for stands in front of it.
    pub(crate) is_back: bool,
}

/// Which part of a list in the order of time is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) limit: usize,
    pub(crate) order: Direction,
    /// The place that the iterator of an earlier answer names.
    pub(crate) behind: Option<Position>,
    /// What is asked for stands in front of it.
    pub(crate) is_back: bool,
}

impl Places {
    /// The history's page.
    pub(crate) fn page(&self) -> history::Page {
        history::Page {
            behind: self.behind.clone(),
            direction: direction(self.order, self.is_back),
            limit: self.limit,
        }
    }
}

fn direction(order: Direction, is_back: bool) -> Direction {
    match (order, is_back) {
        (Direction::Ascending, false) | (Direction::Descending, true) => Direction::Ascending,
        (Direction::Descending, false) | (Direction::Ascending, true) => Direction::Descending,
    }
}

impl Part {
    /// The store's page: one item more than asked for says whether there are more.
    pub(crate) fn page(&self) -> Page {
        Page {
            behind: self.behind.clone(),
            direction: direction(self.order, self.is_back),
            limit: self.limit + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let mut query = Query::of("limit=5&Limit=6&a=b");
        assert_eq!(query.part().limit, 5);
        let Err(Refusal::Invalid(problems)) = query.finish() else {
            panic!("accepted");
        };
        assert_eq!(problems.len(), 2);
        for wrong in [
            "limit=0",
            "limit=251",
            "limit=x",
            "limit=5&limit=6",
            "order=up",
            "flag=1",
        ] {
            let mut query = Query::of(wrong);
            query.part();
            query.flag("flag");
            assert!(query.finish().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_iterator_with_a_dash_goes_back() {
        let part = |text| Query::of(text).part();
        assert_eq!(part("iterator=app_1").page().direction, Direction::Ascending);
        assert_eq!(part("iterator=-app_1").page().direction, Direction::Descending);
        assert_eq!(
            part("iterator=-app_1&order=descending").page().direction,
            Direction::Ascending
        );
        assert_eq!(part("iterator=-app_1").behind.as_deref(), Some("app_1"));
    }
}
