//! The file: `[[event_type]]`, `[[application]]` and `[[application.endpoint]]`, with the fields of the API.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value};

use crate::commands::usage;
use crate::settings::parse_toml;

/// All that there shall be, by names.
#[derive(Debug, Default)]
pub struct Declared {
    /// By name.
    pub event_types: BTreeMap<String, Map<String, Value>>,
    /// By uid.
    pub applications: BTreeMap<String, Application>,
}

/// An application.
#[derive(Debug, Default)]
pub struct Application {
    /// Of the API.
    pub fields: Map<String, Value>,
    /// By uid.
    pub endpoints: BTreeMap<String, Map<String, Value>>,
}

/// Reads it.
///
/// # Errors
/// Usage, with what is wrong.
pub fn read(path: &Path) -> anyhow::Result<Declared> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
    let value = parse_toml(&shown, &text)?;
    declared(value).map_err(|wrong| usage(format!("{shown}: {wrong}")))
}

fn declared(value: Value) -> Result<Declared, String> {
    let mut declared = Declared::default();
    for (key, value) in object("the file", value)? {
        match key.as_str() {
            "event_type" => {
                for fields in tables("event_type", value)? {
                    let name = named("event_type", "name", &fields)?;
                    if declared.event_types.insert(name.clone(), fields).is_some() {
                        return Err(format!("event type {name} stands twice"));
                    }
                }
            }
            "application" => {
                for mut fields in tables("application", value)? {
                    let uid = named("application", "uid", &fields)?;
                    let mut endpoints = BTreeMap::new();
                    for endpoint in tables(
                        "endpoint",
                        fields.remove("endpoint").unwrap_or(Value::Array(vec![])),
                    )? {
                        let name = named("endpoint", "uid", &endpoint)?;
                        if endpoints.insert(name.clone(), endpoint).is_some() {
                            return Err(format!("endpoint {uid}/{name} stands twice"));
                        }
                    }
                    let application = Application { fields, endpoints };
                    if declared.applications.insert(uid.clone(), application).is_some() {
                        return Err(format!("application {uid} stands twice"));
                    }
                }
            }
            other => {
                return Err(format!(
                    "{other}: unknown; there are [[event_type]], [[application]] and [[application.endpoint]]"
                ));
            }
        }
    }
    Ok(declared)
}

fn object(what: &str, value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(format!("{what} is no table")),
    }
}

fn tables(what: &str, value: Value) -> Result<Vec<Map<String, Value>>, String> {
    match value {
        Value::Array(tables) => tables.into_iter().map(|table| object(what, table)).collect(),
        _ => Err(format!(
            "write [[{what}]], with two brackets: there may be several"
        )),
    }
}

fn named(what: &str, key: &str, fields: &Map<String, Value>) -> Result<String, String> {
    let name = fields.get(key).and_then(Value::as_str).unwrap_or_default();
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !name.is_empty() && name.chars().all(is_safe) {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "every {what} needs a `{key}` of letters, digits, '-', '_' and '.': it is known by that the next time"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_no_name_or_two_is_refused() {
        let read =
            |value| declared(value).map_err(|wrong| wrong.split(':').next().unwrap_or_default().to_owned());
        let good = read(
            json!({"event_type": [{"name": "a"}], "application": [{"uid": "x", "endpoint": [{"uid": "e"}]}]}),
        );
        assert_eq!(good.unwrap().applications["x"].endpoints.len(), 1);
        assert!(
            read(json!({"application": [{"name": "x"}]}))
                .unwrap_err()
                .contains("needs a `uid`")
        );
        assert!(
            read(json!({"application": [{"uid": "x"}, {"uid": "x"}]}))
                .unwrap_err()
                .contains("twice")
        );
        assert!(
            read(json!({"application": {"uid": "x"}}))
                .unwrap_err()
                .contains("two brackets")
        );
        assert_eq!(read(json!({"applications": []})).unwrap_err(), "applications");
    }
}
