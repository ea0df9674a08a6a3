//! Examples of what operations take and answer with, made from the document's own schemas and one table of values, so that
//! an operation that comes new has its examples by itself and none can differ from its schema.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{Content, OpenApi, RefOr, Schema};

/// Values by the name of a field, or by `Schema.field` where that says better. `null` is the value in an answer, and
/// leaves the field out of a request. An answer that is no JSON object, and a schema that lists no fields, have theirs
/// under the operation's id and the schema's name. An `example` that a schema brings along goes before the table.
const TABLE: &str = include_str!("examples.json");

/// Every time without a value of its own.
const TIME: &str = "2026-01-31T12:00:00Z";

/// Schemas within schemas; deeper ones refer to themselves.
const MAX_DEPTH: usize = 16;

static VALUES: LazyLock<Map<String, Value>> = LazyLock::new(|| serde_json::from_str(TABLE).unwrap_or_default());

/// What the examples of one document are made from, and what was missing.
struct Examples {
    schemas: BTreeMap<String, Value>,
    missing: Vec<String>,
}

/// Where a schema stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The named schema that holds it, or the operation.
    holder: &'a str,
    /// Its field there.
    field: Option<&'a str>,
    /// How many schemas it is in.
    depth: usize,
}

/// Gives each request body and each successful answer its example, unless its route brought one. Returns what has no value
/// in the table, as `Schema.field`; the examples lack it.
pub(crate) fn add_examples(document: &mut OpenApi) -> Vec<String> {
    let named = document.components.iter().flat_map(|components| &components.schemas);
    let schemas = named.map(|(name, schema)| (name.clone(), as_json(schema))).collect();
    let mut examples = Examples { schemas, missing: Vec::new() };
    for item in document.paths.paths.values_mut() {
        operations(item).for_each(|operation| examples.add_to(operation));
    }
    examples.missing.sort();
    examples.missing.dedup();
    examples.missing
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
}

/// What the request body and the successful answers of an operation consist of.
fn contents(operation: &mut Operation) -> impl Iterator<Item = &mut Content> {
    let asked = operation.request_body.iter_mut().filter_map(|body| match body {
        RefOr::T(body) => Some(body.content.values_mut()),
        RefOr::Ref(_) => None,
    });
    let answered = operation.responses.responses.iter_mut().filter_map(|(status, response)| match response {
        RefOr::T(response) if status.starts_with('2') => Some(response.content.values_mut()),
        _ => None,
    });
    asked.flatten().chain(answered.flatten()).filter_map(|content| match content {
        RefOr::T(content) => Some(content),
        RefOr::Ref(_) => None,
    })
}

fn has_example(content: &Content) -> bool {
    content.example.is_some() || !content.examples.is_empty()
}

impl Examples {
    fn add_to(&mut self, operation: &mut Operation) {
        let id = operation.operation_id.clone().unwrap_or_default();
        for content in contents(operation) {
            if !has_example(content) {
                let schema = content.schema.as_ref().map(as_json).unwrap_or_default();
                content.example = self.value(&schema, Place { holder: &id, field: None, depth: 0 });
            }
        }
    }

    /// The example of a schema; `None` where it is to be left out, or has none.
    fn value(&mut self, schema: &Value, place: Place<'_>) -> Option<Value> {
        if let Some(value) = own_example(schema).or_else(|| own_row(place)) {
            return Some(value.clone());
        }
        let (name, schema) = self.resolve(schema);
        let holder = name.as_deref().unwrap_or(place.holder);
        if let Some(value) = name.as_deref().and_then(|name| VALUES.get(name)).or_else(|| own_example(&schema)) {
            return Some(value.clone());
        }
        if let Some(word) = schema.get("const").or_else(|| schema.pointer("/enum/0")) {
            return Some(word.clone());
        }
        let row = place.field.and_then(|field| VALUES.get(field));
        if let Some(value) = row.filter(|value| fits(value, &schema)) {
            return Some(value.clone());
        }
        if place.depth < MAX_DEPTH {
            let inside = Place { holder, depth: place.depth + 1, ..place };
            let made = self.structure(&schema, inside).or_else(|| by_format(&schema));
            if made.is_some() {
                return made;
            }
        }
        self.missing.push(place.to_string());
        None
    }

