//! What a file says beside what the API shows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// The keys that say something else. What the file does not name is not compared.
pub fn differing(wanted: &Map<String, Value>, found: &Value) -> Vec<String> {
    let differs = |(key, value): &(&String, &Value)| {
        let found = &found[key.as_str()];
        match key.as_str() {
            // Replaced as a whole.
            "metadata" | "schemas" => *found != **value,
            _ => !holds(found, value),
        }
    };
    wanted
        .iter()
        .filter(differs)
        .map(|(key, _)| key.clone())
        .collect()
}

/// Whether it is there: of an object each member, of a list each element; texts in any order.
fn holds(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| holds(found.get(key).unwrap_or(&Value::Null), value)),
        (Value::Array(found), Value::Array(wanted)) if wanted.iter().all(Value::is_string) => {
            let set = |list: &[Value]| list.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
            set(found) == set(wanted)
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found
                    .iter()
                    .zip(wanted)
                    .all(|(found, wanted)| holds(found, wanted))
        }
        (Value::Number(found), Value::Number(wanted)) => found.as_f64() == wanted.as_f64(),
        (found, wanted) => found == wanted,
    }
}

/// Whether the API's headers are these; values that it does not show are taken to be.
pub fn same_headers(wanted: &Map<String, Value>, found: &Value) -> bool {
    let lower = |map: &Map<String, Value>| -> BTreeMap<String, Value> {
        map.iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .collect()
    };
    let mut wanted = lower(wanted);
    let hidden = found["sensitive"].as_array().into_iter().flatten();
    for name in hidden.filter_map(Value::as_str) {
        if wanted.remove(name).is_none() {
            return false;
        }
    }
    found["headers"].as_object().map(lower).unwrap_or_default() == wanted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_the_file_says_is_compared() {
        let found = json!({"url": "https://a.test/", "disabled": false, "eventTypes": ["b", "a"], "metadata": {"a": "b"},
            "hooklane": {"retry": {"delays": [5.0], "jitter": 0.1}, "signature": "standard"}});
        let of = |wanted: Value| differing(wanted.as_object().unwrap(), &found);
        assert!(of(json!({"url": "https://a.test/", "eventTypes": ["a", "b"], "hooklane": {"retry": {"delays": [5]}}})).is_empty());
        assert_eq!(of(json!({"url": "https://b.test/", "disabled": false})), ["url"]);
        assert_eq!(of(json!({"eventTypes": ["a"]})), ["eventTypes"]);
        assert_eq!(of(json!({"metadata": {}})), ["metadata"]);
        assert_eq!(of(json!({"hooklane": {"retry": {"delays": [6]}}})), ["hooklane"]);
    }

    #[test]
    fn hidden_headers_are_known_by_their_names() {
        let found = json!({"headers": {"x-a": "1"}, "sensitive": ["authorization"]});
        let same = |wanted: Value| same_headers(wanted.as_object().unwrap(), &found);
        assert!(same(json!({"X-A": "1", "Authorization": "whatever"})));
        assert!(!same(json!({"x-a": "1"})));
        assert!(!same(json!({"x-a": "2", "authorization": "x"})));
        assert!(!same(json!({"x-a": "1", "authorization": "x", "x-b": "2"})));
    }
}
