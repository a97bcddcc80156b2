//! What operators' tools ask a process over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::metrics::Metrics;

/// Whether a process can do its work now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot; why, in words.
    NotReady(String),
}

/// `/metrics`, `/healthz` (200 while the process lives) and `/readyz` (200 or 503, from `ready`).
pub fn operations_router(metrics: Arc<Metrics>, ready: Arc<dyn Fn() -> Readiness + Send + Sync>) -> Router {
    Router::new()
        .route(
            "/metrics",
            get(move || async move {
                (
                    [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
                    metrics.text(),
                )
            }),
        )
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                match ready() {
                    Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()).into_response(),
                    Readiness::NotReady(why) => {
                        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response()
                    }
                }
            }),
        )
}