    /// Objects from their fields, lists from one item.
    fn structure(&mut self, schema: &Value, place: Place<'_>) -> Option<Value> {
        if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
            let mut whole = Map::new();
            for part in parts {
                let (name, part) = self.resolve(part);
                let holder = name.as_deref().unwrap_or(place.holder);
                if let Some(Value::Object(fields)) = self.structure(&part, Place { holder, ..place }) {
                    whole.extend(fields);
                }
            }
            return Some(Value::Object(whole));
        }
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            return Some(self.object(schema, properties, place));
        }
        let item = schema.get("items")?;
        // Of a field that has no row itself the items have none either, unless they have a structure.
        let (_, resolved) = self.resolve(item);
        let is_plain = ["properties", "allOf", "enum", "items"].iter().all(|key| resolved.get(key).is_none());
        if is_plain {
            return None;
        }
        self.value(item, Place { field: None, ..place }).map(|item| Value::Array(vec![item]))
    }

    fn object(&mut self, schema: &Value, properties: &Map<String, Value>, place: Place<'_>) -> Value {
        let required = schema.get("required").and_then(Value::as_array);
        let is_required = |field: &str| required.is_some_and(|all| all.iter().any(|name| name == field));
        let mut object = Map::new();
        for (field, property) in properties {
            let value = self.value(property, Place { field: Some(field), ..place });
            if let Some(value) = value.filter(|value| !value.is_null() || is_required(field)) {
                object.insert(field.clone(), value);
            }
        }
        Value::Object(object)
    }

    /// The schema itself behind references and alternatives to `null`, with its name where it has one.
    fn resolve(&self, schema: &Value) -> (Option<String>, Value) {
        let (mut name, mut schema) = (None, schema.clone());
        for _ in 0..MAX_DEPTH {
            if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
                let target = reference.rsplit('/').next().unwrap_or_default();
                let Some(found) = self.schemas.get(target) else { break };
                (name, schema) = (Some(target.to_owned()), found.clone());
            } else if let Some(first) = first_alternative(&schema) {
                schema = first.clone();
            } else {
                break;
            }
        }
        (name, schema)
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.field {
            Some(field) => write!(f, "{}.{field}", self.holder),
            None => f.write_str(self.holder),
        }
    }
}

/// What the schema itself brings along.
fn own_example(schema: &Value) -> Option<&Value> {
    schema.get("example").or_else(|| schema.pointer("/examples/0"))
}

/// The row of exactly this place.
fn own_row(place: Place<'_>) -> Option<&'static Value> {
    VALUES.get(&place.to_string()).filter(|_| place.field.is_some() || place.depth == 0)
}

fn first_alternative(schema: &Value) -> Option<&Value> {
    let alternatives = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
    alternatives.iter().find(|alternative| alternative.get("type").is_none_or(|kind| kind != "null"))
}

fn by_format(schema: &Value) -> Option<Value> {
    (schema.get("format")? == "date-time").then(|| Value::from(TIME))
}

/// Whether a value has a type that the schema allows. Which one is `null` decides the place: it is left out of requests.
fn fits(value: &Value, schema: &Value) -> bool {
    let own = match value {
        Value::Null => return true,
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allows = |kind: &Value| kind == own || (own == "integer" && kind == "number");
    match schema.get("type") {
        None => true,
        Some(Value::Array(kinds)) => kinds.iter().any(allows),
        Some(kind) => allows(kind),
    }
}

fn as_json(schema: &RefOr<Schema>) -> Value {
    serde_json::to_value(schema).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi;

    #[test]
    fn every_operation_shows_what_it_takes_and_answers_with() {
        let (mut document, missing) = openapi::document();
        assert!(
            missing.is_empty(),
            "no value for {missing:?}: add a row to src/examples.json, named as the field, or as here where other \
            schemas have a field of that name with other values"
        );
        for (path, item) in &mut document.paths.paths {
            for operation in operations(item) {
                let is_shown = contents(operation).all(|content| has_example(content));
                assert!(is_shown, "{path} has no example: {:?}", operation.operation_id);
            }
        }
    }
}
