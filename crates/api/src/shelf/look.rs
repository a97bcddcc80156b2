//! Lists, and one with all that is known of it.

use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use hooklane_types::UnixMillis;

use super::Kind;
use super::port::{Place, Reading};
use super::scope::{May, Scope};
use super::selection::Chosen;
use crate::answer::Refusal;
use crate::list::List;
use crate::path::Path;
use crate::query::Query;
use crate::state::Api;

impl Place {
    fn to_text(&self) -> String {
        let at = self.at.map_or_else(|| "x".to_owned(), |at| at.0.to_string());
        format!("{}.{at}.{}", self.index, self.id)
    }

    fn parse(text: &str) -> Option<Place> {
        let (index, rest) = text.split_once('.')?;
        let (at, id) = rest.split_once('.')?;
        Some(Place {
            index: index.parse().ok()?,
            at: match at {
                "x" => None,
                at => Some(UnixMillis(at.parse().ok()?)),
            },
            id: id.to_owned(),
        })
    }
}

impl<K: Kind> Reading<K> {
    pub(super) fn of(selection: super::Selection<K>, purpose: &str, api: &Api) -> Reading<K> {
        Reading {
            selection,
            purpose: purpose.to_owned(),
            now: api.now(),
            stop: K::desk(&api.shelves).stop.child_token(),
        }
    }
}

/// Where a list goes on, for whoever asked: the last message that was looked at may be another's.
fn sealed<K: Kind>(api: &Api, scope: &Scope, place: &Place) -> String {
    hex::encode(api.vault.seal(&context::<K>(scope), &place.to_text()))
}

fn opened<K: Kind>(api: &Api, scope: &Scope, iterator: &str) -> Option<Place> {
    let sealed = String::from_utf8(hex::decode(iterator).ok()?).ok()?;
    let text = api.vault.open(&context::<K>(scope), &sealed).ok()?;
    Place::parse(&text)
}

/// Whose iterators open, and at which shelf.
fn context<K: Kind>(scope: &Scope) -> String {
    let application = scope.application.as_ref().map_or("", |id| id.as_str());
    format!(
        "iterator of {} for {} {application}",
        K::SHELF,
        scope.organisation
    )
}

pub(super) async fn list<K: Kind>(
    State(api): State<Arc<Api>>,
    May(scope, _): May<K>,
    mut query: Query,
) -> Result<Out<List<K::Row>>, Refusal> {
    let chosen = Chosen::<K>::of_query(&mut query);
    let (limit, iterator) = query.forward();
    let behind = iterator
        .as_deref()
        .map(|iterator| opened::<K>(&api, &scope, iterator));
    if behind == Some(None) {
        query.add("iterator", "this is no iterator of this list");
    }
    query.finish()?;
    let behind = behind.flatten();
    let selection = chosen.selection(&api, &scope).await?;
    let reading = Reading::of(selection, "list", &api);
    let page = K::desk(&api.shelves)
        .read(reading, move |shelf, reading| {
            let behind = behind.clone();
            async move { shelf.page(&reading, behind, limit).await }
        })
        .await
        .map_err(|error| scope.refusal::<K>(error))?;
    Ok(Out(List::forward(
        page.rows,
        page.last.map(|place| sealed::<K>(&api, &scope, &place)),
        page.done,
    )))
}

pub(super) async fn get<K: Kind>(
    State(api): State<Arc<Api>>,
    May(scope, _): May<K>,
    Path(id): Path<String>,
    query: Query,
) -> Result<Out<K::Whole>, Refusal> {
    query.finish()?;
    // A shelf is not read to its end for what cannot lie there.
    if !K::IDS.iter().any(|prefix| id.starts_with(prefix)) {
        return Err(Refusal::NotFound);
    }
    let selection = Chosen::<K>::one(id).selection(&api, &scope).await?;
    let reading = Reading::of(selection, "show", &api);
    let found = K::desk(&api.shelves)
        .read(
            reading,
            |shelf, reading| async move { shelf.find(&reading).await },
        )
        .await
        .map_err(|error| scope.refusal::<K>(error))?;
    found.map(Out).ok_or(Refusal::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_from_its_text() {
        for at in [None, Some(UnixMillis(1_700_000_000_123))] {
            let place = Place {
                index: 7,
                at,
                id: "dead_0a1b".to_owned(),
            };
            assert_eq!(Place::parse(&place.to_text()), Some(place));
        }
        for wrong in ["", "7", "7.x", "x.x.dead_1", "7.y.dead_1", "-7.x.dead_1"] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
    }
}
