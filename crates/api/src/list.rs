//! A part of a list, as the API answers it.

use hooklane_store::history::{Position, Slice};
use schemars::JsonSchema;
use serde::Serialize;

use crate::query::{Part, Places};

/// `ListResponse_…`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ListResponse_{T}_")]
pub(crate) struct List<T> {
    data: Vec<T>,
    /// Asks for what comes next.
    iterator: Option<String>,
    /// Asks for what came before.
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_iterator: Option<String>,
    /// There is nothing more in this direction.
    done: bool,
}

impl<T> List<T> {
    /// Of what the store gave for [`Part::page`].
    pub(crate) fn new(part: &Part, mut data: Vec<T>, id: impl Fn(&T) -> String) -> List<T> {
        let done = data.len() <= part.limit;
        data.truncate(part.limit);
        if part.is_back {
            data.reverse();
        }
        // An empty page is asked for again from where it began.
        let here = || part.behind.clone();
        List {
            iterator: data.last().map(&id).or_else(here),
            prev_iterator: data.first().map(|first| format!("-{}", id(first))),
            data,
            done,
        }
    }

    /// Of a list that goes forward only.
    pub(crate) fn forward(data: Vec<T>, iterator: Option<String>, done: bool) -> List<T> {
        List {
            data,
            iterator,
            prev_iterator: None,
            done,
        }
    }

    /// Of what the history gave for [`Places::page`]: `data` shows its rows, in their order.
    pub(crate) fn places<R>(
        part: &Places,
        found: &Slice<R>,
        mut data: Vec<T>,
        place: impl Fn(&R) -> Position,
    ) -> List<T> {
        let (mut first, mut last) = (found.rows.first().map(&place), found.rows.last().map(&place));
        // A page that ends early says how far it looked.
        last = found.more.clone().or(last).or_else(|| part.behind.clone());
        if part.is_back {
            data.reverse();
            first = first.or_else(|| part.behind.clone());
            (first, last) = (last, first);
        }
        List {
            data,
            iterator: last.map(|place| place.to_text()),
            prev_iterator: first.map(|place| format!("-{}", place.to_text())),
            done: found.more.is_none(),
        }
    }
}
