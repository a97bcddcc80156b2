//! Where an answer leads: the id of what was made stands in other paths. Programs that try an API out follow these.

use http::Method;
use serde_json::{Map, Value, json};

use crate::operation::Operation;
use crate::operations;

/// Links of what an operation answers: to every path that begins with its own and has one name more.
pub(super) fn behind(operation: &Operation) -> Map<String, Value> {
    let mut links = Map::new();
    if operation.method != Method::POST {
        return links;
    }
    for other in operations::all() {
        let Some(name) = other.path.strip_prefix(operation.path).and_then(next_name) else {
            continue;
        };
        let field = if name.ends_with("_id") { "id" } else { "name" };
        let mut parameters = Map::new();
        parameters.insert(name.to_owned(), json!(format!("$response.body#/{field}")));
        for known in names(operation.path) {
            parameters.insert(known.to_owned(), json!(format!("$request.path.{known}")));
        }
        let link = json!({"operationId": other.id, "parameters": parameters});
        links.insert(other.id.to_owned(), link);
    }
    links
}

/// The name in `/{name}` and `/{name}/more`, if there is no other behind it.
fn next_name(rest: &str) -> Option<&str> {
    let (name, more) = rest.strip_prefix("/{")?.split_once('}')?;
    (!more.contains('{')).then_some(name)
}

/// The names in a path.
pub(super) fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_leads_to_its_own_paths() {
        let of = |id: &str| {
            let operation = operations::all().find(|operation| operation.id == id).unwrap();
            behind(&operation)
        };
        let links = of("v1.endpoint.create");
        assert_eq!(
            links["v1.endpoint.get-headers"]["parameters"],
            json!({"app_id": "$request.path.app_id", "endpoint_id": "$response.body#/id"})
        );
        assert!(links.contains_key("v1.endpoint.delete") && !links.contains_key("v1.endpoint.list"));
        assert!(of("v1.application.create").contains_key("v1.endpoint.create"));
        assert!(of("v1.application.get").is_empty());
    }
}
