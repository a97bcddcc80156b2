#![doc = include_str!("../README.md")]

mod answer;
mod application;
mod attempt;
mod auth;
mod body;
mod endpoint;
mod event_type;
mod filter;
mod history;
mod idempotency;
mod list;
mod log;
mod message;
mod openapi;
mod operation;
mod operational;
mod operations;
mod outbox;
mod patch;
mod path;
mod portal;
mod query;
mod rate;
pub mod shelf;
mod state;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, any};

pub use auth::key;
pub use auth::{Access, Algorithm, TokenError, Tokens, is_organisation};
pub use endpoint::recover::{Recoveries, RecoveryWorker};
pub use history::HistoryReader;
pub use outbox::{Outbox, OutboxError};
pub use portal::Portal;
pub use state::{Api, BODY_BYTES_MAX, InForce};

use answer::Refusal;
use operation::Operation;

/// Paths of Svix's that are not here, and that would be taken for what has a parameter there.
const NOT_HERE: [&str; 2] = [
    "/app/{app_id}/msg/expunge-all-contents",
    "/app/{app_id}/msg/bulk-expunge",
];

/// The paths of the API. Each is there with a slash at its end as well: some clients ask so.
pub fn router(api: Arc<Api>) -> Router {
    let mut paths: BTreeMap<&str, MethodRouter<Arc<Api>>> = BTreeMap::new();
    for (path, route) in operations::all().filter_map(Operation::into_route) {
        let methods = paths.remove(path).unwrap_or_default().merge(route);
        paths.insert(path, methods);
    }
    let mut router = Router::new();
    for (path, methods) in paths {
        let methods = methods.fallback(async || Refusal::MethodNotAllowed);
        router = router
            .route(&format!("/api/v1{path}"), methods.clone())
            .route(&format!("/api/v1{path}/"), methods);
    }
    for path in NOT_HERE {
        let methods = any(async || Refusal::NotFound);
        router = router
            .route(&format!("/api/v1{path}"), methods.clone())
            .route(&format!("/api/v1{path}/"), methods);
    }
    router
        .layer(from_fn_with_state(api.clone(), idempotency::once))
        .layer(from_fn_with_state(api.clone(), log::line))
        .with_state(api)
        .merge(openapi::router())
}
