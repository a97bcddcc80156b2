//! An export: JSON lines, streamed. It is whole, or the answer is cut off where it failed.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;

use super::Kind;
use super::desk::{PATIENCE, Unread, patiently};
use super::port::{Ended, Reading, ShelfError, Step};
use super::scope::May;
use super::selection::Chosen;
use crate::answer::Refusal;
use crate::operation::JSON_LINES;
use crate::query::Query;
use crate::state::Api;

/// Messages that wait to be sent: payloads have a megabyte at most.
const AHEAD_MAX: usize = 4;

/// What is being exported, as its reader sees it.
struct Lines<K: Kind> {
    items: mpsc::Receiver<K::Whole>,
    task: Option<JoinHandle<Result<Ended, ShelfError>>>,
    /// Nobody reads on: then the shelf is put back in order.
    _unless_gone: DropGuard,
}

pub(super) async fn export<K: Kind>(
    State(api): State<Arc<Api>>,
    May(scope, _): May<K>,
    mut query: Query,
) -> Result<Response, Refusal> {
    let chosen = Chosen::<K>::of_query(&mut query);
    query.finish()?;
    let selection = chosen.selection(&api, &scope).await?;
    let reading = Reading::of(selection, "export", &api);
    let lines = begin(&api, reading).await;
    let lines = lines.map_err(|error| scope.refusal::<K>(error))?;
    let body = Body::from_stream(stream::try_unfold(lines, next));
    Ok(([(CONTENT_TYPE, HeaderValue::from_static(JSON_LINES))], body).into_response())
}

/// Begins to read, and waits until the shelf is open: whatever stands in the way until then is answered as such.
async fn begin<K: Kind>(api: &Api, reading: Reading<K>) -> Result<Lines<K>, Unread> {
    let desk = K::desk(&api.shelves);
    let (shelf, turn) = desk.turn().await?;
    let unless_gone = reading.stop.clone().drop_guard();
    let (to, items) = mpsc::channel(AHEAD_MAX);
    let (open, mut is_open) = watch::channel(false);
    let task = desk.tasks.spawn(async move {
        let _turn = turn;
        let told = |step| {
            if step == Step::Opened {
                open.send_replace(true);
            }
        };
        patiently(PATIENCE, || shelf.export(&reading, &to, &told)).await
    });
    // The task has ended where nobody can tell any more.
    if is_open.wait_for(|is_open| *is_open).await.is_err() {
        return Err(match task.await {
            Ok(Err(error)) => Unread::Shelf(error),
            Ok(Ok(_)) | Err(_) => Unread::Broken,
        });
    }
    Ok(Lines {
        items,
        task: Some(task),
        _unless_gone: unless_gone,
    })
}

/// The next line. An end that is none is an error, which cuts the answer off.
async fn next<K: Kind>(mut lines: Lines<K>) -> io::Result<Option<(Bytes, Lines<K>)>> {
    if let Some(item) = lines.items.recv().await {
        let mut line = serde_json::to_vec(&item)?;
        line.push(b'\n');
        return Ok(Some((line.into(), lines)));
    }
    let Some(task) = lines.task.take() else {
        return Ok(None);
    };
    let why = match task.await {
        Ok(Ok(Ended::AtTheEnd)) => return Ok(None),
        Ok(Ok(Ended::Stopped)) => "the process ends".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(shelf = K::SHELF, "an export is cut off: {why}");
    Err(io::Error::other(why))
}
