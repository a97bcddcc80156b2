//! What holds for every implementation of [`History`].

mod bounds;
mod contents;
mod filters;
mod gone;
mod lists;
mod outcomes;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hooklane_store::catalog::Direction;
use hooklane_store::history::{FoundEvent, History, Page, Payload, Record, Recorded};

use super::made::{application, event_id, now};

pub use bounds::*;
pub use contents::*;
pub use filters::*;
pub use gone::*;
pub use lists::*;
pub use outcomes::*;

async fn record(history: &dyn History, records: Vec<Record>) -> Result<Recorded> {
    let recorded = history.record(Arc::from(records), now()).await?;
    ensure!(recorded.refused.is_empty(), "{recorded:?}");
    Ok(recorded)
}

fn first(limit: usize) -> Page {
    Page {
        behind: None,
        direction: Direction::Ascending,
        limit,
    }
}

async fn found(history: &dyn History, id: &str) -> Result<FoundEvent> {
    let found = history.event(&application("app"), &event_id(id)).await?;
    found.with_context(|| format!("no {id}"))
}

fn payload(found: &FoundEvent) -> Option<&Payload> {
    found.content.as_ref().map(|content| &content.payload)
}
