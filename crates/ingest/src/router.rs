//! Which path leads where.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Router};
use hooklane_broker::BrokerState;
use hooklane_telemetry::{Metrics, Readiness, operations_router};
use http::header::CONNECTION;
use http::{HeaderValue, Version};
use tokio::sync::watch;

use crate::answer::Refusal;
use crate::line::Line;
use crate::publish::Ingest;

/// The other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// All paths. `/metrics`, `/healthz` and `/readyz` are served without the token: what asks them has none, and they show
/// no event. The list of networks holds for them too.
pub(crate) fn router(ingest: Arc<Ingest>, more: Router) -> Router {
    let readiness = ingest.clone();
    let ready = Arc::new(move || readiness.readiness());
    let operations = operations_router(ingest.metrics.clone(), ready);
    // The official Svix clients ask with the trailing slash, the API's description stands without.
    Router::new()
        .route("/api/v1/app/{app_id}/msg", post(publish))
        .route("/api/v1/app/{app_id}/msg/", post(publish))
        .with_state(ingest)
        .merge(operations)
        .merge(more)
        .fallback(async || Refusal::NoSuchPath.response())
        .method_not_allowed_fallback(async || Refusal::MethodNotAllowed.response())
}

/// All paths of a process that waits for what it works with.
pub(crate) fn waiting(metrics: Arc<Metrics>, why: watch::Receiver<Option<String>>) -> Router {
    let ready = Arc::new(move || {
        let why = why.borrow().clone();
        Readiness::NotReady(why.unwrap_or_else(|| "it begins".to_owned()))
    });
    operations_router(metrics, ready)
        .fallback(async || Refusal::NotYet.response())
        .method_not_allowed_fallback(async || Refusal::NotYet.response())
}

async fn publish(
    State(ingest): State<Arc<Ingest>>,
    Extension(Peer(peer)): Extension<Peer>,
    application: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let mut line = Line::begin(Instant::now(), peer, ingest.metrics.clone());
    // Undecodable text names no application.
    let application = application.map(|Path(text)| text).unwrap_or_default();
    let version = request.version();
    match ingest.publish(&application, request, &mut line).await {
        Ok(response) => {
            line.accepted();
            response
        }
        Err(refusal) => {
            line.refused(&refusal);
            let mut response = refusal.response();
            if refusal.closes_connection() && version <= Version::HTTP_11 {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    }
}

impl Ingest {
    /// Whether a publish would be taken now.
    fn readiness(&self) -> Readiness {
        if self.registry.borrow().applications().next().is_none() {
            return Readiness::NotReady("no application is known".to_owned());
        }
        match &*self.broker.state().borrow() {
            BrokerState::Connected => Readiness::Ready,
            BrokerState::Blocked { reason } => {
                Readiness::NotReady(format!("the broker takes no messages: {reason}"))
            }
            BrokerState::Disconnected { last_error } => {
                Readiness::NotReady(format!("the broker is not connected: {last_error}"))
            }
        }
    }
}
