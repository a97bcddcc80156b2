#![doc = include_str!("../README.md")]

mod answer;
mod application;
mod auth;
mod body;
mod endpoint;
mod event_type;
mod idempotency;
mod list;
mod log;
mod patch;
mod path;
mod query;
mod state;
mod text;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};

pub use auth::{Access, Algorithm, TokenError, Tokens, is_organisation};
pub use state::{Api, BODY_BYTES_MAX};

use answer::Refusal;

/// The paths of the API, below `/api/v1`. Each is there with a slash at its end as well: some clients ask so.
pub fn router(api: Arc<Api>) -> Router {
    let paths: [(&str, MethodRouter<Arc<Api>>); 9] = [
        ("/health", get(health)),
        ("/app", get(application::list).post(application::create)),
        (
            "/app/{application}",
            get(application::get)
                .put(application::put)
                .patch(application::patch)
                .delete(application::delete),
        ),
        (
            "/app/{application}/endpoint",
            get(endpoint::list).post(endpoint::create),
        ),
        (
            "/app/{application}/endpoint/{endpoint}",
            get(endpoint::get)
                .put(endpoint::put)
                .patch(endpoint::patch)
                .delete(endpoint::delete),
        ),
        (
            "/app/{application}/endpoint/{endpoint}/headers",
            get(endpoint::headers::get)
                .put(endpoint::headers::put)
                .patch(endpoint::headers::patch),
        ),
        (
            "/app/{application}/endpoint/{endpoint}/secret",
            get(endpoint::secret::get),
        ),
        (
            "/app/{application}/endpoint/{endpoint}/secret/rotate",
            post(endpoint::secret::rotate),
        ),
        ("/event-type", get(event_type::list).post(event_type::create)),
    ];
    let event_type = get(event_type::get)
        .put(event_type::put)
        .patch(event_type::patch)
        .delete(event_type::delete);
    let mut router = Router::new();
    for (path, methods) in paths.into_iter().chain([("/event-type/{name}", event_type)]) {
        let methods = methods.fallback(async || Refusal::MethodNotAllowed);
        router = router
            .route(&format!("/api/v1{path}"), methods.clone())
            .route(&format!("/api/v1{path}/"), methods);
    }
    router
        .layer(from_fn_with_state(api.clone(), idempotency::once))
        .layer(from_fn_with_state(api.clone(), log::line))
        .with_state(api)
}

async fn health() -> http::StatusCode {
    http::StatusCode::NO_CONTENT
}
