//! The description as a page for people: plain HTML, with nothing to load and no script.

use std::fmt::{Display, Write};

use serde_json::{Map, Value};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
code,.m{font-family:ui-monospace,monospace;font-size:.92em}h2{margin-top:2.5rem;border-bottom:1px solid #ddd}\
details{border:1px solid #ddd;border-radius:4px;margin:.4rem 0;padding:.3rem .6rem}summary{cursor:pointer}\
.m{display:inline-block;width:4.5em;font-weight:600}table{border-collapse:collapse;width:100%;margin:.4rem 0}\
td,th{border-top:1px solid #eee;padding:.2rem .6rem .2rem 0;text-align:left;vertical-align:top}\
@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}a{color:#8ab4f8}details,td,th,h2{border-color:#333}}";

/// The page of a document that `document()` made.
pub(super) fn page(document: &Value) -> String {
    let mut html = String::new();
    // Writing to a text cannot fail.
    let _ = write_page(&mut html, document);
    html
}

fn write_page(html: &mut String, document: &Value) -> std::fmt::Result {
    let info = &document["info"];
    let (title, version) = (text(&info["title"]), text(&info["version"]));
    write!(
        html,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title} API</title><style>{STYLE}</style><h1>{title} API {version}</h1><p>{}</p>\
         <p>As OpenAPI 3.1: <a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a>. Requests carry \
         <code>Authorization: Bearer …</code>: {}.</p>",
        text(&info["description"]),
        text(&document["components"]["securitySchemes"]["bearer"]["description"]),
    )?;
    for tag in document["tags"].as_array().into_iter().flatten() {
        write!(html, "<h2>{}</h2>", text(&tag["name"]))?;
        for (path, methods) in members(&document["paths"]) {
            for (method, operation) in members(methods) {
                if operation["tags"][0] == tag["name"] {
                    write_operation(html, path, method, operation)?;
                }
            }
        }
    }
    write!(html, "<h2>Types</h2>")?;
    for (name, schema) in members(&document["components"]["schemas"]) {
        let name = escaped(name);
        write!(
            html,
            "<details id=\"{name}\"><summary><code>{name}</code></summary>"
        )?;
        write!(html, "<p>{}</p>", text(&schema["description"]))?;
        write_fields(html, schema)?;
        write!(html, "</details>")?;
    }
    Ok(())
}

fn write_operation(html: &mut String, path: &str, method: &str, operation: &Value) -> std::fmt::Result {
    write!(
        html,
        "<details><summary><span class=m>{}</span> <code>{}</code> {}</summary><p>{}",
        escaped(method.to_uppercase()),
        escaped(path),
        text(&operation["summary"]),
        text(&operation["description"]),
    )?;
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    if !body.is_null() {
        write!(html, " Body: {}.", kind(body))?;
    }
    write!(html, "</p><table>")?;
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        write!(
            html,
            "<tr><td><code>{}</code><td>{}<td>{}<td>{}",
            text(&parameter["name"]),
            text(&parameter["in"]),
            kind(&parameter["schema"]),
            text(&parameter["description"]),
        )?;
    }
    write!(html, "</table><table>")?;
    for (status, response) in members(&operation["responses"]) {
        let schema = &response["content"]["application/json"]["schema"];
        let (status, words) = (escaped(status), text(&response["description"]));
        write!(html, "<tr><td>{status} {words}<td>{}", kind(schema))?;
    }
    write!(html, "</table></details>")
}

fn write_fields(html: &mut String, schema: &Value) -> std::fmt::Result {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    write!(html, "<table>")?;
    for (name, field) in members(&schema["properties"]) {
        let is_required = if required.contains(&name.as_str()) {
            "required"
        } else {
            ""
        };
        write!(
            html,
            "<tr><td><code>{}</code><td>{}<td>{is_required}<td>{}",
            escaped(name),
            kind(field),
            text(&field["description"]),
        )?;
    }
    write!(html, "</table>")
}

/// A schema in a few words; a type of its own is a link.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    if let Some(several) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        return several.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(escaped).collect();
        return values.join(" or ");
    }
    let of_items = |schema: &Value| match &schema["items"] {
        Value::Null => String::new(),
        items => format!(" of {}", kind(items)),
    };
    let name = match &schema["type"] {
        Value::String(name) => escaped(name),
        Value::Array(names) => {
            let names: Vec<String> = names.iter().map(text).collect();
            names.join(" or ")
        }
        _ => return String::new(),
    };
    format!("{name}{}", of_items(schema))
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: impl Display) -> String {
    let text = text.to_string();
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_no_markup() {
        let document = json!({
            "info": {"title": "<b>\"", "version": "1", "description": "a & b"},
            "tags": [{"name": "<i>"}],
            "paths": {"/<p>": {"get": {"tags": ["<i>"], "summary": "<s>", "responses": {}}}},
            "components": {"schemas": {"<t>": {"properties": {"<f>": {"type": "string"}}}}},
        });
        let page = page(&document);
        for markup in ["<b>", "<i>", "<p>/", "<s>", "<t>", "<f>"] {
            assert!(!page.contains(markup), "{markup}: {page}");
        }
        assert!(page.contains("a &amp; b") && page.contains("&lt;f&gt;"), "{page}");
    }
}
