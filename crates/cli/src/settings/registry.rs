//! All `[[endpoint]]` tables.

use std::collections::HashMap;

use hooklane_types::{ApplicationId, Endpoint, EndpointId};

use super::endpoint::{self, Surroundings};
use super::table::Table;

/// What the tables gave.
#[derive(Debug, Default)]
pub struct Endpoints {
    /// The endpoints that are right and whose secrets were fetched, each id once.
    pub endpoints: Vec<Endpoint>,
    /// The applications that they name.
    pub applications: Vec<ApplicationId>,
    /// How many tables there are.
    pub count: usize,
}

/// Reads all tables. An id that stands twice is a problem that names where it stood first.
pub fn read(tables: Vec<Table<'_>>, around: &Surroundings) -> Endpoints {
    let mut all = Endpoints {
        count: tables.len(),
        ..Endpoints::default()
    };
    let mut seen: HashMap<EndpointId, String> = HashMap::with_capacity(tables.len());
    for table in tables {
        let id_field = table.field("id");
        let read = endpoint::read(table, around);
        all.applications.push(read.application);
        if let (Some(id), Some(field)) = (read.id, id_field) {
            if let Some(first) = seen.get(&id) {
                field.problem(
                    format!("the endpoint id {id} stands already at {first}"),
                    "give this endpoint another id; an id is never used for two",
                );
                continue;
            }
            seen.insert(id, field.place.clone());
        }
        all.endpoints.extend(read.endpoint);
    }
    all
}
