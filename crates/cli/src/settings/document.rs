//! A TOML file as a tree of values, each of which knows the line it stands on.

use std::ops::Range;

use config::{Map, Value, ValueKind};
use toml_edit::{Document, Item, Table, TableLike};

use super::problem::Problem;

/// Reads TOML. Each value's origin is `name:line`.
///
/// # Errors
/// A [`Problem`] with line and column when the text is no TOML. The parser's own report is not used: it quotes the line,
/// and a secret may stand there.
pub fn parse(name: &str, text: &str) -> Result<Map<String, Value>, Problem> {
    let document = Document::parse(text.to_owned()).map_err(|error| syntax_problem(name, text, &error))?;
    let lines = Lines {
        name,
        starts: line_starts(text),
    };
    Ok(table(&lines, document.as_table()))
}

struct Lines<'a> {
    name: &'a str,
    starts: Vec<usize>,
}

impl Lines<'_> {
    fn origin(&self, span: Option<Range<usize>>) -> String {
        let offset = span.map_or(0, |span| span.start);
        format!(
            "{}:{}",
            self.name,
            self.starts.partition_point(|start| *start <= offset).max(1)
        )
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0)
        .chain(text.match_indices('\n').map(|(at, _)| at + 1))
        .collect()
}

fn syntax_problem(name: &str, text: &str, error: &toml_edit::TomlError) -> Problem {
    let offset = error.span().map_or(0, |span| span.start).min(text.len());
    let before = &text.as_bytes()[..offset];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = offset
        - before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1)
        + 1;
    Problem {
        place: format!("{name}:{line}"),
        key: String::new(),
        wrong: format!(
            "not TOML, at column {column}: {}",
            error.message().replace('\n', ", ")
        ),
        remedy: "mend the line; texts stand in quotes, and each key only once in its section".to_owned(),
    }
}

fn table(lines: &Lines<'_>, table: &dyn TableLike) -> Map<String, Value> {
    let mut map = Map::new();
    for (key, found) in table.iter() {
        // A sub-table that is only implied by a dotted header has no span of its own; its key has.
        let span = table.key(key).and_then(|key| key.span()).or_else(|| found.span());
        if let Some(value) = item(lines, found, span) {
            map.insert(key.to_owned(), value);
        }
    }
    map
}

fn item(lines: &Lines<'_>, item: &Item, key_span: Option<Range<usize>>) -> Option<Value> {
    let origin = lines.origin(item.span().or(key_span));
    let kind = match item {
        Item::None => return None,
        Item::Value(found) => return Some(value(lines, found)),
        Item::Table(found) => ValueKind::Table(table(lines, found)),
        Item::ArrayOfTables(found) => {
            let tables = found.iter().map(|found: &Table| {
                Value::new(
                    Some(&lines.origin(found.span())),
                    ValueKind::Table(table(lines, found)),
                )
            });
            ValueKind::Array(tables.collect())
        }
    };
    Some(Value::new(Some(&origin), kind))
}

fn value(lines: &Lines<'_>, found: &toml_edit::Value) -> Value {
    let kind = match found {
        toml_edit::Value::String(text) => ValueKind::String(text.value().clone()),
        toml_edit::Value::Integer(number) => ValueKind::I64(*number.value()),
        toml_edit::Value::Float(number) => ValueKind::Float(*number.value()),
        toml_edit::Value::Boolean(truth) => ValueKind::Boolean(*truth.value()),
        toml_edit::Value::Datetime(time) => ValueKind::String(time.value().to_string()),
        toml_edit::Value::Array(array) => {
            ValueKind::Array(array.iter().map(|element| value(lines, element)).collect())
        }
        toml_edit::Value::InlineTable(inline) => ValueKind::Table(table(lines, inline)),
    };
    Value::new(Some(&lines.origin(found.span())), kind)
}
