//! A 410 that one dispatcher was answered holds for all that run: it tells the others. Soft state: who did not hear it learns it from a
//! 410 of its own.

use std::time::Duration;

use hooklane_types::Endpoint;
use hooklane_types::control::{ControlMessage, EndpointGone};

use crate::control;
use crate::core::Core;

/// How long the outcome of the attempt waits for it at most.
const TELL_WITHIN: Duration = Duration::from_secs(1);

/// An attempt of this process was answered 410 for the first time.
pub(crate) async fn tell(core: &Core, endpoint: &Endpoint) {
    tracing::warn!(endpoint.id = %endpoint.id, "the endpoint is gone: it answered 410; its deliveries become dead letters until it is changed");
    let told = EndpointGone::new(&core.settings.pod, core.clock.started_at(), endpoint);
    if let Err(error) = control::tell(core, ControlMessage::EndpointGone(told), TELL_WITHIN).await {
        tracing::debug!(%error, "other dispatchers were not told that the endpoint is gone");
    }
}

/// Another dispatcher says so.
pub(crate) fn hear(core: &Core, told: &EndpointGone) {
    // What this process said itself may come back after its file changed.
    if told.is_from(&core.settings.pod, core.clock.started_at()) {
        return;
    }
    let registry = core.registry();
    if let Some(endpoint) = registry.endpoint(&told.endpoint)
        && told.is_about(endpoint)
        && core.endpoints.of(endpoint).mark_gone(&endpoint.url)
    {
        tracing::warn!(endpoint.id = %endpoint.id, pod = told.pod, "the endpoint is gone: it answered 410 to another dispatcher; its deliveries become dead letters until it is changed");
    }
}
