//! CloudEvents 1.0 over HTTP.
use bytes::Bytes;
use hooklane_types::{ApplicationId, Event};
use http::HeaderMap;

use crate::answer::Refusal;
use crate::form::Form;

pub(crate) fn read(
    _form: Form,
    _application: ApplicationId,
    _headers: &HeaderMap,
    _body: Bytes,
) -> Result<Event, Refusal> {
    Err(Refusal::MalformedCloudEvent {
        detail: "CloudEvents are not understood yet".to_owned(),
    })
}
