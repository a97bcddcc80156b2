//! The table of operations.

use http::Method;

use crate::operation::{Need, Operation};
use crate::shelf::{self, DeadLetters, Faults};
use crate::{application, attempt, endpoint, event_type, message, portal};

/// All operations, in groups, each with its name.
pub(crate) fn groups() -> Vec<(&'static str, Vec<Operation>)> {
    vec![
        ("Application", application::operations()),
        ("Endpoint", endpoint::operations()),
        ("Event Type", event_type::operations()),
        ("Message", message::operations()),
        ("Message Attempt", attempt::operations()),
        ("Dead Letter", shelf::operations::<DeadLetters>()),
        ("Fault", shelf::operations::<Faults>()),
        ("Authentication", portal::operations()),
        ("Health", vec![health(), description()]),
    ]
}

/// All operations.
pub(crate) fn all() -> impl Iterator<Item = Operation> {
    groups().into_iter().flat_map(|(_, operations)| operations)
}

fn health() -> Operation {
    Operation::new(Method::GET, "/health", "v1.health.get", "Health", async || {
        http::StatusCode::NO_CONTENT
    })
    .needs(Need::Nothing)
    .answers_nothing(204)
}

fn description() -> Operation {
    Operation::elsewhere(
        Method::GET,
        "/openapi.json",
        "hooklane.openapi.get",
        "This description",
    )
    .needs(Need::Nothing)
    .answers::<std::collections::BTreeMap<String, serde_json::Value>>(200)
}
