//! One line for each request: what was asked for, by whom, and what it led to. Never a body. Who asks is found out here, once.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hooklane_telemetry::Metric;
use http::Method;
use tracing::{debug, info, warn};

use crate::auth::{Caller, Spoken};
use crate::state::Api;

pub(crate) async fn line(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let caller = api.caller(request.headers());
    let speaker = match &caller {
        Some(Caller {
            application: Some(_), ..
        }) => "an application".to_owned(),
        Some(caller) => caller.organisation.clone(),
        None => "nobody".to_owned(),
    };
    request.extensions_mut().insert(Spoken(caller));
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(String::new, |route| route.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status();
    let outcome = match status.as_u16() {
        ..400 => "2xx",
        400..500 => "4xx",
        _ => "5xx",
    };
    api.metrics.count(Metric::ApiRequests, &[outcome]);
    let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    // The level is fixed where a line is made.
    macro_rules! tell {
        ($level:ident) => {
            $level!(%method, route, path, status = status.as_u16(), organisation = speaker, duration_ms, "api request")
        };
    }
    if status.is_server_error() {
        tell!(warn);
    } else if method == Method::GET {
        tell!(debug);
    } else {
        tell!(info);
    }
    response
}
